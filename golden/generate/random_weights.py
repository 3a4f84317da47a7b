"""Random parameters: large enough that a fault in any of them shows, none of them 0 or 1."""

import numpy as np
from case import generator

# By the end of the name, first match; everything else gets the last.
SCALES = [
    ("LayerNorm.weight", 0.2),
    ("conv.conv.weight", 0.12),
    ("rel_embeddings.weight", 0.5),
    ("embeddings.weight", 0.2),
    ("head_logits_proj.weight", 0.6),
    ("head_weights_proj.weight", 0.6),
    ("", 0.25),
]


def random_weights(case, shapes):
    """An array for each of `shapes`, parameters by name, that depends on the names of the case and the parameter."""
    weights = {}
    for name, shape in shapes.items():
        scale = next(scale for end, scale in SCALES if name.endswith(end))
        mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        values = mean + scale * generator(case, name).standard_normal(shape)
        weights[name] = values.astype(np.float32)
    return weights
