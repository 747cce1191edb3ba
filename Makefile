# make demo [ARGS="--for 30s --output json"]   containers that call each other, and who calls whom
# make demo-k8s [ARGS=...]                      the same in a Kubernetes cluster of two nodes (its programs are built once, in 10 minutes)
# make test                                     everything that CI runs, from a clean checkout
# make check                                    the part of it that needs no root and no containers
# make package                                  the deb and the rpm, into target/package
# make vm-test                                  their life on a Debian with systemd, in a virtual machine, on two kernels
SHELL := /bin/bash
CARGO ?= cargo
ARGS ?=
# Programs are built as whoever runs make, and run as root.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=PATH,PILOTFISH_BIN_DIR,PILOTFISH_K8S_BIN,CI)
# Cargo takes no empty runner, so root gets none.
AS_ROOT := $(if $(SUDO),CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(SUDO)" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$(SUDO)")
TARGET_DIR = $(shell $(CARGO) metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
BINARIES := -p agentd -p testbed -p xtask

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-k8s check test privileged kernel-test fuzz package package-test vm-test

help:
	@sed -n 's/^# //p' Makefile | head -n 6

setup:
	@scripts/setup.sh --test

demo:
	@scripts/setup.sh --demo
	@$(CARGO) build --release $(BINARIES)
	@exec $(SUDO) $(TARGET_DIR)/release/xtask demo $(ARGS)

demo-k8s:
	@scripts/setup.sh --k8s
	@$(CARGO) build --release $(BINARIES)
	@bin=$$($(TARGET_DIR)/release/xtask cluster programs) && \
	  PILOTFISH_K8S_BIN=$$bin exec $(SUDO) $(TARGET_DIR)/release/xtask demo-k8s $(ARGS)

# Fast ones first: most mistakes are found within a minute.
check:
	$(CARGO) fmt --all --check
	$(CARGO) test -q -p architecture
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings

test: setup check privileged kernel-test fuzz

# The tests ask for root where they make namespaces; those of pure code do not mind it. One test binary after the other, and the end-to-end
# ones one test at a time: they measure the whole machine. Kubernetes' own programs are built before, where there are none: some 15 minutes, once.
privileged:
	$(CARGO) build $(BINARIES)
	@bin=$$($(TARGET_DIR)/debug/xtask cluster programs) && export PILOTFISH_K8S_BIN=$$bin && \
	  $(AS_ROOT) $(CARGO) test --workspace --exclude e2e --exclude architecture && \
	  $(AS_ROOT) $(CARGO) test -p e2e -- --test-threads=1

kernel-test:
	$(AS_ROOT) $(CARGO) xtask kernel-test

# Each parser's fuzz target for a bounded time (FUZZ_SECONDS each).
FUZZ_SECONDS ?= 10
fuzz:
	$(CARGO) xtask fuzz --seconds $(FUZZ_SECONDS)

package:
	@scripts/setup.sh --package
	$(CARGO) xtask package --lint

vm-test: package
	$(AS_ROOT) $(CARGO) xtask vm-test --kernel 6.1 --binary target/dist/pilotfish
	$(AS_ROOT) $(CARGO) xtask vm-test --kernel 6.12 --binary target/dist/pilotfish
	$(AS_ROOT) $(CARGO) xtask package --only rpm --rpm-root --binary target/dist/pilotfish

# The short form, with the program that the tests have built: the deb of the program that the tests have built, lintian, and the shortest life that ends where it began.
package-test:
	@scripts/setup.sh --package
	$(CARGO) xtask package --only deb --lint --binary $(TARGET_DIR)/debug/pilotfish
	$(AS_ROOT) $(CARGO) xtask vm-test --kernel 6.12 --binary $(TARGET_DIR)/debug/pilotfish --scenes install,sandbox,handover,removal
