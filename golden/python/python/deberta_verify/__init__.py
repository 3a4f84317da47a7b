"""Goldens of DeBERTa models, and judging by them."""

from .recorder import Golden, RecordError, record

__all__ = ["Golden", "RecordError", "record"]
