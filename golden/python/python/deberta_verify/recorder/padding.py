"""Which numbers of a tensor belong to tokens and which to padding: what golden/src/trace/padding.rs says. Statistics of
samples are of tokens alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Rows of a table, which know no tokens.
TABLES = ("pos_proj", "pos_q_proj", "pos_key_proj", "pos_query_proj", "position_embeddings")
# [b, h, n, n], whose numbers need their query and their key; heads last: [b, n, n, h].
PAIRS = ("c2c", "c2p", "p2c", "scores")
PAIRS_HEADS_LAST = "head_logits_proj"


class Tokens:
    """The tokens of some arguments of a class."""

    def __init__(self, arguments: Mapping[str, np.ndarray], cls: str) -> None:
        """`arguments` are those of `forward` by name; `cls` is the class, `TF…` for TensorFlow's."""
        self.cls = cls.removeprefix("TF")
        embedded = "input_ids" not in arguments
        tokens = arguments["inputs_embeds"][..., 0] if embedded else arguments["input_ids"]
        # Of multiple choice [questions, choices, n]: every choice is a sequence.
        self.choices = tokens.shape[1] if tokens.ndim == 3 else None
        self.b, self.n = tokens.reshape(-1, tokens.shape[-1]).shape
        mask = arguments.get("attention_mask")
        if mask is None:
            self.real = np.ones((self.b, self.n), bool)
        else:
            # [b, n]: a token or none. [b, n, n]: a query that may attend to some key, or to none.
            pairs = self.choices is None and mask.ndim == 3
            self.real = mask.any(-1) if pairs else mask.reshape(self.b, self.n) != 0
        self.labels = arguments.get("labels")
        self.pooled = self.cls.endswith(("SequenceClassification", "MultipleChoice"))
        self.with_first = self.cls == "ReplacedTokenDetectionModel"

    def flags(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """A flag for every number of the tensor of this full name, row-major; None if all are of tokens."""
        if self.real.all():
            return None
        part = self.part(name, shape)
        if part is None:
            return None
        part = part.reshape(part.shape + (1,) * (len(shape) - part.ndim))
        return np.broadcast_to(part, shape).reshape(-1)

    def part(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The flags with as many axes as they need, to be broadcast from the left."""
        last, real = name.rpartition(".")[2], self.real
        if last in TABLES or name.endswith("encoder.LayerNorm"):
            return None
        if name == "outputs.loss":
            return self.of_loss(shape)
        if self.choices and name == "outputs.logits":
            return real[:, 0].reshape(shape)
        heads = any(part in name for part in ("pooler", "classifier", "outputs.logits"))
        if self.pooled and heads and shape[0] == self.b:
            return real[:, 0]
        if self.with_first and (name.startswith("activations.mask_predictions") or name == "outputs.logits"):
            return real & real[:, :1]
        if last in PAIRS:
            return real[:, None, :, None] & real[:, None, None, :]
        if last == PAIRS_HEADS_LAST:
            return real[:, :, None] & real[:, None, :]
        if name.endswith("encoder.conv.conv"):
            return np.broadcast_to(real[:, None, :], shape)
        if len(shape) == 4 and shape[0] == self.b and shape[2:] == (self.n, self.n):
            return np.broadcast_to(real[:, None, :, None], shape)
        if shape[:2] == (self.b, self.n):
            return real
        return None

    def of_loss(self, shape: tuple[int, ...]) -> np.ndarray:
        """Whether the loss, of all or of every sequence or question, is of tokens alone."""
        if self.cls.endswith("QuestionAnswering"):
            padded = ~self.real.all(1)
        elif self.pooled or self.with_first:
            padded = ~self.real[:, 0]
        elif self.labels is not None and self.labels.dtype.kind == "i":
            counted = self.labels.reshape(self.b, -1) != -100
            padded = (counted & ~self.real).any(1) if counted.shape[1] == self.n else ~self.real.all(1)
        else:
            padded = ~self.real.all(1)
        if self.choices:
            padded = padded.reshape(-1, self.choices).any(1)
        return ~padded if shape == padded.shape and shape != (1,) else np.broadcast_to(~padded.any(), shape)
