"""A folder that is written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .error import RecordError


def check(out: Path, overwrite: bool) -> None:
    """Raises RecordError where a golden may not be written: over a file, over a folder that is none, over another golden
    unless that is asked for."""
    if not out.exists():
        return
    if not out.is_dir():
        raise RecordError(f"{out}: a file is there")
    if any(out.iterdir()):
        if not (out / "case.yaml").is_file():
            raise RecordError(f"{out}: the folder is not empty, and no golden: name another one")
        if not overwrite:
            raise RecordError(f"{out}: a golden is there already; --force replaces it")


@contextlib.contextmanager
def whole(out: Path, overwrite: bool) -> Iterator[Path]:
    """A hidden folder to write to, which becomes `out` at the end. If anything fails, `out` is as it was."""
    out = out.absolute()
    check(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        folder = scratch / "new"
        folder.mkdir()
        yield folder
        check(out, overwrite)
        if out.exists():
            out.rename(scratch / "old")
        try:
            folder.rename(out)
        except OSError:
            if (scratch / "old").exists():
                (scratch / "old").rename(out)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
