#!/usr/bin/env bash
# The deb of another commit, as that commit builds it: scripts/old-deb.sh COMMIT FILE. Its tree lies
# beside FILE while it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$1 file=$(realpath -m "$2")
tree=${file%.deb}
mkdir -p "$(dirname "$file")"
# A run that was ended halfway may have left one.
git worktree remove --force "$tree" 2>/dev/null || true
git worktree add --detach "$tree" "$commit"
trap 'git worktree remove --force "$tree"' EXIT
(cd "$tree" && CARGO_TARGET_DIR="$tree/target" cargo xtask package --only deb)
cp "$tree"/target/package/*.deb "$file.part"
mv "$file.part" "$file"
