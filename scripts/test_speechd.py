#!/usr/bin/env python3
"""The module in speech-dispatcher itself: scripts/test_speechd.py VITSTREAM

Debian's server starts `vitstream speechd` as docs/speechd.md says, its own `spd-say` speaks, and PulseAudio's null sink
plays: what is heard must be the samples of `vitstream speak`. Takes both from Debian when run as root, else says what is
missing and is skipped.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import test_playback as playback
from test_playback import PATIENCE, RATE, VOICE, Recording, Server, sounding, trim, until, wav

SEED = "5"
SENTENCES = "hello there. how are you, and what is new? fine."
LONG = " ".join([SENTENCES] * 40)
# The script of docs/speechd.md.
SCRIPT = """#!/bin/sh
exec {vitstream} speechd --module-config "$1" --seed {seed}
"""
CONFIGURATION = """LogLevel 5
LogDir "{folder}/log"
DefaultVolume 100
AudioOutputMethod "pulse"
AddModule "vitstream" "{folder}/sd_vitstream" "vitstream.conf"
DefaultModule vitstream
"""

playback.PACKAGES += ["speech-dispatcher", "speech-dispatcher-audio-plugins"]
playback.TOOLS += ["speech-dispatcher", "spd-say"]


def make_voice(path):
    """A voice that reads letters, so that no espeak-ng is needed."""
    shutil.copy(VOICE, path)
    ids = {"_": [0], "^": [1], "$": [2]}
    ids.update((symbol, [number + 3]) for number, symbol in enumerate(" abcdefghijklmnopqrstuvwxyz,.!?"))
    voice = {"audio": {"sample_rate": RATE}, "phoneme_type": "text", "phoneme_id_map": ids, "espeak": {"voice": "en-us"}}
    Path(f"{path}.json").write_text(json.dumps(voice))


class Dispatcher:
    """Debian's server with our module as its only one."""

    def __init__(self, folder, pulse):
        self.folder = folder
        self.address = folder / "speechd.sock"
        make_voice(folder / "letters.ckpt")
        (folder / "conf/modules").mkdir(parents=True)
        (folder / "log").mkdir()
        script = folder / "sd_vitstream"
        script.write_text(SCRIPT.format(vitstream=VITSTREAM, seed=SEED))
        script.chmod(0o755)
        (folder / "conf/speechd.conf").write_text(CONFIGURATION.format(folder=folder))
        voices = f'AddVoice "en-US" "male1" "{folder}/letters.ckpt"\n'
        shutil.copy(folder / "letters.ckpt", folder / "other.ckpt")
        shutil.copy(folder / "letters.ckpt.json", folder / "other.ckpt.json")
        voices += f'AddVoice "de" "female1" "{folder}/other.ckpt"\n'
        (folder / "conf/modules/vitstream.conf").write_text(voices)
        self.env = {**pulse.env, "SPEECHD_ADDRESS": f"unix_socket:{self.address}"}
        command = ["speech-dispatcher", "--run-single", "--config-dir", str(folder / "conf"), "--timeout", "0"]
        command += ["--communication-method", "unix_socket", "--socket-path", str(self.address)]
        command += ["--pid-file", str(folder / "pid"), "--log-dir", str(folder / "log")]
        with (folder / "log/stderr").open("wb") as log:
            self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        until(self.answers, "speech-dispatcher starts")

    def answers(self):
        assert self.process.poll() is None, f"speech-dispatcher ended: {self.log()}"
        return self.address.exists() and "vitstream" in self.say("-O").stdout

    def say(self, *args):
        return subprocess.run(["spd-say", *args], env=self.env, capture_output=True, text=True, timeout=PATIENCE)

    def log(self):
        return "".join(path.read_text(errors="replace")[-1500:] for path in sorted((self.folder / "log").iterdir()))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def written(folder, *args):
    path = folder / "written.wav"
    command = [VITSTREAM, "speak", str(folder / "letters.ckpt"), "--seed", SEED, "-o", str(path), *args]
    subprocess.run(command, check=True, capture_output=True)
    return trim(wav(path))


def heard(server, pulse, *args):
    recording = Recording(pulse, server.folder / "heard.raw")
    done = server.say("-w", *args)
    assert done.returncode == 0, done.stderr
    return recording.stop()


def same(got, expected, what):
    assert expected, "nothing was written"
    # The server may have nothing to play for a moment, and then there is silence: nothing else may differ.
    assert sounding(got) == sounding(expected), f"{what}: heard {len(got)} samples, written were {len(expected)}"


def test_spd_say_is_heard(server, pulse):
    expected = written(server.folder, "--ssml", f"<speak>{SENTENCES}</speak>")
    same(heard(server, pulse, SENTENCES), expected, SENTENCES)
    print(f"    {len(expected)} samples, all equal")


def test_rates(server, pulse):
    for rate, length in [("100", str(1 / 3)), ("-100", "3")]:
        expected = written(server.folder, "hello there", "--length-scale", length)
        same(heard(server, pulse, "-r", rate, "hello there"), expected, f"rate {rate}")


def test_characters_and_keys(server, pulse):
    for option, said, read in [("-c", "a", "a"), ("-k", "shift_a", "shift a")]:
        same(heard(server, pulse, option, said), written(server.folder, read), said)


def test_voices_are_listed_and_chosen(server, pulse):
    listed = [line.split() for line in server.say("-L").stdout.splitlines()[1:]]
    assert listed == [["letters", "en-US", "none"], ["other", "de", "none"]], listed
    expected = written(server.folder, "hello there")
    for choice in [("-y", "other"), ("-l", "de"), ("-t", "female1")]:
        same(heard(server, pulse, *choice, "hello there"), expected, choice)


def test_stop(server, pulse):
    recording = Recording(pulse, server.folder / "stopped.raw")
    server.say(LONG)
    until(lambda: pulse.inputs() > 0, "it plays")
    server.say("-S")
    stopped = recording.stop()
    whole = written(server.folder, "--ssml", LONG)
    assert len(stopped) < len(whole) / 2, f"{len(stopped)} of {len(whole)} samples were heard"
    # It is free for the next at once.
    same(heard(server, pulse, "hello there"), written(server.folder, "hello there"), "after a stop")


def test_pause_and_resume(server, pulse):
    """What spd-say has no option for: over the server's own protocol, as Orca speaks it."""
    expected = written(server.folder, "--ssml", f"<speak>{SENTENCES}</speak>")
    recording = Recording(pulse, server.folder / "paused.raw")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(server.address))
        lines = client.makefile("rw", newline="", encoding="utf-8")

        def ask(command, *codes):
            lines.write(command + "\r\n")
            lines.flush()
            return listen(*codes)

        def listen(*codes):
            while True:
                line = lines.readline()
                assert line and line[0] in "27", f"{codes}: {line}"
                # The last line of a reply or an event has no hyphen.
                if line[3] == " " and line[:3] in codes:
                    return line.strip()

        ask("SET self CLIENT_NAME test:test:test", "208")
        ask("SET self OUTPUT_MODULE vitstream", "216")
        ask("SET self NOTIFICATION all on", "220")
        ask("SPEAK", "230")
        ask(f"{SENTENCES}\r\n.", "225")
        listen("701")
        ask("PAUSE self", "211")
        event = listen("704", "702")
        ask("RESUME self", "212")
        if event.startswith("704"):
            listen("702")
    got = recording.stop()
    if event.startswith("702"):
        # On a machine that is busy the message may be over before the pause arrives.
        same(got, expected, event)
        return
    # The server goes on from the last mark that it was told, wherever that was.
    rests = ["hello there. how are you, and what is new? fine.", " how are you, and what is new? fine.", " fine."]
    ends = [sounding(written(server.folder, "--ssml", f"<speak>{rest}</speak>")) for rest in rests]
    got = sounding(got)
    resumed = [rest for rest, end in zip(rests, ends) if got[-len(end) :] == end]
    assert resumed, f"{event}: the end is missing"
    print(f"    resumed with {resumed[0]!r}")


def main():
    reason = playback.install()
    if reason:
        print(f"skipped: {reason}")
        return
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pulse = Server(folder)
        server = None
        try:
            server = Dispatcher(folder, pulse)
            for name, test in tests:
                if callable(test):
                    test(server, pulse)
                    print(f"ok  {name[5:].replace('_', ' ')}", flush=True)
        except AssertionError:
            if server:
                print(server.log(), file=sys.stderr)
            raise
        finally:
            if server:
                server.stop()
            pulse.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    VITSTREAM = str(Path(sys.argv[1]).resolve())
    main()
