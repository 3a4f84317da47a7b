"""Traces as samples and statistics: the format deberta-samples-1 of docs/golden.md, the same numbers as
golden/src/trace/samples.rs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping

import numpy as np

from . import safetensors_file
from .stream import Stream

FORMAT = "deberta-samples-1"
SAMPLES, PROJECTIONS = 16, 8
STATISTICS = 3 + PROJECTIONS
# Numbers that statistics are computed of at a time, so that they stay in a cache. A multiple of 64, with which a word of
# signs starts, and of the projections. Sums are in f64 and stored in f32, so that their order does not show.
CHUNK = 1 << 17


def positions(name: str, count: int) -> np.ndarray:
    """Where the samples of a tensor are: one in each of 16 equal parts."""
    if count <= SAMPLES:
        return np.arange(count)
    starts = np.arange(SAMPLES + 1) * count // SAMPLES
    words = Stream(0, name).words(0, SAMPLES)
    return starts[:-1] + (words % np.diff(starts).astype(np.uint64)).astype(np.int64)


def signs(stream: Stream, first: int, count: int) -> np.ndarray:
    """The bits that change the sign of an f64 where projections take a number times -1: of `count` numbers of a tensor from
    the place `first` on, a multiple of 64."""
    words = stream.words(SAMPLES + first // 64, math.ceil(count / 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=count, bitorder="little").astype(np.uint64)
    bits <<= np.uint64(63)
    return bits


def sampled(name: str, array: np.ndarray, flags: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The samples of a tensor [16], and the statistics of its tokens [11]: mean, root mean square, largest magnitude,
    projections. `flags` has a flag for every number, whether it is of tokens; all are if it is None."""
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    samples = np.zeros(SAMPLES, np.float32)
    places = positions(name, flat.size)
    samples[: places.size] = flat[places]
    stream = Stream(0, name)
    total, squares, largest, projections = 0.0, 0.0, 0.0, np.zeros(PROJECTIONS)
    for first in range(0, flat.size, CHUNK):
        wide = flat[first : first + CHUNK].astype(np.float64)
        if flags is not None:
            wide *= flags[first : first + CHUNK]
        total += wide.sum()
        squares += wide @ wide
        largest = max(largest, wide.max(), -wide.min())
        wide.view(np.uint64)[:] ^= signs(stream, first, wide.size)
        rest = wide.size % PROJECTIONS
        projections += wide[: wide.size - rest].reshape(-1, PROJECTIONS).sum(0)
        projections[:rest] += wide[wide.size - rest :]
    count = max(flat.size if flags is None else int(flags.sum()), 1)
    statistics = [total / count, math.sqrt(squares / count), largest, *projections]
    return samples, np.array(statistics, np.float32)


class Sampled:
    """What a sampled trace has of its tensors, by their names."""

    def __init__(self) -> None:
        self.shapes: dict[str, list[int]] = {}
        self.rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, name: str, array: np.ndarray, flags: np.ndarray | None) -> None:
        """Adds a tensor."""
        self.shapes[name] = list(array.shape)
        self.rows[name] = sampled(name, array, flags)

    def to_bytes(
        self, inputs: Mapping[str, np.ndarray], metadata: Mapping[str, str], names: Iterable[str] | None = None
    ) -> bytes:
        """The file of these tensors, or of those named, and of the inputs."""
        names = sorted(self.shapes if names is None else names)
        tensors = {f"inputs.{key}": value for key, value in inputs.items()}
        for table, (part, width) in {"samples": (0, SAMPLES), "statistics": (1, STATISTICS)}.items():
            rows = [self.rows[name][part] for name in names]
            tensors[table] = np.stack(rows) if rows else np.zeros((0, width), np.float32)
        shapes = json.dumps([[name, self.shapes[name]] for name in names], separators=(",", ":"))
        return safetensors_file.to_bytes(tensors, {"format": FORMAT, "tensors": shapes} | dict(metadata))
