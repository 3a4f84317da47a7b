"""Traces of large models as samples and statistics: the format deberta-samples-1 of docs/golden.md. Needs numpy alone."""

import json
import math

import numpy as np
import safetensors_file
from recipe import Stream

FORMAT = "deberta-samples-1"
SAMPLES, PROJECTIONS = 16, 8


# Rows of a table, which know no tokens.
TABLES = ("pos_proj", "pos_q_proj", "pos_key_proj", "pos_query_proj", "position_embeddings")


class Tokens:
    """Which numbers of a tensor belong to tokens and not to padding, as golden/src/trace/padding.rs says."""

    def __init__(self, arguments, cls):
        ids, mask = arguments["input_ids"], arguments.get("attention_mask")
        self.choices = ids.shape[1] if ids.ndim == 3 else None
        ids = ids.reshape(-1, ids.shape[-1])
        self.b, self.n = ids.shape
        self.real = np.ones(ids.shape, bool) if mask is None else mask.reshape(ids.shape) != 0
        self.pooled = cls.endswith(("SequenceClassification", "MultipleChoice"))
        self.with_first = cls == "ReplacedTokenDetectionModel"

    def flags(self, name, shape):
        """A flag for every number, row-major; nothing if all are of tokens."""
        last = name.rpartition(".")[2]
        if self.real.all() or last in TABLES or name.endswith("encoder.LayerNorm"):
            return None
        if self.choices and name == "outputs.logits":
            return self.real[:, 0].copy()
        heads = any(part in name for part in ("pooler", "classifier", "outputs.logits"))
        if self.pooled and heads and shape[0] == self.b:
            part = self.real[:, :1]
        elif self.with_first and (name.startswith("activations.mask_predictions") or name == "outputs.logits"):
            part = self.real & self.real[:, :1]
        elif last in ("c2c", "c2p", "p2c", "scores"):
            part = self.real[:, None, :, None] & self.real[:, None, None, :]
        elif len(shape) == 4:
            part = self.real[:, None, :, None]
        elif name.endswith("encoder.conv.conv"):
            part = self.real[:, None, :]
        elif shape[:2] == (self.b, self.n):
            part = self.real
        else:
            return None
        part = part.reshape(part.shape + (1,) * (len(shape) - part.ndim))
        return np.broadcast_to(part, shape).reshape(-1)


def positions(name, count):
    """Where the samples of a tensor are: one in each of 16 equal parts."""
    if count <= SAMPLES:
        return np.arange(count)
    starts = np.arange(SAMPLES + 1) * count // SAMPLES
    words = Stream(0, name).words(0, SAMPLES)
    return starts[:-1] + (words % np.diff(starts).astype(np.uint64)).astype(np.int64)


def signs(name, count):
    """1 or -1 for every number of a tensor."""
    words = Stream(0, name).words(SAMPLES, math.ceil(count / 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=count, bitorder="little")
    return 1.0 - 2.0 * bits


def sampled(name, array, flags):
    """The samples of a tensor, and the statistics of its tokens: mean, root mean square, largest magnitude, projections."""
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    samples = np.zeros(SAMPLES, np.float32)
    places = positions(name, flat.size)
    samples[: places.size] = flat[places]
    wide = flat.astype(np.float64)
    if flags is not None:
        wide *= flags
    count = max(flat.size if flags is None else int(flags.sum()), 1)
    signed = wide * signs(name, flat.size)
    projections = [signed[k::PROJECTIONS].sum() for k in range(PROJECTIONS)]
    largest = abs(wide).max(initial=0.0)
    statistics = [wide.sum() / count, math.sqrt(wide @ wide / count), largest, *projections]
    return samples, np.array(statistics, np.float32)


class Recorder:
    """Takes tensors one after the other and keeps of each what its file will hold."""

    def __init__(self, arguments, cls):
        self.arguments, self.tokens = arguments, Tokens(arguments, cls)
        self.shapes, self.samples, self.statistics = {}, {}, {}

    def add(self, name, array):
        assert np.isfinite(array).all(), f"{name} is not finite"
        flags = self.tokens.flags(name, array.shape)
        self.shapes[name] = list(array.shape)
        self.samples[name], self.statistics[name] = sampled(name, array, flags)

    def write(self, path, metadata):
        names = sorted(self.shapes)
        tensors = {f"inputs.{key}": value for key, value in self.arguments.items()}
        tensors["samples"] = np.stack([self.samples[name] for name in names])
        tensors["statistics"] = np.stack([self.statistics[name] for name in names])
        shapes = json.dumps([[name, self.shapes[name]] for name in names], separators=(",", ":"))
        safetensors_file.write(path, tensors, {"format": FORMAT, "tensors": shapes} | metadata)
