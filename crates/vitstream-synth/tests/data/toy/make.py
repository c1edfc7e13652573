"""Writes the toy voice beside this file: numpy and onnx are all it needs.

A pair with a stream decoder in the exporter's contract, small enough to be read: two convolutions of kernel 3 with
biases, the first with a residual (so a state that begins at length 0), hop 4, look-ahead 2. The encoder gives ten frames
for each id and takes its noise as an input. encoder.durations.onnx is the same, but tells durations: that the id n lasts
2n frames, which adds up only for ids that are 5 on average.
"""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

HERE = Path(__file__).parent
C, HOP, PER_ID, SYMBOLS = 3, 4, 10, 8
rng = np.random.default_rng(5)
F, I = TensorProto.FLOAT, TensorProto.INT64
META = {"sample_rate": "8000", "n_speakers": "1", "hop_length": str(HOP), "receptive_field": "2",
        "inter_channels": str(C), "gin_channels": "0", "vitstream_version": "0", "pair_id": "toy"}
# rten takes absent ones for those of a single axis, so they are written out.
PLAIN = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0]}
PADDED = PLAIN | {"pads": [0, 1, 0, 1]}


def init(**arrays):
    return [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]


def write(name, nodes, inputs, outputs, weights, **metadata):
    value = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node(op, i, o, name="/".join(o), **a) for op, i, o, a in nodes], name,
                              [value(*i) for i in inputs], [value(*o) for o in outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    helper.set_model_props(model, META | metadata)
    checker.check_model(model)
    save(model, HERE / f"{name}.onnx")


weights = dict(
    w1=rng.normal(size=(C, C, 1, 3)).astype("f") * 0.4, b1=rng.normal(size=C).astype("f"),
    w2=rng.normal(size=(HOP, C, 1, 3)).astype("f") * 0.4, b2=rng.normal(size=HOP).astype("f"),
)

encoder = [
    ("Gather", ["table", "input"], ["embedded"], {}),
    ("Tile", ["embedded", "repeats"], ["wide"], {}),
    ("Reshape", ["wide", "rows"], ["m"], {}),
    ("Transpose", ["m"], ["m_p"], {"perm": [0, 2, 1]}),
    ("Shape", ["m_p"], ["shape"], {}),
    ("Slice", ["shape", "two", "three"], ["time"], {}),
    ("Slice", ["noise_p", "zero", "time", "two"], ["cut"], {}),
    ("Slice", ["scales", "zero", "one"], ["noise_scale"], {}),
    # As the exporter's: fewer frames of noise than time do not fit.
    ("Reshape", ["cut", "shape"], ["noise"], {}),
    ("Mul", ["noise", "noise_scale"], ["scaled"], {}),
    ("Add", ["m_p", "scaled"], ["z"], {}),
    ("Slice", ["z", "zero", "one", "one"], ["first"], {}),
    ("Mul", ["first", "nothing"], ["zeros"], {}),
    ("Add", ["zeros", "unit"], ["y_mask"], {}),
]
ports = ([("input", I, ["batch_size", "phonemes"]), ("input_lengths", I, ["batch_size"]), ("scales", F, [3]),
          ("noise_dp", F, ["batch_size", 2, "phonemes"]), ("noise_p", F, ["batch_size", C, "noise_frames"])],
         [("z", F, ["batch_size", C, "time"]), ("y_mask", F, ["batch_size", 1, "time"])])
constants = init(table=rng.normal(size=(SYMBOLS, C)).astype("f"), repeats=np.array([1, 1, PER_ID]), rows=np.array([1, -1, C]),
                 zero=np.array([0]), one=np.array([1]), two=np.array([2]), three=np.array([3]),
                 nothing=np.float32(0), unit=np.float32(1))
write("encoder", encoder, *ports, constants)
write("encoder.durations", [
    *encoder,
    ("Cast", ["input"], ["numbers"], {"to": F}),
    ("Mul", ["numbers", "twice"], ["durations"], {}),
], ports[0], [*ports[1], ("durations", F, ["batch_size", "phonemes"])], constants + init(twice=np.float32(2)))

head = [("Unsqueeze", ["z", "axis2"], ["z4"], {})]
tail = [("Tanh", ["h2"], ["t"], {}), ("Transpose", ["t"], ["tt"], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["tt", "flat"], ["output"], {})]
common = dict(weights, axis2=np.array([2]), flat=np.array([1, 1, -1]))
write("decoder", [
    *head,
    ("Conv", ["z4", "w1", "b1"], ["c1"], PADDED),
    ("Add", ["c1", "z4"], ["h1"], {}),
    ("LeakyRelu", ["h1"], ["l1"], {"alpha": 0.1}),
    ("Conv", ["l1", "w2", "b2"], ["h2"], PADDED),
    *tail,
], [("z", F, ["batch_size", C, "time"]), ("y_mask", F, ["batch_size", 1, "time"])],
    [("output", F, ["batch_size", 1, "samples"])], init(**common))


def conv(x, n, scope):
    """A convolution over what it has seen: the state, the new frames, and at the end the original's padding."""
    return [
        ("Concat", [f"{scope}.state", x], [f"{scope}.seen"], {"axis": 3}),
        ("Slice", [f"{scope}.seen", "minus_two", "far", "three"], [f"{scope}.next"], {}),
        ("Concat", ["batch", "width", "batch", "last"], [f"{scope}.pad_shape"], {"axis": 0}),
        ("ConstantOfShape", [f"{scope}.pad_shape"], [f"{scope}.pad"], {}),
        ("Concat", [f"{scope}.seen", f"{scope}.pad"], [f"{scope}.x"], {"axis": 3}),
        ("Conv", [f"{scope}.x", f"w{n}", f"b{n}"], [f"{scope}.y"], PLAIN),
    ]


states = [("one", [1, C, 1, 1]), ("delay", [1, C, 1, 0]), ("two", [1, C, 1, 1])]
write("decoder.stream", [
    *head,
    *conv("z4", 1, "one"),
    ("Concat", ["delay.state", "z4"], ["delay.seen"], {"axis": 3}),
    ("Shape", ["one.y"], ["y_shape"], {}),
    ("Slice", ["y_shape", "three", "four"], ["known"], {}),
    ("Slice", ["delay.seen", "zero", "known", "three"], ["delay.y"], {}),
    ("Slice", ["delay.seen", "known", "far", "three"], ["delay.next"], {}),
    ("Add", ["one.y", "delay.y"], ["h1"], {}),
    ("LeakyRelu", ["h1"], ["l1"], {"alpha": 0.1}),
    *conv("l1", 2, "two"),
    ("Identity", ["two.y"], ["h2"], {}),
    *tail,
], [("z", F, [1, C, "frames"]), ("last", I, [1])] + [(f"{s}.state", F, [1, C, 1, f"{s}_in"]) for s, _ in states],
    [("output", F, [1, 1, "samples"])] + [(f"{s}.next", F, [1, C, 1, f"{s}_out"]) for s, _ in states],
    init(**common, minus_two=np.array([-2]), far=np.array([2**31 - 1]), zero=np.array([0]), three=np.array([3]),
         four=np.array([4]), batch=np.array([1]), width=np.array([C])),
    look_ahead="3",
    states=json.dumps([{"input": f"{s}.state", "output": f"{s}.next", "shape": shape} for s, shape in states]))
(HERE / "config.json").write_text(json.dumps({
    "audio": {"sample_rate": 8000}, "num_symbols": SYMBOLS, "num_speakers": 1,
    "inference": {"noise_scale": 0.5, "length_scale": 1, "noise_w": 0.8}}) + "\n")
