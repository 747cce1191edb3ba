#!/usr/bin/env bash
# Builds containerd, its shim and ctr of one version from the Go module, for `cargo xtask
# runtime-test`. Prints the directory that has them; what is there already is not built again.
#   scripts/containerd.sh 2.4.2     into ${XDG_CACHE_HOME:-~/.cache}/pilotfish/containerd/2.4.2
# One to two minutes on two cores. runc and the rest of a container come from the distribution.
set -euo pipefail

fail() { printf 'containerd.sh: %s\n' "$*" >&2; exit 1; }

[ $# = 1 ] || fail "which version? (1.7.35, 2.4.2)"
version=${1#v}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+[-a-z0-9.]*$ ]] || fail "\"$version\" is no version; one is 2.4.2"
case $version in
  1.*) module=github.com/containerd/containerd ;;
  2.*) module=github.com/containerd/containerd/v2 ;;
  *) fail "containerd $version is not known to this script" ;;
esac
to=${XDG_CACHE_HOME:-$HOME/.cache}/pilotfish/containerd/$version
if [ -x "$to/containerd" ]; then echo "$to"; exit; fi

PATH="$PATH:/usr/local/go/bin"
command -v go >/dev/null || fail "Go is needed: scripts/setup.sh --k8s"
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly
# What a download says of itself, read without a tool for JSON.
source=$(cd / && GOFLAGS='' go mod download -json "$module@v$version" | sed -nE 's/^[[:space:]]*"Dir": "(.*)",?$/\1/p')
[ -d "$source" ] || fail "$module@v$version could not be had"

mkdir -p "$to"
# Inside the module's own directory, which is read-only: some versions exclude others in their
# go.mod, and `go install` refuses those from outside.
build() {
  (cd "$source" && nice go build -trimpath -buildvcs=false -o "$to/.$1" \
    -tags 'netgo,osusergo,no_btrfs,no_zfs,no_devmapper,no_aufs' \
    -ldflags "-s -w -X $module/version.Version=v$version" "./cmd/$1")
  mv "$to/.$1" "$to/$1"
}
# containerd comes last: where it is there, all are.
for program in containerd-shim-runc-v2 ctr containerd; do
  printf '  building %s %s\n' "$program" "$version" >&2
  build "$program" >&2
done
echo "$to"
