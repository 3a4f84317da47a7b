"""The weight recipe in numpy: the twin of converters/src/recipe/mod.rs, bit for bit. docs/recipe.md says what it computes and why.
Needs numpy alone; with blake3 its digests take less time.

python recipe.py digest CONFIG HEAD SEED   # what deberta-convert digest prints of these weights
python recipe.py vectors CONFIG SEED       # the digests for all heads, and numbers of every parameter of mlm, as JSON

CONFIG is the name of a file in converters/src/recipe/sizes (base, v3-base, …) or a config.json; HEAD is base, mlm, emd, seqcls,
tokcls or qa, of versions 2 and 3 also mc or rtd.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import package  # noqa: F401
from deberta_verify.recorder.digest import digest_line, digest_of
from deberta_verify.recorder.stream import Stream

RECIPE = "deberta-recipe-1"
CHUNK = 1 << 16

FOLDER = Path(__file__).parents[2] / "converters/src/recipe/sizes"
SIZES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
HEADS = ("base", "mlm", "emd", "seqcls", "tokcls", "qa")
HEADS_2 = (*HEADS, "mc", "rtd")


def is_version_2(config):
    return config.get("model_type") == "deberta-v2"


# The standard deviation of Stream.bell, and that of its cubic with heavy tails.
BELL, HEAVY = 1.1547, 1.7755
# What the queries and keys of a head are multiplied with: one of these, by chance.
SHARPNESS = np.array([0.75, 1.25, 1.75, 2.5], np.float32)


def numbers(name, shape, config, seed):
    """The numbers of a parameter, by its canonical name without `deberta.`."""
    if "LayerNorm." in name:
        return norm(name, shape[0], seed)
    stream = Stream(seed, name)
    width, rows = shape[-1], math.prod(shape[:-1])
    # A convolution's kernel [out, in / groups, k] is a linear layer of so many inputs.
    middle, heavy, scale = law(name, math.prod(shape[1:]))
    scales = factors(name, rows, config, seed) * np.float32(scale)
    out = np.empty((rows, width), np.float32)
    step = max(CHUNK // width, 1)
    for first in range(0, rows, step):
        part = out[first : first + step]
        x = stream.bell(first * width, part.size).reshape(part.shape)
        if heavy:
            x = x * (x * x * np.float32(0.25) + np.float32(0.5))
        part[:] = x * scales[first : first + step, None] + np.float32(middle)
    if name.endswith(("head_logits_proj.weight", "head_weights_proj.weight")):
        out += np.eye(rows, dtype=np.float32)
    return out.reshape(shape)


def norm(name, size, seed):
    """A gain or a shift: three features of this normalisation are tall, two of the whole model steady."""
    stream, module = Stream(seed, name), name.rpartition(".")[0]
    tall = (Stream(seed, f"{module}/tall").words(0, 3) % np.uint64(size)).astype(int)
    steady = (Stream(seed, "steady").words(0, 2) % np.uint64(size)).astype(int)
    if name.endswith("weight"):
        gain = stream.uniform(0, size) * np.float32(0.4) + np.float32(0.6)
        gain[tall] *= np.float32(5)
        gain[steady] *= np.float32(0.5)
        return gain
    shift = stream.bell(0, size) * np.float32(0.05 / BELL)
    shift[steady[0]] += np.float32(3)
    shift[steady[1]] -= np.float32(3)
    return shift


def law(name, inputs):
    """The middle, whether the tails are heavy, and the factor of what comes from the stream."""
    if name.endswith("rel_embeddings.weight"):
        return 0.0, True, 0.5 / HEAVY
    if name.endswith(("_embeddings.weight", "predictions.decoder.weight")):
        return 0.0, True, 0.05 / HEAVY
    if name.endswith(("head_logits_proj.weight", "head_weights_proj.weight")):
        return 0.0, False, 0.2 / BELL
    if name.endswith("intermediate.dense.bias"):
        return -0.3, True, 0.2 / HEAVY
    if name.endswith(("predictions.bias", "lm_head.bias")):
        return 0.0, True, 0.5 / HEAVY
    if name.endswith(("q_bias", ".query_proj.bias", ".key_proj.bias")):
        return 0.0, False, 0.3 / BELL
    if name.endswith("bias"):
        return 0.0, True, 0.03 / HEAVY
    return 0.0, False, gain(name) / math.sqrt(inputs) / BELL


def gain(name):
    for end, gain in [
        ("attention.output.dense.weight", 0.2),
        ("intermediate.dense.weight", 1.5),
        ("output.dense.weight", 0.5),
        ("pos_proj.weight", 1.8),
        ("pos_q_proj.weight", 1.8),
        ("pos_key_proj.weight", 1.8),
        ("pos_query_proj.weight", 1.8),
    ]:
        if name.endswith(end):
            return gain
    return 1.0


# Those of queries and keys, of tokens and of positions.
PROJECTIONS = ("in_proj", "pos_proj", "pos_q_proj", "query_proj", "key_proj", "pos_key_proj", "pos_query_proj")
PROJECTIONS = tuple(f".{name}.weight" for name in PROJECTIONS)


def factors(name, rows, config, seed):
    """What the rows of a matrix are multiplied with, all together."""
    at = np.arange(rows)
    if name.endswith(("word_embeddings.weight", "predictions.decoder.weight")):
        return Stream(seed, f"{name}/rows").uniform(0, rows) + np.float32(0.5)
    if name.endswith("rel_embeddings.weight"):
        return np.where(abs(at - rows // 2) <= 1, np.float32(4), np.float32(1))
    if name.endswith(PROJECTIONS):
        h = config["num_attention_heads"]
        d = config["hidden_size"] // h
        choices = Stream(seed, f"{name.rpartition('.self.')[0]}.self/heads").words(0, h) >> np.uint64(62)
        of_head = SHARPNESS[choices.astype(int)]
        if name.endswith("in_proj.weight"):
            values = at % (3 * d) >= 2 * d
            return np.where(values, np.float32(1), of_head[at // (3 * d)])
        return of_head[at // d]
    return np.ones(rows, np.float32)


def parameters(config, head):
    """Canonical name and shape of every parameter, as reference/src/params.rs lists them."""
    get = lambda key, default: config[key] if config.get(key) is not None else default  # noqa: E731
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    vocabulary, width = config["vocab_size"], get("embedding_size", hidden)
    positions, types = config["max_position_embeddings"], get("type_vocab_size", 0)
    terms = get("pos_att_type", [])
    terms = [term.strip() for term in terms.lower().split("|")] if isinstance(terms, str) else terms
    relative = get("relative_attention", False)
    largest = get("max_relative_positions", -1)
    largest = positions if largest < 1 else largest
    shapes = {}

    def linear(name, out, into, bias=True):
        shapes[f"{name}.weight"] = (out, into)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    def layer_norm(name, size):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (size,)

    p = "" if head == "base" else "deberta."
    shapes[f"{p}embeddings.word_embeddings.weight"] = (vocabulary, width)
    if get("position_biased_input", True) or head == "emd":
        shapes[f"{p}embeddings.position_embeddings.weight"] = (positions, width)
    if types:
        shapes[f"{p}embeddings.token_type_embeddings.weight"] = (types, width)
    if width != hidden:
        linear(f"{p}embeddings.embed_proj", hidden, width, bias=False)
    layer_norm(f"{p}embeddings.LayerNorm", hidden)
    for i in range(layers):
        at = f"{p}encoder.layer.{i}"
        attention = f"{at}.attention.self"
        if is_version_2(config):
            for kind in ("query", "key", "value"):
                linear(f"{attention}.{kind}_proj", hidden, hidden)
            for term, kind in (("c2p", "key"), ("p2c", "query")):
                if relative and term in terms and not get("share_att_key", False):
                    linear(f"{attention}.pos_{kind}_proj", hidden, hidden)
        else:
            shapes[f"{attention}.q_bias"] = shapes[f"{attention}.v_bias"] = (hidden,)
            linear(f"{attention}.in_proj", 3 * hidden, hidden, bias=False)
            if get("talking_head", False):
                for mixing in ("head_logits_proj", "head_weights_proj"):
                    h = config["num_attention_heads"]
                    linear(f"{attention}.{mixing}", h, h, bias=False)
            if relative and "c2p" in terms:
                linear(f"{attention}.pos_proj", hidden, hidden, bias=False)
            if relative and "p2c" in terms:
                linear(f"{attention}.pos_q_proj", hidden, hidden)
        linear(f"{at}.attention.output.dense", hidden, hidden)
        layer_norm(f"{at}.attention.output.LayerNorm", hidden)
        linear(f"{at}.intermediate.dense", inner, hidden)
        linear(f"{at}.output.dense", hidden, inner)
        layer_norm(f"{at}.output.LayerNorm", hidden)
    buckets, kernel = (get(key, 0) if is_version_2(config) else 0 for key in ("position_buckets", "conv_kernel_size"))
    if relative:
        shapes[f"{p}encoder.rel_embeddings.weight"] = (2 * (buckets if buckets > 0 else largest), hidden)
    if is_version_2(config) and "layer_norm" in (word.strip() for word in get("norm_rel_ebd", "none").lower().split("|")):
        layer_norm(f"{p}encoder.LayerNorm", hidden)
    if kernel > 0:
        shapes[f"{p}encoder.conv.conv.weight"] = (hidden, hidden // get("conv_groups", 1), kernel)
        shapes[f"{p}encoder.conv.conv.bias"] = (hidden,)
        layer_norm(f"{p}encoder.conv.LayerNorm", hidden)
    if head == "mlm" and get("legacy", True):
        shapes["cls.predictions.bias"] = (vocabulary,)
        linear("cls.predictions.transform.dense", width, hidden)
        layer_norm("cls.predictions.transform.LayerNorm", width)
        if not get("tie_word_embeddings", True):
            shapes["cls.predictions.decoder.weight"] = (vocabulary, width)
    elif head in ("mlm", "emd"):
        shapes["lm_predictions.lm_head.bias"] = (vocabulary,)
        linear("lm_predictions.lm_head.dense", hidden, hidden)
        layer_norm("lm_predictions.lm_head.LayerNorm", hidden)
    elif head == "qa":
        linear("qa_outputs", 2, hidden)
    elif head == "rtd":
        linear("mask_predictions.dense", hidden, hidden)
        layer_norm("mask_predictions.LayerNorm", hidden)
        linear("mask_predictions.classifier", 1, hidden)
    elif head != "base":
        labels = len(config["id2label"]) if config.get("id2label") else get("num_labels", 2)
        if head in ("seqcls", "mc"):
            pooled = get("pooler_hidden_size", hidden)
            linear("pooler.dense", pooled, pooled)
        linear("classifier", 1 if head == "mc" else labels, hidden)
    return shapes


def weights(config, head, seed):
    """Every parameter by its canonical name, one after the other."""
    for name, shape in parameters(config, head).items():
        yield name, numbers(name.removeprefix("deberta."), shape, config, seed)


def read_config(name):
    return SIZES[name] if name in SIZES else json.loads(Path(name).read_text())


def digest(config, head, seed):
    """The weight digest: docs/formats/digest.md."""
    return digest_of([digest_line(name, array) for name, array in weights(config, head, seed)])


def vectors(config, seed):
    """The digests for all heads; of every parameter of a masked LM the bits of its first numbers, its last and some between."""
    lines = ['{"digests": {']
    digests = [f"  {json.dumps(head)}: {json.dumps(digest(config, head, seed))}" for head in (HEADS_2 if is_version_2(config) else HEADS)]
    lines += [",\n".join(digests), "}, \"numbers\": {"]
    numbers = []
    for name, array in weights(config, "mlm", seed):
        flat = array.reshape(-1).view("<u4")
        places = sorted({*range(min(4, flat.size)), *(k * (flat.size - 1) // 5 for k in range(6))})
        bits = {str(at): f"{flat[at]:08x}" for at in places}
        numbers.append(f"  {json.dumps(name)}: {json.dumps({'shape': array.shape, 'bits': bits})}")
    return "\n".join([*lines, ",\n".join(numbers), "}}"])


def main():
    what, config, *rest = sys.argv[1:]
    config = read_config(config)
    if what == "digest":
        head, seed = rest
        print(digest(config, head, int(seed)))
    elif what == "vectors":
        print(vectors(config, int(rest[0])))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
