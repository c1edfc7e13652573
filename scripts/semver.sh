#!/usr/bin/env bash
# Compares the public interfaces of the published crates with those of a commit: scripts/semver.sh [COMMIT]
#
#     scripts/semver.sh main
#
# cargo-semver-checks is built into target/tools when it is not installed: some minutes, once.
# The baseline is a commit, by default the last release's tag, because nothing is in a registry yet. A break is an error
# until the version in Cargo.toml says that it is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

baseline=${1:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)}
[ -n "$baseline" ] || { echo "no release is tagged yet: name the commit to compare with" >&2; exit 2; }

VERSION=0.51.0
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
PATH=$PATH:$target/tools/bin
if ! command -v cargo-semver-checks >/dev/null; then
    # Unoptimised, because it runs for seconds.
    cargo install cargo-semver-checks --version "$VERSION" --locked --debug --root "$target/tools" \
        --target-dir "$target/tools-build"
    rm -rf "$target/tools-build"
fi

packages=()
for manifest in crates/*/Cargo.toml; do
    directory=$(dirname "$manifest")
    # Unpublished crates promise nothing, and neither does one that the baseline did not have, or a command.
    ! grep -q '^publish = false' "$manifest" && [ -e "$directory/src/lib.rs" ] && [ ! -e "$directory/src/main.rs" ] || continue
    git cat-file -e "$baseline:$manifest" 2>/dev/null || continue
    packages+=(--package "$(basename "$directory")")
done
cargo semver-checks --baseline-rev "$baseline" "${packages[@]}"
