"""How large a golden may be, and what of the traces is kept so that it is not larger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .error import RecordError
from .loading import Loaded
from .points import LAYER, REPEATED, matches
from .taking import Taken

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse(text: int | str | None) -> int | None:
    """A size in bytes: `1MB`, `500 kB`, a number; `none` is no limit. Raises RecordError for anything else."""
    if text is None or isinstance(text, int):
        return text
    if text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if found is None or found[2].upper() not in UNITS:
        raise RecordError(f"--max-size {text}: expected a size, 1MB or 500kB, or none for everything in whole")
    return int(float(found[1]) * UNITS[found[2].upper()])


@dataclass(frozen=True)
class Fit:
    """The files that fit, by the names of the inputs."""

    files: dict[str, bytes]
    names: list[str] | None
    """The tensors that are kept; None for all."""
    whole: bool
    """Whether they have all numbers."""


def fit(taken: Mapping[str, Taken], metadata: Mapping[str, str], left: int, loaded: Loaded) -> Fit:
    """The files of the inputs, in so many bytes: all of them whole, or samples of all. If samples of all tensors are too much,
    those of what is there twice are left out. Raises RecordError if not even these fit."""
    if all(found.is_whole for found in taken.values()):
        files = {name: found.whole_trace(metadata) for name, found in taken.items()}
        if total(files) <= left:
            return Fit(files, None, whole=True)
    names: list[str] | None = None
    files = {name: found.sampled_trace(metadata) for name, found in taken.items()}
    if total(files) > left and "points" not in metadata and not loaded.cls.tensorflow:
        names = [name for name in next(iter(taken.values())).sampled.shapes if not is_repeated(name)]
        reduced = dict(metadata) | {"points": patterns(names, loaded)}
        files = {
            name: found.sampled_trace(reduced, [known for known in found.sampled.shapes if not is_repeated(known)])
            for name, found in taken.items()
        }
    if total(files) > left:
        raise RecordError(
            f"--max-size: samples of {len(files)} inputs take {total(files):,} bytes, and {max(left, 0):,} are left: allow "
            "more, or record fewer inputs or --points",
            want=max(left, 0), got=total(files),
        )  # fmt: skip
    return Fit(files, names, whole=False)


def total(files: Mapping[str, bytes]) -> int:
    """Bytes of all files."""
    return sum(map(len, files.values()))


def is_repeated(name: str) -> bool:
    """Whether the numbers of a tensor are there under another name, too."""
    layer = re.search(r"encoder\.layer\.\d+\.(.*)$", name)
    return name.startswith("outputs.hidden_states.") or (layer is not None and layer[1] in REPEATED)


def patterns(names: list[str], loaded: Loaded) -> str:
    """Patterns that fit the activations among these names and no others of the class, with a space between them."""
    short = [name.removeprefix("activations.") for name in names if name.startswith("activations.")]
    of_layers = [f"*encoder.layer.*.{path}" for path, when in LAYER if path and path not in REPEATED and when(loaded.settings)]
    rest = [name for name in short if not any(matches(pattern, name) for pattern in of_layers)]
    return " ".join([*rest, *of_layers])
