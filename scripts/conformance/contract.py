"""Names, types, shapes and metadata of the files, and what onnx.checker says of them."""

import onnx

from .ground import F32, I64, RANDOM_OPS
from .subjects import metadata

PAIR_METADATA = (
    "sample_rate",
    "n_speakers",
    "hop_length",
    "receptive_field",
    "inter_channels",
    "pair_id",
    "vitstream_version",
)


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
