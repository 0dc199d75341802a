# `make demo` and `make test` do all the set-up a fresh machine needs: a Rust toolchain is enough.
# Everything else is installed through apt-get when root on Debian or Ubuntu; elsewhere the commands are printed.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-garage lint check docs generate bench fuzz setup-demo setup-test

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup-demo:
	@.ci/setup cc postgresql

setup-test:
	@.ci/setup cc postgresql ssh jq zstd xmllint escape pgbouncer docker pgbackrest btrfs moto azurite patroni postgresqls nextest

demo: setup-demo ## Destroy a real database and bring it back (under two minutes after the build)
	cargo build --release --locked
	./target/release/runbook demo $(DEMO)

# One test more than there are cores: many wait for a server most of the time.
test: setup-test ## Run the whole test suite
	cargo nextest run --locked --no-fail-fast --test-threads $$(( $$(nproc) + 1 ))
	cargo test --locked --doc --quiet

# Built once, in a quarter of an hour: no package has it.
target/garage/bin/garage:
	cargo install garage --version 2.5.0 --locked --root target/garage --no-default-features --features bundled-libs,sqlite

test-garage: $(if $(RUNBOOK_TEST_GARAGE),,target/garage/bin/garage) ## Run the tests of stores against Garage, an S3 server that is built first
	@.ci/setup cc nextest
	cargo nextest run --locked --no-fail-fast --run-ignored only --success-output final -E 'test(garage)'

lint: ## Formatting, clippy, documentation
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet

generate: ## Regenerate schemas/ and docs/actions/
	cargo build --locked
	./target/debug/runbook schema --write schemas
	./target/debug/runbook actions --write docs/actions

check: ## Check every shipped runbook
	cargo build --locked
	@set -e; find runbooks examples -name '*.yaml' | sort | while read -r file; do ./target/debug/runbook check "$$file"; done

bench: ## Run the benchmarks (never part of the tests)
	cargo bench --locked

FUZZ_SECONDS ?= 600
# The library has no `unsafe`, so no sanitizer is needed; coverage is asked of the stable compiler.
FUZZ = cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run -s none
FUZZ_LIMITS = -- -max_total_time=$(FUZZ_SECONDS) -timeout=20

fuzz: ## Fuzz loader, templates, journal reader and redactor, ten minutes each (FUZZ_SECONDS=600)
	cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked
	mkdir -p fuzz/corpus/document fuzz/corpus/template fuzz/corpus/journal fuzz/corpus/redactor
	$(FUZZ) document corpus/document ../runbooks/postgres ../examples $(FUZZ_LIMITS) -max_len=16384
	$(FUZZ) template corpus/template $(FUZZ_LIMITS) -max_len=4096
	$(FUZZ) journal corpus/journal ../tests/it/compat/format-1 $(FUZZ_LIMITS) -max_len=65536
	$(FUZZ) redactor corpus/redactor $(FUZZ_LIMITS) -max_len=4096
