"""Writes the goldens of the published sizes, golden/sizes: what PyTorch computes with the weights of the recipe, as samples.

python record_sizes.py SIZES [CASE …]           # case.yaml and the traces
python record_sizes.py --whole FOLDER CASE …    # whole traces in FOLDER/CASE, for tests/bench/floor.sh

DEBERTA_INPUTS names the inputs to record, all when it is not given.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import package  # noqa: F401
import recipe
import torch
import transformers
from deberta_verify.recorder import case, pytorch
from deberta_verify.recorder.settings import Settings
from deberta_verify.recorder.taking import Taken
from mask_decoder import run as run_mask_decoder
from record_pytorch import POSITIONS, PRODUCERS
from replaced_tokens import run as run_replaced_tokens
from transformers import DebertaConfig, DebertaV2Config, DebertaV2Model

SEED = 1

# The classes of transformers, by head, after Deberta or DebertaV2.
CLASSES = {
    "base": "Model",
    "mlm": "ForMaskedLM",
    "emd": "ForMaskedLM",
    "seqcls": "ForSequenceClassification",
    "tokcls": "ForTokenClassification",
    "qa": "ForQuestionAnswering",
    "mc": "ForMultipleChoice",
}
SMALL = {
    "model_type": "deberta",
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 32,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["c2p", "p2c"],
    "type_vocab_size": 0,
}
# Log buckets, a table that is normalised, shared projections and a convolution; fewer buckets than distances.
SMALL_2 = SMALL | {
    "model_type": "deberta-v2",
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "conv_kernel_size": 3,
    "conv_act": "gelu",
}
# The folder, the configuration, the head, what it is about.
CASES = {
    "small": (SMALL, "mlm", "A small masked LM, for tests that run with every change"),
    "small-mask-decoder": (SMALL, "emd", "A small enhanced mask decoder"),
    "base": ("base", "base", "DebertaModel of deberta-base's size"),
    "base-masked-lm": ("base", "mlm", "Masked LM of deberta-base's size"),
    "base-mask-decoder": ("base", "emd", "The enhanced mask decoder at deberta-base's size"),
    "base-sequence-classification": ("base", "seqcls", "Sequence classification at deberta-base's size"),
    "base-token-classification": ("base", "tokcls", "Token classification at deberta-base's size"),
    "base-question-answering": ("base", "qa", "Question answering at deberta-base's size"),
    "large": ("large", "base", "DebertaModel of deberta-large's size"),
    "xlarge": ("xlarge", "base", "DebertaModel of deberta-xlarge's size"),
    "v2-small": (SMALL_2, "mlm", "A small masked LM of version 2, for tests that run with every change"),
    "v2-small-multiple-choice": (SMALL_2, "mc", "A small model of version 2 that chooses"),
    "v2-small-replaced-tokens": (SMALL_2, "rtd", "A small discriminator of version 3"),
    "v2-xlarge": ("v2-xlarge", "base", "DebertaV2Model of deberta-v2-xlarge's size"),
    "v3-small": ("v3-small", "base", "DebertaV2Model of deberta-v3-small's size"),
    "v3-base": ("v3-base", "base", "DebertaV2Model of deberta-v3-base's size"),
    "v3-base-masked-lm": ("v3-base", "mlm", "Masked LM of deberta-v3-base's size"),
    "v3-base-sequence-classification": ("v3-base", "seqcls", "Sequence classification at deberta-v3-base's size"),
    "v3-base-multiple-choice": ("v3-base", "mc", "Multiple choice at deberta-v3-base's size"),
    "v3-base-replaced-tokens": ("v3-base", "rtd", "Replaced token detection at deberta-v3-base's size"),
    "v3-large": ("v3-large", "base", "DebertaV2Model of deberta-v3-large's size"),
    "mdeberta-v3-base": ("mdeberta-v3-base", "base", "DebertaV2Model of mdeberta-v3-base's size"),
}
# Heads that Microsoft's code alone has: far distances are clamped there, and masked rows are 0.
MICROSOFT = ("emd", "rtd")


def class_of(config, head):
    """The class in transformers, or what Microsoft calls its own."""
    if head == "rtd":
        return "ReplacedTokenDetectionModel"
    return ("DebertaV2" if recipe.is_version_2(config) else "Deberta") + CLASSES[head]


def inputs(config, head):
    """Arguments of `forward` by the name of the input. 600 tokens are more than there are positions."""

    def ids(name, b, n):
        words = recipe.Stream(SEED, f"inputs/{name}").words(0, b * n)
        return (5 + words % np.uint64(config["vocab_size"] - 5)).astype(np.int64).reshape(b, n)

    published = config["max_position_embeddings"] == 512
    lengths = [16, 128, 512, 600] if published else [1, 16, 32, 40]
    if head == "emd":  # which has no positions beyond the last
        lengths.pop()
    if published and recipe.is_version_2(config) and (head != "base" or config["vocab_size"] > 200_000):
        # The encoder has the size of v3-base. Logits of 128,100 words take a gigabyte at 512 tokens.
        lengths = [16, 128, 300 if head == "mlm" else 600]
    rows = 2 if head == "mc" else 1
    given = {f"n{n}": {"input_ids": ids(f"n{n}", rows, n)} for n in lengths}
    n = 64 if published else 12
    mask = np.ones((3, n), np.int64)
    mask[1, n * 5 // 8 :] = 0
    mask[2, : n // 3] = 0
    given["padded"] = {"input_ids": ids("padded", 3, n) * mask, "attention_mask": mask}
    if head == "mc":  # the rows are the choices of one question
        given = {name: {key: value[None] for key, value in arguments.items()} for name, arguments in given.items()}
    return given


def build(config, head):
    """The model with the weights of the recipe, and those that its class has no place for."""
    settings = config | ({"legacy": False, "tie_word_embeddings": False} if head == "emd" else {})
    configuration = (DebertaV2Config if recipe.is_version_2(config) else DebertaConfig)(**settings)
    with torch.device("meta"):
        if head == "rtd":
            model = torch.nn.Module()
            model.deberta = DebertaV2Model(configuration)
        else:
            model = getattr(transformers, class_of(config, head))(configuration)
    parameters, rest, lines = dict(model.named_parameters()), {}, []
    for name, array in recipe.weights(config, head, SEED):
        lines.append(recipe.digest_line(name, array))
        tensor = torch.from_numpy(array)
        if name not in parameters:
            assert name == POSITIONS or name.startswith("mask_predictions."), name
            rest[name] = tensor
            continue
        assert parameters[name].shape == tensor.shape, name
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, torch.nn.Parameter(tensor, requires_grad=False))
    if head != "rtd":
        model.tie_weights()
    for name, buffer in model.named_buffers():
        assert name.endswith("position_ids"), name
        owner, _, last = name.rpartition(".")
        model.get_submodule(owner).register_buffer(last, torch.arange(buffer.shape[-1])[None], persistent=False)
    assert not any(parameter.is_meta for parameter in model.parameters())
    return model.eval(), rest, recipe.digest_of(lines)


def run(model, head, rest, arguments, add):
    """Gives `add` the name and the numbers of every activation and output."""
    arguments = {key: torch.from_numpy(value) for key, value in arguments.items()}
    if head in MICROSOFT:
        run_microsoft, weights = (run_mask_decoder, rest.get(POSITIONS)) if head == "emd" else (run_replaced_tokens, rest)
        with torch.no_grad():
            for name, tensor in run_microsoft(model, weights, **arguments).items():
                add(name, tensor.numpy())
        return

    pytorch.run(model, arguments, add, Settings.of(model.config.to_dict()))


def record(name, folder, whole):
    config, head, about = CASES[name]
    is_file = isinstance(config, dict)
    named, config = ("./config.json", config) if is_file else (config, recipe.SIZES[config])
    cls = class_of(config, head)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    model, rest, digest = build(config, head)
    framework, masked_rows = ("microsoft", "zero") if head in MICROSOFT else ("pytorch", "uniform")
    producer = PRODUCERS[head if head in MICROSOFT else ""]
    metadata = {"framework": framework, "producer": producer, "class": cls, "masked_rows": masked_rows}
    traces = {}
    wanted = os.environ.get("DEBERTA_INPUTS", "").split()
    for label, arguments in inputs(config, head).items():
        if wanted and label not in wanted:
            continue
        path = folder / f"{label}.safetensors"
        taken = Taken(arguments, cls, None if whole else 0)
        run(model, head, rest, arguments, taken.add)
        path.write_bytes(taken.whole_trace(metadata) if whole else taken.sampled_trace(metadata))
        traces[path.name] = metadata
        print(f"{name}: {label}", flush=True)
    made = f"{{recipe: {recipe.RECIPE}, config: {named}, head: {head}, seed: {SEED}}}"
    lines = case.Case(about, made, cls, producer, digest).head() + case.tolerances() + case.traces(traces)
    (folder / "case.yaml").write_text("\n".join(lines) + "\n")
    if is_file:
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    arguments = sys.argv[1:]
    whole = arguments[0] == "--whole"
    root, names = Path(arguments[whole]), arguments[whole + 1 :]
    for name in names or CASES:
        record(name, root / name, whole)


main()
