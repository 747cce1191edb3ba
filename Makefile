# make demo [ARGS="--for 30s --output json"]   containers that call each other, and who calls whom
# make test                                     everything that CI runs, from a clean checkout
# make check                                    the part of it that needs no root and no containers
SHELL := /bin/bash
CARGO ?= cargo
ARGS ?=
# Programs are built as whoever runs make, and run as root.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=PATH,PILOTFISH_BIN_DIR,CI)
# Cargo takes no empty runner, so root gets none.
AS_ROOT := $(if $(SUDO),CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(SUDO)" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$(SUDO)")
TARGET_DIR = $(shell $(CARGO) metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
BINARIES := -p agentd -p testbed -p xtask

.DEFAULT_GOAL := help
.PHONY: help setup demo check test privileged kernel-test fuzz

help:
	@sed -n 's/^# //p' Makefile | head -n 3

setup:
	@scripts/setup.sh --test

demo:
	@scripts/setup.sh --demo
	@$(CARGO) build --release $(BINARIES)
	@exec $(SUDO) $(TARGET_DIR)/release/xtask demo $(ARGS)

# Fast ones first: most mistakes are found within a minute.
check:
	$(CARGO) fmt --all --check
	$(CARGO) test -q -p architecture
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings

test: setup check privileged kernel-test fuzz

# The tests ask for root where they make namespaces; those of pure code do not mind it. One test binary after the other, and the end-to-end
# ones one test at a time: they measure the whole machine.
privileged:
	$(CARGO) build $(BINARIES)
	$(AS_ROOT) $(CARGO) test --workspace --exclude e2e --exclude architecture
	$(AS_ROOT) $(CARGO) test -p e2e -- --test-threads=1

kernel-test:
	$(AS_ROOT) $(CARGO) xtask kernel-test

# Each parser's fuzz target for a bounded time (FUZZ_SECONDS each).
FUZZ_SECONDS ?= 10
fuzz:
	$(CARGO) xtask fuzz --seconds $(FUZZ_SECONDS)
