"""Microsoft's head for the detection of replaced tokens, which v3's discriminators have and transformers has not.

Source: DeBERTaV3, section 3; microsoft/DeBERTa, apps/models/replaced_token_detection_model.py.
"""

import torch
from disentangled import encode
from torch.nn.functional import binary_cross_entropy_with_logits, layer_norm, linear
from transformers.activations import ACT2FN


def run(model, head, input_ids, attention_mask=None, labels=None):
    """What the head computes on the encoder `model.deberta` with its parameters by their names: arrays named
    activations.* and outputs.*, a logit [b, n] for every token. A token was replaced if its label, the token that the
    text had, is another and above 0; the loss is the mean over the tokens that are not padding."""
    recorded, base = {}, model.deberta
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    x = encode(base, input_ids, mask, None, recorded)[0][-1]

    def parameters(part):
        return [head[f"mask_predictions.{part}.{kind}"] for kind in ("weight", "bias")]

    def keep(part, value):
        recorded[f"activations.mask_predictions.{part}"] = value
        return value

    x = keep("LayerNorm", layer_norm(x[:, :1] + x, x.shape[-1:], *parameters("LayerNorm"), base.config.layer_norm_eps))
    x = ACT2FN[base.config.hidden_act](keep("dense", linear(x, *parameters("dense"))))
    logits = keep("classifier", linear(x, *parameters("classifier"))).squeeze(-1)
    recorded["outputs.logits"] = logits
    if labels is not None:
        replaced = (labels > 0) & (labels != input_ids)
        tokens = mask > 0
        recorded["outputs.loss"] = binary_cross_entropy_with_logits(logits[tokens], replaced[tokens].to(logits.dtype))
    return recorded
