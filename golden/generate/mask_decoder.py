"""Microsoft's enhanced mask decoder on the layers of transformers, which has none.

Source: the paper, section 3.2; microsoft/DeBERTa, apps/models/masked_language_model.py.
"""

import torch
from disentangled import encode, keeper, layer


def run(model, positions, input_ids, attention_mask=None, position_ids=None, labels=None):
    """What the decoder computes with a DebertaForMaskedLM or DebertaV2ForMaskedLM of legacy=False and position
    embeddings [P, H]: arrays named activations.* and outputs.*."""
    recorded, base = {}, model.deberta
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    states, allowed, relative = encode(base, input_ids, mask, position_ids, recorded)
    x = states[-1]
    if not base.config.position_biased_input:
        h = states[-2]
        x = h + positions[torch.arange(input_ids.shape[1])[None] if position_ids is None else position_ids]
        for step in range(2):
            x, _ = layer(base.encoder.layer[-1], h, x, allowed, relative, keeper(recorded, f"emd.{step}"))
            recorded[f"activations.emd.{step}"] = x

    recorded["outputs.logits"] = model.lm_predictions(x, base.embeddings.word_embeddings)
    if labels is not None:
        logits = recorded["outputs.logits"].flatten(0, 1)
        recorded["outputs.loss"] = torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=-100)
    return recorded
