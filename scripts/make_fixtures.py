#!/usr/bin/env python3
"""Make tiny Lightning checkpoints and what PyTorch computes for them, with upstream's own model code.

    pip install -r scripts/requirements-fixtures.txt
    scripts/make_fixtures.py make DIR [NAME ...]     write NAME.ckpt and NAME.CASE.safetensors
    scripts/make_fixtures.py check DIR [NAME ...]    recompute the values of existing files

`check` replays the recorded draws through the network of each checkpoint, so it proves at once that
the values in DIR are upstream's and that this script computes the same things. The networks are
random, seeded by their name. Checkpoints called `legacy-*` come from older versions of Lightning
and PyTorch than upstream's package runs on today: they can be checked here, not made.
"""

import argparse
import contextlib
import sys
import zlib
from pathlib import Path

import lightning
import torch
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-5

MEDIUM = dict(
    resblock="2",
    resblock_kernel_sizes=(3, 5, 7),
    resblock_dilation_sizes=((1, 2), (2, 6), (3, 12)),
    upsample_rates=(8, 8, 4),
    upsample_kernel_sizes=(16, 16, 8),
    upsample_initial_channel=32,
    hop_length=256,
)
HIGH = dict(
    resblock="1",
    resblock_kernel_sizes=(3, 7, 11),
    resblock_dilation_sizes=((1, 3, 5), (1, 3, 5), (1, 3, 5)),
    upsample_rates=(8, 8, 2, 2),
    upsample_kernel_sizes=(16, 16, 4, 4),
    upsample_initial_channel=64,
    hop_length=256,
)
SHORT_HOP = dict(
    resblock="2",
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 2), (2, 6)),
    upsample_rates=(4, 4, 2),
    upsample_kernel_sizes=(8, 8, 4),
    upsample_initial_channel=32,
    hop_length=32,
    n_heads=4,
)
SMALL = dict(
    num_symbols=48,
    inter_channels=16,
    hidden_channels=16,
    filter_channels=32,
    n_heads=2,
    n_layers=2,
    mos_metric=None,
)

# name -> (hyper-parameters, whether the file states its tuples as text)
VARIANTS = {
    "single": (MEDIUM, False),
    "multi": (MEDIUM | dict(num_speakers=3, gin_channels=8), False),
    "nosdp": (MEDIUM | dict(use_sdp=False), False),
    "multi-nosdp": (MEDIUM | dict(num_speakers=3, gin_channels=8, use_sdp=False), False),
    "high": (HIGH, False),
    # Upstream takes 512 channels when it is told none: the file says 0.
    "high-multi": (HIGH | dict(num_speakers=5, gin_channels=0), False),
    "textual": (SHORT_HOP, True),
}

# case -> (lengths, [noise_scale, length_scale, noise_w])
CASES = {
    "one": ([13], [0.667, 1.0, 0.8]),
    "quiet": ([40], [0.0, 1.2, 0.0]),
    "batch": ([17, 9, 1], [0.5, 0.9, 1.0]),
    "shortest": ([1], [0.667, 1.0, 0.8]),
}


def case_inputs(lengths, scales, n_vocab, n_speakers):
    """Random ids of the given lengths, padded with 0; id 1 alone for a single one."""
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in zip(ids, lengths):
        row[:length] = torch.randint(1, n_vocab, (length,), generator=generator) if length > 1 else 1
    inputs = {
        "input": ids,
        "input_lengths": torch.tensor(lengths),
        "scales": torch.tensor(scales),
    }
    if n_speakers > 1:
        inputs["sid"] = torch.arange(len(lengths)) % n_speakers
    return inputs


@contextlib.contextmanager
def standard_normal(draw):
    """Let `draw(shape)` stand in for torch.randn and torch.randn_like."""
    saved = torch.randn, torch.randn_like

    def randn(*size, **_):
        return draw(tuple(size[0]) if isinstance(size[0], (tuple, list, torch.Size)) else size)

    torch.randn, torch.randn_like = randn, lambda like, **_: draw(tuple(like.shape))
    try:
        yield
    finally:
        torch.randn, torch.randn_like = saved


def recorder(names, seed):
    """Seeded draws, kept under the given names in the order in which they are asked for."""
    generator, draws, names = torch.Generator().manual_seed(seed), {}, iter(names)

    def draw(shape):
        value = torch.empty(shape).normal_(generator=generator)
        draws[next(names)] = value
        return value.clone()

    return draw, draws


def replayer(draws):
    """Recorded draws, given back in order, each checked against the shape that is asked for."""
    draws = iter(draws)

    def draw(shape):
        value = next(draws)
        assert tuple(value.shape) == shape, f"recorded noise is {tuple(value.shape)}, asked for {shape}"
        return value.clone()

    return draw


@torch.no_grad()
def reference(model_g, inputs, draw):
    """Every tensor of a reference file but the draws, from upstream's `SynthesizerTrn.infer`."""
    outputs, hooks = {}, []
    for name in ("enc_p", "dp"):
        module = getattr(model_g, name)
        hooks.append(module.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out})))
    noise_scale, length_scale, noise_w = inputs["scales"].unbind()
    with standard_normal(draw):
        audio, _, y_mask, (z, z_p, _, _) = model_g.infer(
            inputs["input"],
            inputs["input_lengths"],
            sid=inputs.get("sid"),
            noise_scale=noise_scale,
            length_scale=length_scale,
            noise_scale_w=noise_w,
        )
    for hook in hooks:
        hook.remove()
    x, m_p, logs_p, x_mask = outputs["enc_p"]
    logw = outputs["dp"]
    values = {
        "enc_p.x": x,
        "enc_p.m_p": m_p,
        "enc_p.logs_p": logs_p,
        "x_mask": x_mask,
        "logw": logw,
        "w_ceil": torch.ceil(torch.exp(logw) * x_mask * length_scale),
        "y_lengths": y_mask.sum([1, 2]).long(),
        "y_mask": y_mask,
        "z_p": z_p,
        "z": z,
        "audio": audio,
    }
    if "sid" in inputs:
        values["g"] = model_g.emb_g(inputs["sid"]).unsqueeze(-1)
    return {name: value.contiguous() for name, value in values.items()}


def noise_names(model_g):
    return ["noise.dp", "noise.p"] if model_g.use_sdp else ["noise.p"]


@torch.no_grad()
def enliven(module, generator):
    """Give values to what upstream initialises with 0 or 1, and the generator a gain that can be heard."""

    def normal(tensor, mean, deviation):
        tensor.normal_(mean, deviation, generator=generator)

    for name, parameter in module.named_parameters():
        if torch.all(parameter == 0):
            normal(parameter, 0.0, 0.1)
        elif torch.all(parameter == 1):
            normal(parameter, 1.0, 0.1)
        elif ".ups." in f".{name}" and name.endswith("weight_g"):
            normal(parameter, 1.8, 0.25)
        elif ".resblocks." in f".{name}" and name.endswith("weight_g"):
            normal(parameter, 1.0, 0.15)
        elif name.endswith("conv_post.weight"):
            normal(parameter, 0.0, 0.5)


def make_model(name):
    from piper.train.vits.lightning import VitsModel

    hparams, textual = VARIANTS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    model = VitsModel(**SMALL | hparams)
    enliven(model.model_g, torch.Generator().manual_seed(zlib.crc32(name.encode())))
    # The real discriminator is a hundred times larger than these generators, and the export drops it.
    model.model_d = torch.nn.Sequential(torch.nn.Conv2d(1, 4, (5, 1)))
    model.model_g.eval()
    if hparams.get("gin_channels") == 0:
        model.hparams.gin_channels = 0
    if textual:
        for key in ("resblock_kernel_sizes", "resblock_dilation_sizes", "upsample_rates", "upsample_kernel_sizes"):
            model.hparams[key] = str(model.hparams[key])
    return model


def save_checkpoint(model, path, with_optimizer):
    """As Lightning's trainer saves it, with optimizer state for the duration predictor if wanted."""
    optimizer = torch.optim.AdamW(model.model_g.dp.parameters(), lr=2e-4)
    if with_optimizer:
        for parameter in model.model_g.dp.parameters():
            parameter.grad = torch.zeros_like(parameter)
        before = {key: value.clone() for key, value in model.model_g.dp.state_dict().items()}
        optimizer.step()
        model.model_g.dp.load_state_dict(before)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    trainer.strategy.connect(model)
    trainer.strategy.optimizers = [optimizer]
    trainer.save_checkpoint(path)


def load_model_g(path):
    """The generator of a checkpoint of either Lightning generation."""
    from piper.train.vits.lightning import VitsModel

    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    model = VitsModel(**checkpoint["hyper_parameters"] | dict(mos_metric=None))
    prefix = "model_g."
    weights = {key[len(prefix) :]: value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)}
    model.model_g.load_state_dict(weights)
    return model.model_g.eval()


def make(directory, names, with_optimizer):
    directory.mkdir(parents=True, exist_ok=True)
    for name in names or VARIANTS:
        path = directory / f"{name}.ckpt"
        save_checkpoint(make_model(name), path, with_optimizer)
        model_g = load_model_g(path)
        for case, (lengths, scales) in CASES.items():
            inputs = case_inputs(lengths, scales, model_g.n_vocab, model_g.n_speakers)
            draw, draws = recorder(noise_names(model_g), seed=len(lengths))
            values = reference(model_g, inputs, draw)
            save_file(inputs | draws | values, directory / f"{name}.{case}.safetensors")
        print(f"{path}: {path.stat().st_size} bytes, audio up to {values['audio'].abs().max():.2f}")


def check(directory, names):
    paths = [directory / f"{name}.ckpt" for name in names] or sorted(directory.glob("*.ckpt"))
    if not paths:
        sys.exit(f"{directory}: no checkpoint in it")
    worst = 0.0
    for path in paths:
        model_g = load_model_g(path)
        for file in sorted(directory.glob(f"{path.stem}.*.safetensors")):
            expected = load_file(file)
            inputs = {key: expected.pop(key) for key in ("input", "input_lengths", "scales", "sid") if key in expected}
            draws = [expected.pop(key) for key in noise_names(model_g)]
            found = reference(model_g, inputs, replayer(draws))
            if found.keys() != expected.keys():
                sys.exit(f"{file}: holds {sorted(expected)}, expected {sorted(found)}")
            for key, value in expected.items():
                if found[key].shape != value.shape:
                    sys.exit(f"{file}: {key} is {tuple(value.shape)}, expected {tuple(found[key].shape)}")
            differences = {key: (found[key] - value).abs().max().item() for key, value in expected.items()}
            key = max(differences, key=differences.get)
            worst = max(worst, differences[key])
            print(f"{file.name:36} {len(differences)} tensors, largest difference {differences[key]:.1e} ({key})")
    if worst > TOLERANCE:
        sys.exit(f"largest difference {worst:.1e} is above {TOLERANCE:.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "check"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(VARIANTS)}; all by default")
    parser.add_argument("--no-optimizer", action="store_true", help="make checkpoints without optimizer state")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "make":
        make(args.directory, args.names, not args.no_optimizer)
    else:
        check(args.directory, args.names)


if __name__ == "__main__":
    main()
