#!/usr/bin/env python3
"""What stands in deploy/, tried as far as one machine allows: scripts/test_fleet.py VITSTREAM [PART ...]

    pip install -r scripts/requirements-fleet.txt

PART is one of
    haproxy     HAProxy of Debian before three servers: one is killed, one is replaced, too many come
    manifests   those of Kubernetes against their schemas and against each other
    batch       the recipes for many utterances: all shards give the files of one run
    unit        systemd's units, by systemd-analyze where it is there, and sockets that are passed as systemd passes them
Programs that are missing are taken from Debian when run as root, else the part says so and is skipped.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import load

REPOSITORY = Path(__file__).resolve().parent.parent
DEPLOY = REPOSITORY / "deploy"
GOLDEN = REPOSITORY / "crates/vitstream-vits/tests/golden"
VOICE = GOLDEN / "families/hf"
# Long enough to be under way when something happens.
TEXT = " ".join(["The quick brown fox jumps over the lazy dog."] * 60)


def install(program, package):
    """Whether a program is there, or can be had."""
    if not shutil.which(program) and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update"], **quiet)
        subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", package], **quiet)
    return bool(shutil.which(program))


class Balancer:
    """HAProxy with the configuration of deploy/, with servers at `ports`."""

    def __init__(self, ports):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        names = dict(zip(("ONE", "TWO", "THREE"), ports))
        places = {f"VITSTREAM_{name}": f"127.0.0.1:{port}" for name, port in names.items()}
        environment = {**os.environ, **places, "VITSTREAM_BIND": f"127.0.0.1:{self.port}"}
        self.process = subprocess.Popen(["haproxy", "-f", DEPLOY / "haproxy.cfg", "-db"], env=environment,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port)):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("HAProxy does not listen")


async def killed_and_replaced(vitstream):
    options = ["--max-load", "1000", "--max-streams", "64"]
    servers = [load.Server(vitstream, VOICE, options) for _ in range(3)]
    balancer = Balancer([server.port for server in servers])
    try:
        expected = (await load.listen(servers[0], TEXT, pace=None)).hash
        await asyncio.sleep(3)

        def judge(all_heard, may_break):
            assert all(heard.status in (200, 503, None) for heard in all_heard), [heard.status for heard in all_heard]
            whole = [heard for heard in all_heard if heard.whole]
            assert all(heard.hash == expected for heard in whole), "somebody heard something else"
            broken = [heard for heard in all_heard if heard.status == 200 and not heard.whole]
            assert len(broken) <= may_break, f"{len(broken)} streams broke, at most {may_break} were with the lost server"
            return len(whole), len(broken)

        async def come(count, over):
            draws = random.Random(load.SEED)
            coming = [asyncio.create_task(after(draws.uniform(0, over))) for _ in range(count)]
            return coming

        async def after(seconds):
            await asyncio.sleep(seconds)
            return await load.listen(balancer, TEXT)

        # Killed while streams run: only its own break, and they are some.
        coming = await come(24, 2)
        await asyncio.sleep(2.5)
        lost = int(servers[0].metric("vitstream_streams", state="active"))
        servers[0].stop(load.signal.SIGKILL)
        whole, broken = judge(await asyncio.gather(*coming), lost)
        yield f"kill -9 of one of three: {whole} whole, {broken} broken, of {lost} that were with it"

        # One after the other is ended and started again while listeners come: nobody notices.
        await asyncio.to_thread(servers[0].start)
        await asyncio.sleep(3)
        coming = await come(40, 12)
        for server in servers:
            await asyncio.sleep(1)
            code = await asyncio.to_thread(server.stop)
            assert code == 0, f"SIGTERM ends with {code}"
            await asyncio.to_thread(server.start)
            await asyncio.sleep(2)
        heard = await asyncio.gather(*coming)
        whole, _ = judge(heard, 0)
        assert whole == len(heard), f"{len(heard) - whole} of {len(heard)} were turned away by a rolling restart"
        yield f"rolling restart: {whole} of {len(heard)} whole"

        # More than fit: all get speech or a refusal.
        heard = await asyncio.gather(*(after(0) for _ in range(120)))
        whole, broken = judge(heard, 0)
        refused = sum(one.status == 503 for one in heard)
        assert whole and refused and whole + refused == len(heard), (whole, refused)
        yield f"120 at once where 48 fit: {whole} whole, {refused} refused"
    finally:
        balancer.process.terminate()
        for server in servers:
            server.process.kill()


def haproxy(vitstream):
    if not install("haproxy", "haproxy"):
        print("skipped: haproxy (Debian: haproxy)")
        return

    async def run():
        async for line in killed_and_replaced(vitstream):
            print(f"haproxy: {line}", flush=True)

    asyncio.run(run())


def manifests(_):
    try:
        import kubernetes_validate
        import yaml
    except ImportError:
        print("skipped: manifests (pip install -r scripts/requirements-fleet.txt)")
        return
    for path in sorted([*DEPLOY.glob("kubernetes/*.yaml"), DEPLOY / "batch/job.yaml"]):
        documents = list(yaml.safe_load_all(path.read_text()))
        for document in documents:
            kind = f"{path.name}: {document['kind']}"
            if "." in document["apiVersion"].split("/")[0] and not document["apiVersion"].startswith(("apps", "policy")):
                print(f"manifests: {kind} has no schema here, its pod is checked")
                spec = document["spec"].get("template", {}).get("spec") or document["spec"]["predictor"]
                known = {key: spec[key] for key in ("containers", "volumes") if key in spec}
                document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": known}
                for container in known["containers"]:
                    container.setdefault("name", "container")
                    container["readinessProbe"]["httpGet"].setdefault("port", 5000)
            kubernetes_validate.validate(document, "1.31", strict=True)
            print(f"manifests: {kind}")
    by_kind = {document["kind"]: document for document in yaml.safe_load_all((DEPLOY / "kubernetes/vitstream.yaml").read_text())}
    labels = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (by_kind["Deployment"]["spec"]["selector"]["matchLabels"], by_kind["Service"]["spec"]["selector"],
                     by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]):
        assert selector == labels, (selector, labels)
    ports = {port["name"] for port in by_kind["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in by_kind["Service"]["spec"]["ports"]} <= ports
    assert by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == by_kind["Deployment"]["metadata"]["name"]


def tree(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.wav")}


def manifest(folder, lines=60):
    path = folder / "manifest.jsonl"
    draws = random.Random(load.SEED)
    ids = lambda: [draws.randrange(1, 30) for _ in range(draws.randrange(5, 40))]
    path.write_text("".join(json.dumps({"phoneme_ids": ids(), "output_file": f"{n:04}.wav"}) + "\n" for n in range(lines)))
    return path


def batch(vitstream):
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        lines = manifest(scratch)
        path = {**os.environ, "PATH": f"{vitstream.parent}:{os.environ['PATH']}"}
        subprocess.run([vitstream, "batch", VOICE, lines, scratch / "one"], check=True, capture_output=True)
        expected = tree(scratch / "one")
        assert len(expected) == 60
        for task in range(1, 5):
            variables = {**path, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_CPUS_PER_TASK": "1"}
            subprocess.run([DEPLOY / "batch/slurm.sh", VOICE, lines, scratch / "slurm"], check=True, capture_output=True, env=variables)
        assert tree(scratch / "slurm") == expected
        print("batch: an array of Slurm's, by its variables: the files of one run")
        if not install("parallel", "parallel"):
            print("skipped: GNU parallel (Debian: parallel)")
            return
        command = [DEPLOY / "batch/parallel.sh", VOICE, lines, scratch / "parallel", "5"]
        subprocess.run(command, check=True, capture_output=True, env=path)
        assert tree(scratch / "parallel") == expected
        print("batch: GNU parallel: the files of one run")


def unit(vitstream):
    passed(vitstream)
    if not shutil.which("systemd-analyze"):
        print("skipped: unit (no systemd-analyze here)")
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("vitstream.service", "vitstream.socket"):
            text = (DEPLOY / "systemd" / name).read_text()
            # The program need not be installed here.
            (Path(scratch) / name).write_text(re.sub(r"/usr/local/bin/vitstream", "/bin/true", text))
        for name in ("vitstream.service", "vitstream.socket"):
            done = subprocess.run(["systemd-analyze", "verify", Path(scratch) / name], capture_output=True, text=True)
            wrong = [line for line in done.stderr.splitlines() if name in line]
            assert not wrong, wrong
            print(f"unit: {name} verified")


def passed(vitstream):
    """Connections that came before the server was there are served."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    waiting = [socket.create_connection(one.getsockname(), timeout=60) for one in sockets]
    child = os.fork()
    if child == 0:
        # As systemd does: descriptors from 3 on, for this process alone.
        for place, number in enumerate([one.fileno() for one in sockets]):
            os.dup2(number, 100 + place)
        for place in range(2):
            os.dup2(100 + place, 3 + place, inheritable=True)
        variables = {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
        os.execve(vitstream, [vitstream, "--quiet", "serve", str(VOICE)], variables)
    try:
        waiting[0].sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 " in waiting[0].recv(4096).splitlines()[0]
        waiting[1].sendall(b'{"type": "ping", "data": {}}\n')
        assert b'"pong"' in waiting[1].recv(4096)
    finally:
        os.kill(child, load.signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    print("unit: sockets that were passed are served")


PARTS = {"haproxy": haproxy, "manifests": manifests, "batch": batch, "unit": unit}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vitstream", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    for name in args.parts or PARTS:
        PARTS[name](args.vitstream.resolve())


if __name__ == "__main__":
    main()
