#!/usr/bin/env python3
"""The steps of deploy/Containerfile without a container engine: scripts/test_container.py VITSTREAM

What the file does to its last image is done to a folder: Debian's base system is put there by debootstrap, `RUN` is run in it by
chroot, and the program is started as the file says, by its user, with a network of its own and voices in a folder that is mounted to be read.
`/healthz` has to answer, by the file's own check too, and speech has to be what `vitstream speak` says in there, with the
libespeak-ng that the file installs.

The program is not built in there: VITSTREAM stands in the place of what the first image would have built, so it must run with
bookworm's C library. Needs root, a Debian mirror, and two minutes, so it is not part of .ci/run.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import test_fleet
from test_playback import RATE, VOICE

FILE = test_fleet.DEPLOY / "Containerfile"
MIRROR = "http://deb.debian.org/debian"
PATIENCE = 60
SEED = 7
TEXT = "hello there"
KEY = "secret"


def instructions():
    """Those of the last image, each with what follows it."""
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    found = [line.split(maxsplit=1) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]
    last = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def make_voice(folder):
    """A voice whose words are said by espeak-ng; of its phonemes it knows those that are letters."""
    folder.mkdir()
    shutil.copy(VOICE, folder / "voice.ckpt")
    ids = {"_": [0], "^": [1], "$": [2]}
    ids.update((symbol, [number + 3]) for number, symbol in enumerate(" abcdefghijklmnopqrstuvwxyz,.!?"))
    voice = {"audio": {"sample_rate": RATE}, "phoneme_type": "espeak", "phoneme_id_map": ids, "espeak": {"voice": "en-us"}}
    (folder / "voice.ckpt.json").write_text(json.dumps(voice))


class Image:
    """A folder that becomes what the file describes."""

    def __init__(self, root, program):
        self.root, self.program = root, program
        self.user, self.entry, self.arguments, self.check = "0:0", [], [], None
        for word, rest in instructions():
            print(f"{word} {rest}", flush=True)
            getattr(self, f"do_{word.lower()}")(rest)

    def chroot(self, *command, user="0:0"):
        return ["chroot", f"--userspec={user}", self.root, *command]

    def environment(self):
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "VITSTREAM_API_KEY": KEY}

    def do_run(self, rest):
        environment = {**self.environment(), "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(self.chroot("/bin/sh", "-c", rest), check=True, env=environment, stdout=subprocess.DEVNULL)

    def do_copy(self, rest):
        source, target = [word for word in shlex.split(rest) if not word.startswith("--")]
        assert source.endswith("/vitstream"), source
        shutil.copy(self.program, f"{self.root}{target}")

    def do_user(self, rest):
        self.user = rest

    def do_entrypoint(self, rest):
        self.entry = json.loads(rest)

    def do_cmd(self, rest):
        self.arguments = json.loads(rest)

    def do_healthcheck(self, rest):
        self.check = json.loads(rest.removeprefix("CMD "))

    def do_from(self, rest):
        suite = re.search(r"debian:(\w+)", rest)[1]
        subprocess.run(["debootstrap", "--variant=minbase", suite, self.root, MIRROR], check=True, stdout=subprocess.DEVNULL)

    def do_expose(self, _):
        pass

    do_stopsignal = do_expose


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"{what}: not after {PATIENCE} s"
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    program = parser.parse_args().program.resolve()
    if os.geteuid() != 0 or platform.system() != "Linux":
        print("skipped: it needs root, on Linux")
        return
    for tool in ("debootstrap", "ip", "curl"):
        if not test_fleet.install(tool, {"ip": "iproute2"}.get(tool, tool)):
            print(f"skipped: {tool} is missing")
            return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        image = Image(root, program)
        voices = Path(folder, "voices")
        make_voice(voices)
        (root / "voices").mkdir()
        # As an engine has it: a network of its own, so that no port is taken, and a volume that can only be read.
        start = shlex.join(map(str, image.chroot(*image.entry, *image.arguments, user=image.user)))
        before = f"""ip link set lo up && mount -t proc proc {root}/proc && mount --bind {voices} {root}/voices \\
            && mount -o remount,bind,ro {root}/voices"""
        command = ["unshare", "--net", "--mount", "sh", "-c", f"{before} && exec {start}"]
        server = subprocess.Popen(command, env=image.environment(), stdout=subprocess.DEVNULL)
        try:
            inside = ["nsenter", "--net", "--mount", "--target", str(server.pid)]

            def get(path, *more):
                asked = [*inside, "curl", "--silent", "--fail", *more, f"http://127.0.0.1:5000{path}"]
                return subprocess.run(asked, capture_output=True)

            until("/readyz", lambda: server.poll() is None and get("/readyz").returncode == 0)
            assert get("/healthz").stdout == b"ok\n"
            subprocess.run([*inside, *image.chroot(*image.check, user=image.user)], check=True, env=image.environment())
            print("ok  /healthz and the file's own check")
            status = Path(f"/proc/{server.pid}/status").read_text()
            ids = {name: re.search(rf"^{name}:\s+(.*)$", status, re.MULTILINE)[1].split() for name in ("Uid", "Gid")}
            assert all(number == image.user.split(":")[0] for number in ids["Uid"] + ids["Gid"]), ids
            print(f"ok  the user is {image.user}")
            asked = json.dumps({"input": TEXT, "response_format": "pcm", "sample_rate": RATE, "seed": SEED})
            heard = get("/v1/audio/speech", "--header", f"Authorization: Bearer {KEY}", "--data", asked).stdout
            speak = image.chroot("vitstream", "speak", "/voices/voice.ckpt", "--raw", "--seed", str(SEED), TEXT, user=image.user)
            speak = [*inside, *speak]
            said = subprocess.run(speak, check=True, capture_output=True, env=image.environment()).stdout
            assert heard == said and len(said) > RATE // 10, (len(heard), len(said))
            print(f"ok  {len(heard)} bytes of speech, as `vitstream speak` says it in there")
            # It is what the file installs that says how words sound.
            for library in (root / "usr/lib").glob("*/libespeak-ng.so*"):
                library.unlink()
            silent = subprocess.run(speak, capture_output=True, env=image.environment())
            assert silent.returncode != 0 and b"espeak" in silent.stderr, silent.stderr
            print("ok  without its libespeak-ng there is none")
            server.terminate()
            assert server.wait(PATIENCE) == 0
            print("ok  SIGTERM ends it with 0")
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
