#!/usr/bin/env bash
# The engine's golden tests on another architecture: scripts/cross.sh wasm32-wasip1|aarch64-unknown-linux-gnu SCRATCH
#
# Takes the target's standard library from the installed toolchain if it is there (`rustup target add`), else from Debian's
# Rust packages, unpacked under SCRATCH and never installed. WebAssembly runs in wasmtime (PyPI), AArch64 in QEMU.
# Exits with 0 and says so when the target cannot be had here; fails only when what was built is wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$1
mkdir -p "$2"
scratch=$(cd "$2" && pwd)
root=$scratch/debian

skip() { echo "skipped: $*"; exit 0; }

# Debian packages, unpacked side by side: `unpack NAME...`.
unpack() {
    mkdir -p "$scratch/packages"
    (cd "$scratch/packages" && apt-get download "$@" >/dev/null 2>&1) || return 1
    for package in "$scratch"/packages/*.deb; do
        dpkg -x "$package" "$root" && rm "$package"
    done
}

cargo=(cargo test -p vitstream-engine --no-default-features --target "$target" --test golden)
name=$(tr 'a-z-' 'A-Z_' <<<"$target")
export CARGO_TARGET_DIR=$scratch/target

if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    own=yes
else
    command -v apt-get >/dev/null || skip "no $target in the toolchain: rustup target add $target"
    linker=$(find "$(rustc --print sysroot)" -name rust-lld | head -n 1)
    [ -w /var/lib/apt/lists ] && apt-get update >/dev/null 2>&1 || true
    unpack rustc-web libstd-rust-web-dev libstd-rust-web-1.96 libllvm22 rust-web-src ||
        skip "no $target in the toolchain, and no Rust 1.96 among Debian's packages here"
    export RUSTC=$root/usr/bin/rustc RUSTC_BOOTSTRAP=1
    export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/llvm-22/lib
    # A path to the real cargo: rustup's would look for its own compiler's version.
    PATH=$(dirname "$(rustup which cargo 2>/dev/null || command -v cargo)"):$PATH
    "$RUSTC" --version || skip "Debian's compiler does not run here"
    cargo+=(-Zbuild-std=std,panic_abort,test)
    own=no
fi

case $target in
wasm32-wasip1)
    python3 -m venv "$scratch/wasmtime"
    "$scratch/wasmtime/bin/pip" install --quiet --disable-pip-version-check wasmtime==50.0.1 || skip "no wasmtime from PyPI"
    flags="-C target-feature=+simd128"
    if [ $own = no ]; then
        unpack wasi-libc || skip "no wasi-libc among Debian's packages"
        [ -n "$linker" ] || skip "the toolchain has no rust-lld"
        libc=$root/usr/lib/wasm32-wasi
        # Debian's libc is older than this standard library, which names two thread functions that single-threaded
        # WebAssembly never calls.
        flags+=" -C linker-flavor=wasm-ld -C link-self-contained=no -L native=$libc -C link-arg=$libc/crt1-command.o"
        flags+=" -C link-arg=-lc -C link-arg=--unresolved-symbols=ignore-all"
        export CARGO_TARGET_WASM32_WASIP1_LINKER=$linker
    fi
    export "CARGO_TARGET_${name}_RUSTFLAGS=$flags"
    export "CARGO_TARGET_${name}_RUNNER=$scratch/wasmtime/bin/python $PWD/scripts/run_wasi.py"
    ;;
aarch64-unknown-linux-gnu)
    command -v aarch64-linux-gnu-gcc >/dev/null || skip "no aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu)"
    command -v qemu-aarch64 >/dev/null || skip "no qemu-aarch64 (Debian: qemu-user)"
    export "CARGO_TARGET_${name}_LINKER=aarch64-linux-gnu-gcc"
    # Emulated, the committed networks take two minutes; a real voice would take an hour.
    export VITSTREAM_FIXTURES=$scratch/none
    export "CARGO_TARGET_${name}_RUNNER=qemu-aarch64 -L /usr/aarch64-linux-gnu"
    ;;
*)
    echo "usage: scripts/cross.sh wasm32-wasip1|aarch64-unknown-linux-gnu SCRATCH" >&2
    exit 2
    ;;
esac

"${cargo[@]}"
