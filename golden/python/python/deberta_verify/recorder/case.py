"""case.yaml: what a folder of goldens says of itself. The schema is in docs/golden.md, its reader golden/src/case.rs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

FILE_NAME = "case.yaml"
# What numbers may be off by: the defaults of golden/src/judge/tolerance.rs, and the wider ones behind a softmax.
DEFAULT = "{atol: 5.0e-6, rtol: 1.0e-5, scale: 1.0e-5}"
SOFTMAX = ("outputs.attentions.*", "activations.*attention.self.probs", "activations.*attention.self")
OF_SOFTMAX = "atol: 5.0e-6, rtol: 1.0e-5, scale: 5.0e-5"
# The metadata of a trace that its line repeats.
OF_TRACE = ("framework", "class", "masked_rows")


@dataclass(frozen=True)
class Case:
    """What case.yaml says."""

    description: str
    model: str
    """Where the model is, as YAML: `"."`, an id of the hub, a recipe."""
    cls: str
    producer: str
    digest: str
    tokenizer_digest: str | None = None

    def head(self) -> list[str]:
        """The first lines."""
        return [
            f"description: {quoted(self.description)}",
            f"model: {self.model}",
            f"class: {self.cls}",
            f"producer: {quoted(self.producer)}",
            f"digest: {quoted(self.digest)}",
            *([f"tokenizer_digest: {quoted(self.tokenizer_digest)}"] if self.tokenizer_digest else []),
        ]


def tolerances() -> list[str]:
    """The lines of the tolerances that are the default."""
    wider = [f'    - {{pattern: "{pattern}", {OF_SOFTMAX}}}' for pattern in SOFTMAX]
    return ["tolerances:", f"  default: {DEFAULT}", "  patterns:", *wider]


def traces(metadata: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The lines of the traces, by the name of the file its metadata."""
    lines = ["traces:"]
    for file, known in metadata.items():
        fields = {"file": file} | {key: known[key] for key in OF_TRACE}
        lines.append("  - {" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}")
    return lines


def quoted(text: str) -> str:
    """A string of YAML: that of JSON, of which all of YAML's are a kind, on one line."""
    return json.dumps(text, ensure_ascii=False).translate({0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"})
