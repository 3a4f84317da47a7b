"""What a case is made of, and the tokens, masks and numbers that cases are written with. Needs numpy alone."""

import zlib
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Case:
    """One folder of golden/data."""

    description: str
    cls: str
    config: dict
    # arguments of `forward` by the name of the input
    inputs: dict[str, dict[str, np.ndarray]]
    # how the weights are stored; all is computed in f32 from what was stored
    dtype: str = "F32"
    # inputs of which all outputs are recorded, but of the activations only the positions and the contexts
    outputs_only: frozenset[str] = frozenset()
    # why TensorFlow has no trace: of the case under "", of an input under its name
    no_tensorflow: dict[str, str] = field(default_factory=dict)
    # why PyTorch has none
    no_pytorch: dict[str, str] = field(default_factory=dict)
    # what the configuration is overridden with while recording
    recorded_with: dict = field(default_factory=dict)
    # whether the enhanced mask decoder has a trace
    mask_decoder: bool = False
    # inputs whose [b, n, n] mask multiplies the embeddings as [b, n]: 1 for rows with any allowed key
    mask_of_rows: frozenset[str] = frozenset()


def generator(*seed):
    """Random numbers that depend on the seeds alone."""
    return np.random.default_rng([zlib.crc32(str(part).encode()) for part in seed])


def ids(seed, b, n, below):
    """Token ids [b, n] in 5..below: none is special."""
    return generator("ids", seed).integers(5, below, (b, n), dtype=np.int64)


def mask(*rows):
    """An attention mask from rows such as "1110"."""
    return np.array([[int(token) for token in row] for row in rows], dtype=np.int64)


def masked(seed, below, *rows):
    """input_ids and attention_mask of these rows; padding has id 0."""
    allowed = mask(*rows)
    return {"input_ids": ids(seed, *allowed.shape, below) * allowed, "attention_mask": allowed}


def integers(values):
    return np.array(values, dtype=np.int64)


def floats(values):
    return np.array(values, dtype=np.float32)


def normal(seed, *shape):
    return generator("normal", seed).standard_normal(shape).astype(np.float32)
