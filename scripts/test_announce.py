#!/usr/bin/env python3
"""Whether the network is told of the server: scripts/test_announce.py VITSTREAM

    pip install zeroconf==0.154.0
    cargo build -p vitstream-cli --features announce

`zeroconf`, by which Home Assistant finds Wyoming's servers, has to find one that `vitstream serve --announce` announces on this
machine's loopback interface, with its port, and has to be told when it ends. Not part of .ci/run, as the command is built without
`announce` there.
"""

import queue
import re
import signal
import subprocess
import sys
from pathlib import Path

from zeroconf import ServiceBrowser, ServiceListener, Zeroconf

VOICE = Path(__file__).resolve().parent.parent / "crates/vitstream-vits/tests/golden/families/hf"
SERVICE = "_wyoming._tcp.local."
NAME = "a server's name"
PATIENCE = 60


class Listener(ServiceListener):
    def __init__(self):
        self.found, self.lost = queue.Queue(), queue.Queue()

    def add_service(self, zeroconf, kind, name):
        self.found.put((name, zeroconf.get_service_info(kind, name)))

    def update_service(self, zeroconf, kind, name):
        pass

    def remove_service(self, zeroconf, kind, name):
        self.lost.put(name)


def main():
    vitstream = Path(sys.argv[1]).resolve()
    zeroconf, listener = Zeroconf(interfaces=["127.0.0.1"]), Listener()
    ServiceBrowser(zeroconf, SERVICE, listener)
    command = [vitstream, "serve", VOICE, "--http", "off", "--wyoming", "127.0.0.1:0", f"--announce={NAME}"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in server.stderr if "Wyoming on" in line)
        port = int(re.search(r":(\d+)$", line.strip())[1])
        name, info = listener.found.get(timeout=PATIENCE)
        assert name == f"{NAME}.{SERVICE}", name
        assert (info.port, info.parsed_addresses()) == (port, ["127.0.0.1"]), info
        print(f"found: {name} at {info.parsed_addresses()[0]}:{info.port}")
        server.send_signal(signal.SIGTERM)
        assert listener.lost.get(timeout=PATIENCE) == name
        assert server.wait(PATIENCE) == 0
        print("its end was told")
    finally:
        server.kill()
        zeroconf.close()


if __name__ == "__main__":
    main()
