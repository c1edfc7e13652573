#!/usr/bin/env python3
"""Make a random voice of full size, and the pair that PyTorch traces of it: something to time exported pairs against.

    pip install -r scripts/requirements-families.txt
    scripts/trace_voice.py DIR [NAME ...]

writes for every NAME (high, medium, x-low; all by default) DIR/NAME.ckpt, which `vitstream export` reads, and
DIR/NAME/encoder.onnx and decoder.onnx, written by torch.onnx.export from upstream's own network. With `--ours FOLDER`
nothing is made: FOLDER/NAME, exported from the checkpoint, has to compute what DIR/NAME computes. The weights are random,
seeded by the name; the durations are about two frames for an id, as a real voice's are.
"""

import argparse
import math
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from bench_graphs import decoder_feed, encoder_feed, session
from make_fixtures import HIGH, MEDIUM, enliven, load_model_g, save_checkpoint

FULL = dict(num_symbols=256, inter_channels=192, hidden_channels=192, filter_channels=768, n_heads=2, n_layers=6)
NARROW = dict(inter_channels=96, hidden_channels=96, filter_channels=384)
VOICES = {
    "high": FULL | HIGH | dict(upsample_initial_channel=512),
    "medium": FULL | MEDIUM | dict(upsample_initial_channel=256),
    "x-low": FULL | MEDIUM | dict(upsample_initial_channel=256) | NARROW,
}
FRAMES_OF_AN_ID = 2
IDS, FRAMES = 150, 100
TOLERANCE = 1e-4


def random_ids():
    return np.random.default_rng(2).integers(0, FULL["num_symbols"], IDS)


@torch.no_grad()
def set_pace(model_g):
    """Moves the last step of the duration predictor, so that an id lasts as long as wanted."""
    ids = torch.from_numpy(random_ids())[None]
    affine, logw = model_g.dp.flows[0], []
    hook = model_g.dp.register_forward_hook(lambda _module, _inputs, out: logw.append(out))
    model_g.infer(ids, torch.tensor([IDS]), noise_scale=0, noise_scale_w=0)
    hook.remove()
    # Durations are rounded up.
    missing = math.log(FRAMES_OF_AN_ID - 0.5) - logw[0].mean()
    affine.m[0] -= missing * affine.logs[0].exp()


def make_checkpoint(name, path):
    from piper.train.vits.lightning import VitsModel

    torch.manual_seed(zlib.crc32(name.encode()))
    model = VitsModel(**VOICES[name], mos_metric=None)
    enliven(model.model_g, torch.Generator().manual_seed(zlib.crc32(name.encode())))
    set_pace(model.model_g.eval())
    # Of no use to an export, and as large again.
    model.model_d = torch.nn.Sequential(torch.nn.Conv2d(1, 4, (5, 1)))
    save_checkpoint(model, path, with_optimizer=False)


class Encoder(torch.nn.Module):
    """What comes before the flow; what comes after it is dead code, which the exporter drops."""

    def __init__(self, model_g):
        super().__init__()
        self.model_g = model_g

    def forward(self, ids, lengths, scales):
        noise, length, noise_w = scales.unbind()
        found = self.model_g.infer(ids, lengths, noise_scale=noise, length_scale=length, noise_scale_w=noise_w)
        _, _, y_mask, (_, z_p, _, _) = found
        return z_p, y_mask


class Decoder(torch.nn.Module):
    def __init__(self, model_g):
        super().__init__()
        self.flow, self.dec = model_g.flow, model_g.dec

    def forward(self, z, y_mask):
        return self.dec(self.flow(z, y_mask, reverse=True) * y_mask)


def trace(module, example, path, inputs, outputs):
    torch.onnx.export(
        module.eval(),
        example,
        path,
        opset_version=15,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=inputs | outputs,
        dynamo=False,
    )


def trace_pair(model_g, folder):
    with torch.no_grad():
        model_g.dec.remove_weight_norm()
    over_time = {0: "batch_size", 2: "time"}
    trace(
        Encoder(model_g),
        (torch.from_numpy(random_ids())[None], torch.tensor([IDS]), torch.tensor([0.667, 1.0, 0.8])),
        folder / "encoder.onnx",
        {"input": {0: "batch_size", 1: "phonemes"}, "input_lengths": {0: "batch_size"}, "scales": {}},
        {"z": over_time, "y_mask": over_time},
    )
    trace(
        Decoder(model_g),
        (torch.randn(1, model_g.inter_channels, FRAMES), torch.ones(1, 1, FRAMES)),
        folder / "decoder.onnx",
        {"z": over_time, "y_mask": over_time},
        {"output": {0: "batch_size", 2: "samples"}},
    )


def difference(name, ours, theirs):
    """Largest differences of what the two pairs compute, and how loud that is."""
    worst = {}
    for file, feed_of in (
        ("encoder.onnx", lambda s: encoder_feed(s, random_ids())),
        ("decoder.onnx", lambda s: decoder_feed(s, FRAMES)),
    ):
        sessions = [session(folder / name / file, 1) for folder in (ours, theirs)]
        found, expected = (s.run(["z" if file[0] == "e" else "output"], feed_of(s))[0] for s in sessions)
        if found.shape != expected.shape:
            sys.exit(f"{name}/{file}: {found.shape}, expected {expected.shape}")
        worst[file] = np.abs(found - expected).max() / np.abs(expected).max()
        print(f"{name}/{file}: {expected.shape}, up to {np.abs(expected).max():.2f}, difference {worst[file]:.1e} of it")
    return max(worst.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(VOICES)}; all by default")
    parser.add_argument("--ours", type=Path, metavar="FOLDER", help="pairs to compare with the traced ones")
    args = parser.parse_args()
    names = args.names or list(VOICES)
    if args.ours:
        if max([difference(name, args.ours, args.directory) for name in names]) > TOLERANCE:
            sys.exit(f"the pairs differ by more than {TOLERANCE:.0e}")
        return
    torch.set_num_threads(1)
    for name in names:
        (args.directory / name).mkdir(parents=True, exist_ok=True)
        checkpoint = args.directory / f"{name}.ckpt"
        make_checkpoint(name, checkpoint)
        trace_pair(load_model_g(checkpoint), args.directory / name)


if __name__ == "__main__":
    main()
