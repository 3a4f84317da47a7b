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
import recipe
import safetensors_file
import torch
import transformers
from mask_decoder import run as run_mask_decoder
from samples import Recorder
from transformers import DebertaConfig

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

VERSIONS = f"torch {torch.__version__.split('+')[0]} + transformers {transformers.__version__}"
UNNAMED = ("Dropout", "DebertaEncoder", "DebertaModel")
POSITIONS = "deberta.embeddings.position_embeddings.weight"
SEED = 1

# Where tolerances are wider, as golden/src/judge/tolerance.rs has them by default.
SOFTMAX = ("outputs.attentions.*", "activations.*attention.self.probs", "activations.*attention.self")

HEADS = {
    "base": "DebertaModel",
    "mlm": "DebertaForMaskedLM",
    "emd": "DebertaForMaskedLM",
    "seqcls": "DebertaForSequenceClassification",
    "tokcls": "DebertaForTokenClassification",
    "qa": "DebertaForQuestionAnswering",
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
}


def inputs(config, head):
    """Arguments of `forward` by the name of the input. 600 tokens are more than there are positions."""

    def ids(name, b, n):
        words = recipe.Stream(SEED, f"inputs/{name}").words(0, b * n)
        return (5 + words % np.uint64(config["vocab_size"] - 5)).astype(np.int64).reshape(b, n)

    lengths = [16, 128, 512, 600] if config["max_position_embeddings"] == 512 else [1, 16, 32, 40]
    given = {f"n{n}": {"input_ids": ids(f"n{n}", 1, n)} for n in lengths}
    n = 64 if config["max_position_embeddings"] == 512 else 12
    mask = np.ones((3, n), np.int64)
    mask[1, n * 5 // 8 :] = 0
    mask[2, : n // 3] = 0
    given["padded"] = {"input_ids": ids("padded", 3, n) * mask, "attention_mask": mask}
    if head == "emd":  # which has no positions beyond the last
        del given[f"n{lengths[-1]}"]
    return given


def build(config, head):
    """The model with the weights of the recipe, and the mask decoder's positions."""
    settings = config | ({"legacy": False, "tie_word_embeddings": False} if head == "emd" else {})
    with torch.device("meta"):
        model = getattr(transformers, HEADS[head])(DebertaConfig(**settings))
    parameters, positions, lines = dict(model.named_parameters()), None, []
    for name, array in recipe.weights(config, head, SEED):
        lines.append(recipe.digest_line(name, array))
        tensor = torch.from_numpy(array)
        if name not in parameters:
            assert name == POSITIONS, name
            positions = tensor
            continue
        assert parameters[name].shape == tensor.shape, name
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, torch.nn.Parameter(tensor, requires_grad=False))
    model.tie_weights()
    for name, buffer in model.named_buffers():
        assert name.endswith("position_ids"), name
        owner, _, last = name.rpartition(".")
        model.get_submodule(owner).register_buffer(last, torch.arange(buffer.shape[-1])[None], persistent=False)
    assert not any(parameter.is_meta for parameter in model.parameters())
    return model.eval(), positions, recipe.digest_of(lines)


def run(model, positions, arguments, add):
    """Gives `add` the name and the numbers of every activation and output."""
    arguments = {key: torch.from_numpy(value) for key, value in arguments.items()}
    if positions is not None:
        with torch.no_grad():
            for name, tensor in run_mask_decoder(model, positions, **arguments).items():
                add(name, tensor.numpy())
        return

    def keep(name):
        def hook(_module, _arguments, output):
            output = output[0] if isinstance(output, tuple) else output
            add(f"activations.{name}", output.detach().numpy())

        return hook

    hooks = []
    for name, module in model.named_modules():
        if not (type(module).__name__ in UNNAMED or name.endswith("act_fn") or name == ""):
            hooks.append(module.register_forward_hook(keep(name)))
    with torch.no_grad():
        outputs = model(**arguments, output_hidden_states=True, output_attentions=True)
    for hook in hooks:
        hook.remove()
    for field, value in outputs.items():
        for i, tensor in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            add(f"outputs.{field}" if i is None else f"outputs.{field}.{i}", tensor.numpy())


def record(name, folder, whole):
    config, head, about = CASES[name]
    is_file = isinstance(config, dict)
    named, config = ("./config.json", config) if is_file else (config, recipe.SIZES[config])
    cls = HEADS[head]
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    model, positions, digest = build(config, head)
    framework, masked_rows = ("microsoft", "zero") if head == "emd" else ("pytorch", "uniform")
    producer = f"enhanced mask decoder on {VERSIONS}" if head == "emd" else VERSIONS
    metadata = {"framework": framework, "producer": producer, "class": cls, "masked_rows": masked_rows}
    traces = []
    wanted = os.environ.get("DEBERTA_INPUTS", "").split()
    for label, arguments in inputs(config, head).items():
        if wanted and label not in wanted:
            continue
        path = folder / f"{label}.safetensors"
        if whole:
            found = {f"inputs.{key}": value for key, value in arguments.items()}
            run(model, positions, arguments, lambda name, array: found.__setitem__(name, array.copy()))
            safetensors_file.write(path, found, metadata | {"format": "deberta-trace-1"})
        else:
            recorder = Recorder(arguments, cls)
            run(model, positions, arguments, recorder.add)
            recorder.write(path, metadata)
        traces.append(f"  - {{file: {path.name}, framework: {framework}, class: {cls}, masked_rows: {masked_rows}}}")
        print(f"{name}: {label}", flush=True)
    lines = [
        f"description: {json.dumps(about)}",
        f"model: {{recipe: {recipe.RECIPE}, config: {named}, head: {head}, seed: {SEED}}}",
        f"class: {cls}",
        f"producer: {json.dumps(producer)}",
        f'digest: "{digest}"',
        "tolerances:",
        "  default: {atol: 5.0e-6, rtol: 1.0e-5, scale: 1.0e-5}",
        "  patterns:",
        *(f'    - {{pattern: "{pattern}", atol: 5.0e-6, rtol: 1.0e-5, scale: 5.0e-5}}' for pattern in SOFTMAX),
        "traces:",
        *traces,
    ]
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
