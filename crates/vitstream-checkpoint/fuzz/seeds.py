"""Writes the seeds of both fuzz targets: small pickles of every protocol, and the zips around them.

    python3 seeds.py corpus        needs numpy; torch is imitated

The classes of torch are stood in for by empty ones of the same names, so that CPython's own pickler writes what
torch.save would.
"""

import argparse
import collections
import io
import pathlib
import pickle
import sys
import types
import zipfile

import numpy


def stand_in(module, *names):
    for i in range(module.count(".") + 1):
        path = ".".join(module.split(".")[: i + 1])
        sys.modules.setdefault(path, types.ModuleType(path))
    for name in names:
        made = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, made)


def function(module, name):
    stand_in(module)

    def made(*args):
        return None

    made.__module__, made.__name__, made.__qualname__ = module, name, name
    setattr(sys.modules[module], name, made)
    return made


STORAGES = ["Float", "Half", "BFloat16", "Double", "Long", "Bool"]
stand_in("torch", *(f"{name}Storage" for name in STORAGES))
stand_in("torch.storage", "UntypedStorage")
stand_in("omegaconf.dictconfig", "DictConfig")
stand_in("omegaconf.nodes", "AnyNode")
stand_in("evil", "Thing")
V2 = function("torch._utils", "_rebuild_tensor_v2")
V3 = function("torch._utils", "_rebuild_tensor_v3")
PARAMETER = function("torch._utils", "_rebuild_parameter")


class Call:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


class Stored:
    def __init__(self, name, numel, module="torch"):
        self.id = ("storage", getattr(sys.modules[module], name), "0", "cpu", numel)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.id if isinstance(value, Stored) else None


def dumps(value, protocol):
    out = io.BytesIO()
    Pickler(out, protocol).dump(value)
    return out.getvalue()


def tensor(name="FloatStorage", size=(2, 3), stride=(3, 1), offset=0, numel=16):
    return Call(V2, Stored(name, numel), offset, size, stride, False, collections.OrderedDict())


def values():
    typed = {name: tensor(f"{name}Storage", numel=6 if name != "Long" else 8) for name in STORAGES}
    yield {"state_dict": collections.OrderedDict(typed)}
    untyped = Call(V3, Stored("UntypedStorage", 64, "torch.storage"), 1, (2,), (1,), False, {}, float)
    parameter = Call(PARAMETER, tensor(size=(3, 2), stride=(1, 3)), True, collections.OrderedDict())
    yield {"model": {"a": untyped, "b": parameter, "c": tensor(size=(4, 0), stride=(0, 0))}}
    space = argparse.Namespace(a=1, b="text", c=[1, 2.5, None, True])
    config = sys.modules["omegaconf.dictconfig"].DictConfig()
    node = sys.modules["omegaconf.nodes"].AnyNode()
    node._val = 3
    config.__dict__.update(_content={"k": node}, _parent=config)
    hyper = {
        "space": space,
        "path": pathlib.PurePosixPath("/data/voice"),
        "windows": pathlib.PureWindowsPath("C:/data"),
        "numpy": [numpy.float64(1.5), numpy.int64(-3), numpy.bool_(True), numpy.float32(2)],
        "array": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
        "set": {1, 2},
        "frozen": frozenset([3]),
        "count": collections.Counter("aab"),
        "default": collections.defaultdict(list, {"a": [1]}),
        "bytes": b"\x00\xff",
        "array of bytes": bytearray(b"ab"),
        "big": 1 << 80,
        "config": config,
        "thing": sys.modules["evil"].Thing(),
    }
    yield {"hyper_parameters": hyper, "state_dict": {"w": tensor()}}
    loop = []
    loop.append(loop)
    yield {"a": tensor(), "loop": loop}


def main(folder):
    for target in ("unpickle", "torch_zip"):
        (folder / target).mkdir(parents=True, exist_ok=True)
    for i, value in enumerate(values()):
        for protocol in range(6):
            data = dumps(value, protocol)
            (folder / "unpickle" / f"{i}-{protocol}").write_bytes(data)
            with zipfile.ZipFile(folder / "torch_zip" / f"{i}-{protocol}", "w") as archive:
                archive.writestr("archive/data.pkl", data)
                archive.writestr("archive/byteorder", "little")
                with archive.open("archive/data/0", "w", force_zip64=True) as storage:
                    storage.write(bytes(64))


main(pathlib.Path(sys.argv[1]))
