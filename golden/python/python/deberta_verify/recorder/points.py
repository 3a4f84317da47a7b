"""The points of a model that hooks on its modules find: the names of docs/activations.md, as golden/src/trace/points.rs has
them. Every module of a model is one of these, or known to be none: anything else is refused, since a golden must not name
what it does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from .classes import ANSWERS, CHOICE, MASKED_LM, SEQUENCE, TOKENS, ModelClass
from .error import RecordError
from .settings import Settings

Condition = Callable[[Settings], bool]


def always(_settings: Settings) -> bool:
    return True


# Path and condition, in the order of execution.
EMBEDDINGS: list[tuple[str, Condition]] = [
    ("embeddings.position_embeddings", lambda s: s.position_biased),
    ("embeddings.token_type_embeddings", lambda s: s.token_types > 0),
    ("embeddings.embed_proj", lambda s: s.embedding_size != s.hidden_size),
    ("embeddings.LayerNorm", always),
    ("embeddings", always),
    ("encoder.LayerNorm", lambda s: s.norm_rel_ebd and s.relative),
]
WORDS = "embeddings.word_embeddings"
LAYER: list[tuple[str, Condition]] = [
    ("attention.self.in_proj", lambda s: not s.version_2),
    ("attention.self.query_proj", lambda s: s.version_2),
    ("attention.self.key_proj", lambda s: s.version_2),
    ("attention.self.value_proj", lambda s: s.version_2),
    ("attention.self.pos_proj", lambda s: not s.version_2 and "c2p" in s.terms),
    ("attention.self.pos_q_proj", lambda s: not s.version_2 and "p2c" in s.terms),
    ("attention.self.pos_key_proj", lambda s: s.version_2 and "c2p" in s.terms),
    ("attention.self.pos_query_proj", lambda s: s.version_2 and "p2c" in s.terms),
    ("attention.self.head_logits_proj", lambda s: s.talking_head),
    ("attention.self.head_weights_proj", lambda s: s.talking_head),
    ("attention.self", always),
    ("attention.output.dense", always),
    ("attention.output.LayerNorm", always),
    ("attention.output", always),
    ("attention", always),
    ("intermediate.dense", always),
    ("intermediate", always),
    ("output.dense", always),
    ("output.LayerNorm", always),
    ("output", always),
    ("", always),
]
CONVOLUTION = ["encoder.conv.conv", "encoder.conv.LayerNorm", "encoder.conv"]
LEGACY_LM = ["transform.dense", "transform.LayerNorm", "transform", "decoder"]
LEGACY_LM = [f"cls.predictions.{part}" for part in LEGACY_LM] + ["cls.predictions", "cls"]
NEW_LM = [f"lm_predictions.lm_head{part}" for part in (".dense", ".LayerNorm", "")] + ["lm_predictions"]
POOLED = ["pooler.dense", "pooler", "classifier"]
# What is in the points of a layer twice: the same numbers are at another point, or among the outputs.
REPEATED = ("attention.output.LayerNorm", "attention.output", "output.LayerNorm", "output")

# Containers, and what the model itself returns; of transformers up to 4.46, a dropout of its own.
SILENT = ("Dropout", "StableDropout", "ModuleList", "ModuleDict")
SILENT += ("DebertaEncoder", "DebertaModel", "DebertaV2Encoder", "DebertaV2Model")
# With share_att_key these layers are called twice, first with the states and then with the table of positions: the name
# of the second activation, and the term that uses it.
OF_POSITIONS = {"key_proj": ("pos_key_proj", "c2p"), "query_proj": ("pos_query_proj", "p2c")}


def of_head(head: str, legacy: bool) -> list[str]:
    """The points of a head."""
    if head == MASKED_LM:
        return LEGACY_LM if legacy else NEW_LM
    return {SEQUENCE: POOLED, CHOICE: POOLED, TOKENS: ["classifier"], ANSWERS: ["qa_outputs"]}.get(head, [])


def points(settings: Settings, cls: ModelClass, embedded: bool = False) -> list[str]:
    """The points of a class in the order of execution, without `activations.`; `embedded`: given embeddings, not ids."""
    names = [] if embedded else [WORDS]
    names += [path for path, when in EMBEDDINGS if when(settings)]
    for i in range(settings.layers):
        paths = [path for path, when in LAYER if when(settings)]
        names += [f"encoder.layer.{i}.{path}".rstrip(".") for path in paths]
        if i == 0 and settings.kernel:
            names += CONVOLUTION
    return [cls.prefix + name for name in names] + of_head(cls.head, settings.legacy)


def states(settings: Settings, cls: ModelClass) -> list[str]:
    """The points of the states before, between and after the layers: embeddings, and every layer; the first one's is behind
    the convolution."""
    layers = [f"{cls.prefix}encoder.layer.{i}" for i in range(settings.layers)]
    if settings.kernel and layers:
        layers[0] = f"{cls.prefix}encoder.conv"
    return [f"{cls.prefix}embeddings", *layers]


def is_silent(path: str, type_name: str) -> bool:
    """Whether a module is no point: a container, a dropout, an activation function."""
    return path == "" or type_name in SILENT or path.endswith("act_fn")


def name_of_call(path: str, call: int, settings: Settings) -> str | None:
    """The point of the first or second call of a module in one run; None if the second one is of no use. Raises RecordError
    for calls that no version of transformers makes."""
    if call == 1:
        return path
    place, _, layer = path.rpartition(".")
    if call > 2 or layer not in OF_POSITIONS or not settings.share_att_key:
        raise RecordError(f"{path} is called {call} times in one run: is the model wrapped? Record the model itself")
    named, term = OF_POSITIONS[layer]
    return f"{place}.{named}" if term in settings.terms else None


def chosen(patterns: Iterable[str] | None, known: list[str]) -> list[str]:
    """The points that a pattern names, `*` for any text, with or without `activations.`; all without patterns. Raises
    RecordError for a pattern that names none."""
    if patterns is None:
        return known
    patterns = [pattern.removeprefix("activations.") for pattern in patterns]
    for pattern in patterns:
        if not any(matches(pattern, name) for name in known):
            example = known[len(known) // 2]
            raise RecordError(
                f"--points {pattern}: the model has no such point; they are named as {example}, with * for any text. Terms "
                "inside of the attention (c2c, c2p, p2c, scores, probs) are no module's, and cannot be recorded"
            )
    return [name for name in known if any(matches(pattern, name) for pattern in patterns)]


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern, in which `*` stands for any text and nothing else is special."""
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))
