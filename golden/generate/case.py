"""What a case is made of, the list of all cases, and the tokens, masks and numbers that cases are written with. Needs
numpy alone."""

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
    # what a number may be off by beside 5e-6: a share of the largest of its tensor, as case.yaml has it
    scale: str = ""
    # the head that Microsoft's code alone has and a trace of its own, by the ending of the trace's file: emd or rtd
    microsoft: str = ""
    # inputs with distances that Microsoft's code clamps; of their traces of it, the parts of the attention are left out
    clamped: frozenset[str] = frozenset()
    # inputs whose [b, n, n] mask multiplies the embeddings as [b, n]: 1 for rows with any allowed key
    mask_of_rows: frozenset[str] = frozenset()

    @property
    def v2(self):
        """Whether transformers computes it with the classes of versions 2 and 3."""
        return self.cls.startswith("DebertaV2") or self.microsoft == "rtd"

    @property
    def model_type(self):
        return "deberta-v2" if self.v2 else "deberta"

    @property
    def transformers_class(self):
        """The class that has the encoder and the most of the head."""
        return "DebertaV2ForMaskedLM" if self.microsoft == "rtd" else self.cls


# Name and function of every case, in the order of the files.
CASES = []


def case(function):
    """Adds the case that `function` describes: its name is the folder's, its docstring the description."""
    CASES.append((function.__name__.replace("_", "-"), function))
    return function


def make(cls, config, inputs, **more):
    return Case("", cls, config, inputs, **more)


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


def masked_labels(seed, b, n, lowest=0):
    """Labels of about half of the tokens, -100 for the rest."""
    random = generator("labels", seed)
    labels = random.integers(lowest, 61, (b, n))
    labels[random.random((b, n)) < 0.5] = -100
    return labels


def integers(values):
    return np.array(values, dtype=np.int64)


def floats(values):
    return np.array(values, dtype=np.float32)


def normal(seed, *shape):
    return generator("normal", seed).standard_normal(shape).astype(np.float32)
