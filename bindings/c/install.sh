#!/usr/bin/env bash
# Puts the C library, its headers, and what pkg-config and CMake want to know of it into a folder:
#
#     cargo build --release -p vitstream-c && bindings/c/install.sh PREFIX [target/release]
#
# libpiper.so is another name of the library, for programs that are linked with -lpiper.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=$(mkdir -p "$1" && cd "$1" && pwd)
built=${2-$here/../../target/release}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")

mkdir -p "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/vitstream"
cp "$here/include/vitstream.h" "$here/include/piper.h" "$prefix/include/"
cp "$built/libvitstream_c.so" "$prefix/lib/libvitstream.so.1"
cp "$built/libvitstream_c.a" "$prefix/lib/libvitstream.a"
ln -sf libvitstream.so.1 "$prefix/lib/libvitstream.so"
ln -sf libvitstream.so.1 "$prefix/lib/libpiper.so"
sed "s|@PREFIX@|$prefix|; s|@VERSION@|$version|" "$here/vitstream.pc.in" >"$prefix/lib/pkgconfig/vitstream.pc"
sed "s|@VERSION@|$version|" "$here/cmake/vitstreamConfigVersion.cmake.in" >"$prefix/lib/cmake/vitstream/vitstreamConfigVersion.cmake"
cp "$here/cmake/vitstreamConfig.cmake" "$prefix/lib/cmake/vitstream/"
