#!/usr/bin/env python3
"""A manifest over a cluster of Ray: deploy/batch/ray_batch.py VITSTREAM VOICE MANIFEST OUT [--shards N]

    pip install "ray[data]==2.60.0"

Every shard of the manifest is a block of a Ray dataset, spoken by `vitstream batch`. A shard whose node is lost is given to another one;
files are whole or absent and finished ones are passed over, so nothing is spoken twice but what was lost. VITSTREAM, VOICE, MANIFEST and
OUT have to be there under the same names on all nodes. Without an address in RAY_ADDRESS a cluster of this machine is started.
"""

import argparse
import json
import subprocess
from pathlib import Path

import ray


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vitstream", "voice", "manifest", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--shards", type=int, default=32, help="parts of the manifest; several for each core even out their lengths")
    args = parser.parse_args()
    base = [str(path.resolve()) for path in (args.vitstream, args.voice, args.manifest, args.out)]
    shards = args.shards

    def speak(row):
        vitstream, voice, manifest, out = base
        command = [vitstream, "batch", voice, manifest, out, "--shard", f"{row['id'] + 1}/{shards}", "--jobs", "1", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # 1 says that single lines could not be spoken, which the summary tells; anything else is a shard that failed.
        if done.returncode not in (0, 1):
            raise RuntimeError(f"shard {row['id'] + 1}: {done.stderr.strip()[-500:]}")
        return {"shard": row["id"] + 1, "summary": done.stdout}

    ray.init(log_to_driver=False)
    blocks = ray.data.range(shards, override_num_blocks=shards)
    summaries = [json.loads(row["summary"]) for row in blocks.map(speak, num_cpus=1, max_retries=5).iter_rows()]
    totals = {key: sum(s[key] for s in summaries) for key, value in summaries[0].items() if isinstance(value, (int, float))}
    print(json.dumps({"shards": len(summaries), **totals}))


if __name__ == "__main__":
    main()
