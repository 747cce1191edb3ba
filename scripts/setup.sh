#!/usr/bin/env bash
# Installs what a build, the demo or the tests need on Debian or Ubuntu, and only what is missing.
# It may be run as often as one likes. Services of the packages are neither started nor enabled: the
# demo and the tests bring their own.
#   scripts/setup.sh --demo     what `make demo` needs
#   scripts/setup.sh --k8s      what `make demo-k8s` needs, too: Go, to build a Kubernetes cluster once
#   scripts/setup.sh --test     what `make test` needs, too (the default)
#   scripts/setup.sh --docker   what `cargo xtask runtime-test --docker` needs beyond that
#   scripts/setup.sh --vm       what `cargo xtask runtime-test --vm` needs beyond that of --test
#   scripts/setup.sh --browser  what `cargo xtask map-test` needs beyond that of --test: Chromium, Node (350 MB)
#   scripts/setup.sh --package  what `make package` and `make vm-test` need
#   scripts/setup.sh --aarch64  what `make aarch64` needs on x86_64: a cross compiler, QEMU, Rust's library for aarch64
set -euo pipefail

say() { printf '  %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

mode=test
for arg in "$@"; do
  case $arg in
    --demo) mode=demo ;;
    --k8s) mode=k8s ;;
    --test) mode=test ;;
    --docker) mode=docker ;;
    --vm) mode=vm ;;
    --browser) mode=browser ;;
    --package) mode=package ;;
    --aarch64) mode=aarch64 ;;
    *) fail "unknown option $arg; write --demo, --k8s, --test, --docker, --vm, --browser, --package or --aarch64" ;;
  esac
done

# A program that has to be there, and the package that has it; `file:` is a file instead of a program.
needs_build="clang=clang llvm-strip=llvm file:/usr/include/bpf/bpf_helpers.h=libbpf-dev protoc=protobuf-compiler
  file:/usr/include/google/protobuf/empty.proto=libprotobuf-dev cc=gcc make=make"
needs_demo="$needs_build containerd=containerd ctr=containerd runc=runc nginx=nginx-light redis-server=redis-server
  busybox=busybox-static dnsmasq=dnsmasq-base ip=iproute2 nsenter=util-linux"
needs_k8s="$needs_demo file:/usr/lib/cni/bridge=containernetworking-plugins nft=nftables tar=tar"
needs_test="$needs_k8s wrk=wrk curl=curl tcpdump=tcpdump tshark=tshark dig=bind9-dnsutils bpftool=bpftool g++=g++ python3=python3
  qemu-system-x86_64=qemu-system-x86 cpio=cpio zstd=zstd xz=xz-utils pg_createcluster=postgresql mariadbd=mariadb-server-core
  file:/usr/lib/python3/dist-packages/prometheus_client/__init__.py=python3-prometheus-client
  file:/usr/lib/python3/dist-packages/websockets/__init__.py=python3-websockets"
needs_docker="$needs_test dockerd=docker.io docker=docker.io iptables=iptables"
needs_vm="$needs_test iptables=iptables ipvsadm=ipvsadm mke2fs=e2fsprogs file:/usr/bin/python3=python3 strip=binutils"
needs_browser="$needs_test chromium=chromium node=nodejs npm=npm"
needs_packing="$needs_build strip=binutils gzip=gzip dpkg-deb=dpkg dpkg-shlibdeps=dpkg-dev lintian=lintian rpmlint=rpmlint rpm=rpm"
needs_package="$needs_packing mmdebstrap=mmdebstrap mke2fs=e2fsprogs tar=tar qemu-system-x86_64=qemu-system-x86"
needs_aarch64="$needs_packing aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu aarch64-linux-gnu-g++=g++-aarch64-linux-gnu
  file:/usr/aarch64-linux-gnu/include/stdio.h=libc6-dev-arm64-cross
  qemu-aarch64=qemu-user qemu-system-aarch64=qemu-system-arm cpio=cpio xz=xz-utils"

step_os() {
  [ -r /etc/os-release ] || fail "this is not Debian or Ubuntu (no /etc/os-release); install the packages named in scripts/setup.sh by hand"
  # shellcheck source=/dev/null
  . /etc/os-release
  case " ${ID:-} ${ID_LIKE:-} " in
    *" debian "* | *" ubuntu "*) ;;
    *) fail "${PRETTY_NAME:-this system} is not Debian or Ubuntu; install by hand what scripts/setup.sh names in needs_$mode" ;;
  esac
}

step_machine() {
  if [ $mode = aarch64 ] && [ "$(uname -m)" = aarch64 ]; then
    fail "this machine is aarch64 itself: make package and make kernel-test are all that it needs"
  fi
}

step_rights() {
  as_root=""
  [ "$(id -u)" = 0 ] && return
  command -v sudo >/dev/null || fail "run as root, or install sudo"
  as_root=sudo
}

step_cargo() {
  command -v cargo >/dev/null || fail "cargo is not in PATH; install Rust 1.95 or later from https://rustup.rs (under sudo: run make as yourself, it asks for sudo where it needs to)"
  local have
  have=$(rustc --version | sed -E 's/^rustc ([0-9]+\.[0-9]+).*/\1/')
  [ "$(printf '1.95\n%s\n' "$have" | sort -V | head -n 1)" = 1.95 ] || fail "rustc $have is too old: 1.95 or later is needed (rustup update)"
}

has_kubernetes() {
  [ -n "${PILOTFISH_K8S_BIN:-}" ] || compgen -G "${XDG_CACHE_HOME:-$HOME/.cache}/pilotfish/k8s/*/kube-proxy" >/dev/null
}

# A full disk ends a build in the middle with a linker's bus error, and its log with it. In GB: what
# the build directory holds after all tests, and Kubernetes' programs with what building them leaves.
step_space() {
  [ $mode = test ] || return 0
  local target need have
  target=${CARGO_TARGET_DIR:-target}
  need=9
  has_kubernetes || need=$((need + 6))
  if [ -d "$target" ]; then need=$((need - $(du -s -B1G "$target" | cut -f1))); fi
  have=$(df --output=avail -B1G . | tail -n 1)
  [ "$have" -ge "$need" ] || say "only $((have)) GB are free here, and all tests need some $need GB: free some if the build ends with \"No space left on device\" or a signal 7"
}

# The cross compiler of Debian is for another machine, and the Rust library is that of the compiler in use.
rust_target=aarch64-unknown-linux-gnu
step_rust_target() {
  [ $mode = aarch64 ] || return 0
  [ -d "$(rustc --print target-libdir --target $rust_target)" ] && return
  command -v rustup >/dev/null || fail "Rust's library for $rust_target is missing, and there is no rustup to install it: install what your rustc ($(rustc --version)) has for it"
  say "rustup target add $rust_target"
  rustup -q target add $rust_target || fail "rustup could not install Rust's library for $rust_target (see above)"
}

missing_packages() {
  local need what package
  for need in $1; do
    what=${need%=*} package=${need#*=}
    case $what in
      file:*) [ -e "${what#file:}" ] || echo "$package" ;;
      *) PATH="$PATH:/usr/sbin:/sbin" command -v "$what" >/dev/null || echo "$package" ;;
    esac
  done | sort -u
}

# While apt runs, invoke-rc.d and deb-systemd-invoke ask this file whether a service may start.
policy=/usr/sbin/policy-rc.d
saved=$policy.before-pilotfish
deny_services() {
  if [ -e $policy ] && [ ! -e $saved ]; then $as_root mv $policy $saved; fi
  printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
  $as_root chmod 755 $policy
}
allow_services() {
  if [ -e $saved ]; then $as_root mv $saved $policy; else $as_root rm -f $policy; fi
}

# apt runs in a session of its own, so that Ctrl-C on the terminal does not hit dpkg half-way
# through a package; it is told once, and ends at the next safe place.
apt_pid=
interrupted() {
  trap '' INT TERM
  if [ -n "$apt_pid" ]; then
    say "interrupted: apt ends after the package under way"
    $as_root kill -INT "$apt_pid" 2>/dev/null || true
    wait "$apt_pid" 2>/dev/null || true
  fi
  exit 130
}
apt() {
  local log status=0
  log=$(mktemp)
  # The shell ignores SIGINT for what runs in its background; apt is to hear of it.
  $as_root setsid env --default-signal=INT DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null >"$log" 2>&1 &
  apt_pid=$!
  wait $apt_pid || status=$?
  apt_pid=
  if [ $status != 0 ]; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    return $status
  fi
  rm -f "$log"
}

installed_by_us=
install_packages() {
  local packages=$*
  trap allow_services EXIT
  trap interrupted INT TERM
  deny_services
  say "apt-get update"
  apt -q update || fail "apt-get update failed (see above): is there a network, and are the apt sources right?"
  say "apt-get install $packages"
  # shellcheck disable=SC2086
  apt -q -y --no-install-recommends install $packages || fail "apt-get install failed (see above)"
  installed_by_us=$packages
  # Installing enables a service for the next boot, too; what was not there before is not to run then.
  if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
    for unit in containerd nginx redis-server dnsmasq postgresql; do
      case " $packages " in *" $unit "* | *" $unit-light "*) $as_root systemctl disable --quiet "$unit.service" 2>/dev/null || true ;; esac
    done
    case " $packages " in *" docker.io "*) $as_root systemctl disable --quiet docker.service docker.socket 2>/dev/null || true ;; esac
  fi
}

step_packages() {
  local needs=needs_$mode packages
  packages=$(missing_packages "${!needs}" | tr '\n' ' ')
  if [ -z "${packages// /}" ]; then
    say "packages: all there"
    return
  fi
  # Ubuntu has bpftool in linux-tools-common; Debian in a package of its own.
  if [ "${ID:-}" = ubuntu ]; then packages=${packages/bpftool/linux-tools-common linux-tools-generic}; fi
  # shellcheck disable=SC2086
  install_packages $packages
  packages=$(missing_packages "${!needs}" | tr '\n' ' ')
  [ -z "${packages// /}" ] || fail "still missing after the installation: $packages"
}

# Kubernetes' programs are built from Go modules, once, by whoever uses them first; `cargo xtask
# cluster up` does it at a time of one's own choice. They need Go 1.26, which any Go from 1.21 on
# fetches by itself.
step_go() {
  case $mode in demo | aarch64) return ;; esac
  if has_kubernetes; then return; fi
  local go have candidate
  go=$(PATH="$PATH:/usr/local/go/bin" command -v go || true)
  if [ -n "$go" ]; then
    have=$(GOTOOLCHAIN=local "$go" env GOVERSION)
    if [ "$(printf 'go1.21\n%s\n' "$have" | sort -V | head -n 1)" = go1.21 ]; then return; fi
    fail "$go is $have: install Go 1.26 from https://go.dev/dl, or set PILOTFISH_K8S_BIN to a directory with Kubernetes 1.36 and etcd 3.6"
  fi
  candidate=$(apt-cache policy golang-go | sed -nE 's/.*Candidate: ([0-9]+:)?([0-9]+\.[0-9]+).*/\2/p')
  [ "$(printf '1.21\n%s\n' "${candidate:-0}" | sort -V | head -n 1)" = 1.21 ] ||
    fail "Go is needed to build Kubernetes, and ${PRETTY_NAME:-this system} has none from 1.21 on: install it from https://go.dev/dl, or set PILOTFISH_K8S_BIN to a directory with Kubernetes 1.36 and etcd 3.6"
  install_packages golang-go
}

mount_if_missing() {
  local type=$1 where=$2
  grep -q " $where $type " /proc/mounts && return
  [ -d "$where" ] || return 0
  say "mounting $type on $where, which was missing (it stays until the next boot)"
  $as_root mount -t "$type" "$type" "$where" || say "could not mount $type on $where; pilotfish check tells what works without it"
}

main() {
  step_os
  step_machine
  step_rights
  step_space
  step_cargo
  step_packages
  step_rust_target
  step_go
  mount_if_missing bpf /sys/fs/bpf
  if [ -d /sys/kernel/tracing ]; then mount_if_missing tracefs /sys/kernel/tracing; fi
  say "ready for make ${mode/k8s/demo-k8s}${installed_by_us:+ (installed: $installed_by_us)}"
}
main
