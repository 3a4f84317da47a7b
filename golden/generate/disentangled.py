"""The encoder on the layers of transformers with the conventions of Microsoft's code: attention whose queries come from
other states than its keys and values, attention rows that are 0 where every key is masked (XSoftmax), and far distances
that are clamped before they are sorted into buckets.

Source: microsoft/DeBERTa of 2023, DeBERTa/deberta/disentangled_attention.py, da_utils.py and bert.py. Scores of
position are gathered from the products with the table, before which the queries are divided; transformers rounds
elsewhere.
"""

import math

import torch


def encode(base, input_ids, mask, position_ids, recorded):
    """The states of a DebertaModel or DebertaV2Model before and after every layer, and what `layer` needs of this text:
    the allowed pairs [b, 1, n, n] and the positions. Adds to `recorded` what a trace has of the encoder."""
    encoder = base.encoder
    allowed = (mask[:, None, :, None] * mask[:, None, None, :]).bool()
    relative = positions(encoder, input_ids.shape[1])
    x = base.embeddings(input_ids=input_ids, position_ids=position_ids, mask=mask)
    states = [x]
    for i, module in enumerate(encoder.layer):
        x, probs = layer(module, x, x, allowed, relative, keeper(recorded, f"deberta.encoder.layer.{i}"))
        if i == 0 and getattr(encoder, "conv", None) is not None:
            x = encoder.conv(states[0], x, mask)
        states.append(x)
        recorded[f"outputs.attentions.{i}"] = probs
    recorded |= {f"outputs.hidden_states.{i}": state for i, state in enumerate(states)}
    return states, allowed, relative


def keeper(recorded, place):
    """Records the parts of the attention at a place."""

    def keep(part, value):
        recorded[f"activations.{place}.attention.self.{part}"] = value
        return value

    return keep


def positions(encoder, n):
    """The rows of the table [rows, H] that n tokens can have, and which of them stands for i - j [n, n]; or None."""
    table = encoder.get_rel_embedding()
    if table is None:
        return None
    span, distances = table.shape[0] // 2, torch.arange(n)[:, None] - torch.arange(n)[None, :]
    if not hasattr(encoder, "position_buckets"):  # version 1
        largest, span = span, min(n, span)
        table = table[largest - span : largest + span]
    elif encoder.position_buckets > 0:
        distances = buckets(distances, encoder.position_buckets // 2, encoder.max_relative_positions - 1)
    return table[None], (distances + span).clamp(0, 2 * span - 1)


def buckets(distances, mid, farthest):
    """The log buckets of distances, which are clamped to ±`farthest`; up to `mid`, a distance is its own bucket. The
    ratio of a distance to `mid` is f32, that of `farthest` f64, and the logarithms of both are rounded to f32 once:
    torch.log of f32 may be off in the last digit, on some processors and not on others."""
    distances = distances.clamp(-farthest, farthest)
    far = distances.abs().clamp(min=mid)
    log = torch.log((far / mid).double()).float() / math.log(farthest / mid)
    log_buckets = distances.sign() * (torch.ceil(log * (mid - 1)) + mid)
    return torch.where(far > mid, log_buckets, distances).long()


def layer(module, states, queries, allowed, relative, keep):
    """A layer's new states, and the probabilities of its attention. `keep` is given name and value of every part."""
    context, probs = attention(module.attention.self, states, queries, allowed, relative, keep)
    attended = module.attention.output(context, queries)
    return module.output(module.intermediate(attended), attended), probs


def attention(self, states, queries, allowed, relative, keep):
    """The disentangled attention `self`: states and queries [b, n, H], allowed [b, 1, n, n], relative of `positions`."""

    def split(x):
        return x.view(*x.shape[:2], self.num_attention_heads, -1).transpose(1, 2)

    q, k, v = projections(self, states, queries, split)
    scale = math.sqrt(self.attention_head_size * terms(self))
    q = q / scale
    scores = keep("c2c", q @ k.transpose(-1, -2))
    if relative is not None:
        table, index = relative
        index = index.expand(*scores.shape)
        of_keys, of_queries = position_layers(self)
        if "c2p" in self.pos_att_type:
            c2p = q @ split(of_keys(table)).transpose(-1, -2)
            scores = scores + keep("c2p", c2p.gather(-1, index))
        if "p2c" in self.pos_att_type:
            # p2c[i, j] is the product of key j and the position of i - j
            p2c = k @ (split(of_queries(table)) / scale).transpose(-1, -2)
            scores = scores + keep("p2c", p2c.gather(-1, index.transpose(-1, -2)).transpose(-1, -2))
    keep("scores", scores)
    probs = scores.masked_fill(~allowed, -math.inf).softmax(-1).masked_fill(~allowed, 0.0)
    keep("probs", probs)
    return (probs @ v).transpose(1, 2).flatten(2), probs


def projections(self, states, queries, split):
    """Queries, keys and values of the heads, [b, h, n, d]."""
    if hasattr(self, "query_proj"):
        return split(self.query_proj(queries)), split(self.key_proj(states)), split(self.value_proj(states))
    _, k, v = split(self.in_proj(states)).chunk(3, -1)
    q = split(self.in_proj(queries)).chunk(3, -1)[0]
    return q + split(self.q_bias[None, None]), k, v + split(self.v_bias[None, None])


def terms(self):
    """What the scale counts: version 1 every entry of the list, later ones those that they know."""
    if hasattr(self, "query_proj"):
        return 1 + ("c2p" in self.pos_att_type) + ("p2c" in self.pos_att_type)
    return 1 + len(self.pos_att_type)


def position_layers(self):
    """The layers that make keys and queries of the rows of the table; None where there is none."""
    if getattr(self, "share_att_key", False):
        return self.key_proj, self.query_proj
    names = ("pos_key_proj", "pos_query_proj") if hasattr(self, "query_proj") else ("pos_proj", "pos_q_proj")
    return tuple(getattr(self, name, None) for name in names)
