#!/usr/bin/env bash
# Compares the public interfaces of the published crates with those of a commit: scripts/semver.sh [COMMIT]
#
#     cargo install cargo-semver-checks --locked
#     scripts/semver.sh main
#
# The baseline is a commit, by default the last release's tag, because nothing is in a registry yet. A break is an error
# until the version in Cargo.toml says that it is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

baseline=${1:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)}
[ -n "$baseline" ] || { echo "no release is tagged yet: name the commit to compare with" >&2; exit 2; }
command -v cargo-semver-checks >/dev/null || { echo "cargo install cargo-semver-checks --locked" >&2; exit 2; }

packages=()
for manifest in crates/*/Cargo.toml; do
    directory=$(dirname "$manifest")
    # Unpublished crates promise nothing, and neither does one that the baseline did not have, or a command.
    ! grep -q '^publish = false' "$manifest" && [ -e "$directory/src/lib.rs" ] || continue
    git cat-file -e "$baseline:$manifest" 2>/dev/null || continue
    packages+=(--package "$(basename "$directory")")
done
cargo semver-checks --baseline-rev "$baseline" "${packages[@]}"
