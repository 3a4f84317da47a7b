"""Texts, and what a tokenizer makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .classes import CHOICE, ModelClass
from .error import RecordError
from .inputs import MOST_TOKENS, Arguments, for_class
from .settings import Settings
from .weights import finder

Text = tuple[str, ...]

# The file of a golden with texts and their tokens: golden/src/tokens/recorded.rs.
FILE_NAME = "tokenizer.jsonl"
# Any of these is a vocabulary.
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spm.model")
# Sequences of one trace, and of all of them.
AT_ONCE, MOST = 8, 64
# Of a file with texts: 64 of the longest.
MOST_BYTES = 64 << 20
# What is recorded of a model with a tokenizer if no texts are given: words known and unknown, cases, digits, a pair.
DEFAULT: list[Text] = [
    ("The quick brown fox jumps over the lazy dog.",),
    ("Ada Lovelace wrote 2 programs in 1843, didn't she?",),
    ("unbelievably  xylophonic  ANTIDISESTABLISHMENT",),
    ("Where does Ada live?", "Ben likes honey. Ada lives in Selby."),
]


@dataclass(frozen=True)
class Tokenized:
    """A text or a pair of them, and its tokens."""

    text: Text
    ids: list[int]
    """With [CLS] and [SEP]."""
    tokens: list[str]
    """As the vocabulary spells them."""
    types: list[int]
    offsets: list[tuple[int, int]] | None
    """Start and end of every token in its text, in characters; (0, 0) of special tokens. Slow tokenizers have none."""

    def line(self) -> str:
        """The line of tokenizer.jsonl: docs/golden.md."""
        pair = {"text_pair": self.text[1]} if len(self.text) > 1 else {}
        tokens = {"ids": self.ids, "tokens": self.tokens, "type_ids": self.types, "offsets": self.offsets}
        known = {"text": self.text[0]} | pair | {key: value for key, value in tokens.items() if value is not None}
        return json.dumps(known, ensure_ascii=False) + "\n"


def read(path: Path) -> list[Text]:
    """The texts of a file: a line each, a tab between the two of a pair; of a file .jsonl the fields text and pair. A pipe will
    do, too, of which no more is read than texts may have."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            why = f"--texts {path}: more than {MOST_BYTES} bytes: a golden needs few texts, and different ones"
            raise RecordError(why, file=str(path), want=MOST_BYTES)
        lines = content.decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"--texts {path}: {error}", file=str(path)) from error
    found: list[Text] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if path.suffix == ".jsonl":
            try:
                row = json.loads(line)
                parts = [row["text"], *([] if row.get("pair") is None else [row["pair"]])]
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise RecordError(f'--texts {path}: line {number}: expected {{"text": …, "pair": …}}: {error}') from error
        else:
            parts = line.removesuffix("\r").split("\t")
        if len(parts) > 2 or not all(isinstance(part, str) for part in parts):
            raise RecordError(f"--texts {path}: line {number}: expected one text, or two with a tab between them")
        found.append(tuple(parts))
    if not found:
        raise RecordError(f"--texts {path}: no text")
    return found


def given(texts: Iterable[str | Sequence[str]]) -> list[Text]:
    """Texts as they are given to `record`: strings, and pairs of them."""
    found = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    for text in found:
        if not 1 <= len(text) <= 2 or not all(isinstance(part, str) for part in text):
            raise RecordError(f"texts: expected strings and pairs of strings, found {text!r}")
    if not 1 <= len(found) <= MOST:
        why = f"texts: {len(found)}, expected 1 to {MOST}: a golden needs few, and different ones"
        raise RecordError(why, tensor="texts", want=MOST, got=len(found))
    return found


def load_tokenizer(place: str) -> Any:
    """The tokenizer of a folder or an id of the hub. Raises RecordError if there is none: transformers 5 makes one of five
    words then."""
    import transformers

    find = finder(place)
    if not any(find(name) for name in TOKENIZER_FILES):
        raise RecordError(f"{place}: no tokenizer there ({', '.join(TOKENIZER_FILES)}): name its folder by --tokenizer")
    try:
        return transformers.AutoTokenizer.from_pretrained(place)
    except Exception as error:  # transformers raises whatever its parts do
        message = str(error).strip().split("\n")[0]
        raise RecordError(f"{place}: no tokenizer that transformers can load: {message}") from error


def tokenize(tokenizer: Any, texts: Iterable[Text]) -> list[Tokenized]:
    """The tokens of every text, not cut and not padded."""
    found = []
    for text in texts:
        fast = bool(getattr(tokenizer, "is_fast", False))
        encoding = tokenizer(*text, return_token_type_ids=True, return_offsets_mapping=fast)
        ids = [int(id) for id in encoding["input_ids"]]
        if len(ids) > MOST_TOKENS:
            why = f"a text of {len(ids)} tokens, expected up to {MOST_TOKENS}: {text[0][:40]!r}…"
            raise RecordError(why, tensor="texts", want=MOST_TOKENS, got=len(ids))
        offsets = [(int(start), int(end)) for start, end in encoding["offset_mapping"]] if fast else None
        tokens = tokenizer.convert_ids_to_tokens(ids)
        found.append(Tokenized(text, ids, tokens, [int(kind) for kind in encoding["token_type_ids"]], offsets))
    return found


def batches(tokenized: list[Tokenized], pad: int, settings: Settings, cls: ModelClass) -> dict[str, Arguments]:
    """Arguments of `forward` by the name of the input: some texts at a time, padded on the right with the id `pad`. Of
    multiple choice all are the choices of one question."""
    step = len(tokenized) if cls.head == CHOICE else AT_ONCE
    found = {}
    for first in range(0, len(tokenized), step):
        some = tokenized[first : first + step]
        longest = max(len(text.ids) for text in some)

        def padded(rows: list[list[int]], value: int, longest: int = longest) -> np.ndarray:
            return np.array([row + [value] * (longest - len(row)) for row in rows], np.int64)

        arguments = {"input_ids": padded([text.ids for text in some], pad)}
        arguments["attention_mask"] = padded([[1] * len(text.ids) for text in some], 0)
        if settings.token_types > 1:
            arguments["token_type_ids"] = padded([text.types for text in some], 0)
        name = "texts" if len(tokenized) <= step else f"texts-{first // step + 1}"
        found[name] = for_class(arguments, cls)
    return found
