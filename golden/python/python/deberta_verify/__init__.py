"""DeBERTa checkpoints: converted between formats, verified layer by layer against goldens, recorded from the frameworks, run.

Names are imported when they are asked for, and numpy with the first array."""

from __future__ import annotations

# As that of typing, whose import takes longer than a program needs to start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .conversion import Audit, Diff, Inspection, Ledger, audit, convert, diff, digest, inspect
    from .errors import DebertaError, FormatError, HubError, ModelError, RequestError
    from .model import Model, Output
    from .recorder import Golden, RecordError, record
    from .recorder.callback import RecordGolden
    from .tokenizer import Tokenizer
    from .verification import Report, VerificationError, assert_verified, verify, verify_policy

__all__ = [
    "Audit",
    "DebertaError",
    "Diff",
    "FormatError",
    "Golden",
    "HubError",
    "Inspection",
    "Ledger",
    "Model",
    "ModelError",
    "Output",
    "RecordError",
    "RecordGolden",
    "Report",
    "RequestError",
    "Tokenizer",
    "VerificationError",
    "assert_verified",
    "audit",
    "convert",
    "diff",
    "digest",
    "inspect",
    "record",
    "verify",
    "verify_policy",
]

# Which module each name is in.
_HOMES = {
    "conversion": ("Audit", "Diff", "Inspection", "Ledger", "audit", "convert", "diff", "digest", "inspect"),
    "errors": ("DebertaError", "FormatError", "HubError", "ModelError", "RequestError"),
    "model": ("Model", "Output"),
    "recorder": ("Golden", "RecordError", "record"),
    # It inherits from a class of transformers.
    "recorder.callback": ("RecordGolden",),
    "tokenizer": ("Tokenizer",),
    "verification": ("Report", "VerificationError", "assert_verified", "verify", "verify_policy"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("deberta-verify")
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f".{home}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
