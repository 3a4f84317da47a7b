"""Goldens of DeBERTa models: record them from PyTorch and TensorFlow, and judge conversions by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .recorder import Golden, RecordError, record

if TYPE_CHECKING:
    from .recorder.callback import RecordGolden

__all__ = ["Golden", "RecordError", "RecordGolden", "record"]


def __getattr__(name: str) -> Any:
    # It inherits from a class of transformers, which is imported for nobody who does not ask for it.
    if name == "RecordGolden":
        from .recorder.callback import RecordGolden

        return RecordGolden
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
