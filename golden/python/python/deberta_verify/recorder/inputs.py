"""Inputs that make a model use all that it has: every row of the table of relative positions that its texts can need, every
token type, every absolute position, padding on all sides, several sequences at once. The same ids on every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import safetensors_file
from .classes import CHOICE, ModelClass
from .error import RecordError
from .settings import Settings
from .stream import Stream

Arguments = dict[str, np.ndarray]

SEED = 1
# Ids below are special in the published vocabularies.
SPECIAL = 5
# Texts of more tokens are not made: their attention would take gigabytes.
MOST_TOKENS = 1024
# Spans up to here are met one token below, at and above; longer ones at the span and well above.
SHORT_SPAN = 64
KNOWN = {
    "input_ids": "i",
    "inputs_embeds": "f",
    "attention_mask": "if",
    "token_type_ids": "i",
    "position_ids": "i",
    "labels": "if",
    "start_positions": "i",
    "end_positions": "i",
}


def covering(settings: Settings, cls: ModelClass) -> dict[str, Arguments]:
    """Arguments of `forward` by the name of the input: ids [b, n], for multiple choice [1, b, n]."""
    made: dict[str, Arguments] = {}
    for n in lengths(settings):
        made[f"n{n}"] = {"input_ids": ids(f"n{n}", 1, n, settings)}
    longest = settings.positions if settings.position_biased else MOST_TOKENS
    n = min(20, longest)
    mask = np.ones((3, n), np.int64)
    mask[0, n - n // 3 :] = 0
    mask[1, : n // 4] = 0
    mask[2, n // 2 : n // 2 + n // 5] = 0
    made["padded"] = {"input_ids": ids("padded", 3, n, settings) * mask, "attention_mask": mask}
    if settings.token_types:
        n = min(max(8, settings.token_types), longest)
        rows = -(-settings.token_types // n) + 1
        types = (np.arange(rows * n) % settings.token_types).reshape(rows, n)
        made["types"] = {"input_ids": ids("types", rows, n, settings), "token_type_ids": types}
    if settings.position_biased:
        n = min(8, longest)
        places = np.arange(settings.positions)[::-1][:n][None].copy()
        made["positions"] = {"input_ids": ids("positions", 1, n, settings), "position_ids": places}
    return {name: for_class(arguments, cls) for name, arguments in made.items()}


def lengths(settings: Settings) -> list[int]:
    """Lengths of texts: a token, a few, as many as the span of relative positions and the table of absolute ones have, and
    more where the model takes more."""
    span, positions = settings.span if settings.terms else 1, settings.positions
    around = [span - 1, span, span + 1] if span <= SHORT_SPAN else [span, span + span // 16]
    longest = min(positions, MOST_TOKENS) if settings.position_biased else MOST_TOKENS
    wanted = {1, 8, *around, min(positions, MOST_TOKENS)} if settings.position_biased or settings.terms else {1, 8}
    return sorted(n for n in wanted if 1 <= n <= longest)


def uncovered(settings: Settings) -> str | None:
    """What no input can reach, in words."""
    needed = max(settings.span if settings.terms else 0, settings.positions if settings.position_biased else 0)
    if needed <= MOST_TOKENS:
        return None
    return f"distances and positions beyond {MOST_TOKENS} of {needed} are not tested: record longer inputs by --inputs"


def few(settings: Settings, cls: ModelClass, n: int) -> Arguments:
    """One sequence of n tokens."""
    return for_class({"input_ids": ids(f"few{n}", 1, n, settings)}, cls)


def ids(name: str, b: int, n: int, settings: Settings) -> np.ndarray:
    """Token ids [b, n] without those that are special, as far as the vocabulary has others."""
    first = SPECIAL if settings.vocab_size > 2 * SPECIAL else 0
    words = Stream(SEED, f"inputs/{name}").words(0, b * n)
    return (first + words % np.uint64(settings.vocab_size - first)).astype(np.int64).reshape(b, n)


def for_class(arguments: Arguments, cls: ModelClass) -> Arguments:
    """Arguments [b, n] as the class takes them: of multiple choice the rows are choices of one question, [1, b, n]."""
    return {key: value[None] for key, value in arguments.items()} if cls.head == CHOICE else arguments


def of_trace(path: Path) -> Arguments:
    """The inputs of a trace, whole or sampled, or of any safetensors file with tensors `inputs.<argument>`. Raises
    RecordError for what no class takes."""
    try:
        tensors = safetensors_file.read(path)[0]
    except (OSError, ValueError) as error:
        raise RecordError(f"--inputs {path}: {error}") from error
    given = {name.removeprefix("inputs."): np.array(array) for name, array in tensors.items() if name.startswith("inputs.")}
    if not {"input_ids", "inputs_embeds"} & set(given):
        raise RecordError(f"--inputs {path}: neither inputs.input_ids nor inputs.inputs_embeds is there: not a trace")
    for name, array in given.items():
        if array.dtype.kind not in KNOWN.get(name, ""):
            known = ", ".join(KNOWN)
            why = f"--inputs {path}: inputs.{name} of {array.dtype}: no class takes it. Known are {known}"
            raise RecordError(why, file=str(path), tensor=f"inputs.{name}", got=str(array.dtype))
    return given


def check(name: str, arguments: Arguments, settings: Settings) -> None:
    """Checks that the model can be given an input. Raises RecordError for ids beyond the vocabulary, and for texts that are
    longer than the model takes."""
    given = arguments.get("input_ids")
    if given is not None and (given.min(initial=0) < 0 or given.max(initial=0) >= settings.vocab_size):
        wrong = given.max() if given.max() >= settings.vocab_size else given.min()
        raise RecordError(
            f"{name}: token id {wrong}, and the model has {settings.vocab_size} words: are tokenizer and model of one kind?",
            tensor="input_ids", want=settings.vocab_size, got=int(wrong),
        )  # fmt: skip
    tokens = given if given is not None else arguments["inputs_embeds"][..., 0]
    if settings.position_biased and tokens.shape[-1] > settings.positions:
        count = tokens.shape[-1]
        why = f"{name}: {count} tokens, and the model has {settings.positions} positions"
        raise RecordError(why, tensor="input_ids", want=settings.positions, got=count)
    types = arguments.get("token_type_ids")
    if types is not None and settings.token_types and types.max(initial=0) >= settings.token_types:
        why = f"{name}: token type {types.max()}, and the model has {settings.token_types}"
        raise RecordError(why, tensor="token_type_ids", want=settings.token_types, got=int(types.max()))
