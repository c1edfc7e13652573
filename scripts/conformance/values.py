"""Values of a pair against PyTorch's: utterances, items of batches, speakers."""

import numpy as np

from .ground import TOLERANCE
from .subjects import metadata


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
