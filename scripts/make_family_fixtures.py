#!/usr/bin/env python3
"""Make tiny models of the other VITS families, and what each family's own code computes for them.

    pip install -r scripts/requirements-families.txt
    scripts/make_family_fixtures.py make DIR [NAME ...]     write DIR/NAME/
    scripts/make_family_fixtures.py check DIR [NAME ...]    recompute them with Piper's network

Reference files hold the tensors of the golden checkpoints under the same names (see the README
there). `check` renames every weight to Piper's keys, loads it into Piper's network and replays the
draws: what it accepts is a proof that NOTES.md beside the fixtures says all there is to say about
the differences between the families.
"""

import argparse
import json
import re
import sys
import zlib
from pathlib import Path

import torch
from make_fixtures import (
    CASES,
    TOLERANCE,
    case_inputs,
    enliven,
    load_model_g,
    recorder,
    reference,
    replayer,
    standard_normal,
)
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).resolve().parent.parent / "crates/vitstream-vits/tests/golden"
HIDDEN, FFN, LAYERS, HEADS, SYMBOLS, SPEAKERS, GIN, FILTER = 8, 16, 2, 2, 40, 3, 6, 24
USED_CASES = ("one", "batch", "shortest")
RATES, UPSAMPLE_KERNELS, INITIAL = (4, 4, 2), (8, 8, 4), 16
KERNELS, DILATIONS = (3, 7, 11), ((1, 3, 5), (1, 3, 5), (1, 3, 5))
HOP = 32

# name -> (several speakers, stochastic duration predictor)
VARIANTS = {
    "hf": (False, True),
    "hf-multi": (True, True),
    "hf-nosdp": (False, False),
    "coqui": (False, True),
    "coqui-multi": (True, True),
    "coqui-nosdp": (False, False),
    "original": (False, True),
    "original-multi": (True, True),
}
# Checkpoints of the golden folder that become finished voices, as Piper exports them.
VOICES = ("legacy-single", "multi")


def generator_of(name):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def capture(modules, run):
    """Inputs and output of each named module during `run`."""
    seen, hooks = {}, []
    for name, module in modules.items():
        hooks.append(
            module.register_forward_hook(
                lambda _m, args, kwargs, out, name=name: seen.update({name: (args, kwargs, out)}), with_kwargs=True
            )
        )
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return seen


def reference_values(x, m_p, logs_p, x_mask, logw, length_scale, flow, audio, g):
    """The tensors of a reference file from what the modules of a family took and gave."""
    (z_p, y_mask, *_), _, z = flow
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
    if g is not None:
        values["g"] = g
    return {key: value.clone().contiguous() for key, value in values.items()}


# Hugging Face


def make_hf(name, directory):
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    multi, sdp = VARIANTS[name]
    config = VitsConfig(
        vocab_size=SYMBOLS,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        ffn_dim=FFN,
        flow_size=HIDDEN,
        spectrogram_bins=33,
        use_stochastic_duration_prediction=sdp,
        num_speakers=SPEAKERS if multi else 1,
        speaker_embedding_size=GIN if multi else 0,
        upsample_initial_channel=INITIAL,
        upsample_rates=RATES,
        upsample_kernel_sizes=UPSAMPLE_KERNELS,
        resblock_kernel_sizes=KERNELS,
        resblock_dilation_sizes=DILATIONS,
        duration_predictor_filter_channels=FILTER,
        posterior_encoder_num_wavenet_layers=1,
        sampling_rate=16000,
        speaking_rate=0.9,
    )
    model = VitsModel(config).eval()
    enliven_family(model, name, r"flow.*(conv_proj|conv_post)|text_encoder\.project", r"decoder\.upsampler")
    model.config.save_pretrained(directory)
    state = model.state_dict()
    if name == "hf-multi":
        # The files on the hub were written before PyTorch renamed the parts of weight norm.
        state = {
            key.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): value
            for key, value in state.items()
        }
    if sdp:
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(state, directory / "pytorch_model.bin")
    symbols = "k '-_abcdefghijlmnopqrstuvwxyz0123456789—"
    write_json(directory / "vocab.json", {symbol: i for i, symbol in enumerate(symbols[:SYMBOLS])})
    tokenizer = VitsTokenizer(
        directory / "vocab.json", pad_token="k", language="eng", phonemize=False, is_uroman=False, add_blank=True
    )
    tokenizer.save_pretrained(directory)

    def run(inputs, draw):
        noise_scale, length_scale, noise_w = inputs["scales"].tolist()
        model.noise_scale, model.noise_scale_duration = noise_scale, noise_w
        ids, g, speaker = inputs["input"], None, None
        mask = (torch.arange(ids.shape[1]) < inputs["input_lengths"].unsqueeze(1)).long()
        if multi:
            # `speaker_id` is one number for the whole batch.
            inputs["sid"][:] = inputs["sid"][-1]
            speaker = int(inputs["sid"][0])
            g = model.embed_speaker(inputs["sid"]).unsqueeze(-1).detach()
        modules = {n: getattr(model, n) for n in ("text_encoder", "duration_predictor", "flow", "decoder")}
        with standard_normal(draw):
            seen = capture(
                modules, lambda: model(ids, attention_mask=mask, speaker_id=speaker, speaking_rate=1 / length_scale)
            )
        text = seen["text_encoder"][2]
        return reference_values(
            text.last_hidden_state.transpose(1, 2),
            text.prior_means.transpose(1, 2),
            text.prior_log_variances.transpose(1, 2),
            mask.float().unsqueeze(1),
            seen["duration_predictor"][2],
            length_scale,
            seen["flow"],
            seen["decoder"][2],
            g,
        )

    return run


HF_KEYS = (
    (r"^text_encoder\.embed_tokens\.", "enc_p.emb."),
    (r"^text_encoder\.project\.", "enc_p.proj."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.attention\.([qkv])_proj\.", r"enc_p.encoder.attn_layers.\1.conv_\2."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.attention\.out_proj\.", r"enc_p.encoder.attn_layers.\1.conv_o."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.attention\.", r"enc_p.encoder.attn_layers.\1."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.layer_norm\.", r"enc_p.encoder.norm_layers_1.\1."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.final_layer_norm\.", r"enc_p.encoder.norm_layers_2.\1."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.feed_forward\.", r"enc_p.encoder.ffn_layers.\1."),
    (r"^duration_predictor\.(post_)?conv_(pre|proj)\.", r"dp.\1\2."),
    (r"^duration_predictor\.(post_)?conv_dds\.", r"dp.\1convs."),
    (r"^duration_predictor\.", "dp."),
    (r"^(dp\.(?:post_)?flows\.\d+)\.conv_(pre|proj)\.", r"\1.\2."),
    (r"^(dp\.(?:post_)?flows\.\d+)\.conv_dds\.", r"\1.convs."),
    (r"\.convs_dilated\.", ".convs_sep."),
    (r"\.convs_pointwise\.", ".convs_1x1."),
    (r"\.translate$", ".m"),
    (r"\.log_scale$", ".logs"),
    (r"^flow\.(.*)\.conv_(pre|post)\.", r"flow.\1.\2."),
    (r"^flow\.(.*)\.wavenet\.", r"flow.\1.enc."),
    (r"^decoder\.upsampler\.", "dec.ups."),
    (r"^decoder\.", "dec."),
    (r"^embed_speaker\.", "emb_g."),
    (r"^posterior_encoder\.", "enc_q."),
)


def load_hf(directory):
    weights = directory / "model.safetensors"
    state = load_file(weights) if weights.exists() else torch.load(directory / "pytorch_model.bin")
    config = json.loads((directory / "config.json").read_text())
    state = rename(state, HF_KEYS)
    state = {re.sub(r"(norm\w*\.\d+|norm_[12])\.weight$", r"\1.gamma", key): value for key, value in state.items()}
    state = {re.sub(r"(norm\w*\.\d+|norm_[12])\.bias$", r"\1.beta", key): value for key, value in state.items()}
    state = {key: v.unsqueeze(-1) if re.search(r"conv_[qkvo]\.weight$", key) else v for key, v in state.items()}
    return piper_model(state, config["num_attention_heads"], config["num_speakers"])


# Coqui


def make_coqui(name, directory):
    from trainer.io import save_model
    from TTS.config.shared_configs import BaseAudioConfig
    from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
    from TTS.tts.layers.glow_tts.duration_predictor import DurationPredictor
    from TTS.tts.layers.vits.stochastic_duration_predictor import StochasticDurationPredictor
    from TTS.tts.models.vits import Vits

    multi, sdp = VARIANTS[name]
    args = VitsArgs(
        out_channels=65,
        hidden_channels=HIDDEN,
        hidden_channels_ffn_text_encoder=FFN,
        num_heads_text_encoder=HEADS,
        num_layers_text_encoder=LAYERS,
        num_layers_posterior_encoder=1,
        resblock_kernel_sizes_decoder=list(KERNELS),
        resblock_dilation_sizes_decoder=[list(d) for d in DILATIONS],
        upsample_rates_decoder=list(RATES),
        upsample_kernel_sizes_decoder=list(UPSAMPLE_KERNELS),
        upsample_initial_channel_decoder=INITIAL,
        use_sdp=sdp,
        use_speaker_embedding=multi,
        speaker_embedding_channels=GIN,
        init_discriminator=False,
    )
    audio = BaseAudioConfig(sample_rate=22050, fft_size=128, win_length=128, hop_length=HOP, mel_fmax=None)
    config = VitsConfig(
        model_args=args,
        audio=audio,
        use_speaker_embedding=multi,
        speakers=[f"p{225 + i}" for i in range(SPEAKERS)] if multi else None,
        add_blank=True,
        use_phonemes=False,
    )
    model = Vits(config)
    # The widths that Coqui fixes (192 and 256), narrowed: the reader takes them from the shapes.
    if sdp:
        predictor = StochasticDurationPredictor(HIDDEN, HIDDEN, 3, 0.5, 4, cond_channels=GIN if multi else 0)
    else:
        predictor = DurationPredictor(HIDDEN, FILTER, 3, 0.5)
    model.duration_predictor = predictor
    model.eval()
    enliven_family(model, name, r"flow.*(proj|post)\.|text_encoder\.proj", r"waveform_decoder\.ups")
    config.save_json(directory / "config.json")
    save_model(config, model, str(directory / "model.pth"), current_step=0, epoch=0)

    def run(inputs, draw):
        model.inference_noise_scale, model.length_scale, model.inference_noise_scale_dp = inputs["scales"].tolist()
        aux = {"x_lengths": inputs["input_lengths"], "speaker_ids": inputs.get("sid")}
        modules = {n: getattr(model, n) for n in ("text_encoder", "duration_predictor", "flow", "waveform_decoder")}
        with standard_normal(draw):
            seen = capture(modules, lambda: model.inference(inputs["input"], aux))
        g = model.emb_g(inputs["sid"]).unsqueeze(-1).detach() if multi else None
        return reference_values(
            *seen["text_encoder"][2],
            seen["duration_predictor"][2],
            model.length_scale,
            seen["flow"],
            seen["waveform_decoder"][2],
            g,
        )

    return run


COQUI_KEYS = (
    (r"^text_encoder\.", "enc_p."),
    (r"^duration_predictor\.", "dp."),
    (r"^waveform_decoder\.cond_layer\.", "dec.cond."),
    (r"^waveform_decoder\.", "dec."),
    (r"^posterior_encoder\.", "enc_q."),
    (r"\.translation$", ".m"),
    (r"\.log_scale$", ".logs"),
)


def load_coqui(directory):
    checkpoint = torch.load(directory / "model.pth", weights_only=False)
    args = checkpoint["config"]["model_args"]
    state = rename(checkpoint["model"], COQUI_KEYS)
    plain = r"^dp\.norm_[12]\.(gamma|beta)$"
    state = {key: v.flatten() if re.search(plain, key) else v for key, v in state.items()}
    speakers = len(state["emb_g.weight"]) if "emb_g.weight" in state else 0
    model = piper_model(state, args["num_heads_text_encoder"], speakers)
    if not args["use_sdp"]:
        model.dp.norm_1.eps = model.dp.norm_2.eps = 1e-4
    return model


# The original


def make_original(name, directory):
    from piper.train.vits.models import SynthesizerTrn
    from piper.train.vits.modules import WN

    multi, _ = VARIANTS[name]
    model = dict(
        inter_channels=HIDDEN,
        hidden_channels=HIDDEN,
        filter_channels=FFN,
        n_heads=HEADS,
        n_layers=LAYERS,
        kernel_size=3,
        p_dropout=0.1,
        resblock="1",
        resblock_kernel_sizes=list(KERNELS),
        resblock_dilation_sizes=[list(d) for d in DILATIONS],
        upsample_rates=list(RATES),
        upsample_initial_channel=INITIAL,
        upsample_kernel_sizes=list(UPSAMPLE_KERNELS),
    )
    if multi:
        model["gin_channels"] = GIN
    speakers = SPEAKERS if multi else 0
    torch.manual_seed(zlib.crc32(name.encode()))
    model_g = SynthesizerTrn(SYMBOLS, 33, 8, n_speakers=speakers, **model).eval()
    # Sixteen layers that no export needs would be half of the file.
    model_g.enc_q.enc = WN(HIDDEN, 5, 1, 1, gin_channels=GIN if multi else 0)
    enliven(model_g, generator_of(name))
    optimizer = torch.optim.AdamW(model_g.parameters(), 2e-4, betas=(0.8, 0.99), eps=1e-9)
    state = {
        "model": model_g.state_dict(),
        "iteration": 1,
        "optimizer": optimizer.state_dict(),
        "learning_rate": 2e-4,
    }
    torch.save(state, directory / "G_0.pth")
    config = {
        "train": {"log_interval": 200, "learning_rate": 2e-4, "segment_size": 8 * HOP, "c_mel": 45, "c_kl": 1.0},
        "data": {
            "training_files": "filelists/train.txt.cleaned",
            "text_cleaners": ["english_cleaners2"],
            "max_wav_value": 32768.0,
            "sampling_rate": 22050,
            "filter_length": 64,
            "hop_length": HOP,
            "win_length": 64,
            "n_mel_channels": 80,
            "mel_fmin": 0.0,
            "mel_fmax": None,
            "add_blank": True,
            "n_speakers": speakers,
            "cleaned_text": True,
        },
        "model": model | {"n_layers_q": 3, "use_spectral_norm": False},
    }
    write_json(directory / "config.json", config)
    return lambda inputs, draw: reference(model_g, inputs, draw)


def load_original(directory):
    config = json.loads((directory / "config.json").read_text())
    state = torch.load(directory / "G_0.pth")["model"]
    return piper_model(dict(state), config["model"]["n_heads"], config["data"]["n_speakers"])


# Finished voices


def make_voice(name, directory):
    """Trace a checkpoint of the golden folder into one graph, with the arguments of Piper's own exporter."""
    model_g = load_model_g(GOLDEN / f"{name}.ckpt")
    with torch.no_grad():
        model_g.dec.remove_weight_norm()

    def forward(text, text_lengths, scales, sid=None):
        audio, *_ = model_g.infer(text, text_lengths, sid, scales[0], scales[1], scales[2])
        return audio.unsqueeze(1)

    model_g.forward = forward
    text = torch.randint(0, model_g.n_vocab, (1, 50), generator=generator_of(name))
    sid = torch.LongTensor([0]) if model_g.n_speakers > 1 else None
    torch.onnx.export(
        model_g,
        (text, torch.LongTensor([50]), torch.FloatTensor([0.667, 1.0, 0.8]), sid),
        directory / f"{name}.onnx",
        opset_version=15,
        # Four names for three inputs: a voice with one speaker calls its embedding table `sid`.
        input_names=["input", "input_lengths", "scales", "sid"],
        output_names=["output"],
        dynamic_axes={
            "input": {0: "batch_size", 1: "phonemes"},
            "input_lengths": {0: "batch_size"},
            "output": {0: "batch_size", 1: "time"},
        },
        dynamo=False,
    )
    voice = {
        "audio": {"sample_rate": 22050, "quality": "medium"},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "num_symbols": model_g.n_vocab,
        "num_speakers": model_g.n_speakers,
        "speaker_id_map": {f"speaker {i}": i for i in range(model_g.n_speakers)} if sid is not None else {},
        "phoneme_type": "espeak",
        "phoneme_map": {},
        "phoneme_id_map": {symbol: [i] for i, symbol in enumerate("_^$ !'(),-.:;?abcdefhijklmnopqrstuvwxyzæçðøħŋœ")},
        "piper_version": "1.0.0",
    }
    write_json(directory / f"{name}.onnx.json", voice)


# Piper's network under other families' weights


def rename(state, patterns):
    """Keys of Piper: the patterns in order, indices of flows spread over Piper's flips."""
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in patterns:
            key = re.sub(pattern, replacement, key)
        key = re.sub(r"^flow\.flows\.(\d+)\.", lambda m: f"flow.flows.{2 * int(m[1])}.", key)
        key = re.sub(
            r"^dp\.(post_)?flows\.(\d+)\.", lambda m: f"dp.{m[1] or ''}flows.{max(0, 2 * int(m[2]) - 1)}.", key
        )
        renamed[key] = value
    return renamed


def fold_weight_norm(state):
    """Plain `weight` tensors from either spelling of weight norm."""
    folded = dict(state)
    for gain, direction in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        for key in [key for key in folded if key.endswith(gain)]:
            stem = key.removesuffix(gain)
            g, v = folded.pop(key), folded.pop(stem + direction)
            folded[stem + "weight"] = v * (g / v.norm(dim=list(range(1, v.dim())), keepdim=True))
    return folded


def piper_model(state, n_heads, n_speakers):
    """Piper's network with the given weights under Piper's keys; sizes from the fixtures of this script."""
    from piper.train.vits.models import DurationPredictor, SynthesizerTrn

    state = fold_weight_norm(state)
    sdp = "dp.pre.weight" in state
    gin = GIN if n_speakers > 1 else 0
    model = SynthesizerTrn(
        len(state["enc_p.emb.weight"]), 33, 8, HIDDEN, HIDDEN, FFN, n_heads, LAYERS, 3, 0.1,
        "1", KERNELS, DILATIONS, RATES, INITIAL, UPSAMPLE_KERNELS, n_speakers, gin, sdp,
    )  # fmt: skip
    if not sdp:
        model.dp = DurationPredictor(HIDDEN, FILTER, 3, 0.5, gin_channels=gin)
    expected = model.state_dict()
    loaded = {}
    for key in expected:
        if key.endswith("weight_v"):
            loaded[key] = state.pop(key.removesuffix("_v"), None)
        elif key.endswith("weight_g"):
            weight = state.get(key.removesuffix("_g"))
            loaded[key] = weight is not None and weight.norm(dim=list(range(1, weight.dim())), keepdim=True)
        else:
            loaded[key] = state.pop(key, None)
    unneeded = ("enc_q.", "dp.post_")
    missing = [k for k, v in loaded.items() if v is None and not k.startswith(unneeded)]
    unknown = [k for k in state if not k.startswith(unneeded)]
    assert not missing and not unknown, f"missing {missing[:5]}, unknown {unknown[:5]}"
    model.load_state_dict({k: v for k, v in loaded.items() if not k.startswith(unneeded)}, strict=False)
    return model.eval()


def enliven_family(model, name, quiet, ups):
    """Random weights of a size that keeps durations short and audio audible, in any family's naming."""
    generator = generator_of(name)
    with torch.no_grad():
        for key, parameter in sorted(model.named_parameters()):
            if parameter.dim() < 2 or key.endswith(("gamma", "beta", "original0")):
                is_gain = bool(torch.all(parameter > 0)) or key.endswith(("gamma", "original0"))
                parameter.normal_(1.0 if is_gain else 0.0, 0.1, generator=generator)
                continue
            if key.endswith(("translate", "translation", "log_scale")):
                parameter.normal_(0.0, 0.1, generator=generator)
                continue
            fan_in = parameter[0].numel() if not re.search(ups, key) else parameter.shape[0] * 2
            deviation = 0.4 if "emb" in key else 1 / max(fan_in, 1) ** 0.5
            if key.endswith("conv_post.weight") and parameter.shape[0] == 1:
                deviation *= 0.3
            parameter.normal_(0.0, 0.4 * deviation if re.search(quiet, key) else deviation, generator=generator)
            if key.endswith("original1"):
                model.get_parameter(key.replace("original1", "original0")).copy_(
                    parameter.norm(dim=list(range(1, parameter.dim())), keepdim=True)
                )


MAKERS = {"hf": make_hf, "coqui": make_coqui, "original": make_original}
LOADERS = {"hf": load_hf, "coqui": load_coqui, "original": load_original}


def draws_of(name):
    return ["noise.dp", "noise.p"] if VARIANTS[name][1] else ["noise.p"]


def make(directory, names):
    for name in names or [*VARIANTS, "voices"]:
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        if name == "voices":
            for voice in VOICES:
                make_voice(voice, folder)
            continue
        torch.manual_seed(zlib.crc32(name.encode()))
        run = MAKERS[name.split("-")[0]](name, folder)
        for case in USED_CASES:
            lengths, scales = CASES[case]
            if lengths == [1] and name.startswith("coqui"):
                # Coqui's code cannot make an utterance of a single frame.
                lengths = [2]
            inputs = case_inputs(lengths, scales, SYMBOLS, SPEAKERS if VARIANTS[name][0] else 1)
            draw, draws = recorder(draws_of(name), seed=len(inputs["input"]))
            values = run(inputs, draw)
            save_file(inputs | draws | values, folder / f"{case}.safetensors")
            loudness = values["audio"].abs()
            print(
                f"{name}.{case}: {int(values['y_lengths'].max())} frames,"
                f" audio {loudness.mean():.3f} on average, {loudness.max():.3f} at most"
            )


def check(directory, names):
    worst = 0.0
    for name in names or VARIANTS:
        model_g = LOADERS[name.split("-")[0]](directory / name)
        for case in USED_CASES:
            expected = load_file(directory / name / f"{case}.safetensors")
            inputs = {key: expected.pop(key) for key in ("input", "input_lengths", "scales", "sid") if key in expected}
            draws = [expected.pop(key) for key in draws_of(name)]
            found = reference(model_g, inputs, replayer(draws))
            if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in expected.items()}:
                sys.exit(f"{name}.{case}: names or shapes differ")
            differences = {key: (found[key] - value).abs().max().item() for key, value in expected.items()}
            key = max(differences, key=differences.get)
            worst = max(worst, differences[key])
            print(f"{name}.{case}: {len(differences)} tensors, largest difference {differences[key]:.1e} ({key})")
    if worst > TOLERANCE:
        sys.exit(f"largest difference {worst:.1e} is above {TOLERANCE:.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "check"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(VARIANTS)}, voices; all by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    {"make": make, "check": check}[args.what](args.directory, args.names)


if __name__ == "__main__":
    main()
