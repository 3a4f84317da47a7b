"""Microsoft's enhanced mask decoder on the layers of transformers, which has none.

Source: the paper, section 3.2; microsoft/DeBERTa, apps/models/masked_language_model.py and deberta/disentangled_attention.py.
Queries come from one sequence of states, keys and values from another. Attention rows whose every key is masked are 0,
as in Microsoft's XSoftmax.
"""

import math

import torch


def attention(self, states, queries, allowed, table, keep):
    """The disentangled attention `self`: states and queries [b, n, H], allowed [b, 1, n, n], table [2 max, H] or None.
    `keep` is given the name and the value of every part."""
    heads, n = self.num_attention_heads, states.shape[1]
    d = self.attention_head_size

    def split(x):
        return x.view(*x.shape[:2], heads, -1).transpose(1, 2)

    scale = math.sqrt(d * (1 + len(self.pos_att_type)))
    _, k, v = split(self.in_proj(states)).chunk(3, -1)
    q = split(self.in_proj(queries)).chunk(3, -1)[0]
    q = (q + split(self.q_bias[None, None])) / scale
    v = v + split(self.v_bias[None, None])
    scores = keep("c2c", q @ k.transpose(-1, -2))
    if table is not None:
        largest = table.shape[0] // 2
        span = min(n, largest)
        near = table[None, largest - span : largest + span]
        position = torch.arange(n)
        index = (position[:, None] - position[None, :] + span).clamp(0, 2 * span - 1)
        index = index.expand(*scores.shape)
        if "c2p" in self.pos_att_type:
            c2p = q @ split(self.pos_proj(near)).transpose(-1, -2)
            scores = scores + keep("c2p", c2p.gather(-1, index))
        if "p2c" in self.pos_att_type:
            # p2c[i, j] is the product of key j and the position of i - j
            p2c = k @ (split(self.pos_q_proj(near)) / scale).transpose(-1, -2)
            scores = scores + keep("p2c", p2c.gather(-1, index.transpose(-1, -2)).transpose(-1, -2))
    keep("scores", scores)
    probs = scores.masked_fill(~allowed, -math.inf).softmax(-1).masked_fill(~allowed, 0.0)
    keep("probs", probs)
    return (probs @ v).transpose(1, 2).flatten(2), probs


def layer(module, states, queries, allowed, table, keep):
    context, probs = attention(module.attention.self, states, queries, allowed, table, keep)
    attended = module.attention.output(context, queries)
    return module.output(module.intermediate(attended), attended), probs


def run(model, positions, input_ids, attention_mask=None, position_ids=None, labels=None):
    """What the decoder computes with a DebertaForMaskedLM of legacy=False and position embeddings [P, H]: arrays named
    activations.* and outputs.*."""
    recorded, base = {}, model.deberta
    b, n = input_ids.shape
    mask = torch.ones(b, n, dtype=torch.int64) if attention_mask is None else attention_mask
    allowed = (mask[:, None, :, None] * mask[:, None, None, :]).bool()
    table = base.encoder.get_rel_embedding()

    def keeper(place):
        def keep(part, value):
            recorded[f"activations.{place}.attention.self.{part}"] = value
            return value

        return keep

    x = base.embeddings(input_ids=input_ids, position_ids=position_ids, mask=mask)
    states = [x]
    for i, module in enumerate(base.encoder.layer):
        x, probs = layer(module, x, x, allowed, table, keeper(f"deberta.encoder.layer.{i}"))
        states.append(x)
        recorded[f"outputs.attentions.{i}"] = probs
    recorded |= {f"outputs.hidden_states.{i}": state for i, state in enumerate(states)}

    if not base.config.position_biased_input:
        h = states[-2]
        x = h + positions[torch.arange(n)[None] if position_ids is None else position_ids]
        for step in range(2):
            x, _ = layer(base.encoder.layer[-1], h, x, allowed, table, keeper(f"emd.{step}"))
            recorded[f"activations.emd.{step}"] = x

    recorded["outputs.logits"] = model.lm_predictions(x, base.embeddings.word_embeddings)
    if labels is not None:
        logits = recorded["outputs.logits"].flatten(0, 1)
        recorded["outputs.loss"] = torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=-100)
    return recorded
