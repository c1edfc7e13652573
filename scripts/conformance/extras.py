"""What is written only if asked for: durations, weights in half precision."""

import numpy as np
import onnx

from .contract import check_checker
from .ground import F16_TOLERANCE, F32, OPSETS
from .subjects import metadata, session


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
