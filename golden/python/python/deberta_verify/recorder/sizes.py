"""How large a golden may be, and what of the traces is kept so that it is not larger."""

from __future__ import annotations

import re
from collections.abc import Mapping

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


def fit(
    taken: Mapping[str, Taken], metadata: Mapping[str, str], left: int, loaded: Loaded
) -> tuple[dict[str, bytes], list[str] | None]:
    """The files of the inputs, in so many bytes: samples of all, and as many whole traces as fit, the smallest first. If
    samples of all are too much, those of what is there twice are left out; the second value has the names that are kept
    then. Raises RecordError if not even these fit."""
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
            "more, or record fewer inputs or --points"
        )
    if names is None:
        whole = {name: found.whole_trace(metadata) for name, found in taken.items() if found.is_whole}
        for name, data in sorted(whole.items(), key=lambda item: len(item[1])):
            if total(files) - len(files[name]) + len(data) <= left:
                files[name] = data
    return files, names


def total(files: Mapping[str, bytes]) -> int:
    """Bytes of all files."""
    return sum(map(len, files.values()))


def some_whole(taken: Mapping[str, Taken], files: Mapping[str, bytes]) -> bool:
    """Whether a trace of several tokens is whole: from it a cause can be told."""
    return any(taken[name].tokens.n > 2 and b'"format":"deberta-trace-1"' in data[:10_000_000] for name, data in files.items())


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
