"""convert, digest, diff, inspect and audit: what deberta-convert does, without a process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import _native
from .arguments import PathLike, options
from .progress import Progress, telling


class Found(Mapping[str, Any]):
    """What a command found, by the names of its JSON."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> Any:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return dict(self._found)

    def to_json(self) -> str:
        """All of it, as `--format json` prints it."""
        return json.dumps(self._found, indent=2, ensure_ascii=False)


class Ledger(Found):
    """The account of a conversion."""

    @property
    def path(self) -> Path:
        """The file that was written, or the index of the shards."""
        return Path(self["output"]["path"])

    @property
    def digest(self) -> str:
        """The weight digest of the output: that of the input, unless the dtype changed."""
        return str(self["output"]["digest"])

    @property
    def notes(self) -> list[str]:
        """What a reader should know."""
        return list(self["notes"])

    def __repr__(self) -> str:
        return f"<Ledger {self['class']}, {self['mapped']} tensors, {self.path}>"


class Diff(Found):
    """Whether two checkpoints are the same model, and where they differ."""

    @property
    def same(self) -> bool:
        """Whether they are."""
        return bool(self["same"])

    @property
    def differing(self) -> list[dict[str, Any]]:
        """The parameters that differ: name, shapes, how many numbers, by how much at most."""
        return list(self["differing"])

    def __repr__(self) -> str:
        return f"<Diff same={self.same}, {len(self.differing)} differ, {self['equal']} equal>"


class Inspection(Found):
    """What a checkpoint holds."""

    @property
    def complete(self) -> bool:
        """Whether it is a complete checkpoint of its class."""
        return bool(self["complete"])

    @property
    def digest(self) -> str | None:
        """The weight digest, if it is complete."""
        return None if self["digest"] is None else str(self["digest"])

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """Every tensor: canonical and stored name, dtype, shape."""
        return list(self["tensors"])

    @property
    def problems(self) -> list[dict[str, Any]]:
        """What keeps it from being complete, by tensor."""
        return list(self["problems"])

    def __repr__(self) -> str:
        return f"<Inspection {self['class']}, {len(self.tensors)} tensors, complete={self.complete}>"


class Audit(Found):
    """What the pickles of a PyTorch file would call. Nothing was executed."""

    @property
    def clean(self) -> bool:
        """Whether it is nothing but what a checkpoint needs."""
        return bool(self["clean"])

    def __repr__(self) -> str:
        return f"<Audit clean={self.clean}, {len(self['pickles'])} pickles>"


def convert(
    model: PathLike,
    to: str,
    output: PathLike | None = None,
    *,
    config: PathLike | None = None,
    head: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    mlm_head: str | None = None,
    max_shard_size: int | str | None = None,
    force: bool = False,
    masked_rows: str | None = None,
    activations: bool | str | None = None,
    compute: str | None = None,
    external_data: bool = False,
    progress: Progress = None,
) -> Ledger:
    """Converts a checkpoint, faithfully or not at all, reads the output back and compares it.

    Args:
        model: A file, an index of shards, a folder, or an id of the hub.
        to: `safetensors`, `pytorch`, `tensorflow` or `onnx`, or one of their short names.
        output: The file to write, or a folder, which ends in `/` if it is not there; beside the input if None.
        config, head, revision, dtype, mlm_head, max_shard_size, force: As on the command line.
        masked_rows, activations, compute, external_data: Those of the output in ONNX.
        progress: True for bars, or a function of a step, the bytes that are done, and all.

    Raises:
        FormatError, ModelError, HubError, OSError, ValueError: Nothing was written.
    """
    arguments = options(
        to=to, output=output, config=config, head=head, revision=revision, dtype=dtype, mlm_head=mlm_head,
        max_shard_size=max_shard_size, force=force, masked_rows=masked_rows, activations=activations, compute=compute,
        external_data=external_data,
    )  # fmt: skip
    return Ledger(_result(["convert", *arguments], [model], progress))


def digest(
    model: PathLike,
    *,
    config: PathLike | None = None,
    head: str | None = None,
    revision: str | None = None,
    progress: Progress = None,
) -> str:
    """The weight digest: 64 digits, the same for a model in every format."""
    arguments = options(config=config, head=head, revision=revision)
    return str(_result(["digest", *arguments], [model], progress)[0])


def diff(
    a: PathLike,
    b: PathLike,
    *,
    config: PathLike | None = None,
    head: str | None = None,
    revision: str | None = None,
    progress: Progress = None,
) -> Diff:
    """Tells whether two checkpoints, of any formats, are the same model."""
    return Diff(_result(["diff", *options(config=config, head=head, revision=revision)], [a, b], progress))


def inspect(
    model: PathLike, *, config: PathLike | None = None, head: str | None = None, revision: str | None = None
) -> Inspection:
    """Shows what a checkpoint holds, complete or not."""
    return Inspection(_result(["inspect", *options(config=config, head=head, revision=revision)], [model], None))


def audit(path: PathLike, *, revision: str | None = None) -> Audit:
    """Lists what the pickles in a PyTorch file would call if they were executed; executes nothing."""
    return Audit(_result(["audit", *options(revision=revision)], [path], None))


def _result(arguments: list[str], models: list[PathLike], progress: Progress) -> Any:
    with telling(progress) as callback:
        paths = [os.fspath(model) for model in models]
        return json.loads(_native.result([*arguments, "--", *paths], callback))
