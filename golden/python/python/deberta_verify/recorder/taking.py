"""Runs a model on an input and takes what it computes: as samples, and whole as long as that is small enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from . import safetensors_file
from .error import RecordError
from .inputs import Arguments
from .loading import Loaded
from .padding import Tokens
from .points import chosen, matches, points
from .samples import Sampled

WHOLE = "deberta-trace-1"
# Outputs that a class has for every layer.
OF_LAYERS = ("outputs.hidden_states.", "outputs.attentions.")


class Taken:
    """What a model computed for an input."""

    def __init__(self, arguments: Arguments, cls: str, limit: int | None) -> None:
        """`limit`: how many bytes of whole tensors are kept at most; more than that, and none are. None: all, and no
        samples."""
        self.arguments, self.tokens, self.limit = arguments, Tokens(arguments, cls), limit
        self.sampled, self.whole, self.bytes = Sampled(), {}, 0

    def add(self, name: str, array: np.ndarray) -> None:
        """Takes a tensor. Raises RecordError for numbers that nothing can be judged by."""
        if not np.isfinite(array).all():
            why = f"{name} has NaN or infinite numbers: by them nothing can be judged. Are the weights finite?"
            raise RecordError(why, tensor=name)
        self.bytes += array.nbytes
        if self.limit is not None:
            self.sampled.add(name, array, self.tokens.flags(name, array.shape))
            if self.bytes > self.limit:
                self.whole.clear()
                return
        self.whole[name] = array

    @property
    def is_whole(self) -> bool:
        """Whether all numbers were kept."""
        return bool(self.whole)

    def whole_trace(self, metadata: Mapping[str, str]) -> bytes:
        """The file of all numbers."""
        tensors = {f"inputs.{key}": value for key, value in self.arguments.items()} | self.whole
        return safetensors_file.to_bytes(tensors, dict(metadata) | {"format": WHOLE})

    def sampled_trace(self, metadata: Mapping[str, str], names: Iterable[str] | None = None) -> bytes:
        """The file of samples, of all tensors or of those named."""
        return self.sampled.to_bytes(self.arguments, metadata, names)


class Wanted:
    """Which tensors are taken: all, or those that patterns name."""

    def __init__(self, loaded: Loaded, patterns: Iterable[str] | None) -> None:
        """Raises RecordError for a pattern that names nothing."""
        self.loaded, self.patterns = loaded, None if patterns is None else list(patterns)
        self.outputs: list[str] | None = None
        if self.patterns is not None:
            if loaded.cls.tensorflow:
                raise RecordError("--points: layers of TensorFlow have no hooks: its goldens have outputs alone")
            self.outputs = [pattern for pattern in self.patterns if pattern.startswith("outputs.")]
            self.patterns = [pattern for pattern in self.patterns if not pattern.startswith("outputs.")]

    def points(self, embedded: bool) -> list[str]:
        """The points that a run has, without `activations.`; `embedded`: given embeddings."""
        known = [] if self.loaded.cls.tensorflow else points(self.loaded.settings, self.loaded.cls, embedded)
        return chosen(self.patterns, known)

    def has_output(self, name: str) -> bool:
        """Whether an output is taken: the class's own ones always."""
        if self.outputs is None or not name.startswith(OF_LAYERS):
            return True
        return any(matches(pattern, name) for pattern in self.outputs)


def take(loaded: Loaded, arguments: Arguments, wanted: Wanted, limit: int | None) -> Taken:
    """What a model computes for an input. Raises RecordError if a point that it should have was not found: then this version
    of transformers has other modules than those that are known."""
    taken, found = Taken(arguments, str(loaded.cls), limit), set()
    names = wanted.points("input_ids" not in arguments)
    listed = {f"activations.{name}" for name in names}

    def add(name: str, array: np.ndarray) -> None:
        found.add(name)
        if name in listed or (name.startswith("outputs.") and wanted.has_output(name)):
            taken.add(name, array)

    if loaded.cls.tensorflow:
        loaded.module.run(loaded.model, arguments, add)
    else:
        loaded.module.run(loaded.model, arguments, add, loaded.settings)
    if lacking := [name for name in listed if name not in found]:
        raise RecordError(
            f"{sorted(lacking)[0]} was not computed: {loaded.module.versions()} is not known to this recorder; take "
            "transformers 4.38 to 5"
        )
    return taken
