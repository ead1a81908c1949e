# Steps with a title, the time since the start, and advice where they fail. To be sourced.
# shellcheck shell=bash

: "${DEMO_STARTED:=$EPOCHSECONDS}"
export DEMO_STARTED

say() { printf '\n=== %4d s  %s\n' $((EPOCHSECONDS - DEMO_STARTED)) "$*"; }

step() { # TITLE ADVICE COMMAND...
    local title=$1 advice=$2
    shift 2
    say "$title"
    "$@" || {
        printf '\nFAILED: %s\n  %s\n' "$title" "$advice" >&2
        exit 1
    }
}
