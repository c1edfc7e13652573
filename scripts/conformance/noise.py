"""Draws of noise: too few, seeded, and their statistics when the graph draws them."""

import numpy as np

from .ground import RANDOM_OPS
from .subjects import sha256


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
