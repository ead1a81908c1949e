#!/usr/bin/env bash
# Builds the fuzzers and runs each for a while, as many at a time as there are processors.
#
#   sidecar/fuzz/run.sh SECONDS             all of them
#   sidecar/fuzz/run.sh SECONDS TARGET…     only these
#
# The usual toolchain will do: what is set here is what cargo-fuzz sets, without a sanitizer. What is
# new is kept in corpus/; an input that fails is kept in artifacts/, and belongs into seeds/ under a
# name that says what it is, once what it found is mended. WARP_FUZZ_SHOWS=1 shows the commands.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=$1
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
# Named, so that the flags aren't those of build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
folder=${CARGO_TARGET_DIR:-../../target}/fuzz
coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
for kind in inline-8bit-counters pc-table trace-compares; do
    coverage+=" -Cllvm-args=-sanitizer-coverage-$kind"
done
# The versions are those of the workspace, so that there is no second lock to keep.
cp ../../Cargo.lock Cargo.lock
RUSTFLAGS="--cfg fuzzing $coverage" \
    cargo build --quiet --release --target "$host" --target-dir "$folder"

try() { # SECONDS PROGRAM TARGET
    mkdir -p "corpus/$3" "artifacts/$3"
    if said=$("$2" "-max_total_time=$1" -timeout=20 -rss_limit_mb=1024 -max_len=2048 -len_control=0 \
        "-artifact_prefix=$PWD/artifacts/$3/" "corpus/$3" "seeds/$3" 2>&1); then
        echo "$3: $(tail -n 1 <<<"$said")"
    else
        echo "$3 FAILED"
        grep --text --extended-regexp --after-context=4 'panicked|ERROR|Test unit written' <<<"$said"
        return 1
    fi
}
export -f try
printf '%s\n' "${targets[@]}" |
    xargs -P "$(nproc)" -I '{}' bash -c 'try "$@"' try "$seconds" "$folder/$host/release/{}" '{}'
