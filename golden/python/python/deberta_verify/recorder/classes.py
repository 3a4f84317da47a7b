"""The classes that can be recorded: those of transformers for DeBERTa, in PyTorch and in TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from .error import RecordError

# The heads, by the end of the class's name.
BASE, MASKED_LM, SEQUENCE, TOKENS, ANSWERS, CHOICE = (
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
HEADS = (BASE, MASKED_LM, SEQUENCE, TOKENS, ANSWERS, CHOICE)
# What Microsoft's code alone has.
MICROSOFT = ("ReplacedTokenDetectionModel", "EnhancedMaskDecoder")


@dataclass(frozen=True)
class ModelClass:
    """A class: `DebertaForMaskedLM`, `TFDebertaV2Model`."""

    version_2: bool
    head: str
    tensorflow: bool = False

    @classmethod
    def of(cls, name: str) -> ModelClass:
        """The class of that name. Raises RecordError if it is none of transformers' for DeBERTa."""
        tensorflow, rest = name.startswith("TF"), name.removeprefix("TF")
        for prefix, version_2 in (("DebertaV2", True), ("Deberta", False)):
            head = rest.removeprefix(prefix)
            if rest.startswith(prefix) and head in HEADS and (version_2 or head != CHOICE):
                return cls(version_2, head, tensorflow)
        if name in MICROSOFT:
            raise RecordError(
                f"{name} is Microsoft's, and transformers has no such class to record from; its encoder can be recorded: "
                "--class DebertaV2Model"
            )
        known = ", ".join(str(cls(True, head)) for head in HEADS)
        raise RecordError(
            f"{name} is none of the classes of transformers for DeBERTa: {known}, the same with Deberta for DebertaV2, "
            "and with TF in front. Record the model of transformers that it holds"
        )

    @property
    def pytorch_name(self) -> str:
        """The name of the class for PyTorch."""
        return ("DebertaV2" if self.version_2 else "Deberta") + self.head

    @property
    def prefix(self) -> str:
        """What the names of the base model start with: `deberta.` under a head."""
        return "" if self.head == BASE else "deberta."

    @property
    def base(self) -> ModelClass:
        """The class without a head."""
        return ModelClass(self.version_2, BASE, self.tensorflow)

    def __str__(self) -> str:
        return ("TF" if self.tensorflow else "") + self.pytorch_name
