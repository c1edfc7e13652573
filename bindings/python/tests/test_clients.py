"""Programs that use piper-tts, with `vitstream.piper` in its place. The name `piper` is given to it here only."""

import asyncio
import importlib
import json
import socket
import subprocess
import sys
import types

import pytest
from conftest import installed

import vitstream.piper
import vitstream.piper.config
import vitstream.piper.voice


@pytest.fixture
def as_piper(monkeypatch):
    for name in list(sys.modules):
        if name == "piper" or name.startswith("piper."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "piper", vitstream.piper)
    monkeypatch.setitem(sys.modules, "piper.config", vitstream.piper.config)
    monkeypatch.setitem(sys.modules, "piper.voice", vitstream.piper.voice)
    # Fetching voices is `vitstream voices get`; nothing is fetched here.
    fetching = types.ModuleType("piper.download_voices")
    fetching.download_voice = lambda *_, **__: pytest.fail("no voice is to be fetched")
    monkeypatch.setitem(sys.modules, "piper.download_voices", fetching)


def fresh(monkeypatch, prefix):
    for name in list(sys.modules):
        if name == prefix or name.startswith(f"{prefix}."):
            monkeypatch.delitem(sys.modules, name)


def finished(place, folder, stem):
    """A voice as Piper's programs find one: STEM.onnx and its JSON."""
    vitstream.export(place / "letters.ckpt", folder / "single", layout="single")
    config = json.loads((folder / "single" / "voice.onnx.json").read_text())
    (folder / f"{stem}.onnx").write_bytes((folder / "single" / "voice.onnx").read_bytes())
    (folder / f"{stem}.onnx.json").write_text(json.dumps({**config, "num_symbols": 256, "num_speakers": 1}))


#: wyoming-piper's own program, which imports `piper`.
SERVER = """
import runpy, sys
import vitstream.piper, vitstream.piper.config, vitstream.piper.voice
sys.modules.update({"piper": vitstream.piper, "piper.config": vitstream.piper.config, "piper.voice": vitstream.piper.voice})
runpy.run_module("wyoming_piper", run_name="__main__", alter_sys=True)
"""


@installed("wyoming_piper", "wyoming")
def test_wyoming_piper_speaks(place, tmp_path):
    from wyoming.client import AsyncTcpClient
    from wyoming.info import Describe, Info
    from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

    finished(place, tmp_path, "letters")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--voice", "letters", "--data-dir", tmp_path, "--uri", f"tcp://127.0.0.1:{port}", "--noise-scale", "0"]
    server = subprocess.Popen([sys.executable, "-c", SERVER, *map(str, arguments)])

    async def events(client, *sent, until):
        for event in sent:
            await client.write_event(event.event())
        found = []
        while not found or found[-1].type != until:
            event = await client.read_event()
            assert event is not None and event.type != "error", event
            found.append(event)
        return found

    async def run():
        for _ in range(600):
            assert server.poll() is None, "the server ended"
            try:
                async with AsyncTcpClient("127.0.0.1", port) as client:
                    (info,) = await events(client, Describe(), until="info")
                break
            except ConnectionError:
                await asyncio.sleep(0.1)
        assert "letters" in [voice.name for program in Info.from_event(info).tts for voice in program.voices]
        async with AsyncTcpClient("127.0.0.1", port) as client:
            plain = await events(client, Synthesize(text="hello there!"), until="audio-stop")
        assert plain[0].type == "audio-start" and plain[0].data["rate"] == 22050
        assert sum(len(event.payload or b"") for event in plain) > 10_000
        sent = [SynthesizeStart(), SynthesizeChunk(text="hello there! how are"), SynthesizeChunk(text=" you?"), SynthesizeStop()]
        async with AsyncTcpClient("127.0.0.1", port) as client:
            streamed = await events(client, *sent, until="synthesize-stopped")
        assert sum(len(event.payload or b"") for event in streamed) > 10_000

    try:
        asyncio.run(run())
    finally:
        server.kill()
        server.wait()


@installed("pipecat", "aiohttp")
def test_pipecat_speaks(as_piper, monkeypatch, place, tmp_path):
    fresh(monkeypatch, "pipecat.services.piper")
    tts = importlib.import_module("pipecat.services.piper.tts")
    from pipecat.frames.frames import ErrorFrame, TTSAudioRawFrame

    finished(place, tmp_path, "letters")

    async def run():
        service = tts.PiperTTSService(
            download_dir=tmp_path, settings=tts.PiperTTSService.Settings(voice="letters"), sample_rate=22050
        )
        service._sample_rate = 22050
        return [frame async for frame in service.run_tts("hello there! how are you?", "context")]

    frames = asyncio.run(run())
    assert not [frame for frame in frames if isinstance(frame, ErrorFrame)], frames
    audio = b"".join(frame.audio for frame in frames if isinstance(frame, TTSAudioRawFrame))
    assert len(audio) > 22050


@installed("onnxruntime", "numpy")
def test_speaches_way_of_opening(as_piper, place, tmp_path):
    """speaches is in no registry. What its executor does with piper-tts: a session of ONNX Runtime, the JSON as a dict, and
    sentences at a length scale."""
    import onnxruntime
    from piper.config import PiperConfig, SynthesisConfig
    from piper.voice import PiperVoice

    vitstream.export(place / "letters.ckpt", tmp_path / "single", layout="single")
    model = tmp_path / "model.onnx"
    model.write_bytes((tmp_path / "single" / "voice.onnx").read_bytes())
    config = json.loads((place / "letters.ckpt.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    voice = PiperVoice(session=session, config=PiperConfig.from_dict(config))
    slow, fast = (
        sum(len(chunk.audio_float_array) for chunk in voice.synthesize("hello there!", SynthesisConfig(length_scale=1.0 / speed)))
        for speed in (0.5, 2.0)
    )
    assert slow > 2 * fast > 0
