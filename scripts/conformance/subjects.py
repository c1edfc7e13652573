"""What is checked: the binary, the pairs that it writes, and the checkpoints and voices that they are made of."""

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from safetensors.numpy import load_file

from .ground import FAMILIES

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pth", "G_0.pth")


def session(path, folded=None):
    """`folded` keeps what is run after constant folding."""
    options = ort.SessionOptions()
    if folded:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Runs that must fail would print their errors among the results.
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def metadata(model):
    return {entry.key: entry.value for entry in model.metadata_props}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Pair:
    """An exported directory: both graphs as protobuf and as sessions."""

    def __init__(self, directory):
        self.directory = directory
        self.paths = {name: directory / f"{name}.onnx" for name in ("encoder", "decoder")}
        for path in self.paths.values():
            assert path.is_file(), f"the export wrote no {path.name}"
        self.models = {name: onnx.load(path) for name, path in self.paths.items()}
        self.sessions = {name: session(path) for name, path in self.paths.items()}

    def run(self, name, feed):
        """Run by name; the outputs by name."""
        outputs = [output.name for output in self.sessions[name].get_outputs()]
        return dict(zip(outputs, self.sessions[name].run(outputs, feed)))


class Binary:
    def __init__(self, path):
        self.path = path

    def __call__(self, *arguments):
        command = [str(self.path), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}"
        return done.stdout

    def export(self, checkpoint, directory, *options):
        # The real voice's checkpoint lies beside a JSON of another name, which has to be named.
        beside = list(Path(checkpoint).parent.glob("*.onnx.json")) if Path(checkpoint).suffix == ".ckpt" else []
        if len(beside) == 1 and "--config" not in options:
            options += ("--config", beside[0])
        self("export", checkpoint, directory, "-q", *options)
        return Pair(directory)


class Source:
    """A checkpoint and its reference cases."""

    def __init__(self, label, checkpoint, cases, settings=None):
        # `settings` is the JSON of a family that has none in Piper's form.
        self.label, self.checkpoint, self.settings = label, checkpoint, settings
        self.cases = {case: load_file(path) for case, path in cases.items()}
        assert self.cases, f"{checkpoint}: no reference values beside it"
        sample = next(iter(self.cases.values()))
        self.multi, self.sdp = "sid" in sample, "noise.dp" in sample
        for values in self.cases.values():
            if "noise.p" not in values:
                # Recorded without noise: any draws do.
                batch, ids = values["input"].shape
                values["noise.p"] = np.zeros_like(values["z_p"])
                values["noise.dp"] = np.zeros((batch, 2, ids), np.float32)
        self.inter = sample["z_p"].shape[1]
        self.gin = sample["g"].shape[1] if self.multi else None
        self.hop = sample["audio"].shape[2] // sample["z_p"].shape[2]

    @classmethod
    def in_folder(cls, folder):
        for checkpoint in sorted(folder.glob("*.ckpt")):
            files = sorted(folder.glob(f"{checkpoint.stem}.*.safetensors"))
            yield cls(checkpoint.stem, checkpoint, {file.name.split(".")[1]: file for file in files})

    @classmethod
    def of_families(cls):
        """Models of the other VITS families with their own implementations' values."""
        for folder in sorted(FAMILIES.iterdir()):
            weights = [folder / name for name in WEIGHTS if (folder / name).is_file()]
            if weights:
                files = sorted(file for file in folder.glob("*.safetensors") if file not in weights)
                settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
                yield cls(folder.name, weights[0], {file.stem: file for file in files}, settings)

    def encoder_feed(self, values, noise=True):
        feed = {key: values[key] for key in ("input", "input_lengths", "scales")}
        if self.multi:
            feed["sid"] = values["sid"]
        if noise and self.sdp:
            feed["noise_dp"] = values["noise.dp"]
        if noise:
            feed["noise_p"] = values["noise.p"]
        return feed

    def decoder_feed(self, z, y_mask, g):
        return {"z": z, "y_mask": y_mask} | ({"g": g} if self.multi else {})


class Voice:
    """A voice in one graph, and what it says to some ids without noise."""

    def __init__(self, path, config):
        self.path, self.config = path, json.loads(config.read_text(encoding="utf-8")) if config else None
        self.label = path.name
        self.session = session(path)
        inputs = {value.name: value for value in self.session.get_inputs()}
        self.multi = "sid" in inputs

    def phonemes(self):
        """Symbols of the voice: a greeting where it has them."""
        known = self.config["phoneme_id_map"]
        greeting = [symbol for symbol in "həlˈoʊ wˈɜːld" if symbol in known]
        letters = [symbol for symbol in known if symbol not in "_^$" and len(symbol) == 1 and symbol.isalpha()]
        return greeting if len(greeting) > 8 else (letters * 3)[:12]

    def ids(self):
        """As piper puts them: each symbol followed by the pad, between the marks of begin and end."""
        known = self.config["phoneme_id_map"]
        pad = known["_"]
        symbols = [known[symbol] + pad for symbol in self.phonemes()]
        return sum([known["^"] + pad, *symbols, known["$"]], [])

    def feed(self, ids):
        feed = {
            "input": np.array([ids]),
            "input_lengths": np.array([len(ids)]),
            "scales": np.array([0.0, 1.0, 0.0], np.float32),
        }
        return feed | ({"sid": np.array([1])} if self.multi else {})
