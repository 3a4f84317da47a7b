"""Texts to tokens, as transformers' tokenizers make them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Union

from . import _native
from .arguments import PathLike
from .errors import RequestError

if TYPE_CHECKING:
    import numpy as np

Texts = Union[str, Sequence[str]]


class Tokenizer:
    """The tokenizer of a folder. It starts no threads, and works in a process that was forked."""

    def __init__(self, native: _native.Tokenizer) -> None:
        self._native = native

    @classmethod
    def load(cls, folder: PathLike, *, revision: str | None = None, slow: bool = False) -> Tokenizer:
        """Reads that of a folder, or of an id of the hub, without the weights there: the fast class, or the slow one."""
        return cls(_native.Tokenizer.load(os.fspath(folder), revision=revision, slow=slow))

    def __call__(
        self,
        text: Texts,
        pair: Texts | None = None,
        *,
        padding: str | bool = "longest",
        truncation: str | bool | None = None,
        max_length: int | None = None,
        add_special_tokens: bool = True,
    ) -> dict[str, np.ndarray]:
        """`input_ids`, `token_type_ids` and `attention_mask` [b, n] of a text, a pair, or lists of them, for `model(**inputs)`.

        Args:
            padding: `longest`, or `max_length`.
            truncation: `longest_first`, `only_first`, `only_second` or False; longest_first if there is a max_length.
        """
        import numpy as np

        texts = [text] if isinstance(text, str) else list(text)
        pairs: list[str | None]
        pairs = [None] * len(texts) if pair is None else [pair] if isinstance(pair, str) else list(pair)
        if len(texts) != len(pairs):
            why = f"pair: {len(pairs)} texts, expected {len(texts)}, as many as there are first ones"
            raise RequestError(why, kind="request", tensor="pair", want=len(texts), got=len(pairs))
        if truncation is None:
            truncation = max_length is not None
        cut = truncation if isinstance(truncation, str) else "longest_first" if truncation else "do_not_truncate"
        fill = padding if isinstance(padding, str) else "longest" if padding else None
        encoded = self._native.encode(list(zip(texts, pairs)), fill, cut, max_length, add_special_tokens)
        if len({len(ids) for ids, _, _ in encoded}) > 1:
            lengths = [len(ids) for ids, _, _ in encoded]
            raise RequestError(f"the sequences have lengths {lengths}: padding='longest' makes an array", kind="request")
        names = ("input_ids", "token_type_ids", "attention_mask")
        return {name: np.array(lists, dtype=np.int64) for name, lists in zip(names, zip(*encoded))}

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, without special ones, as the vocabulary spells them."""
        return self._native.tokenize(text)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        return self._native.decode([int(each) for each in ids], skip_special_tokens=skip_special_tokens)

    @property
    def mask_token_id(self) -> int | None:
        """The id of `[MASK]`, if there is one."""
        return self._native.mask_token_id

    @property
    def pad_token_id(self) -> int:
        """The id of `[PAD]`."""
        return self._native.pad_token_id

    def __len__(self) -> int:
        return len(self._native)
