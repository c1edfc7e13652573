"""Programs that load what was written: sherpa-onnx, piper-tts, and Python's tarfile for NVDA's archive."""

import json
import tarfile

import numpy as np
import onnx

from .ground import TOLERANCE


def check_sherpa(tally, directory, voice, expected):
    import sherpa_onnx

    model = sherpa_onnx.OfflineTtsVitsModelConfig(
        model=str(directory / "voice.onnx"), tokens=str(directory / "tokens.txt"), noise_scale=0, noise_scale_w=0
    )
    config = sherpa_onnx.OfflineTtsConfig(model=sherpa_onnx.OfflineTtsModelConfig(vits=model, num_threads=1))
    assert config.validate(), "sherpa-onnx refuses the configuration"
    engine = sherpa_onnx.OfflineTts(config)
    assert engine.sample_rate == voice.config["audio"]["sample_rate"], f"sample rate {engine.sample_rate}"
    assert engine.num_speakers == voice.config["num_speakers"], f"{engine.num_speakers} speakers"
    how = sherpa_onnx.GenerationConfig()
    how.sid = int(voice.multi)
    how.phoneme_codepoints = [[ord(symbol) for symbol in voice.phonemes()]]
    samples = np.array(engine.generate("not looked at", how).samples, np.float32)
    tally.near(voice.label, "sherpa-onnx", samples, expected.ravel(), TOLERANCE)


def check_piper(tally, directory, voice, ids, expected):
    """It takes the second output, durations, for alignments."""
    import piper

    engine = piper.PiperVoice.load(directory / "voice.onnx")
    how = piper.SynthesisConfig(speaker_id=1 if voice.multi else None, noise_scale=0.0, noise_w_scale=0.0, length_scale=1.0)
    samples, durations = engine.phoneme_ids_to_audio(ids, how, include_alignments=True)
    tally.near(voice.label, "piper-tts", samples, expected.ravel(), TOLERANCE)
    assert len(durations) == len(ids) and durations.sum() == len(samples), "its alignments are not the audio's"


def check_archive(binary, voice, options, directory):
    """The archive for NVDA's add-on, as Python's tarfile reads it: both graphs and one JSON in its root."""
    names = ["--language", "en_US", "--name", "some_one", "--quality", "medium"]
    binary("export", voice.path, directory, "-q", "--package", "nvda", *names, *options)
    found = [path.name for path in directory.iterdir()]
    assert found == ["en_US-some_one+RT-medium.tar.gz"], f"the export wrote {found}"
    with tarfile.open(directory / found[0]) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    members.pop("MODEL_CARD", None)
    assert sorted(members) == ["config.json", "decoder.onnx", "encoder.onnx"], f"the archive holds {sorted(members)}"
    assert json.loads(members["config.json"])["streaming"] is True, 'config.json has no "streaming": true'
    for name in ("encoder", "decoder"):
        onnx.checker.check_model(onnx.load_from_string(members[f"{name}.onnx"]))
