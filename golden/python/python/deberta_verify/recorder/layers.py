"""Short traces that are whole, for a golden that has samples otherwise: from them the cause of a difference can be told.

One is of the base model, with the states between its layers; under a head it is a trace of the class without one. The other
one is of the head: the last state, and what the class returns. Neither has a point under a name that differs first in a
trace of samples, so that both are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from .classes import BASE, CHOICE, MASKED_LM
from .inputs import Arguments, few
from .loading import Loaded
from .points import points, states
from .taking import Taken, Wanted, take

LAYERS, HEAD = "layers.safetensors", "head.safetensors"
# Tokens of the texts: enough that attention has a choice, and so few that other points than states have room.
MOST_TOKENS, ENOUGH_TOKENS, FEWEST_TOKENS = 16, 8, 3
MOST_OF_HEAD = 4
# Bytes of names, shapes and metadata for a tensor.
OF_TENSOR = 200
LAST = "outputs.last_hidden_state"


@dataclass(frozen=True)
class Whole:
    """A whole trace."""

    data: bytes
    metadata: dict[str, str]


def record(loaded: Loaded, metadata: dict[str, str], left: int) -> dict[str, Whole]:
    """The traces by the names of their files, in so many bytes; what does not fit is not there."""
    found: dict[str, Whole] = {}
    if loaded.cls.head != BASE and (head := of_head(loaded, metadata, left * 2 // 3)) is not None:
        found[HEAD] = head
        left -= len(head.data)
    if (layers := of_layers(loaded, metadata, left)) is not None:
        found[LAYERS] = layers
    return found


def of_head(loaded: Loaded, metadata: dict[str, str], left: int) -> Whole | None:
    """The last state of a few tokens, and what the class returns."""
    settings, cls = loaded.settings, loaded.cls
    outputs = settings.vocab_size if cls.head == MASKED_LM else 2
    of_token = 4 * (settings.hidden_size + outputs) * (2 if cls.head == CHOICE else 1)
    n = min((left - 10 * OF_TENSOR) // of_token, MOST_OF_HEAD)
    if n < 1:
        return None
    arguments = few(settings, cls, n)
    last = states(settings, cls)[-1]
    taken = take(loaded, arguments, Wanted(loaded, [last]), None)
    return Whole(taken.whole_trace(metadata | {"points": last}), metadata)


def of_layers(loaded: Loaded, metadata: dict[str, str], left: int) -> Whole | None:
    """The states between the layers, or all points of the base model if there is room."""
    settings, cls = loaded.settings, loaded.cls
    longest = min(MOST_TOKENS, settings.positions) if settings.position_biased else MOST_TOKENS
    kept = states(settings, cls)
    if cls.head != BASE and (n := min(ENOUGH_TOKENS, longest)) >= FEWEST_TOKENS:
        everything = [name for name in points(settings, cls) if name.startswith(cls.prefix)]
        rich = of_base(loaded, few(settings, cls, n), everything, metadata)
        if len(rich.data) <= left:
            return rich
    of_token = 4 * settings.hidden_size * (len(kept) + 1)
    n = min((left - OF_TENSOR * (len(kept) + 4)) // max(of_token, 1), longest)
    if n < FEWEST_TOKENS:
        return None
    return of_base(loaded, few(settings, cls, n), kept, metadata)


def of_base(loaded: Loaded, arguments: Arguments, kept: list[str], metadata: dict[str, str]) -> Whole:
    """The trace of the base model with these points. One of a class without a head has them as its hidden states."""
    cls, known = loaded.cls, states(loaded.settings, loaded.cls)
    taken = take(loaded, arguments, Wanted(loaded, kept), None)
    if cls.head == BASE:
        trace = Taken(arguments, str(cls), None)
        for i, name in enumerate(known):
            trace.add(f"outputs.hidden_states.{i}", taken.whole[f"activations.{name}"])
        trace.add(LAST, taken.whole[LAST])
        return Whole(trace.whole_trace(metadata), metadata)
    flat = {key: value.reshape(-1, value.shape[-1]) for key, value in arguments.items()}
    trace = Taken(flat, str(cls.base), None)
    for name in kept:
        trace.add(f"activations.{name.removeprefix(cls.prefix)}", taken.whole[f"activations.{name}"])
    trace.add(LAST, taken.whole[f"activations.{known[-1]}"])
    said = metadata | {"class": str(cls.base)}
    if kept == known:
        said["points"] = " ".join(name.removeprefix(cls.prefix) for name in kept)
    return Whole(trace.whole_trace(said), said)
