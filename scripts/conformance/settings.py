"""The voice's JSON beside the pair, and summaries for programs."""

import json

import numpy as np

from .subjects import metadata


def check_config(binary, source, directory):
    """A voice JSON arrives as config.json with "streaming" set and all else as it was."""
    speakers = int(metadata(binary.export(source.checkpoint, directory / "plain").models["encoder"])["n_speakers"])
    voice = {
        "audio": {"sample_rate": 22050, "quality": "medium"},
        "num_symbols": 48,
        "num_speakers": speakers,
        "speaker_id_map": {str(i): i for i in range(speakers)} if speakers > 1 else {},
        "espeak": {"voice": "en-us"},
        "phoneme_id_map": {"_": [0], "^": [1], "ə": [59]},
        "unknown": {"to": ["us", None, 1.5]},
    }
    path = directory / "some.json"
    path.write_text(json.dumps(voice, ensure_ascii=False), encoding="utf-8")
    binary.export(source.checkpoint, directory / "out", "--config", path)
    written = json.loads((directory / "out/config.json").read_text(encoding="utf-8"))
    assert written.pop("streaming", None) is True, 'config.json has no "streaming": true'
    assert written == voice, f"config.json holds {written}, expected {voice}"


def check_family_config(binary, source, directory):
    """The JSON beside the pair says in Piper's form what the family's own says."""
    pair = binary.export(source.checkpoint, directory / "out")
    written = json.loads((directory / "out/config.json").read_text(encoding="utf-8"))
    props, own = metadata(pair.models["encoder"]), source.settings
    scales = (written["inference"][k] for k in ("noise_scale", "length_scale", "noise_w"))
    found = [written["audio"]["sample_rate"], *scales]
    if "sampling_rate" in own:
        vocabulary = json.loads((source.checkpoint.parent / "vocab.json").read_text(encoding="utf-8"))
        expected = [own["sampling_rate"], own["noise_scale"], 1 / own["speaking_rate"], own["noise_scale_duration"]]
        blank_and_ends = {"_": [0], "^": [], "$": []}
        ids = {symbol: [number] for symbol, number in vocabulary.items()} | blank_and_ends
        assert written["phoneme_id_map"] == ids, f"phoneme_id_map is {written['phoneme_id_map']}"
    elif "model_args" in own:
        args = own["model_args"]
        scales = (args[k] for k in ("inference_noise_scale", "length_scale", "inference_noise_scale_dp"))
        expected = [own["audio"]["sample_rate"], *scales]
    else:
        expected = [own["data"]["sampling_rate"], 0.667, 1.0, 0.8]
    assert np.allclose(found, expected), f"config.json holds {found}, expected {expected}"
    assert written["streaming"] is True, 'config.json has no "streaming": true'
    for key, name in (("num_symbols", "num_symbols"), ("num_speakers", "n_speakers")):
        assert written[key] == int(props[name]), f"{key} is {written[key]}, the network has {props[name]}"
    speakers = sorted(written["speaker_id_map"].values())
    assert speakers == (list(range(written["num_speakers"])) if source.multi else []), f"speakers are {speakers}"


def check_json(binary, source, directory):
    """Machine-readable summaries are JSON, on standard output alone."""
    json.loads(binary("export", source.checkpoint, directory, "--json"))
    json.loads(binary("inspect", source.checkpoint, "--json"))
