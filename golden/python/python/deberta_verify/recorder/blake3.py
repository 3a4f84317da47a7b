"""BLAKE3 in numpy, for weight digests: all chunks of a tensor at once. About 90 MB a second on one core; where the package
`blake3` is installed, it is used instead.

Source: O'Connor, Aumasson, Neves and Wilcox-O'Hearn, BLAKE3 (2020), section 2; words are little-endian u32.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np

IV = np.array([0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
ROUNDS = 7
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
BLOCK, CHUNK = 64, 1024
# Chunks that are compressed together: enough that the calls of numpy do not count, few enough for the caches.
TOGETHER = 4096


def hexdigest(data: bytes | np.ndarray, prefix: bytes = b"") -> str:
    """The hash of `prefix` and then `data`, bytes or an array of them [n], as 64 hexadecimal digits."""
    data = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    try:
        from blake3 import blake3
    except ImportError:
        return of_array(data, prefix).tobytes().hex()
    return blake3(prefix).update(memoryview(np.ascontiguousarray(data))).hexdigest()


def of_array(data: np.ndarray, prefix: bytes = b"") -> np.ndarray:
    """The hash of `prefix` and then of the bytes [n], as eight words [8]."""
    length = len(prefix) + data.size
    chunks = max(-(-length // CHUNK), 1)
    if chunks == 1:
        return single(np.concatenate([np.frombuffer(prefix, np.uint8), data]))
    values = np.empty((8, chunks), np.uint32)

    def compress_some(first: int) -> None:
        last = min(first + TOGETHER, chunks)
        start, end = first * CHUNK - len(prefix), last * CHUNK - len(prefix)
        part = data[max(start, 0) : end]
        if first == 0:
            part = np.concatenate([np.frombuffer(prefix, np.uint8), part])
        values[:, first:last] = of_chunks(part, first)

    with ThreadPoolExecutor(cpu_count()) as threads:
        list(threads.map(compress_some, range(0, chunks, TOGETHER)))
    return root_of(values)


def of_chunks(data: np.ndarray, first: int) -> np.ndarray:
    """The chaining values [8, c] of c chunks, the first of which has the number `first`. The last one may be short."""
    count = -(-data.size // CHUNK)
    full = data.size // CHUNK
    counters = np.arange(first, first + count, dtype=np.uint64)
    values = np.empty((8, count), np.uint32)
    if full:
        words = np.ascontiguousarray(data[: full * CHUNK].view("<u4").reshape(full, CHUNK // 4).T)
        state = np.repeat(IV[:, None], full, 1)
        for block in range(CHUNK // BLOCK):
            flags = CHUNK_START * (block == 0) | CHUNK_END * (block == CHUNK // BLOCK - 1)
            state = compress(state, words[16 * block : 16 * block + 16], counters[:full], BLOCK, flags)
        values[:, :full] = state
    if full < count:
        values[:, full] = short(data[full * CHUNK :], counters[full], 0)
    return values


def single(data: np.ndarray) -> np.ndarray:
    """The hash [8] of up to 1024 bytes: one chunk, which is the root."""
    return short(data, np.uint64(0), ROOT)


def short(data: np.ndarray, counter: np.uint64, last_flag: int) -> np.ndarray:
    """The chaining value [8] of one chunk of up to 1024 bytes; `last_flag` is added to its last block."""
    blocks = max(-(-data.size // BLOCK), 1)
    padded = np.zeros(blocks * BLOCK, np.uint8)
    padded[: data.size] = data
    words, state = padded.view("<u4").reshape(blocks, 16), IV[:, None]
    for block in range(blocks):
        is_last = block == blocks - 1
        flags = CHUNK_START * (block == 0) | (CHUNK_END | last_flag) * is_last
        length = data.size - block * BLOCK if is_last else BLOCK
        state = compress(state, words[block][:, None], np.array([counter], np.uint64), length, flags)
    return state[:, 0]


def root_of(values: np.ndarray) -> np.ndarray:
    """The hash [8] of a tree with these leaves [8, c], c > 1. Pairs from the left, an odd one going up as it is: the tree
    whose left sides are the largest powers of two."""
    zero = np.zeros(1, np.uint64)
    while values.shape[1] > 1:
        pairs = values.shape[1] // 2
        words = np.concatenate([values[:, 0 : 2 * pairs : 2], values[:, 1 : 2 * pairs : 2]])
        flags = PARENT | ROOT * (values.shape[1] == 2)
        parents = compress(np.repeat(IV[:, None], pairs, 1), words, np.repeat(zero, pairs), BLOCK, flags)
        values = np.concatenate([parents, values[:, 2 * pairs :]], 1)
    return values[:, 0]


def compress(state: np.ndarray, words: np.ndarray, counters: np.ndarray, length: int, flags: int) -> np.ndarray:
    """The compression of message words [16, c] into states [8, c], which gives states [8, c]."""
    count = words.shape[1]
    v = np.empty((16, count), np.uint32)
    v[:8] = state
    v[8:12] = IV[:4, None]
    v[12], v[13] = (counters & np.uint64(0xFFFFFFFF)), (counters >> np.uint64(32))
    v[14], v[15] = length, flags
    a, b, c, d = v[0:4], v[4:8], v[8:12], v[12:16]
    scratch, order = np.empty((4, count), np.uint32), list(range(16))
    for _ in range(ROUNDS):
        mix(a, b, c, d, words[order[0:8:2]], words[order[1:8:2]], scratch)
        # The diagonals are columns of rows that are turned.
        b[:], c[:], d[:] = b[[1, 2, 3, 0]], c[[2, 3, 0, 1]], d[[3, 0, 1, 2]]
        mix(a, b, c, d, words[order[8:16:2]], words[order[9:16:2]], scratch)
        b[:], c[:], d[:] = b[[3, 0, 1, 2]], c[[2, 3, 0, 1]], d[[1, 2, 3, 0]]
        order = [order[at] for at in PERMUTATION]
    return v[:8] ^ v[8:]


def mix(a, b, c, d, x, y, scratch) -> None:
    """The function G on four columns [4, c], in place."""
    for words, right_d, right_b in ((x, 16, 12), (y, 8, 7)):
        a += b
        a += words
        d ^= a
        rotate(d, right_d, scratch)
        c += d
        b ^= c
        rotate(b, right_b, scratch)


def rotate(x: np.ndarray, right: int, scratch: np.ndarray) -> None:
    """Turns every word to the right, in place."""
    np.left_shift(x, np.uint32(32 - right), out=scratch)
    np.right_shift(x, np.uint32(right), out=x)
    x |= scratch
