#!/usr/bin/env python3
"""Speaks through `vitstream serve` as programs for agents do: scripts/test_agents.py VITSTREAM

    pip install -r scripts/requirements-agents.txt
    scripts/test_agents.py target/debug/vitstream

`pipecat-ai`'s services for Piper's HTTP and for OpenAI, and `livekit-plugins-openai`, all as they are. Pipecat's OpenAI service takes no
other voices than OpenAI's own, so the server has one by the name of `alloy`. Not part of .ci/run: the two packages and what they need
take three quarters of a gigabyte.
"""

import argparse
import asyncio
import io
import pathlib
import subprocess
import wave

import aiohttp
import openai
from livekit.agents import APIStatusError
from livekit.plugins.openai import TTS
from pipecat.frames.frames import EndFrame, ErrorFrame, TTSAudioRawFrame, TTSSpeakFrame, TTSStartedFrame, TTSStoppedFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.piper.tts import PiperHttpTTSService

import load

VOICE = pathlib.Path(__file__).resolve().parent.parent / "crates/vitstream-vits/tests/golden/families/hf"
NAME = "alloy"
RATE = 16_000
TEXT = "hello there. How are you? Fine, and the day is long."
# What OpenAI's clients take samples to be.
OPENAI_RATE = 24_000


def check(what, holds):
    if not holds:
        raise SystemExit(f"agents: {what}: does not hold")
    print(f"ok  {what}")


class Ear(FrameProcessor):
    """The end of a pipeline: what came."""

    def __init__(self):
        super().__init__()
        self.frames = []

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        self.frames.append(frame)
        await self.push_frame(frame, direction)


async def piped(service, rate):
    """What a pipeline with this service makes of the text."""
    ear = Ear()
    errors = []
    service.add_event_handler("on_error", lambda _, error: errors.append(error))
    task = PipelineTask(Pipeline([service, ear]), params=PipelineParams(audio_out_sample_rate=rate))
    await task.queue_frames([TTSSpeakFrame(TEXT), EndFrame()])
    await asyncio.wait_for(PipelineRunner(handle_sigint=False).run(task), 120)
    kinds = [type(frame) for frame in ear.frames]
    check("pipecat: it begins and ends", TTSStartedFrame in kinds and TTSStoppedFrame in kinds)
    check("pipecat: nothing went wrong", ErrorFrame not in kinds)
    audio = [frame for frame in ear.frames if isinstance(frame, TTSAudioRawFrame)]
    check("pipecat: its rate", {(frame.sample_rate, frame.num_channels) for frame in audio} == {(rate, 1)})
    return b"".join(frame.audio for frame in audio)


async def pipecat(base, own, usual):
    async with aiohttp.ClientSession() as session:
        settings = PiperHttpTTSService.Settings(voice=NAME)
        piper = PiperHttpTTSService(base_url=base, aiohttp_session=session, settings=settings)
        check(f"pipecat: Piper's HTTP, {len(own)} bytes", await piped(piper, RATE) == own)
    settings = OpenAITTSService.Settings(voice=NAME)
    service = OpenAITTSService(api_key="none", base_url=f"{base}/v1", settings=settings)
    check(f"pipecat: OpenAI, {len(usual)} bytes", await piped(service, OPENAI_RATE) == usual)


async def livekit(base, usual):
    """As audio and as server-sent events: which, the client decides by the model."""
    for model in ("tts-1", "gpt-4o-mini-tts"):
        tts = TTS(model=model, voice=NAME, base_url=f"{base}/v1", api_key="none", response_format="pcm")
        heard = b""
        async with tts.synthesize(TEXT) as stream:
            async for audio in stream:
                check_rate = (audio.frame.sample_rate, audio.frame.num_channels)
                assert check_rate == (OPENAI_RATE, 1), check_rate
                heard += bytes(audio.frame.data)
        await tts.aclose()
        # LiveKit fills its last frame with silence.
        check(f"livekit: {model}, {len(usual)} bytes", heard[: len(usual)] == usual and not any(heard[len(usual) :]))
    # What it asks for by itself has to be decoded first, so only its length can be compared: MP3 adds some silence.
    tts = TTS(voice=NAME, base_url=f"{base}/v1", api_key="none")
    frame = await tts.synthesize(TEXT).collect()
    more = len(bytes(frame.data)) - len(usual)
    check(f"livekit: mp3, {more} bytes more", frame.sample_rate == OPENAI_RATE and 0 <= more < 2 * 3 * 1152)
    await tts.aclose()
    tts = TTS(voice="nobody", base_url=f"{base}/v1", api_key="none")
    try:
        await tts.synthesize(TEXT).collect()
        check("livekit: an unknown voice is refused", False)
    except APIStatusError as error:
        check("livekit: an unknown voice is refused", error.status_code == 404)
    await tts.aclose()


async def agents(base, own, usual):
    await pipecat(base, own, usual)
    await livekit(base, usual)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=lambda path: str(pathlib.Path(path).resolve()))
    program = parser.parse_args().program
    command = [program, "speak", VOICE, "--raw", "--seed", str(load.SEED), TEXT]
    own = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    server = load.Server(program, VOICE, ["--voice", f"{NAME}={VOICE}", "--max-load", "1000", "--max-wait", "60"])
    try:
        base = f"http://127.0.0.1:{server.port}"
        client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
        usual = client.audio.speech.create(model="tts-1", voice=NAME, input=TEXT, response_format="pcm").content
        asyncio.run(agents(base, own, usual))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
