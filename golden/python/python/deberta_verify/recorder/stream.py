"""Random numbers of a name and a seed, by their place: the streams of docs/recipe.md, the same bits as
converters/src/recipe/stream.rs."""

from __future__ import annotations

import numpy as np

GAMMA = 0x9E3779B97F4A7C15


class Stream:
    """The random numbers of a name and a seed."""

    def __init__(self, seed: int, name: str) -> None:
        fnv = 0xCBF29CE484222325
        for byte in name.encode():
            fnv = (fnv ^ byte) * 0x100000001B3 % 2**64
        self.state = mixed_integer(mixed_integer((seed + GAMMA) % 2**64) ^ fnv)

    def words(self, start: int, count: int) -> np.ndarray:
        """The 64-bit words [count] from a place on."""
        words = np.arange(start + 1, start + count + 1, dtype=np.uint64)
        words *= np.uint64(GAMMA)
        words += np.uint64(self.state)
        return mixed(words)

    def uniform(self, start: int, count: int) -> np.ndarray:
        """Numbers [count] from 0 to 1, in f32."""
        return (self.words(start, count) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)

    def bell(self, start: int, count: int) -> np.ndarray:
        """Numbers [count] from -4 to 4, nearly normal, of variance 4/3, in f32."""
        words = self.words(start, count)
        halves = words.view("<u2").reshape(count, 4)
        sums = halves[:, 0].astype(np.float32)
        for half in range(1, 4):
            sums += halves[:, half]
        return (sums - np.float32(131070)) * np.float32(2**-15)


def mixed(words: np.ndarray) -> np.ndarray:
    """Mixes the bits of every word, in place: the last steps of SplitMix64."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def mixed_integer(word: int) -> int:
    """The same for one word."""
    return int(mixed(np.array([word], np.uint64))[0])
