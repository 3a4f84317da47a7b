"""Writes config.json, model.safetensors and the PyTorch traces of the cases.

python record_pytorch.py DATA [CASE …]
"""

import json
import sys
from pathlib import Path

import numpy as np
import safetensors_file
import torch
import transformers
from cases import selected
from mask_decoder import run as run_mask_decoder
from random_weights import random_weights
from transformers import DebertaConfig

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

VERSIONS = f"torch {torch.__version__.split('+')[0]} + transformers {transformers.__version__}"
# Modules that are not activations of their own: what they return is named otherwise, or is their argument.
UNNAMED = ("Dropout", "DebertaEncoder", "DebertaModel")
FEW = ("pos_proj", "pos_q_proj", "attention.self")
POSITIONS = "deberta.embeddings.position_embeddings.weight"


def main():
    data = Path(sys.argv[1])
    for name, case in selected(sys.argv[2:]):
        print(name, flush=True)
        folder = data / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        config = {"model_type": "deberta", "architectures": [case.cls]} | case.config
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        model, positions = build(name, case, folder)
        for input_name, arguments in case.inputs.items():
            arguments = {k: torch.from_numpy(v) for k, v in arguments.items()}
            if input_name not in case.no_pytorch:
                record = run(model, arguments, input_name in case.mask_of_rows)
                if input_name in case.outputs_only:
                    record = {k: v for k, v in record.items() if k.startswith("outputs.") or k.endswith(FEW)}
                save(folder / f"{input_name}.safetensors", arguments, record, case.cls, "pytorch", "uniform")
            if case.mask_decoder:
                with torch.no_grad():
                    record = run_mask_decoder(model, positions, **arguments)
                save(folder / f"{input_name}.emd.safetensors", arguments, record, case.cls, "microsoft", "zero")


def build(name, case, folder):
    """Writes model.safetensors and loads it: the model in f32, and the mask decoder's positions if there are any."""
    model = getattr(transformers, case.cls)(DebertaConfig(**case.config | case.recorded_with)).eval()
    shapes = {k: tuple(v.shape) for k, v in model.named_parameters()}  # a tied one counts once
    if case.mask_decoder:
        shapes[POSITIONS] = (model.config.max_position_embeddings, model.config.hidden_size)
    shapes.pop("cls.predictions.decoder.bias", None)
    path = folder / "model.safetensors"
    safetensors_file.write(path, random_weights(name, shapes), {"format": "pt"}, case.dtype)

    weights = {k: torch.from_numpy(np.array(v)) for k, v in safetensors_file.read(path)[0].items()}
    parameters = dict(model.named_parameters())
    positions = weights[POSITIONS] if case.mask_decoder else None
    if POSITIONS not in parameters:
        weights.pop(POSITIONS, None)
    assert set(weights) == set(parameters), set(weights) ^ set(parameters)
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(weights[key])
    return model, positions


def run(model, arguments, mask_of_rows):
    """All activations and outputs, as arrays named activations.* and outputs.*."""
    recorded, hooks = {}, []

    def keep(name):
        def hook(_module, _arguments, output):
            output = output[0] if isinstance(output, tuple) else output
            recorded[f"activations.{name}"] = output.detach().clone()

        return hook

    def rows_of_pairs(_module, arguments, named):
        return arguments, named | {"mask": named["mask"].amax(-1)}

    for name, module in model.named_modules():
        silent = type(module).__name__ in UNNAMED or name.endswith("act_fn") or name == ""
        if not silent:
            hooks.append(module.register_forward_hook(keep(name)))
        if mask_of_rows and type(module).__name__ == "DebertaEmbeddings":
            hooks.append(module.register_forward_pre_hook(rows_of_pairs, with_kwargs=True))
    with torch.no_grad():
        outputs = model(**arguments, output_hidden_states=True, output_attentions=True)
    for hook in hooks:
        hook.remove()
    for field, value in outputs.items():
        if isinstance(value, tuple):
            recorded |= {f"outputs.{field}.{i}": tensor for i, tensor in enumerate(value)}
        else:
            recorded[f"outputs.{field}"] = value
    return recorded


def save(path, arguments, recorded, cls, framework, masked_rows):
    tensors = {f"inputs.{k}": v for k, v in arguments.items()} | recorded
    arrays = {k: v.detach().numpy() for k, v in tensors.items()}
    for name, array in arrays.items():
        assert np.isfinite(array).all(), f"{path}: {name} is not finite"
    producer = f"enhanced mask decoder on {VERSIONS}" if framework == "microsoft" else VERSIONS
    metadata = {"format": "deberta-trace-1", "framework": framework, "producer": producer, "class": cls}
    safetensors_file.write(path, arrays, metadata | {"masked_rows": masked_rows})


if __name__ == "__main__":
    main()
