# make demo [ARGS="--for 30s --output json"]   containers that call each other, and who calls whom
# make demo-k8s [ARGS=...]                      the same in a Kubernetes cluster of two nodes (built once, in 10 minutes)
# make check                                    what needs no root, no clang, no containers: formatting, lints, docs, pure tests
# make test                                     everything that CI runs, from a clean checkout
# make package                                  the deb and the rpm, into target/package
# make aarch64                                  both for aarch64, and the kernel tests there, emulated (on x86_64)
# make vm-test                                  their life on a Debian with systemd, in a virtual machine, on two kernels
SHELL := /bin/bash
CARGO ?= cargo
ARGS ?=
comma := ,
# Programs are built as whoever runs make, and run as root.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=PATH,PILOTFISH_BIN_DIR,PILOTFISH_K8S_BIN,CI)
# Cargo takes no empty runner, so root gets none.
AS_ROOT := $(if $(SUDO),CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(SUDO)" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$(SUDO)")
TARGET_DIR = $(shell $(CARGO) metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
BINARIES := -p agentd -p companion -p testbed -p xtask
# Where etcd and Kubernetes' own programs are; built on first use.
K8S_BIN = bin=$$($(TARGET_DIR)/debug/xtask cluster programs) && export PILOTFISH_K8S_BIN=$$bin
# What CI runs, in this order. Fast ones first: most mistakes are found within a minute.
STEPS := setup lint build k8s-programs tests e2e kernel-test fuzz

.DEFAULT_GOAL := help
# Steps measure the whole machine, and cargo uses all of it by itself.
.NOTPARALLEL:
.PHONY: help steps setup demo demo-k8s lint check build k8s-programs tests e2e test kernel-test fuzz package package-test vm-test aarch64

help:
	@sed -n 's/^# //p' Makefile | head -n 7

steps:
	@echo $(STEPS)

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

# Where there is no clang, what is checked here has no kernel programs in it. Where there is one
# they are built even here: one build of the crates then serves the checks and the tests, and a
# switch between the two would build them twice.
NO_BPF = $(shell command -v $${CLANG:-clang} >/dev/null || echo PILOTFISH_NO_BPF=1)
lint:
	$(CARGO) fmt --all --check
	$(CARGO) test -q -p architecture
	$(NO_BPF) $(CARGO) clippy -q --workspace --all-targets -- -D warnings
	$(NO_BPF) RUSTDOCFLAGS="-D warnings" $(CARGO) doc -q --workspace --no-deps

check: lint
	$(CARGO) test -q -p flow-model -p capture-wire -p l7 -p golden-metrics
	$(CARGO) test -q -p shim-plugin --lib --test story --test property

test: $(STEPS)

# All that the steps below run. Cargo gives each selection of packages features of its own, and
# builds whatever they reach once for each: one selection serves all steps, and `scripts/only.sh`
# says which packages' tests a step runs.
build:
	$(CARGO) build --workspace --bins --tests

# Some 15 minutes, once. The tests that need them would build them, too, and look as if they hung.
k8s-programs: build
	@$(K8S_BIN) && echo "$$bin"

# The tests ask for root where they make namespaces; those of pure code do not mind it. One test
# binary after the other, and the end-to-end ones one test at a time: they measure the whole
# machine.
RUN_ONLY = $(foreach arch,X86_64 AARCH64,CARGO_TARGET_$(arch)_UNKNOWN_LINUX_GNU_RUNNER="$(CURDIR)/scripts/only.sh $(1) $(SUDO)")
tests: build
	@$(K8S_BIN) && $(call RUN_ONLY,not e2e$(comma)architecture) $(CARGO) test --workspace

e2e: build
	@$(K8S_BIN) && $(call RUN_ONLY,e2e) $(CARGO) test --workspace --tests -- --test-threads=1

kernel-test: build
	$(SUDO) $(TARGET_DIR)/debug/xtask kernel-test

# Each parser's fuzz target for a bounded time (FUZZ_SECONDS each).
FUZZ_SECONDS ?= 5
fuzz: build
	$(TARGET_DIR)/debug/xtask fuzz --seconds $(FUZZ_SECONDS)

package:
	@scripts/setup.sh --package
	$(CARGO) xtask package --lint
	$(CARGO) xtask package --companion --lint

# The last release, from which `make vm-test` upgrades: its commit, and its deb, which is built once and kept in target.
OLD_COMMIT := 0d3eff0
OLD_DEB := target/old/$(OLD_COMMIT).deb
$(OLD_DEB):
	scripts/old-deb.sh $(OLD_COMMIT) $@

vm-test: package $(OLD_DEB)
	$(AS_ROOT) $(CARGO) xtask vm-test --kernel 6.1 --binary target/dist/pilotfish --from $(OLD_DEB)
	$(AS_ROOT) $(CARGO) xtask vm-test --kernel 6.12 --binary target/dist/pilotfish --from $(OLD_DEB)
	$(AS_ROOT) $(CARGO) xtask package --only rpm --rpm-root --binary target/dist/pilotfish

# The short form: the deb of the debug build that the tests use, lintian, and the scenes that
# install, sandbox, hand over and remove it, on one kernel.
package-test:
	@scripts/setup.sh --package
	$(CARGO) xtask package --only deb --lint --binary $(TARGET_DIR)/debug/pilotfish
	$(AS_ROOT) $(CARGO) xtask vm-test --kernel 6.12 --binary $(TARGET_DIR)/debug/pilotfish --scenes install,sandbox,handover,removal

# On x86_64. First whether everything compiles there, tests included; then what links and runs, emulated.
aarch64:
	@scripts/setup.sh --aarch64
	$(CARGO) clippy -q --workspace --all-targets --target aarch64-unknown-linux-gnu -- -D warnings
	$(CARGO) xtask package --arch aarch64 --lint
	$(AS_ROOT) $(CARGO) xtask kernel-test --arch aarch64
