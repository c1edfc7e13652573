#!/usr/bin/env python3
"""Time and peak memory of `vitstream export`, against what the original script takes.

    scripts/bench_export.py target/release/vitstream [CHECKPOINT]

CHECKPOINT is ../shared/fixtures/joe/joe.ckpt by default. A second file with the shapes of a real
medium checkpoint after training (generator, discriminators and their optimizers' state: 846 MB,
every weight the same) is written to a temporary folder first. Medians of nine runs each, the two files in turn.
Needs nothing but Python.
"""

import argparse
import os
import pickle
import statistics
import struct
import subprocess
import sys
import tempfile
import zipfile
from array import array
from collections import OrderedDict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = Path(os.environ.get("VITSTREAM_FIXTURES", ROOT.parent / "shared/fixtures"))
RUNS = 9
# Seconds and peak bytes of piper_train.export_onnx_streaming (see the README of the fixtures).
ORIGINAL = {"voice": (12.5, 1.33e9), "trained": (27.8, 1.83e9)}

INTER = HIDDEN = 192
FILTER, LAYERS, HEADS, WINDOW, SYMBOLS = 768, 6, 2, 4, 256
SPECTRUM, INITIAL = 513, 256
KERNELS, DILATIONS, RATES, UPSAMPLE_KERNELS = (3, 5, 7), ((1, 2), (2, 6), (3, 12)), (8, 8, 4), (16, 16, 8)


def conv(name, out, inputs, kernel, bias=True):
    yield f"{name}.weight", (out, inputs, kernel)
    if bias:
        yield f"{name}.bias", (out,)


def normed(name, out, *rest, first=None):
    """Weight norm over the first stored dimension, which a transposed convolution counts as inputs."""
    first = out if first is None else first
    yield f"{name}.bias", (out,)
    yield f"{name}.weight_g", (first,) + (1,) * len(rest)
    yield f"{name}.weight_v", (first, *rest)


def norm(name, channels=HIDDEN):
    yield f"{name}.gamma", (channels,)
    yield f"{name}.beta", (channels,)


def wavenet(name, layers):
    for i in range(layers):
        yield from normed(f"{name}.in_layers.{i}", 2 * HIDDEN, HIDDEN, 5)
        yield from normed(f"{name}.res_skip_layers.{i}", HIDDEN if i == layers - 1 else 2 * HIDDEN, HIDDEN, 1)


def separable(name):
    for i in range(3):
        yield from conv(f"{name}.convs_sep.{i}", HIDDEN, 1, 3)
        yield from conv(f"{name}.convs_1x1.{i}", HIDDEN, HIDDEN, 1)
        yield from norm(f"{name}.norms_1.{i}")
        yield from norm(f"{name}.norms_2.{i}")


def generator_shapes():
    """Keys and shapes of a medium voice's generator, one speaker."""
    yield "enc_p.emb.weight", (SYMBOLS, HIDDEN)
    for i in range(LAYERS):
        attention = f"enc_p.encoder.attn_layers.{i}"
        for name in ("emb_rel_k", "emb_rel_v"):
            yield f"{attention}.{name}", (1, 2 * WINDOW + 1, HIDDEN // HEADS)
        for name in "qkvo":
            yield from conv(f"{attention}.conv_{name}", HIDDEN, HIDDEN, 1)
        yield from norm(f"enc_p.encoder.norm_layers_1.{i}")
        yield from norm(f"enc_p.encoder.norm_layers_2.{i}")
        yield from conv(f"enc_p.encoder.ffn_layers.{i}.conv_1", FILTER, HIDDEN, 3)
        yield from conv(f"enc_p.encoder.ffn_layers.{i}.conv_2", HIDDEN, FILTER, 3)
    yield from conv("enc_p.proj", 2 * INTER, HIDDEN, 1)

    yield from conv("dec.conv_pre", INITIAL, INTER, 7)
    channels = INITIAL
    for i, kernel in enumerate(UPSAMPLE_KERNELS):
        yield from normed(f"dec.ups.{i}", channels // 2, channels // 2, kernel, first=channels)
        channels //= 2
        for j, (kernel, dilations) in enumerate(zip(KERNELS, DILATIONS)):
            for d in range(len(dilations)):
                block = f"dec.resblocks.{i * len(KERNELS) + j}.convs.{d}"
                yield from normed(block, channels, channels, kernel)
    yield from conv("dec.conv_post", 1, channels, 7, bias=False)

    yield from conv("enc_q.pre", HIDDEN, SPECTRUM, 1)
    yield from wavenet("enc_q.enc", 16)
    yield from conv("enc_q.proj", 2 * INTER, HIDDEN, 1)
    for i in range(0, 8, 2):
        yield from conv(f"flow.flows.{i}.pre", HIDDEN, INTER // 2, 1)
        yield from wavenet(f"flow.flows.{i}.enc", 4)
        yield from conv(f"flow.flows.{i}.post", INTER // 2, HIDDEN, 1)

    for post in ("", "post_"):
        yield f"dp.{post}flows.0.m", (2, 1)
        yield f"dp.{post}flows.0.logs", (2, 1)
        for i in range(1, 9, 2):
            yield from conv(f"dp.{post}flows.{i}.pre", HIDDEN, 1, 1)
            yield from separable(f"dp.{post}flows.{i}.convs")
            yield from conv(f"dp.{post}flows.{i}.proj", 29, HIDDEN, 1)
        yield from conv(f"dp.{post}pre", HIDDEN, 1 if post else HIDDEN, 1)
        yield from conv(f"dp.{post}proj", HIDDEN, HIDDEN, 1)
        yield from separable(f"dp.{post}convs")


def discriminator_shapes():
    """The scale discriminator and five period discriminators."""
    scale = ((16, 1, 15), (64, 4, 41), (256, 4, 41), (1024, 4, 41), (1024, 4, 41), (1024, 1024, 5))
    for i, shape in enumerate(scale):
        yield from normed(f"discriminators.0.convs.{i}", *shape)
    yield from normed("discriminators.0.conv_post", 1, 1024, 3)
    for i in range(1, 6):
        inputs = 1
        for j, out in enumerate((32, 128, 512, 1024, 1024)):
            yield from normed(f"discriminators.{i}.convs.{j}", out, inputs, 5, 1)
            inputs = out
        yield from normed(f"discriminators.{i}.conv_post", 1, 1024, 3, 1)


class Storage:
    """A float storage of the checkpoint, by key and element count."""

    def __init__(self, key, count):
        self.key, self.count = key, count


class Tensor:
    """Pickles as PyTorch pickles a contiguous float32 tensor, without PyTorch."""

    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape

    def __reduce__(self):
        stride, step = [], 1
        for size in reversed(self.shape):
            stride.insert(0, step)
            step *= size
        hooks = OrderedDict()
        return Global("torch._utils", "_rebuild_tensor_v2"), (self.storage, 0, self.shape, tuple(stride), False, hooks)


class Global:
    """Stands for `module.name` in the pickle; callable, as pickle demands of a constructor."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise TypeError("a stand-in is not called")


class Pickler(pickle._Pickler):  # noqa: SLF001 - the C pickler can't write a global it can't import
    dispatch = dict(pickle._Pickler.dispatch)

    def save_global_by_name(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    dispatch[Global] = save_global_by_name

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return "storage", FLOAT_STORAGE, value.key, "cpu", value.count
        return None


FLOAT_STORAGE = Global("torch", "FloatStorage")


def write_trained_checkpoint(path):
    """A medium checkpoint after training, 846 MB as Lightning writes it; every weight is 0.01."""
    tensors = []

    def tensor(shape):
        count = 1
        for size in shape:
            count *= size
        tensors.append(Storage(str(len(tensors)), count))
        return Tensor(tensors[-1], shape)

    def state(shapes):
        return {i: {"step": 1000, "exp_avg": tensor(s), "exp_avg_sq": tensor(s)} for i, (_, s) in enumerate(shapes)}

    parts = {"model_g": list(generator_shapes()), "model_d": list(discriminator_shapes())}
    checkpoint = {
        "epoch": 1000,
        "global_step": 1000000,
        "pytorch-lightning_version": "1.7.7",
        "state_dict": OrderedDict(
            (f"{part}.{name}", tensor(shape)) for part, shapes in parts.items() for name, shape in shapes
        ),
        "optimizer_states": [
            {"state": state(shapes), "param_groups": [{"lr": 2e-4, "params": list(range(len(shapes)))}]}
            for shapes in parts.values()
        ],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "num_symbols": SYMBOLS,
            "num_speakers": 1,
            "sample_rate": 22050,
            "resblock": "2",
            "resblock_kernel_sizes": KERNELS,
            "resblock_dilation_sizes": DILATIONS,
            "upsample_rates": RATES,
            "upsample_initial_channel": INITIAL,
            "upsample_kernel_sizes": UPSAMPLE_KERNELS,
            "filter_length": 1024,
            "hop_length": 256,
            "inter_channels": INTER,
            "hidden_channels": HIDDEN,
            "filter_channels": FILTER,
            "n_heads": HEADS,
            "n_layers": LAYERS,
            "kernel_size": 3,
            "gin_channels": 0,
            "use_sdp": True,
        },
    }
    # Zeros would make the weight norm divide 0 by 0.
    block = array("f", [0.01]).tobytes() * (1 << 18)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("archive/data.pkl", "w") as file:
            Pickler(file, 2).dump(checkpoint)
        for storage in tensors:
            entry = zipfile.ZipInfo(f"archive/data/{storage.key}")
            # PyTorch aligns storages to 64 bytes with an extra field of padding.
            header = archive.fp.tell() + 30 + len(entry.filename)
            entry.extra = struct.pack("<HH", 0x4246, (-header - 4) % 64) + bytes((-header - 4) % 64)
            with archive.open(entry, "w") as file:
                left = 4 * storage.count
                while left:
                    left -= file.write(block[: min(left, len(block))])
        archive.writestr("archive/version", "3\n")


def export(binary, checkpoint, directory):
    """Seconds and peak resident bytes of one export, from a child that runs nothing else."""
    child = (
        "import resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "seconds = time.perf_counter() - start\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(seconds, peak)\n"
        "sys.exit(done.returncode)\n"
    )
    command = [sys.executable, "-c", child, str(binary), "export", str(checkpoint), str(directory), "-q"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{binary} export {checkpoint}: exit {done.returncode}")
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak * (1 if sys.platform == "darwin" else 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vitstream", type=Path, help="a release build of the binary")
    parser.add_argument("checkpoint", type=Path, nargs="?", default=FIXTURES / "joe/joe.ckpt")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the made checkpoint here and keep it")
    args = parser.parse_args()
    binary = args.vitstream.resolve()

    with tempfile.TemporaryDirectory(prefix="vitstream-bench-") as scratch:
        scratch = Path(scratch)
        trained = args.keep or scratch / "trained.ckpt"
        write_trained_checkpoint(trained)
        inputs = {"trained": trained}
        if args.checkpoint.is_file():
            inputs = {"voice": args.checkpoint} | inputs
        else:
            print(f"{args.checkpoint} is not there: the made checkpoint alone is measured")
        runs = {name: [] for name in inputs}
        for _ in range(RUNS):
            for name, path in inputs.items():
                runs[name].append(export(binary, path, scratch / name))
        print(f"{'checkpoint':24}{'size':>8}{'time':>10}{'spread':>16}{'peak':>9}{'original':>20}{'faster':>8}")
        for name, path in inputs.items():
            seconds, peaks = zip(*runs[name])
            median, original = statistics.median(seconds), ORIGINAL[name]
            print(
                f"{path.name:24}{path.stat().st_size / 1e6:5.0f} MB{median:8.3f} s"
                f"{min(seconds):8.3f}-{max(seconds):.3f} s{statistics.median(peaks) / 1e6:6.0f} MB"
                f"{original[0]:8.1f} s{original[1] / 1e6:7.0f} MB{original[0] / median:7.0f}x"
            )


if __name__ == "__main__":
    main()
