# What can be done here; `make` alone lists it.
#
# Every cargo command names the whole workspace, so that all share one set of features and nothing
# is compiled twice.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

STARTED := $(shell date +%s)
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target)/debug)
RELEASE := $(abspath $(or $(CARGO_TARGET_DIR),target)/release)
# Where e2e/images takes the programs from.
export WARP_TARGET_DIR := $(TARGET)
# A header with the time since the start.
step = @printf '\n=== %4d s  %s\n' $$(($$(date +%s) - $(STARTED))) '$(1)'

##@ Every day

.PHONY: help
help: ## this list
	@awk -F ': .*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '%s\n' '' 'The cluster is a local one, made by e2e/cluster/up.sh (as root, without a container' \
		'engine), unless KUBECONFIG names another: then its nodes must be able to pull the images of' \
		'e2e/images, with IMAGE_PREFIX in place of warp.local, and this machine must reach its pods.'

.PHONY: build
build: ## compile all programs
	$(call step,build)
	@cargo build --workspace

.PHONY: check
check: format lint unit ## formatting, lints and unit tests

.PHONY: test
test: check integration suites fuzz crds-check chart-check shell-check deny bench-instructions e2e ## all checks and tests, those on the cluster included
	$(call step,all is well)

##@ One by one

.PHONY: format
format: ## formatting (repair it by cargo fmt)
	$(call step,formatting)
	@cargo fmt --all -- --check

.PHONY: lint
lint: ## clippy; a warning is an error
	$(call step,lints)
	@cargo clippy --workspace --all-targets -- -D warnings

.PHONY: unit
unit: ## unit and property tests
	$(call step,unit tests)
	@tools=$$(e2e/tools/build.sh nats) && WARP_NATS_SERVER=$$tools/nats-server \
		cargo test --workspace --lib --bins

.PHONY: integration
integration: ## the tests against real NATS, Redis and PostgreSQL servers
	$(call step,integration tests)
	@tools=$$(e2e/tools/build.sh nats) && WARP_NATS_SERVER=$$tools/nats-server \
		cargo test --workspace --test '*'

.PHONY: fuzz
fuzz: ## each fuzzer for SECONDS (20); TARGETS are those of sidecar/fuzz
	$(call step,fuzzers)
	@sidecar/fuzz/run.sh $(or $(SECONDS),20) $(TARGETS)

.PHONY: miri
miri: ## the store's tests under Miri, if a nightly toolchain has it
	$(call step,Miri)
	@if cargo +nightly miri --version >/dev/null 2>&1; then \
		PROPTEST_CASES=4 MIRIFLAGS='-Zmiri-permissive-provenance -Zmiri-disable-isolation' \
		cargo +nightly miri test --package warp-sidecar --lib --target-dir $(TARGET)/../miri -- cache::; \
	else echo 'LEFT OUT: Miri is not installed (rustup toolchain install nightly --component miri,rust-src)'; fi

.PHONY: suites
suites: build ## Redis' own test suite against the sidecar; WRITE=1 writes the table of docs/compatibility.md
	$(call step,test suites of Redis)
	@python3 sidecar/tests/suites/redis.py $(TARGET)/warp-sidecar $(if $(WRITE),--write) $(SUITES)

.PHONY: crds
crds: build ## write crds/yaml anew; the chart installs the same files
	$(call step,CustomResourceDefinitions)
	@$(TARGET)/crdgen crds/yaml

.PHONY: crds-check
crds-check: build ## whether crds/yaml is what `make crds` would write
	$(call step,crds/yaml is what the types say)
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && $(TARGET)/crdgen "$$made" && \
		diff -r "$$made" crds/yaml || { echo 'crds/yaml is out of date: run make crds'; exit 1; }

.PHONY: chart-check
chart-check: ## helm lint and helm template, with right and wrong values
	$(call step,chart)
	@PATH=$$(e2e/tools/build.sh helm):$$PATH && charts/warp/ci/check.sh && \
		helm lint --quiet --strict charts/warp --values e2e/manifests/values.yaml

.PHONY: shell-check
shell-check: ## shellcheck of all shell scripts
	$(call step,shell scripts)
	@find e2e charts .ci -type f -exec awk 'FNR == 1 && /^#!.*(\/| |ba)sh$$/ { print FILENAME } { nextfile }' {} + | \
		xargs shellcheck --external-sources --source-path=SCRIPTDIR

.PHONY: deny
deny: ## licences, bans and sources of the dependencies
	$(call step,dependencies)
	@cargo deny --version >/dev/null 2>&1 || \
		{ echo 'cargo-deny is missing: cargo install --locked cargo-deny'; exit 1; }
	@cargo deny --workspace check bans licenses sources

##@ Speed

.PHONY: bench-build
bench-build:
	$(call step,release build)
	@cargo build --release --workspace --bin warp-sidecar --bin warp-bench

.PHONY: bench
bench: bench-build ## Warp beside its peers, into docs/performance.md; QUICK=1 only tries whether it works
	$(call step,benchmark)
	@$(RELEASE)/warp-bench run --sidecar $(RELEASE)/warp-sidecar --out $(RELEASE)/../bench \
		--named 'make bench' $(if $(QUICK),--quick,--page docs/performance.md)

.PHONY: bench-instructions
bench-instructions: bench-build ## a hit's instructions against e2e/bench/instructions.txt; WRITE=1 writes them
	$(call step,instructions)
	@$(RELEASE)/warp-bench instructions --sidecar $(RELEASE)/warp-sidecar \
		--bounds e2e/bench/instructions.txt $(if $(WRITE),--write)

##@ On a cluster

.PHONY: e2e
e2e: build ## the end-to-end tests
	$(call step,end-to-end tests)
	@cargo test --workspace --test cluster --no-run
	@e2e/with-cluster.sh cargo test --workspace --test cluster -- \
		--ignored --test-threads=1 --nocapture --skip uninstall::
	$(call step,uninstalling)
	@e2e/with-cluster.sh cargo test --workspace --test cluster -- \
		--ignored --test-threads=1 --nocapture uninstall::

.PHONY: demo
demo: ## everything from nothing: a cluster, Warp, and two applications that share a cache
	@e2e/demo/run.sh

.PHONY: demo-down
demo-down: ## remove what the demo made
	@e2e/demo/down.sh
