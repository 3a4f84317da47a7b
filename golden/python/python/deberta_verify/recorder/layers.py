"""A trace of the base model with the states between the layers in whole: little enough for a golden of a megabyte, and from
it the cause of a difference can be told. Under a head it is a trace of the class without one, whose outputs are no logits
of 100,000 words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .inputs import few
from .loading import Loaded
from .points import states
from .taking import Taken, Wanted, take

FILE_NAME = "layers.safetensors"
# Tokens of the text: enough that attention has a choice, and so few that other things than states have room.
MOST_TOKENS, FEWEST_TOKENS = 16, 3
# Bytes of names, shapes and metadata for a tensor.
OF_HEADER = 150


@dataclass(frozen=True)
class Layers:
    """The trace."""

    data: bytes
    metadata: dict[str, str]


def record(loaded: Loaded, metadata: dict[str, str], left: int) -> Layers | None:
    """The trace, in so many bytes; None if it would be too short."""
    settings, cls = loaded.settings, loaded.cls
    kept = states(settings, cls)
    of_token = 4 * settings.hidden_size * (len(kept) + 1)
    n = min((left - OF_HEADER * (len(kept) + 4)) // max(of_token, 1), MOST_TOKENS)
    if settings.position_biased:
        n = min(n, settings.positions)
    if n < FEWEST_TOKENS:
        return None
    arguments = few(settings, cls, n)
    taken = take(loaded, arguments, Wanted(loaded, kept), None)
    base = {key: value.reshape(-1, value.shape[-1]) for key, value in arguments.items()}
    trace, names = Taken(base, str(cls.base), None), []
    for name in kept:
        short = name.removeprefix(cls.prefix)
        trace.add(f"activations.{short}", taken.whole[f"activations.{name}"])
        names.append(short)
    trace.add("outputs.last_hidden_state", np.array(taken.whole[f"activations.{kept[-1]}"]))
    known = metadata | {"class": str(cls.base), "points": " ".join(names)}
    return Layers(trace.whole_trace(known), known)
