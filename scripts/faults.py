#!/usr/bin/env python3
"""What vitstream does when things go wrong: faults.py VITSTREAM [GROUP ...]

Kills it at every rename and write, lets renames fail and disks be full, runs two exports at once, feeds it small files that
ask for much memory, pipes and devices in every place, and names with control characters. Prints how many faults were tried
and how many were mishandled, and exits with 0 only if none was. Needs the standard library alone; what a group needs
beside it (strace, a tmpfs, ../shared/fixtures) is named when it is missing.

Each group is a generator below, marked with @group. It yields (what was tried, None or what went wrong); what cannot be
tried here it yields as Skip(what, why). A new case is a row of a table, or a new generator.
"""

import contextlib
import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "crates/vitstream-vits/tests/golden"
HOSTILE = ROOT / "crates/vitstream-cli/tests/found"
FIXTURES = Path(os.environ.get("VITSTREAM_FIXTURES", ROOT.parent / "shared/fixtures"))

OLD, NEW = GOLDEN / "textual.ckpt", GOLDEN / "legacy-single.ckpt"
PAIR = ("decoder.onnx", "decoder.stream.onnx", "encoder.onnx")
IDS = ["--ids", "1,2,3", "--sample-rate", "22050"]

# Of kinds of system calls that are made more often, as many are tried, evenly spread.
MOST_MOMENTS = 12
# What a small hostile file may take: see docs/design.md. Processor time, so that a busy machine makes no difference; the build may
# be one without optimisation, so twice the five seconds that are promised.
SECONDS, MEGABYTES = 10, 500
# The address space may be larger than what is used: files are mapped, allocators reserve.
ADDRESS_SPACE = 8 << 30
# Nothing here takes as long; what does has hung.
HANG = 30

GROUPS = {}


def group(function):
    GROUPS[function.__name__] = function
    return function


class Skip:
    def __init__(self, what, why):
        self.what, self.why = what, why


class Done:
    """A finished process."""

    def __init__(self, code, stdout, stderr, seconds=0.0, megabytes=0.0):
        self.code, self.stdout, self.stderr = code, stdout, stderr.decode(errors="replace")
        self.seconds, self.megabytes = seconds, megabytes

    def crashed(self):
        """Why this is no decent end: by a signal, a panic or an abort. None if it is one."""
        if self.code < 0 or self.code in (101, 134, 137, 139):
            return f"ended with {self.code}: {self.stderr[-200:]!r}"
        return None


class Vitstream:
    def __init__(self, program, home):
        self.program = str(Path(program).resolve())
        self.environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}

    def start(self, *arguments, before=(), **options):
        command = [*before, self.program, *map(str, arguments)]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(command, env=self.environment, **options)

    def run(self, *arguments, before=(), limit=None, **options):
        """Runs to its end. Whatever hangs is killed, and its code is then None."""

        def limits():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if limit:
                limit()

        process = self.start(*arguments, before=before, preexec_fn=limits, **options)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            stdout, stderr = process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return Done(-int(signal.SIGKILL), b"", f"hangs: killed after {HANG} s".encode())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
        return Done(process.returncode, stdout, stderr, seconds)

    def measured(self, *arguments):
        """As run, with bounded memory, and with what was used of it."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            limit = lambda: (
                resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE)),
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
                resource.setrlimit(resource.RLIMIT_CPU, (HANG, HANG)),
            )
            process = self.start(*arguments, stdout=out, stderr=err, preexec_fn=limit)
            deadline = time.monotonic() + HANG
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.01)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0), err.seek(0)
            seconds = usage.ru_utime + usage.ru_stime
            return Done(process.returncode, out.read(), err.read(), seconds, usage.ru_maxrss / 1024)


def hashes(folder):
    """The files in a folder by name, with the hash of each."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in sorted(Path(folder).iterdir())
    }


class Exports:
    """The same folder before and after an export."""

    def __init__(self, vitstream, scratch):
        self.vitstream, self.scratch, self.count = vitstream, scratch, 0
        self.templates = {}
        for name, source in (("old", OLD), ("new", NEW)):
            folder = scratch / name
            done = vitstream.run("export", "-q", source, folder)
            assert done.code == 0, done.stderr
            self.templates[name] = hashes(folder)
        self.old, self.new = self.templates["old"], self.templates["new"]
        assert sorted(self.old) == sorted(self.new) == sorted(PAIR), (self.old, self.new)

    def folder(self):
        """A new folder with the old voice."""
        self.count += 1
        folder = self.scratch / f"work-{self.count}"
        shutil.copytree(self.scratch / "old", folder)
        return folder

    def wrong(self, folder, killed=False):
        """What is wrong with a folder after an export that did not come to its end: None if nothing is."""
        found = hashes(folder)
        voices = {name: found.get(name) for name in PAIR}
        for name, one in voices.items():
            if one not in (self.old[name], self.new[name]):
                return f"{name} is {'lost' if one is None else 'not whole'}"
        if not killed:
            if sorted(found) != sorted(PAIR):
                return f"leftovers: {sorted(set(found) - set(PAIR))}"
            if voices not in (self.old, self.new):
                return "files of two voices"
            return None
        spoken = self.vitstream.run("speak", folder, *IDS, "--raw")
        if voices not in (self.old, self.new):
            if spoken.code == 0:
                return "files of two voices are spoken"
            if "export" not in spoken.stderr:
                return f"a mixture is not named: {spoken.stderr!r}"
        # The next export puts everything right.
        again = self.vitstream.run("export", "-q", NEW, folder)
        if again.code != 0:
            return f"the next export fails: {again.stderr!r}"
        if hashes(folder) != self.new:
            return f"the next export leaves {sorted(hashes(folder))}"
        return None


RENAMES = "rename,renameat,renameat2"
# Everything that an export does to a folder.
KINDS = {
    "rename": RENAMES,
    "link": "link,linkat",
    "unlink": "unlink,unlinkat",
    "fsync": "fsync,fdatasync",
    "write": "write,writev,pwrite64",
}


def strace(calls, injection, log=os.devnull):
    """The main thread alone is followed: it is the one that writes, and moments are counted by thread."""
    return ["strace", "-o", str(log), "-e", f"trace={calls}", *(["-e", f"inject={calls}:{injection}"] if injection else [])]


def traceable():
    if not shutil.which("strace"):
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"strace cannot be used here: {done.stderr.strip()}"


def moments(exports, kind, calls):
    """Which of the calls of a kind are tried, counted from 1."""
    folder, log = exports.folder(), exports.scratch / f"{kind}.log"
    done = exports.vitstream.run("export", "-q", NEW, folder, before=strace(calls, None, log))
    assert done.code == 0, done.stderr
    count = len(re.findall(r"^\w+\(", log.read_text(), re.MULTILINE))
    shutil.rmtree(folder)
    if count <= MOST_MOMENTS:
        return list(range(1, count + 1))
    return sorted({1 + round(i * (count - 1) / (MOST_MOMENTS - 1)) for i in range(MOST_MOMENTS)})


@group
def kills(exports):
    """An export is killed, or told to end, at a moment of its writing."""
    why = traceable()
    if why:
        yield Skip("kills at every rename and write", why)
        return
    for kind, calls in KINDS.items():
        for moment in moments(exports, kind, calls):
            for name in ("KILL", "TERM") if kind in ("rename", "link", "unlink") else ("KILL",):
                folder = exports.folder()
                exports.vitstream.run(
                    "export", "-q", NEW, folder, before=strace(calls, f"signal=SIG{name}:when={moment}")
                )
                yield f"SIG{name} at {kind} {moment}", exports.wrong(folder, killed=name == "KILL")
                shutil.rmtree(folder)


@group
def endings(exports):
    """Every command is told to end while it writes."""
    for name in ("INT", "TERM", "HUP"):
        folder = exports.scratch / f"ending-{name}"
        folder.mkdir()
        process = exports.vitstream.start(
            "speak", NEW, "--sample-rate", "22050", "-o", folder / "a.wav", "--timings", folder / "a.json", stdin=subprocess.PIPE
        )
        process.stdin.write(b'{"phoneme_ids": [1, 2]}\n')
        process.stdin.flush()
        while len(os.listdir(folder)) < 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(getattr(signal, f"SIG{name}"))
        process.communicate(timeout=HANG)
        left = os.listdir(folder)
        yield f"SIG{name} while speaking", f"leftovers: {left}" if left else None


@group
def failures(exports):
    """A system call of an export fails: once, or from then on."""
    why = traceable()
    if why:
        yield Skip("failing renames", why)
        return
    for kind, error in (
        ("rename", "EIO"),
        ("link", "EIO"),
        ("link", "EPERM"),
        ("fsync", "EIO"),
        ("write", "ENOSPC"),
        ("unlink", "EIO"),
    ):
        for moment in moments(exports, kind, KINDS[kind]):
            for plus in ("", "+"):
                folder = exports.folder()
                done = exports.vitstream.run(
                    "export", "-q", NEW, folder, before=strace(KINDS[kind], f"error={error}:when={moment}{plus}")
                )
                wrong = done.crashed()
                if not wrong and done.code == 0:
                    # Without hard links there are copies; what cannot be removed at the end goes with the next export.
                    if {name: hashes(folder).get(name) for name in PAIR} != exports.new:
                        wrong = "ended with 0, and the new voice is not there"
                elif not wrong and plus and kind in ("rename", "unlink"):
                    # The way back fails too.
                    kept = set(hashes(folder).values())
                    if not set(exports.old.values()) <= kept:
                        wrong = f"an old file is gone: {sorted(hashes(folder))}"
                    elif kind == "rename" and moment > 1 and ".vitstream-old." not in done.stderr:
                        wrong = f"where the old files are is not said: {done.stderr!r}"
                elif not wrong:
                    # Where nothing can be removed or flushed any more, the mark stays; the next export takes it away.
                    wrong = exports.wrong(folder, killed=kind in ("unlink", "fsync"))
                # Where nothing can be written any more, nothing can be said.
                silent = kind == "write" and plus
                if not wrong and done.code != 0 and not silent and str(folder) not in done.stderr:
                    wrong = f"no file is named: {done.stderr!r}"
                yield f"{kind} {moment}{plus} fails with {error}", wrong
                shutil.rmtree(folder)


@contextlib.contextmanager
def small_disk(scratch, size):
    """A file system of `size` kB, or None with the reason where none can be mounted."""
    place = scratch / "disk"
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode != 0:
        yield None, "no small file system can be mounted here"
        return
    try:
        yield place, None
    finally:
        subprocess.run(["umount", str(place)], check=True)


@group
def full_disks(exports):
    """No room for the new voice, or only for a part of it."""
    size = sum(path.stat().st_size for path in (exports.scratch / "old").iterdir()) // 1024
    for share in (0.1, 0.5, 0.9):
        with small_disk(exports.scratch, int(size * (1 + share)) + 64) as (disk, why):
            if not disk:
                yield Skip(f"a disk with room for {share:.0%} of a voice", why)
                continue
            folder = disk / "voice"
            shutil.copytree(exports.scratch / "old", folder)
            done = exports.vitstream.run("export", "-q", NEW, folder)
            wrong = done.crashed() or ("ended with 0" if done.code == 0 else None) or exports.wrong(folder)
            if not wrong and hashes(folder) != exports.old:
                wrong = "the old voice is gone"
            yield f"a disk with room for {share:.0%} of a voice", wrong
            sound = disk / "long.wav"
            with contextlib.suppress(OSError), open(disk / "rest", "wb") as rest:
                while True:
                    rest.write(bytes(1 << 10))
                    rest.flush()
            done = exports.vitstream.run("speak", NEW, "--ids", ",".join(["5"] * 400), "--sample-rate", "22050", "-o", sound)
            wrong = done.crashed() or ("ended with 0" if done.code == 0 else None)
            left = sorted(set(os.listdir(disk)) - {"voice", "rest"})
            yield "a WAV file on a full disk", wrong or (f"leftovers: {left}" if left else None)
    for limit in (10, 100_000, 400_000):
        folder = exports.folder()

        def cap():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done = exports.vitstream.run("export", "-q", NEW, folder, limit=cap)
        yield f"files of at most {limit} bytes", done.crashed() or ("ended with 0" if done.code == 0 else exports.wrong(folder))
        shutil.rmtree(folder)


@group
def two_at_once(exports):
    """Two exports of two voices into one folder: one of them, whole, and nothing else."""
    for attempt in range(6):
        folder = exports.folder() if attempt % 2 else exports.scratch / f"both-{attempt}"
        both = [exports.vitstream.start("export", "-q", source, folder) for source in (OLD, NEW)]
        ends = [(process.communicate(timeout=HANG)[1].decode(), process.returncode) for process in both]
        found = hashes(folder)
        wrong = None
        if found not in (exports.old, exports.new):
            wrong = f"neither voice: {sorted(found)}"
        elif all(code != 0 for _, code in ends):
            wrong = f"both failed: {ends}"
        elif any(code != 0 and "another export" not in said for said, code in ends):
            wrong = f"refused without the reason: {ends}"
        yield f"two exports at once, {attempt + 1}", wrong


@group
def not_files(exports):
    """Something else in the place of a file to be replaced."""
    for name in (*PAIR, "config.json"):
        for kind in ("directory", "link", "dangling link", "pipe"):
            folder = exports.folder()
            place = folder / name
            place.unlink(missing_ok=True)
            target = exports.scratch / "target"
            target.write_text("mine")
            if kind == "directory":
                place.mkdir()
                (place / "mine").write_text("mine")
            elif kind == "pipe":
                os.mkfifo(place)
            else:
                place.symlink_to(target if kind == "link" else exports.scratch / "nothing")
            before = hashes_of_tree(folder)
            done = exports.vitstream.run("export", "-q", NEW, folder)
            wrong = done.crashed()
            if not wrong and (done.code == 0 or name not in done.stderr):
                wrong = f"not refused by name: {done.code} {done.stderr!r}"
            if not wrong and (hashes_of_tree(folder) != before or target.read_text() != "mine"):
                wrong = "something has changed"
            yield f"a {kind} called {name} in the folder", wrong
            shutil.rmtree(folder)


def hashes_of_tree(folder):
    return {
        str(path): path.read_bytes() if path.is_file() and not path.is_symlink() else path.lstat().st_mode
        for path in sorted(folder.rglob("*"))
    }


# Every place where a command reads a file: ODD is what stands there. `voice` is a good folder, `broken` one that ODD is put
# into under the name after the colon.
PLACES = [
    ("export", "ODD", "out"),
    ("inspect", "ODD"),
    ("speak", "ODD", *IDS, "--raw"),
    ("bench", "ODD", "--rounds", "1"),
    ("verify", "ODD"),
    ("export", "w.ckpt", "out", "--config", "ODD"),
    ("verify", "voice", "--against", "ODD"),
    ("verify", "voice", "--against", "w.ckpt", "--config", "ODD"),
    ("bench", "voice", "--rounds", "1", "--runtime", "native", "--ids-file", "ODD", "--sample-rate", "22050"),
    ("speak", "voice", *IDS, "--raw", "--profile", "ODD"),
    *(
        (*command, f"broken:{name}")
        for name in ("encoder.onnx", "decoder.onnx")
        for command in (("speak", *IDS, "--raw"), ("speak", *IDS, "--raw", "--runtime", "rten"), ("verify",), ("export", "out"))
    ),
    ("speak", *IDS, "--raw", "--decoder", "stateful", "broken:decoder.stream.onnx"),
    ("verify", "broken:decoder.stream.onnx"),
]


@group
def odd_files(exports):
    """Pipes, devices and folders in every place where a file is read: refused by name, and at once."""
    base = exports.scratch / "odd"
    base.mkdir()
    shutil.copy(NEW, base / "w.ckpt")
    for kind in ("pipe", "zero", "directory"):
        odd = base / f"{kind}.odd"
        make = {
            "pipe": os.mkfifo,
            "directory": os.mkdir,
            "zero": lambda place: os.symlink("/dev/zero", place),
        }[kind]
        make(odd)
        for place in PLACES:
            shutil.rmtree(base / "broken", ignore_errors=True)
            shutil.rmtree(base / "voice", ignore_errors=True)
            shutil.copytree(exports.scratch / "new", base / "voice")
            command, named = [], odd.name
            for argument in place:
                if argument.startswith("broken:"):
                    named = argument.removeprefix("broken:")
                    shutil.copytree(exports.scratch / "new", base / "broken")
                    (base / "broken" / named).unlink()
                    if named == "decoder.onnx":
                        # Else this one would do.
                        (base / "broken/decoder.stream.onnx").unlink()
                    make(base / "broken" / named)
                    # The folder is the first argument, the output the second.
                    command.insert(1, base / "broken")
                else:
                    command.append({"ODD": odd, "voice": base / "voice", "w.ckpt": base / "w.ckpt", "out": base / "out"}.get(argument, argument))
            if kind == "directory" and place[1] == "ODD" and place[0] in ("verify", "bench", "speak", "export", "inspect"):
                continue  # Folders are voices; an empty one is told by what it lacks.
            done = exports.vitstream.measured(*command)
            wrong = done.crashed()
            if not wrong and done.code == 0:
                wrong = "accepted"
            if not wrong and named not in done.stderr + done.stdout.decode(errors="replace"):
                wrong = f"not named: {done.stderr!r}"
            if not wrong and (base / "out").exists():
                wrong = "something was written"
                shutil.rmtree(base / "out")
            yield f"a {kind} in {' '.join(place)}", wrong


# Small files that ask for much, with the commands that read them. What is not in this repository is taken from
# ../shared/fixtures/hostile.
BOMBS = [
    ("coqui-abort.pth", ("export", "inspect", "speak")),
    ("engine-context-4GB.ckpt", ("speak",)),
    ("stride0-10GB.ckpt", ("export", "inspect", "speak")),
    ("names-30s.ckpt", ("export",)),
    ("durations.ckpt", ("speak", "export+rten")),
    ("pair-perm", ("rten", "verify")),
    ("pair-pads", ("rten", "verify")),
    ("pair-rank", ("rten", "verify")),
    ("pair-states", ("rten", "verify")),
]


@group
def bombs(exports):
    """A clear error, in little time and memory, and nothing written."""
    for name, commands in BOMBS:
        source = next((place / name for place in (HOSTILE, FIXTURES / "hostile") if (place / name).exists()), None)
        if not source:
            yield Skip(name, f"it is neither in {HOSTILE.relative_to(ROOT)} nor in {FIXTURES}/hostile")
            continue
        out = exports.scratch / "bomb"
        for command in commands:
            if command == "export+rten":
                exports.vitstream.run("export", "-q", source, out)
                arguments = ("speak", out, *IDS, "--raw", "--runtime", "rten")
            else:
                arguments = {
                    "export": ("export", source, out),
                    "inspect": ("inspect", source),
                    "speak": ("speak", source, "--ids", "1", "--sample-rate", "22050", "--raw"),
                    "rten": ("speak", source, *IDS, "--raw", "--runtime", "rten"),
                    "verify": ("verify", source),
                }[command]
            done = exports.vitstream.measured(*arguments)
            wrong = done.crashed()
            # `inspect` may well say what it finds.
            if not wrong and done.code == 0 and command != "inspect":
                wrong = "accepted"
            if not wrong and done.seconds > SECONDS:
                wrong = f"{done.seconds:.1f} s"
            if not wrong and done.megabytes > MEGABYTES:
                wrong = f"{done.megabytes:.0f} MB"
            if not wrong and command == "export" and out.exists():
                wrong = "something was written"
            shutil.rmtree(out, ignore_errors=True)
            yield f"{command} {name}", wrong


ESCAPES = "\x1b]0;title\x07\x1b[2J\r\x7f\u009b2J\u202e"


def with_names(source, target):
    """A copy of a checkpoint whose tensors of the posterior encoder have control characters in their names."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                # Of the same length in bytes, so that the pickle's own lengths stay right.
                content = content.replace(b"enc_q.pre", b"\x1b[2J\x07\xc2\x9b2J")
            new.writestr(entry.filename, content)
    return b"\x1b[2J\x07".decode() in Path(target).read_bytes().decode("latin-1")


@group
def control_characters(exports):
    """Names from files and paths are shown with their control characters as text, in every output."""
    base = exports.scratch / "names"
    base.mkdir()
    named = base / f"named{ESCAPES}.ckpt"
    if not with_names(NEW, named):
        yield Skip("names of tensors", f"{NEW.name} has no enc_q.pre")
    broken = base / f"broken{ESCAPES}.ckpt"
    broken.write_text("no checkpoint")
    folder = base / f"folder{ESCAPES}"
    shutil.copytree(exports.scratch / "new", folder)
    out = base / f"out{ESCAPES}"
    for arguments in (
        ("inspect", named, "--tensors"),
        ("inspect", named, "--tensors", "--json"),
        ("inspect", folder / "encoder.onnx"),
        ("export", named, out),
        ("export", named, out, "-vv"),
        ("export", named, out, "--json"),
        ("verify", folder),
        ("verify", folder, "--against", named),
        ("verify", folder, "--json"),
        ("bench", folder, "--rounds", "1", "--lengths", "3", "--runtime", "native", "--sample-rate", "22050"),
        ("bench", folder, "--rounds", "1", "--lengths", "3", "--runtime", "native", "--sample-rate", "22050", "--json"),
        *((command, broken, *more) for command, *more in (("inspect",), ("export", out), ("speak", "--ids", "1", "--raw"), ("bench",), ("verify",))),
        ("speak", folder, "--ids", "1", "--raw", "--sample-rate", "22050", "--speaker", ESCAPES),
        ("speak", NEW, *IDS, "-o", base / "absent" / ESCAPES),
        ("export", base / "absent" / ESCAPES, out),
    ):
        done = exports.vitstream.run(*arguments)
        said = done.stderr + ("" if "--raw" in arguments else done.stdout.decode(errors="replace"))
        found = sorted({c for c in said if (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e") and c not in "\n\t"})
        wrong = done.crashed() or (f"{found} reach the terminal" if found else None)
        yield " ".join([arguments[0], *(str(a) for a in arguments[1:] if str(a).startswith("-"))]), wrong


@group
def pages(exports):
    """Larger memory pages, as some machines have them: scripts/pages.py."""
    script = ROOT / "scripts/pages.py"
    if not script.exists():
        yield Skip("page sizes", "there is no scripts/pages.py")
        return
    done = subprocess.run([sys.executable, str(script), exports.vitstream.program], capture_output=True, text=True)
    yield "page sizes", None if done.returncode == 0 else (done.stdout + done.stderr)[-600:]


def main():
    # A shell that starts this in the background has it ignore SIGINT, and what it starts as well; the program respects that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    chosen = sys.argv[2:] or list(GROUPS)
    tried, mishandled = 0, []
    with tempfile.TemporaryDirectory(prefix="vitstream-faults-") as scratch:
        scratch = Path(scratch)
        exports = Exports(Vitstream(sys.argv[1], scratch / "home"), scratch)
        for name in chosen:
            before, began, wrong_before = tried, time.monotonic(), len(mishandled)
            for outcome in GROUPS[name](exports):
                if isinstance(outcome, Skip):
                    print(f"skipped: {outcome.what}: {outcome.why}")
                    continue
                what, wrong = outcome
                tried += 1
                if wrong:
                    mishandled.append(what)
                    print(f"MISHANDLED: {name}: {what}: {wrong}")
            count, wrong = tried - before, len(mishandled) - wrong_before
            print(f"{name}: {count} tried, {wrong} mishandled, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{tried} faults tried, {len(mishandled)} mishandled")
    sys.exit(1 if mishandled else 0)


if __name__ == "__main__":
    main()
