#!/usr/bin/env python3
"""Speaks through `vitstream serve` with clients from PyPI as they are: `wyoming`, `wyoming-bench`, `openai` and `elevenlabs`; and
asks it what `schemathesis` makes up from its own description.

    scripts/serve_conformance.py target/debug/vitstream

The voice is a tiny one of the repository that reads letters, so no espeak-ng is needed. The server has a seed, so what every
client hears must be, to the last bit, what `vitstream speak` says. Home Assistant itself cannot be run here: its events are
sent in its order by the library that it uses. Pipecat and LiveKit are heavier, and have scripts/test_agents.py.

Needs scripts/requirements-serve.txt.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import io
import json
import pathlib
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request
import wave

import elevenlabs
import openai
import trustme
from elevenlabs.client import ElevenLabs
from elevenlabs.realtime_tts import text_chunker
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

ROOT = pathlib.Path(__file__).resolve().parent.parent
VOICES = ROOT / "crates/vitstream-vits/tests/golden/families"
SEED = "7"
RATE = 16_000
TEXT = "hello there. How are you? Fine, and the day is long."
LONG = "All of us will go home and sleep. " * 100

checks = 0


def check(what, holds):
    global checks
    checks += 1
    if not holds:
        sys.exit(f"serve: {what}: does not hold")
    print(f"ok  {what}")


def same(what, found, expected):
    digests = [hashlib.sha256(bytes(data)).hexdigest()[:16] for data in (found, expected)]
    check(f"{what}: {len(found)} bytes, sha256 {digests[0]}", digests[0] == digests[1] and len(expected) > 0)


class Server:
    """A running server; its addresses are read from what it says."""

    def __init__(self, program, *arguments):
        command = [program, "serve", "--voice", f"letters={VOICES / 'hf'}", "--voice", f"many={VOICES / 'hf-multi'}"]
        command += ["--seed", SEED, "--http", "127.0.0.1:0", *arguments]
        # Nobody is refused, however slow this machine is.
        command += ["--max-load", "1000", "--max-wait", "60"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.http = self.wyoming = None
        self.said = []
        opened = set()
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"HTTP on (http://\S+)", line):
                self.http = found[1]
            if found := re.search(r"Wyoming on (\S+)", line):
                self.wyoming = found[1]
            opened.update(re.findall(r'opened voice="?(\w+)', line))
            if len(opened) == 2:
                break
        else:
            sys.exit(f"serve: the server ended: {''.join(self.said)}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        rest = self.process.stderr.read()
        check("SIGTERM ends the server with 0", self.process.wait(timeout=60) == 0)
        self.said.append(rest)


@contextlib.contextmanager
def serving(program, *arguments):
    server = Server(program, *arguments)
    try:
        yield server
        server.stop()
    finally:
        server.process.kill()


def spoken(program, text, *, voice="hf", arriving=False):
    """What `speak` says: a text that is an argument, or one that arrives."""
    command = [program, "speak", str(VOICES / voice), "--raw", "--seed", SEED]
    if not arriving:
        return subprocess.run([*command, text], check=True, stdout=subprocess.PIPE).stdout
    return subprocess.run([*command, "-"], input=text.encode(), check=True, stdout=subprocess.PIPE).stdout


async def hear(client, last):
    """The audio until an event of the type `last`, and the types around it."""
    samples, types = b"", []
    while True:
        event = await asyncio.wait_for(client.read_event(), 60)
        assert event is not None, f"closed after {types}"
        if AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            assert (start.rate, start.width, start.channels) == (RATE, 2, 1), start
        if AudioChunk.is_type(event.type):
            samples += AudioChunk.from_event(event).audio
        else:
            types.append(event.type)
        if event.type == last or Error.is_type(event.type):
            return samples, types


async def wyoming_plain(program, uri):
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(Describe().event())
        info = Info.from_event(await client.read_event())
        voices = {voice.name: voice for voice in info.tts[0].voices}
        check("wyoming: describe names both voices", set(voices) == {"letters", "many"})
        check("wyoming: streaming is offered", info.tts[0].supports_synthesize_streaming)
        check("wyoming: speakers are named", len(voices["many"].speakers) == 3 and not voices["letters"].speakers)
        await client.write_event(Ping(text="x").event())
        check("wyoming: pong", Pong.from_event(await client.read_event()).text == "x")
        # A second sentence on one connection is what wyoming-piper forgets.
        for _ in range(2):
            await client.write_event(Synthesize(text=TEXT, voice=SynthesizeVoice(name="letters")).event())
            samples, types = await hear(client, "audio-stop")
            same("wyoming: synthesize", samples, spoken(program, TEXT))
            check("wyoming: its events", types == ["audio-start", "audio-stop"])
        await client.write_event(Synthesize(text=TEXT, voice=SynthesizeVoice(name="many", speaker="0")).event())
        same("wyoming: a speaker", (await hear(client, "audio-stop"))[0], spoken(program, TEXT, voice="hf-multi"))
        await client.write_event(Synthesize(text=TEXT, voice=SynthesizeVoice(name="nobody")).event())
        error = Error.from_event(await client.read_event())
        check("wyoming: an unknown voice is an error", error.code == "voice_not_found" and "nobody" in error.text)


async def home_assistant(program, uri):
    """The order of homeassistant/components/wyoming/tts.py: a connection for each message."""
    for pieces, fallback in (([TEXT], True), (list(TEXT), True), (TEXT.split(" "), False)):
        text = "".join(pieces) if fallback else " ".join(pieces)
        if not fallback:
            pieces = [piece + " " for piece in pieces[:-1]] + pieces[-1:]
        async with AsyncClient.from_uri(uri) as client:
            voice = SynthesizeVoice(name="letters")
            await client.write_event(SynthesizeStart(voice=voice).event())
            for piece in pieces:
                await client.write_event(SynthesizeChunk(text=piece).event())
            if fallback:
                await client.write_event(Synthesize(text=text, voice=voice).event())
            await client.write_event(SynthesizeStop().event())
            samples, types = await hear(client, "synthesize-stopped")
            same(f"Home Assistant's events, {len(pieces)} pieces", samples, spoken(program, text, arriving=True))
            check("their order", types == ["audio-start", "audio-stop", "synthesize-stopped"])
            assert SynthesizeStopped.is_type(types[-1]) and AudioStop.is_type(types[-2])


async def wyoming_crowd(program, uri):
    """Sixteen at once: everybody hears what one alone hears."""

    async def one():
        async with AsyncClient.from_uri(uri) as client:
            await client.write_event(Synthesize(text=TEXT).event())
            return (await hear(client, "audio-stop"))[0]

    heard = await asyncio.gather(*(one() for _ in range(16)))
    check("wyoming: sixteen at once hear the same", set(heard) == {spoken(program, TEXT)})


def tool(name):
    """A program of the packages."""
    return str(pathlib.Path(sys.executable).parent / name)


def wyoming_bench(program, uri):
    place = uri.removeprefix("tcp://")
    command = [tool("wyoming-bench"), "tts", place, "--no-unique", "--rounds", "2", "--texts", TEXT, "--verbose"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    for mode, arriving in (("non_streaming", False), ("streaming", True)):
        found = re.findall(rf"^\[{mode}\] r\d .*bytes=(\d+)", said, re.MULTILINE)
        length = len(spoken(program, TEXT, arriving=arriving))
        check(f"wyoming-bench: {mode}, {length} bytes", found == [str(length)] * 2)
    check("wyoming-bench: nothing failed", "FAIL" not in said and "NOT SUPPORTED" not in said)


def wyoming_stdio(program):
    events = Event.from_dict(Synthesize(text=TEXT).event().to_dict())
    line = (json.dumps({"type": events.type, "data": events.data}) + "\n").encode()
    command = [program, "--quiet", "serve", str(VOICES / "hf"), "--seed", SEED, "--http", "off", "--wyoming", "stdio"]
    output = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output.stdin.write(line)
    output.stdin.flush()
    samples = b""
    while True:
        header = json.loads(output.stdout.readline())
        output.stdout.read(header.get("data_length") or 0)
        samples += output.stdout.read(header.get("payload_length") or 0)
        if header["type"] == "audio-stop":
            break
    output.stdin.close()
    same("wyoming: over standard input and output", samples, spoken(program, TEXT))
    check("wyoming: the program ends with its input", output.wait(timeout=60) == 0)


def openai_speech(program, base):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
    expected = spoken(program, TEXT)

    def speak(format, **extra):
        with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="letters", input=TEXT, response_format=format, extra_body=extra
        ) as response:
            return b"".join(response.iter_bytes())

    same("openai: pcm at the voice's rate", speak("pcm", sample_rate=RATE), expected)
    check("openai: pcm at the usual rate", len(speak("pcm")) == round(len(expected) / 2 * 24_000 / RATE) * 2)
    with wave.open(io.BytesIO(speak("wav"))) as file:
        check("openai: a WAV's form", (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (RATE, 2, 1))
        same("openai: a WAV's samples", file.readframes(len(expected)), expected)
    for format, magic in (("mp3", b"\xff"), ("opus", b"OggS"), ("flac", b"fLaC")):
        check(f"openai: {format}", speak(format).startswith(magic))
    audio = b""
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="letters",
        input=TEXT,
        response_format="pcm",
        stream_format="sse",
        extra_body={"sample_rate": RATE},
    ) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line[6:])
                audio += base64.b64decode(event.get("audio", ""))
    same("openai: server-sent events", audio, expected)
    for arguments, error in (
        ({"voice": "nobody"}, openai.NotFoundError),
        ({"response_format": "aac"}, openai.BadRequestError),
        ({"input": ""}, openai.BadRequestError),
    ):
        try:
            client.audio.speech.create(**{"model": "tts-1", "voice": "letters", "input": "a", **arguments})
            check(f"openai: {arguments} is refused", False)
        except error as refused:
            check(f"openai: {arguments}: {refused.body['message']}", refused.body["code"] is not None)
    check("openai: models", [model.id for model in client.models.list()] == ["vitstream"])


def elevenlabs_speech(program, base):
    client = ElevenLabs(api_key="none", base_url=base)
    expected = spoken(program, TEXT)
    audio = client.text_to_speech.convert(voice_id="letters", text=TEXT, output_format="pcm_16000")
    same("elevenlabs: convert", b"".join(audio), expected)
    audio = client.text_to_speech.stream(voice_id="letters", text=TEXT, output_format="pcm_16000")
    same("elevenlabs: stream", b"".join(audio), expected)


@contextlib.contextmanager
def behind_tls(base):
    """An address with TLS before the server, as a proxy gives one; its certificate is one that clients know meanwhile."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    host, port = base.removeprefix("http://").split(":")

    async def copy(source, sink):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        sink.close()

    async def forward(reader, writer):
        server_reader, server_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer), return_exceptions=True)

    loop = asyncio.new_event_loop()
    proxy = loop.run_until_complete(asyncio.start_server(forward, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with authority.cert_pem.tempfile() as path:
            os.environ["SSL_CERT_FILE"] = path
            yield f"https://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    finally:
        os.environ.pop("SSL_CERT_FILE", None)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def elevenlabs_realtime(program, base):
    """Word by word over its WebSocket. The client makes `wss` of every address, so TLS ends before the server."""
    words = [word + " " for word in TEXT.split()]
    # The client begins with a space, and sends what it has at every mark.
    expected = spoken(program, " " + "".join(text_chunker(iter(words))), arriving=True)
    with behind_tls(base) as address:
        client = ElevenLabs(api_key="none", base_url=address)
        audio = client.text_to_speech.convert_realtime(voice_id="letters", text=iter(words), output_format="pcm_16000")
        same("elevenlabs: convert_realtime", b"".join(audio), expected)


def made_up_requests(server):
    """What schemathesis makes up from /openapi.json, sound and unsound: nothing fails, and all answers are as described.

    Not all that the description lets through can be spoken (a speaker that a voice has not, a rate that a format has not), so
    that sound requests are accepted is not asked for.
    """
    command = [tool("schemathesis"), "run", f"{server.http}/openapi.json", "--phases", "examples,coverage,fuzzing", "--seed", SEED]
    command += ["--max-examples", "20", "--exclude-checks", "positive_data_acceptance", "--request-timeout", "60", "--no-color"]
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "schemathesis.toml").write_text('[parameters]\n"path.voice" = "letters"\n')
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, timeout=600)
    if made.returncode:
        sys.exit(f"serve: schemathesis: {made.stdout}")
    check(f"schemathesis: {re.search(r'[0-9]+ generated.*', made.stdout)[0]}", server.process.poll() is None)
    with urllib.request.urlopen(f"{server.http}/metrics") as answer:
        active = re.search(r'vitstream_streams\{state="active"\} (\d+)', answer.read().decode())
    check("schemathesis: nothing is left being spoken", active[1] == "0")


def keys(program):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "keys")
        file.write_text("secret\n")
        with serving(program, "--wyoming", "off", "--key-file", str(file)) as server:
            for key, may in (("secret", True), ("other", False)):
                client = openai.OpenAI(base_url=f"{server.http}/v1", api_key=key, max_retries=0)
                try:
                    client.audio.speech.create(model="tts-1", voice="letters", input="hello")
                    check(f"openai: the key {key!r} is taken", may)
                except openai.AuthenticationError:
                    check(f"openai: the key {key!r} is refused", not may)
    for arguments in (["--http", "0.0.0.0:0"], ["--wyoming", "0.0.0.0:0"]):
        command = [program, "serve", str(VOICES / "hf"), *arguments]
        refused = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
        check(f"{' '.join(arguments)} alone is refused", refused.returncode == 1 and "key" in refused.stderr)


def end(program):
    """What is being spoken when SIGTERM comes is spoken to its end."""
    with serving(program, "--wyoming", "off") as server:
        request = urllib.request.Request(
            f"{server.http}/v1/audio/speech",
            json.dumps({"input": LONG, "response_format": "pcm", "sample_rate": RATE}).encode(),
        )
        with urllib.request.urlopen(request) as response:
            head = response.read(1_000)
            server.process.send_signal(signal.SIGTERM)
            same("what is being spoken at SIGTERM", head + response.read(), spoken(program, LONG))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=lambda path: str(pathlib.Path(path).resolve()))
    program = parser.parse_args().program
    print(f"openai {openai.__version__}, elevenlabs {getattr(elevenlabs, '__version__', 'of unknown version')}")
    with serving(program, "--wyoming", "127.0.0.1:0") as server:
        asyncio.run(wyoming_plain(program, server.wyoming))
        asyncio.run(home_assistant(program, server.wyoming))
        asyncio.run(wyoming_crowd(program, server.wyoming))
        wyoming_bench(program, server.wyoming)
        openai_speech(program, server.http)
        elevenlabs_speech(program, server.http)
        elevenlabs_realtime(program, server.http)
        made_up_requests(server)
    check("nothing panicked", not re.search("panicked|defect", "".join(server.said)))
    check("no text is in the log", "How are you" not in "".join(server.said) and "hello" not in "".join(server.said))
    with tempfile.TemporaryDirectory() as folder:
        with serving(program, "--wyoming", f"unix:{folder}/socket") as server:
            asyncio.run(wyoming_crowd(program, server.wyoming))
    wyoming_stdio(program)
    keys(program)
    end(program)
    print(f"all {checks} checks passed")


if __name__ == "__main__":
    main()
