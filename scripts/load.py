#!/usr/bin/env python3
"""What a server holds out: scripts/load.py VITSTREAM VOICE [TEST ...]

    scripts/load.py target/release/vitstream joe/voice --espeak LIB        all tests, about five minutes
    scripts/load.py target/release/vitstream joe/voice idle capacity       two of them

Starts `vitstream serve` with VOICE and asks it for speech over plain sockets: nothing but Python's standard library. Who listens in
real time takes audio as fast as it plays, and counts an underrun when there is none. Arrivals are drawn by seed. The engine gives the
same bits whatever else it computes, so every answer's hash must be that of a single listener.

A wrong hash, an underrun within the capacity, a stream that is lost and a server that does not recover are failures (exit status 1).
Times are figures beside what is aimed at; on a busy machine they say little. Beside the underruns that listeners had stand those that
the server knows of: where they differ, bytes were late between the two, or this script was. TEST is one of

    idle        first audio, one listener after the other
    capacity    as many listeners as 0.8 of the cores can serve
    poisson     listeners who come at random, at half of the capacity: first audio
    overload    ten times the capacity
    slow        fifty listeners at 1 kB/s beside four usual ones
    leaving     two hundred listeners who leave at a random byte
    ending      SIGTERM and kill -9 while eight listen
    many        thousands of short requests: memory and descriptors
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

SHORT = "Hello there, how are you today? It is good to see you."
LONG = " ".join(
    [
        "The quick brown fox jumps over the lazy dog, and nobody is surprised by it any more.",
        "A server that speaks has to have the next piece ready before the last one has been heard.",
        "Whoever comes while others listen should not have to wait for all of them to come to their end.",
    ]
    * 3
)
SEED = 7
# Seconds of audio that a player keeps ahead.
AHEAD = 0.5
# Seconds after which a stream counts as lost.
PATIENCE = 120


def high_priority():
    """The listeners stand for other machines, whose cores the server does not keep busy. Without the right to it, they
    wait for a core as the server does, which is then part of what they measure."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except PermissionError:
        print("no right to a high priority: times include the listeners' own wait for a core", file=sys.stderr)


USUAL_PRIORITY = os.getpriority(os.PRIO_PROCESS, 0)


def usual_priority():
    """For the server. Without rights, a priority may stay or be lowered, so this is always permitted."""
    os.setpriority(os.PRIO_PROCESS, 0, USUAL_PRIORITY)


class Server:
    def __init__(self, vitstream, voice, options):
        self.command = [vitstream, "serve", "--voice", f"voice={voice}", "--wyoming", "off", "--seed", str(SEED), *options]
        self.port = None
        self.start()

    def start(self):
        begun = time.monotonic()
        command = [*self.command, "--http", f"127.0.0.1:{self.port or 0}"]
        environment = {**os.environ, "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=usual_priority
        )
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            sys.exit(f"the server ended with {self.process.wait()}")
        # Nobody reads the log; a pipe that nobody reads would stop the server.
        os.set_blocking(self.process.stderr.fileno(), True)
        subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)
        while self.status("/readyz") != 200:
            if time.monotonic() - begun > PATIENCE:
                sys.exit("the server is not ready")
            time.sleep(0.005)
        return time.monotonic() - begun

    def status(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def metric(self, name, **labels):
        """The sum of the samples of a metric."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        total = 0.0
        for line in text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? ([-+.eE\d]+)", line)
            if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
                total += float(found[2])
        return total

    def underruns(self):
        """As the server counts them."""
        return int(self.metric("vitstream_underruns"))

    def memory(self):
        """Resident MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def quiet(self):
        """Waits until no stream is left; seconds, or None."""
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            if self.metric("vitstream_streams") == 0:
                return time.monotonic() - begun
            time.sleep(0.01)
        return None

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


class Heard:
    """What a listener got."""

    def __init__(self):
        self.status, self.first, self.seconds, self.gaps, self.whole, self.bytes = None, None, None, 0, False, 0
        self.digest = hashlib.sha256()

    @property
    def hash(self):
        return self.digest.hexdigest()


async def listen(server, text, pace=1.0, leave=None, rate=None):
    """Asks for a text and takes it `pace` times as fast as it plays, None as fast as it comes; `rate` bytes a second if given; leaves
    after `leave` bytes."""
    heard, begun = Heard(), time.monotonic()
    try:
        return await asyncio.wait_for(_listen(server, text, pace, leave, rate, heard, begun), PATIENCE)
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError):
        # A length that is none: the connection ended where the next piece should begin.
        heard.seconds = time.monotonic() - begun
        return heard


async def _listen(server, text, pace, leave, rate, heard, begun):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 14)
    try:
        body = json.dumps({"input": text, "voice": "voice", "response_format": "wav"}).encode()
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heard.status = int(head.split()[1])
        heard.seconds = time.monotonic() - begun
        if heard.status != 200:
            return heard
        per_second, playing = None, None
        while True:
            size = int(await reader.readline(), 16)
            if size == 0:
                heard.whole = True
                break
            data = await reader.readexactly(size + 2)
            data = data[:-2]
            now = time.monotonic()
            if per_second is None:
                per_second = int.from_bytes(data[28:32], "little")
            heard.digest.update(data)
            if heard.first is None and heard.bytes + len(data) > 44:
                heard.first = playing = now
            if playing is not None and now > playing + (heard.bytes - 44) / per_second + 1e-3 and heard.bytes > 44:
                heard.gaps += 1
                playing = now - (heard.bytes - 44) / per_second
            heard.bytes += len(data)
            if leave is not None and heard.bytes >= leave:
                return heard
            if rate:
                await asyncio.sleep(len(data) / rate)
            elif pace and playing is not None:
                ahead = heard.bytes / per_second / pace - (now - playing)
                if ahead > AHEAD:
                    await asyncio.sleep(ahead - AHEAD)
        heard.first -= begun
        heard.seconds = time.monotonic() - begun
        return heard
    finally:
        writer.transport.abort()


def share(values, part):
    """The value that `part` of them do not exceed."""
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))]


def ms(seconds):
    return f"{seconds * 1e3:.1f} ms"


class Tests:
    def __init__(self, server, args):
        self.server, self.args = server, args
        self.report, self.failures = {}, []
        self.random = random.Random(SEED)
        self.hashes = {}

    def fail(self, what):
        self.failures.append(what)
        print(f"FAILED: {what}", flush=True)

    def tell(self, test, **figures):
        self.report[test] = figures
        print(f"{test}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in figures.items()), flush=True)

    async def prepare(self):
        for text in (SHORT, LONG):
            heard = await listen(self.server, text, pace=None)
            if not heard.whole:
                sys.exit(f"the server answers {heard.status}")
            self.hashes[text] = heard.hash
        self.rtf = self.server.metric("vitstream_computing_seconds_total") / self.server.metric("vitstream_audio_seconds_total")
        self.cores = os.cpu_count()
        self.streams = max(1, int(0.8 * self.cores / self.rtf))
        self.tell("machine", cores=self.cores, real_time_factor=round(self.rtf, 4), capacity=self.streams)

    def check(self, test, text, all_heard, gaps_matter=True):
        """Those who were let in got what a single listener gets, without a gap."""
        accepted = [heard for heard in all_heard if heard.status == 200]
        lost = [heard for heard in accepted if not heard.whole]
        wrong = [heard for heard in accepted if heard.whole and heard.hash != self.hashes[text]]
        gaps = sum(heard.gaps for heard in accepted)
        if lost:
            self.fail(f"{test}: {len(lost)} streams were lost")
        if wrong:
            self.fail(f"{test}: {len(wrong)} of {len(accepted)} heard something else")
        if gaps and gaps_matter:
            self.fail(f"{test}: {gaps} underruns")
        return accepted, gaps

    async def idle(self):
        heard = [await listen(self.server, SHORT, pace=None) for _ in range(30)]
        accepted, _ = self.check("idle", SHORT, heard, gaps_matter=False)
        firsts = [heard.first for heard in accepted]
        self.idle_first = statistics.median(firsts)
        self.tell("idle", first_audio=ms(self.idle_first), p99=ms(share(firsts, 0.99)))

    async def capacity(self):
        before = self.server.underruns()
        heard = await asyncio.gather(*(self.after(index * 0.08, listen(self.server, LONG)) for index in range(self.streams)))
        accepted, gaps = self.check("capacity", LONG, heard)
        if len(accepted) < len(heard):
            self.fail(f"capacity: {len(heard) - len(accepted)} of {len(heard)} were refused")
        firsts = [heard.first for heard in accepted]
        self.tell("capacity", listeners=len(accepted), underruns=gaps, known_to_the_server=self.server.underruns() - before, first_audio=ms(statistics.median(firsts)), p99=ms(share(firsts, 0.99)))

    async def after(self, seconds, awaited):
        await asyncio.sleep(seconds)
        return await awaited

    async def arrivals(self, per_second, seconds, text=SHORT):
        """Listeners who come at random."""
        at, coming = 0.0, []
        while (at := at + self.random.expovariate(per_second)) < seconds:
            coming.append(self.after(at, listen(self.server, text)))
        return await asyncio.gather(*coming)

    def per_second(self, load):
        """Arrivals that make this load."""
        seconds = self.audio_seconds(SHORT)
        return load * self.cores / (self.rtf * seconds)

    def audio_seconds(self, text):
        return self.lengths[text]

    async def poisson(self):
        before = self.server.underruns()
        heard = await self.arrivals(self.per_second(0.5), self.args.seconds)
        accepted, gaps = self.check("poisson", SHORT, heard)
        firsts = [heard.first for heard in accepted]
        self.tell("poisson", listeners=len(heard), refused=len(heard) - len(accepted), underruns=gaps,
                  known_to_the_server=self.server.underruns() - before, first_audio=ms(statistics.median(firsts)), p99=ms(share(firsts, 0.99)), aimed_at="twice idle, 100 ms")

    async def overload(self):
        before, underruns = self.server.memory(), self.server.underruns()
        heard = await self.arrivals(self.per_second(10.0), self.args.seconds)
        accepted, gaps = self.check("overload", SHORT, heard)
        refused = [heard for heard in heard if heard.status == 503]
        if len(accepted) + len(refused) < len(heard):
            self.fail(f"overload: {len(heard) - len(accepted) - len(refused)} got neither speech nor 503")
        firsts = [heard.first for heard in accepted]
        underruns = self.server.underruns() - underruns
        if self.server.quiet() is None:
            self.fail("overload: streams are left")
        after = self.server.memory()
        again = [await listen(self.server, SHORT, pace=None) for _ in range(10)]
        self.tell("overload", listeners=len(heard), accepted=len(accepted), underruns=gaps, known_to_the_server=underruns,
                  first_audio=ms(statistics.median(firsts)), p99=ms(share(firsts, 0.99)), refused_after_at_most=ms(max((heard.seconds for heard in refused), default=0)),
                  memory=f"{before:.0f} to {after:.0f} MB", idle_again=ms(statistics.median(heard.first for heard in again)))

    async def slow(self):
        before = self.server.memory()
        slow = [asyncio.create_task(listen(self.server, LONG, rate=1000, leave=20_000)) for _ in range(50)]
        await asyncio.sleep(1)
        usual = await asyncio.gather(*(listen(self.server, LONG) for _ in range(4)))
        most = self.server.memory()
        accepted, gaps = self.check("slow", LONG, usual)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        self.tell("slow", usual_ones=len(accepted), underruns=gaps, memory=f"{before:.0f} to {most:.0f} MB")
        if self.server.quiet() is None:
            self.fail("slow: streams are left")

    async def leaving(self):
        # Who says how words sound is a process for each that computes, started when it is first needed.
        await asyncio.gather(*(listen(self.server, SHORT, pace=None) for _ in range(2 * self.cores)))
        self.server.quiet()
        descriptors, cancelled = self.server.descriptors(), self.server.metric("vitstream_requests_total", outcome="cancelled")
        for _ in range(20):
            await asyncio.gather(*(listen(self.server, LONG, leave=self.random.randrange(1, 200_000)) for _ in range(10)))
        quiet = self.server.quiet()
        if quiet is None:
            self.fail("leaving: streams are left")
        await asyncio.sleep(0.2)
        if self.server.descriptors() > descriptors:
            self.fail(f"leaving: {descriptors} descriptors before, {self.server.descriptors()} after")
        cancelled = self.server.metric("vitstream_requests_total", outcome="cancelled") - cancelled
        self.tell("leaving", cancelled=int(cancelled), quiet_after=ms(quiet or 0))

    async def ending(self):
        streams = [asyncio.create_task(listen(self.server, LONG)) for _ in range(min(8, self.streams))]
        await asyncio.sleep(2)
        self.server.process.send_signal(signal.SIGTERM)
        heard = await asyncio.gather(*streams)
        accepted, _ = self.check("ending", LONG, heard, gaps_matter=False)
        code = await asyncio.to_thread(self.server.process.wait, PATIENCE)
        if code:
            self.fail(f"ending: SIGTERM ends with {code}")
        self.server.start()
        streams = [asyncio.create_task(listen(self.server, LONG)) for _ in range(min(8, self.streams))]
        await asyncio.sleep(2)
        self.server.stop(signal.SIGKILL)
        broken = await asyncio.gather(*streams)
        # What the system has already taken arrives, so a short one may be whole; a wrong one may not be.
        self.check("ending", LONG, [heard for heard in broken if heard.whole], gaps_matter=False)
        ready = await asyncio.to_thread(self.server.start)
        again = await listen(self.server, SHORT, pace=None)
        self.check("ending", SHORT, [again], gaps_matter=False)
        self.tell("ending", finished_after_sigterm=len(accepted), broken_by_kill=sum(not heard.whole for heard in broken), ready_again=ms(ready))

    async def many(self):
        for _ in range(100):
            await listen(self.server, "Yes.", pace=None)
        memory, descriptors, first = self.server.memory(), self.server.descriptors(), []
        begun, wrong, expected = time.monotonic(), 0, (await listen(self.server, "Yes.", pace=None)).hash
        for _ in range(self.args.many):
            heard = await listen(self.server, "Yes.", pace=None)
            wrong += heard.hash != expected
            first.append(heard.first or PATIENCE)
        if wrong:
            self.fail(f"many: {wrong} heard something else")
        if self.server.descriptors() > descriptors + 1:
            self.fail(f"many: {descriptors} descriptors before, {self.server.descriptors()} after")
        tenth = max(1, len(first) // 10)
        self.tell("many", requests=self.args.many, a_second=round(self.args.many / (time.monotonic() - begun)),
                  memory=f"{memory:.1f} to {self.server.memory():.1f} MB", descriptors=f"{descriptors} to {self.server.descriptors()}",
                  first_audio=f"{ms(statistics.median(first[:tenth]))} to {ms(statistics.median(first[-tenth:]))}")

    async def run(self, names):
        await self.prepare()
        per_second = None
        self.lengths = {}
        for text in self.hashes:
            heard = await listen(self.server, text, pace=None)
            per_second = per_second or self.sample_rate() * 2
            self.lengths[text] = (heard.bytes - 44) / per_second
        for name in names:
            await getattr(self, name)()

    def sample_rate(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/voices", timeout=10) as answer:
            voice = json.load(answer)["voice"]
        return voice["audio"]["sample_rate"]


NAMES = ["idle", "capacity", "poisson", "overload", "slow", "leaving", "ending", "many"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vitstream", type=Path)
    parser.add_argument("voice", type=Path)
    parser.add_argument("tests", nargs="*", metavar="TEST", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--espeak", help="the espeak-ng library, for voices that need one")
    parser.add_argument("--seconds", type=float, default=60, help="how long listeners come in poisson and overload")
    parser.add_argument("--many", type=int, default=20_000, help="how many requests `many` makes")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_intermixed_args()
    if unknown := set(args.tests) - set(NAMES):
        parser.error(f"no such test: {', '.join(sorted(unknown))}")
    server = Server(args.vitstream.resolve(), args.voice, ["--espeak", args.espeak] if args.espeak else [])
    tests = Tests(server, args)
    high_priority()
    try:
        asyncio.run(tests.run(args.tests or NAMES))
    finally:
        server.stop()
    if args.json:
        args.json.write_text(json.dumps(tests.report, indent=2) + "\n")
    sys.exit(1 if tests.failures else 0)


if __name__ == "__main__":
    main()
