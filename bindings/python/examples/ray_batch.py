"""Speaks the lines of a file with Ray Data, on all machines of a cluster: python ray_batch.py VOICE LINES.txt FOLDER

Each actor holds the voice, so it is opened once for each worker and not for each line. `pip install 'ray[data]' vitstream`.
"""

import hashlib
import pathlib
import sys

import ray

import vitstream


class Speaker:
    def __init__(self, voice):
        self.voice = vitstream.Voice.open(voice)

    def __call__(self, batch):
        # A line has the same samples wherever it is spoken: the seed is its own.
        audio = [self.voice.synthesize(str(text), seed=int(seed)) for text, seed in zip(batch["text"], batch["seed"])]
        return {"seed": batch["seed"], "wav": [one.wav() for one in audio]}


def main(voice, lines, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for line in pathlib.Path(lines).read_text(encoding="utf-8").splitlines() if line.strip()]
    ray.init(include_dashboard=False, ignore_reinit_error=True)
    data = ray.data.from_items([{"text": text, "seed": number} for number, text in enumerate(lines)])
    spoken = data.map_batches(
        Speaker,
        fn_constructor_args=(str(pathlib.Path(voice).resolve()),),
        batch_size=16,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    count, whole = 0, hashlib.sha256()
    for row in sorted(spoken.iter_rows(), key=lambda row: row["seed"]):
        (folder / f"{row['seed']:06}.wav").write_bytes(row["wav"])
        whole.update(row["wav"])
        count += 1
    print(f"{count} lines, sha256 {whole.hexdigest()}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
