"""Safetensors files with the same bytes on every run: the safetensors package writes metadata in no fixed order."""

import json
import struct

import numpy as np

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
}


def write(path, tensors, metadata, dtype="F32"):
    """Writes arrays by name, sorted. Floats are stored as `dtype`, integers as I64."""
    header, chunks, offset = {"__metadata__": dict(sorted(metadata.items()))}, [], 0
    for name, array in sorted(tensors.items()):
        stored = "I64" if array.dtype.kind == "i" else dtype
        data = encode(array, stored)
        header[name] = {"dtype": stored, "shape": list(array.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def read(path):
    """The arrays of a file by name, 16-bit floats widened to f32, and its metadata."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, info in header.items():
        start, end = info["data_offsets"]
        tensors[name] = decode(data[8 + length + start : 8 + length + end], info["dtype"]).reshape(info["shape"])
    return tensors, metadata


def encode(array, dtype):
    if dtype != "BF16":
        return np.ascontiguousarray(array, DTYPES[dtype]).tobytes()
    bits = np.ascontiguousarray(array, "<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()  # to nearest, ties to even


def decode(data, dtype):
    array = np.frombuffer(data, DTYPES[dtype])
    if dtype == "BF16":
        return (array.astype("<u4") << 16).view("<f4")
    return array.astype("<f4") if dtype == "F16" else array
