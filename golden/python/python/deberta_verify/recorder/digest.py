"""The weight digest of docs/formats/digest.md: the one that `deberta-convert digest` prints."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .blake3 import hexdigest
from .error import RecordError
from .settings import Settings

# The decoder of masked language modelling, and what it repeats if it is tied.
DECODER = {
    "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def digest_line(name: str, array: np.ndarray) -> str:
    """The line of a parameter: its canonical name, and BLAKE3 over its number of axes, its shape and its f32 numbers."""
    shape = np.array([array.ndim, *array.shape], "<u8").tobytes()
    data = np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8)
    return f"{name} {hexdigest(data, shape)}\n"


def digest_of(lines: Iterable[str]) -> str:
    """The digest of a model from the lines of its parameters."""
    return hexdigest("".join(sorted(lines)).encode())


def digest(parameters: Iterable[tuple[str, np.ndarray]], settings: Settings) -> str:
    """The digest of a model from its parameters by canonical name, one after the other. Second names of a parameter count
    once. Raises RecordError if one differs from its first name."""
    lines = {name: digest_line(name, array) for name, array in parameters}
    for second, first in DECODER.items():
        if second not in lines or (second.endswith("weight") and not settings.tied):
            continue
        got, want = lines.pop(second).split()[1], lines[first].split()[1]
        if got != want:
            raise RecordError(
                f"{second} differs from {first}, which it repeats (tie_word_embeddings is true): call model.tie_weights(), or "
                "set tie_word_embeddings to false in its configuration",
                tensor=second, want=want, got=got,
            )  # fmt: skip
    return digest_of(lines.values())
