"""Safetensors files with the same bytes on every run: the safetensors package writes metadata in no fixed order."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
}
# The longest header that the safetensors package reads.
LONGEST_HEADER = 100_000_000


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], dtype: str = "F32") -> None:
    """Writes arrays by name, sorted. Floats are stored as `dtype`, integers as I64."""
    path.write_bytes(to_bytes(tensors, metadata, dtype))


def to_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], dtype: str = "F32") -> bytes:
    """The bytes of the file that `write` writes."""
    header, chunks, offset = {"__metadata__": dict(sorted(metadata.items()))}, [], 0
    for name, array in sorted(tensors.items()):
        stored = "I64" if array.dtype.kind == "i" else dtype
        data = encode(array, stored)
        header[name] = {"dtype": stored, "shape": list(array.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file by name, 16-bit floats widened to f32, and its metadata."""
    header, metadata, start = read_header(path)
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    return {name: tensor(data, start, info) for name, info in header.items()}, metadata


def read_header(path: Path) -> tuple[dict[str, dict], dict[str, str], int]:
    """What the header of a file says of every tensor (`dtype`, `shape`, `data_offsets`), its metadata, and where the
    tensors start. Raises ValueError if the file is no safetensors file."""
    with open(path, "rb") as file:
        first = file.read(8)
        (length,) = struct.unpack("<Q", first) if len(first) == 8 else (LONGEST_HEADER,)
        if length >= LONGEST_HEADER or length + 8 > path.stat().st_size:
            raise ValueError(f"{path}: not a safetensors file: a header of {length} bytes does not fit into it")
        header = json.loads(file.read(length))
    return header, header.pop("__metadata__", {}), 8 + length


def tensor(data: np.ndarray, start: int, info: Mapping) -> np.ndarray:
    """The array that an entry of the header describes, from the bytes of the whole file."""
    if info["dtype"] not in DTYPES:
        raise ValueError(f"dtype {info['dtype']}, expected one of {', '.join(DTYPES)}")
    first, last = (start + offset for offset in info["data_offsets"])
    count = math.prod(info["shape"])
    if last - first != count * DTYPES[info["dtype"]].itemsize or not start <= first <= last <= data.size:
        raise ValueError(f"shape {info['shape']} of {info['dtype']} in bytes {first} to {last} of {data.size}")
    return decode(data[first:last].tobytes(), info["dtype"]).reshape(info["shape"])


def encode(array: np.ndarray, dtype: str) -> bytes:
    """The bytes of an array, stored as `dtype`."""
    if dtype != "BF16":
        return np.ascontiguousarray(array, DTYPES[dtype]).tobytes()
    bits = np.ascontiguousarray(array, "<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()  # to nearest, ties to even


def decode(data: bytes, dtype: str) -> np.ndarray:
    """The array [count] of these bytes, 16-bit floats widened to f32."""
    array = np.frombuffer(data, DTYPES[dtype])
    if dtype == "BF16":
        return (array.astype("<u4") << 16).view("<f4")
    return array.astype("<f4") if dtype == "F16" else array
