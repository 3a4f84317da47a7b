"""The tensors of a folder's weight files by their names, read when they are needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from . import safetensors_file
from .classes import BASE, ModelClass
from .error import RecordError
from .settings import Settings

Tensors = dict[str, Callable[[], np.ndarray]]
Find = Callable[[str], "Path | None"]
# The files that transformers' PyTorch classes load, in the order in which they are looked for.
SAFETENSORS, PICKLE, KERAS = "model.safetensors", "pytorch_model.bin", "tf_model.h5"
# What checkpoints of Microsoft's hold beside the class of transformers, and the digest counts: the heads of pre-training,
# and the positions of the enhanced mask decoder.
CARRIED = re.compile(r"(lm_predictions|mask_predictions)\.|(deberta\.)?embeddings\.position_embeddings\.weight$")
HEADS = re.compile(r"(lm_predictions|mask_predictions)\.")
# What counts nowhere: a buffer, and the second names of the decoder.
UNCOUNTED = re.compile(r"(deberta\.)?embeddings\.position_ids$|cls\.predictions\.decoder\.(weight|bias)$")
LOCAL_PREFIX = "deberta."


def finder(place: str):
    """A function that gives the path of a file of a folder, or of an id of the hub; None if there is none."""
    if Path(place).is_dir():
        return lambda name: path if (path := Path(place) / name).is_file() else None

    def on_hub(name: str) -> Path | None:
        from transformers.utils import cached_file

        quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "gated_repo", "connection_errors")}
        try:
            found = cached_file(place, name, **quiet)
        except (OSError, ValueError):
            return None
        return None if found is None else Path(found)

    return on_hub


def is_of_pytorch(find: Find) -> bool:
    """Whether there is a file that transformers' PyTorch classes load: `find` gives the path of a file, or None."""
    return any(find(name + end) for name in (SAFETENSORS, PICKLE) for end in ("", ".index.json"))


def of_pytorch(find: Find, pickles: bool = True) -> Tensors:
    """The tensors of what transformers' PyTorch classes load; `pickles`: also of files of torch.save, for which torch is
    needed."""
    for name, read in ((SAFETENSORS, of_safetensors), (PICKLE, of_pickle))[: 1 + pickles]:
        if (path := find(name)) is not None:
            return read(path)
        if (index := find(f"{name}.index.json")) is not None:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            found: Tensors = {}
            for shard in shards:
                if (path := find(shard)) is None:
                    raise RecordError(f"{index}: lists {shard}, which is not there")
                found |= read(path)
            return found
    return {}


def of_safetensors(path: Path) -> Tensors:
    """The tensors of a safetensors file."""
    try:
        header, _, start = safetensors_file.read_header(path)
    except ValueError as error:
        raise RecordError(str(error)) from error
    data = np.memmap(path, np.uint8, "r")
    return {name: lambda info=info: safetensors_file.tensor(data, start, info) for name, info in header.items()}


def of_pickle(path: Path) -> Tensors:
    """The tensors of a file of torch.save, of which nothing is executed."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: lambda tensor=tensor: tensor.float().numpy() for name, tensor in state.items() if hasattr(tensor, "numpy")}


def counted(
    own: Iterable[tuple[str, np.ndarray]], files: Tensors, settings: Settings, cls: ModelClass
) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters that the digest of a checkpoint counts, by canonical name: those of the model, and those that its
    files hold beside it. Raises RecordError for a tensor that has no place in the model."""
    names = set()
    heads = cls.head == BASE and any(HEADS.match(name) for name in files)
    for name, array in own:
        names.add(name)
        yield (LOCAL_PREFIX + name if heads else name), array
    known = names | {LOCAL_PREFIX + name for name in names} | {name.removeprefix(LOCAL_PREFIX) for name in names}
    for name, read in files.items():
        plain = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
        if plain in known or UNCOUNTED.match(plain):
            continue
        if not CARRIED.match(plain):
            raise RecordError(
                f"{name} is in the file of the weights, and {cls} has no place for it: what was run would not be the model of "
                "the file. Name the class that the file is of by --class",
                tensor=name,
            )
        yield plain, read()
