"""What of the package is Rust: golden/python/src."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, final

__all__ = ["Model", "Tokenizer", "Verification", "format_of", "result", "run", "tokenizer_digest", "verify"]

_Progress = Callable[[str, int, int], object] | None

def run(program: str, arguments: Sequence[str]) -> int: ...
def result(arguments: Sequence[str], progress: _Progress = None) -> str: ...
def verify(arguments: Sequence[str], threads: int | None = None, progress: _Progress = None) -> Verification: ...
def tokenizer_digest(folder: str | PathLike[str]) -> str | None: ...
def format_of(path: str | PathLike[str]) -> str | None: ...
@final
class Verification:
    def render(self, format: str, *, all_points: bool = False) -> str: ...
    def first_divergence(
        self,
    ) -> tuple[str, str | None, str | None, str | None, float | list[int] | None, float | list[int] | None] | None: ...

@final
class Model:
    @staticmethod
    def load(
        model: str | PathLike[str],
        *,
        config: str | PathLike[str] | None = None,
        revision: str | None = None,
        class_name: str | None = None,
        masked_rows: str | None = None,
        double: bool = False,
        backend: str | None = None,
        ort_library: str | PathLike[str] | None = None,
        progress: _Progress = None,
    ) -> Model: ...
    def run(
        self,
        arguments: Sequence[tuple[str, Any]],
        points: Sequence[str],
        hidden_states: bool,
        attentions: bool,
    ) -> list[tuple[str, Any]]: ...
    def label(self, label: int) -> str: ...
    @property
    def class_name(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def digest(self) -> str: ...

@final
class Tokenizer:
    @staticmethod
    def load(folder: str | PathLike[str], *, revision: str | None = None, slow: bool = False) -> Tokenizer: ...
    def encode(
        self,
        texts: Sequence[tuple[str, str | None]],
        padding: str | None,
        truncation: str | None,
        max_length: int | None,
        special_tokens: bool,
    ) -> list[tuple[list[int], list[int], list[int]]]: ...
    def tokenize(self, text: str) -> list[str]: ...
    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...
    @property
    def mask_token_id(self) -> int | None: ...
    @property
    def pad_token_id(self) -> int: ...
    def __len__(self) -> int: ...
