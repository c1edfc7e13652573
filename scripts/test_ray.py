#!/usr/bin/env python3
"""Many utterances over three nodes of Ray, one of which is killed: scripts/test_ray.py VITSTREAM

    pip install "ray[data]==2.60.0"

The nodes are processes of this machine, as Ray's own tests have them. A thousand clips of a small voice must be, to the last bit, those
of one run of `vitstream batch`. Not part of .ci/run: Ray takes half a gigabyte.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import test_fleet
from ray.cluster_utils import Cluster

CLIPS = 1000
SHARDS = 100


def main():
    vitstream = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        lines = test_fleet.manifest(scratch, CLIPS)
        subprocess.run([vitstream, "batch", test_fleet.VOICE, lines, scratch / "one"], check=True, capture_output=True)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        others = [cluster.add_node(num_cpus=1) for _ in range(2)]
        command = [sys.executable, test_fleet.DEPLOY / "batch/ray_batch.py", vitstream, test_fleet.VOICE, lines, scratch / "ray"]
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        job = subprocess.Popen([*command, "--shards", str(SHARDS)], env=environment, stdout=subprocess.PIPE, text=True)
        while len(list((scratch / "ray").glob("*.wav"))) < CLIPS // 5:
            assert job.poll() is None, "ended before its time"
            time.sleep(0.05)
        cluster.remove_node(others[0], allow_graceful=False)
        at = len(list((scratch / "ray").glob("*.wav")))
        print(f"ray: a node was killed when {at} of {CLIPS} clips were there")
        summary, _ = job.communicate(timeout=600)
        assert job.returncode == 0, job.returncode
        assert test_fleet.tree(scratch / "ray") == test_fleet.tree(scratch / "one"), "other files than one run writes"
        print(f"ray: {CLIPS} clips equal those of one run; {summary.strip().splitlines()[-1]}")
        cluster.shutdown()


if __name__ == "__main__":
    main()
