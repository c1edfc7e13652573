#!/usr/bin/env python3
"""Playback proven without sound hardware: scripts/test_playback.py VITSTREAM

A PulseAudio server of our own plays into a null sink, whose monitor is recorded: what was heard must be the samples that
`speak -o` writes, in one piece. Players are stood in for by a program that keeps what it is fed. Takes PulseAudio from
Debian when run as root, else says what is missing and is skipped.
"""

import array
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
VOICE = REPOSITORY / "crates/vitstream-vits/tests/golden/legacy-single.ckpt"
RATE = 22050
PACKAGES = ["pulseaudio", "pulseaudio-utils"]
TOOLS = ["pulseaudio", "pactl", "parec"]
# A few seconds of speech, so that the server has to ask for more and there is something to interrupt.
IDS = ",".join(str(3 + i * 7 % 30) for i in range(400))
# A machine that runs other tests too is slow; what is waited for here comes within a second on an idle one.
PATIENCE = 60


def install():
    """The reason why PulseAudio cannot be had, or None."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if not missing:
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"no {', '.join(missing)} (Debian: {' '.join(PACKAGES)})"
    subprocess.run(["apt-get", "update"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return None if done.returncode == 0 else f"apt-get cannot install them: {done.stderr.strip()[-200:]}"


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain: {what}")


class Server:
    """PulseAudio in user mode with a null sink of the voice's rate as its only device."""

    def __init__(self, folder):
        self.socket = folder / "native"
        self.env = {
            **os.environ,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder / "run"),
            "PULSE_STATE_PATH": str(folder / "state"),
        }
        self.env.pop("PULSE_SERVER", None)
        # Without `norewinds` the sink takes back what it has rendered ahead when a stream begins, and the monitor, which was
        # told it already, misses the first hundredths of a second.
        modules = [
            f"module-null-sink sink_name=null format=s16le rate={RATE} channels=1 channel_map=mono norewinds=1",
            f"module-native-protocol-unix socket={self.socket}",
        ]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit", "--use-pid-file=no"]
        command += [part for module in modules for part in ("-L", module)]
        self.process = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.env["PULSE_SERVER"] = f"unix:{self.socket}"
        until(self.answers, "PulseAudio starts")

    def answers(self):
        assert self.process.poll() is None, f"PulseAudio ended: {self.process.stderr.read().decode()[-500:]}"
        return self.socket.exists() and self.pactl("info").returncode == 0

    def pactl(self, *args):
        return subprocess.run(["pactl", *args], env=self.env, capture_output=True, text=True)

    def inputs(self):
        """How many streams are being played."""
        return len(self.pactl("list", "short", "sink-inputs").stdout.splitlines())

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Recording:
    """What the null sink's monitor hears."""

    def __init__(self, server, path):
        self.file = path.open("wb+")
        command = ["parec", "--device=null.monitor", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1"]
        self.process = subprocess.Popen(command + ["--latency-msec=20"], env=server.env, stdout=self.file)
        until(lambda: path.stat().st_size > 0, "the recording starts")

    def stop(self):
        """The samples from the first to the last that is not silent."""
        # What was played last is still on its way to the recorder.
        size = os.fstat(self.file.fileno()).st_size
        until(lambda: os.fstat(self.file.fileno()).st_size > size + RATE, "half a second of silence is recorded")
        self.process.terminate()
        self.process.wait()
        self.file.seek(0)
        samples = array.array("h", self.file.read()[: os.fstat(self.file.fileno()).st_size // 2 * 2])
        self.file.close()
        return trim(samples)


def trim(samples):
    sounding = [i for i, sample in enumerate(samples) if sample]
    return samples[sounding[0] : sounding[-1] + 1] if sounding else samples[:0]


def speak(*args, env, **options):
    command = [VITSTREAM, "speak", str(VOICE), "--sample-rate", str(RATE), "--seed", "5", *args]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, **options)


def finished(process, code=0):
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, f"exit status {process.returncode}: {stderr}"
    return stderr


def wav(path):
    with wave.open(str(path)) as file:
        assert file.getframerate() == RATE, file.getframerate()
        return array.array("h", file.readframes(file.getnframes()))


def written(folder, *args, **options):
    path = folder / "written.wav"
    finished(speak("-o", str(path), *args, env=os.environ, **options))
    return wav(path)


def test_what_is_heard_is_what_is_written(folder, server):
    expected = trim(written(folder, "--ids", IDS))
    assert len(expected) > 2 * RATE, f"{len(expected)} samples are too few to show anything"
    recording = Recording(server, folder / "heard.raw")
    stderr = finished(speak("--ids", IDS, "--stats", env=server.env))
    heard = recording.stop()
    assert "played with 0 underruns" in stderr, stderr
    assert heard == expected, f"heard {len(heard)} samples, written were {len(expected)}: {difference(heard, expected)}"
    assert server.inputs() == 0
    print(f"    {len(heard)} samples, all equal, no gap")


def difference(a, b):
    return next((f"the first difference is at sample {i}" for i, (x, y) in enumerate(zip(a, b)) if x != y), "one is longer")


def test_lines_are_heard_one_after_the_other(folder, server):
    ids = [[3, 9, 4, 11, 5], [7], [12, 3, 8, 20, 6, 9, 14]]
    lines = "".join(json.dumps({"phoneme_ids": line}) + "\n" for line in ids)
    path = folder / "lines.wav"
    process = speak("-o", str(path), env=os.environ, stdin=subprocess.PIPE)
    process.communicate(lines, timeout=PATIENCE)
    expected = trim(wav(path))
    recording = Recording(server, folder / "lines.raw")
    process = speak("--stats", env=server.env, stdin=subprocess.PIPE)
    _, stderr = process.communicate(lines, timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert "played with 0 underruns" in stderr, stderr
    heard = recording.stop()
    # Between lines the server may have nothing to play for a moment, and plays silence: each line is whole all the same.
    assert sounding(heard) == sounding(expected), f"{len(heard)} samples, written were {len(expected)}"


def sounding(samples):
    return [sample for sample in samples if sample]


def test_ctrl_c_stops_at_once(folder, server):
    process = speak("--ids", IDS, "--length-scale", "4", env=server.env)
    until(lambda: server.inputs() == 1, "it plays")
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=PATIENCE)
    took = time.monotonic() - start
    until(lambda: server.inputs() == 0, "the server lets go of the stream")
    assert process.returncode in (-signal.SIGINT, 130), process.returncode
    assert took < 0.5, f"{took:.3f} s"
    print(f"    ended after {took * 1e3:.0f} ms")


def test_a_server_that_dies_is_an_error(folder, _):
    (folder / "other").mkdir()
    other = Server(folder / "other")
    process = speak("--ids", IDS, "--length-scale", "4", env=other.env)
    until(lambda: other.inputs() == 1, "it plays")
    other.process.kill()
    other.process.wait()
    stderr = finished(process, code=1)
    assert stderr.startswith("error: "), stderr


# Keeps its arguments and what it is fed, and lives until it is told to end if FAKE_LINGERS is set.
FAKE = """#!/bin/sh
case $1 in --help) echo "$FAKE_HELP"; exit;; esac
echo "$$" > "$FAKE_DIR/pid"
echo "$0 $*" > "$FAKE_DIR/args"
[ -z "$FAKE_FAILS" ] || { echo "no card" >&2; exit 3; }
cat > "$FAKE_DIR/fed"
[ -z "$FAKE_LINGERS" ] || exec sleep 1000
"""


def fake_env(folder, *names, **variables):
    """An environment in which nothing but these players, and what the shell needs, is found."""
    shutil.rmtree(folder, ignore_errors=True)
    tools = folder / "bin"
    tools.mkdir(parents=True)
    for tool in ["sh", "cat", "sleep"]:
        (tools / tool).symlink_to(shutil.which(tool))
    for name in names:
        (tools / name).write_text(FAKE)
        (tools / name).chmod(0o755 | stat.S_IXUSR)
    env = {"PATH": str(tools), "HOME": str(folder), "FAKE_DIR": str(folder), **variables}
    # A socket that nobody listens at, as after a server that was killed.
    return {**env, "PULSE_SERVER": f"unix:{folder}/nobody"}


def test_without_a_server_the_first_player_is_fed(folder, _):
    expected = written(folder, "--ids", IDS).tobytes()
    fakes = folder / "fakes"
    for names, first, header in [
        (["pw-play", "pacat", "aplay", "ffplay", "play"], "pacat", 0),
        (["aplay", "ffplay", "play"], "aplay", 0),
        (["ffplay", "play"], "ffplay", 44),
        (["play"], "play", 0),
    ]:
        stderr = finished(speak("--ids", IDS, "--stats", env=fake_env(fakes, *names)))
        assert "played with 0 underruns" in stderr, stderr
        args = (fakes / "args").read_text()
        assert Path(args.split()[0]).name == first, args
        assert header or str(RATE) in args.split(), args
        fed = (fakes / "fed").read_bytes()
        assert fed[header:] == expected, f"{first} was fed {len(fed)} bytes, expected {header} + {len(expected)}"
        assert not header or fed[:4] == b"RIFF", fed[:4]
    # Its older versions read no pipe, so that is asked first.
    finished(speak("--ids", IDS, env=fake_env(fakes, "pw-play", "pacat", FAKE_HELP="  -a, --raw   RAW mode")))
    assert Path((fakes / "args").read_text().split()[0]).name == "pw-play"
    assert (fakes / "fed").read_bytes() == expected


def test_ctrl_c_stops_a_player_too(folder, _):
    fakes = folder / "fakes"
    process = speak("--ids", "3,4,5", env=fake_env(fakes, "aplay", FAKE_LINGERS="yes"))
    until(lambda: (fakes / "fed").exists() and (fakes / "fed").stat().st_size > 0, "the player is fed")
    player = int((fakes / "pid").read_text())
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=PATIENCE)
    took = time.monotonic() - start
    # By the signal itself, as shells expect it.
    assert process.returncode == -signal.SIGINT, process.returncode
    assert took < 0.5, f"{took:.3f} s"
    assert not Path(f"/proc/{player}").exists(), "the player is left"
    print(f"    ended after {took * 1e3:.0f} ms, no process is left")


def test_a_player_that_fails_is_an_error(folder, _):
    stderr = finished(speak("--ids", IDS, env=fake_env(folder / "fakes", "aplay", FAKE_FAILS="yes")), code=1)
    assert "aplay did not play everything" in stderr and "no card" in stderr, stderr


def test_without_any_player_it_says_what_to_do(folder, _):
    stderr = finished(speak("--ids", IDS, env=fake_env(folder / "fakes")), code=2)
    sentence = "no sound device or player found; write a file with -o FILE or samples with --raw"
    assert stderr == f"error: {sentence}\n", stderr


def main():
    # A shell that starts this in the background has it ignore SIGINT, and what it starts as well; the program respects that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reason = install()
    if reason:
        print(f"skipped: {reason}")
        return
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        server = Server(folder)
        try:
            for name, test in tests:
                test(folder, server)
                print(f"ok  {name[5:].replace('_', ' ')}", flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    VITSTREAM = str(Path(sys.argv[1]).resolve())
    main()
