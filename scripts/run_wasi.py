"""Runs a WebAssembly command in wasmtime, with this checkout readable: run_wasi.py FILE.wasm [ARGUMENT ...]"""

import pathlib
import sys

import wasmtime

checkout = str(pathlib.Path(__file__).resolve().parent.parent)
wasi = wasmtime.WasiConfig()
wasi.argv = sys.argv[1:]
wasi.inherit_stdout()
wasi.inherit_stderr()
wasi.preopen_dir(checkout, checkout)
engine = wasmtime.Engine()
store = wasmtime.Store(engine)
store.set_wasi(wasi)
linker = wasmtime.Linker(engine)
linker.define_wasi()
instance = linker.instantiate(store, wasmtime.Module.from_file(engine, sys.argv[1]))
try:
    instance.exports(store)["_start"](store)
except wasmtime.ExitTrap as exit:
    sys.exit(exit.code)
