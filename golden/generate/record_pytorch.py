"""Writes config.json, model.safetensors and the PyTorch traces of the cases.

python record_pytorch.py DATA [CASE …]
"""

import json
import sys
from pathlib import Path

import numpy as np
import package  # noqa: F401
import torch
import transformers
from cases import selected
from deberta_verify.recorder import pytorch, safetensors_file
from deberta_verify.recorder.settings import Settings
from deberta_verify.recorder.taking import WHOLE
from mask_decoder import run as run_mask_decoder
from random_weights import random_weights
from replaced_tokens import run as run_replaced_tokens
from transformers import DebertaConfig, DebertaV2Config

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

VERSIONS = pytorch.versions()
# By the head of Microsoft's that a trace is of.
PRODUCERS = {
    "": VERSIONS,
    "emd": f"enhanced mask decoder on {VERSIONS}",
    "rtd": f"replaced token detection on {VERSIONS}",
}
FEW = ("pos_proj", "pos_q_proj", "pos_key_proj", "pos_query_proj", "encoder.LayerNorm", "attention.self")
POSITIONS = {"key_proj": ("pos_key_proj", "c2p"), "query_proj": ("pos_query_proj", "p2c")}
POSITIONS = "deberta.embeddings.position_embeddings.weight"


def main():
    data = Path(sys.argv[1])
    for name, case in selected(sys.argv[2:]):
        print(name, flush=True)
        folder = data / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        config = {"model_type": case.model_type} | architectures(case) | case.config
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        write_traces(case, *build(name, case, folder), folder)


def write_traces(case, model, rest, folder):
    """The traces of every input, from the model and the parameters that its class has no place for."""
    for input_name, arguments in case.inputs.items():
        arguments = {k: torch.from_numpy(v) for k, v in arguments.items()}
        if not {"", input_name} & set(case.no_pytorch):
            record = run(model, arguments, input_name in case.mask_of_rows)
            if input_name in case.outputs_only:
                record = {k: v for k, v in record.items() if k.startswith("outputs.") or k.endswith(FEW)}
            save(folder / f"{input_name}.safetensors", arguments, record, case.cls)
        if case.microsoft:
            record, more = run_microsoft(case, model, rest, arguments), {}
            if input_name in case.clamped:
                record = {k: v for k, v in record.items() if ".attention.self." not in k}
                more = {"far_positions": "clamped"}
            path = folder / f"{input_name}.{case.microsoft}.safetensors"
            save(path, arguments, record, case.cls, case.microsoft, **more)


def architectures(case):
    """What config.json says of the class; Microsoft's own do not name it, and transformers has none for one of them."""
    return {} if case.microsoft == "rtd" else {"architectures": [case.cls]}


def configuration(case):
    return (DebertaV2Config if case.v2 else DebertaConfig)(**case.config | case.recorded_with)


def build(name, case, folder):
    """Writes model.safetensors and loads it: the model in f32, and the parameters that its class has no place for."""
    model = getattr(transformers, case.transformers_class)(configuration(case)).eval()
    shapes = {k: tuple(v.shape) for k, v in model.named_parameters()}  # a tied one counts once
    shapes.pop("cls.predictions.decoder.bias", None)
    path = folder / "model.safetensors"
    shapes |= microsoft_shapes(case, model.config)
    safetensors_file.write(path, random_weights(name, shapes), {"format": "pt"}, case.dtype)
    return model, load(model, path)


def microsoft_shapes(case, config):
    """The parameters of Microsoft's heads that transformers' class has not, and the positions of their checkpoints."""
    if not case.microsoft:
        return {}
    hidden = config.hidden_size
    shapes = {POSITIONS: (config.max_position_embeddings, hidden)}
    if case.microsoft == "rtd":
        for part, rows in (("dense", hidden), ("classifier", 1)):
            shapes |= {f"mask_predictions.{part}.weight": (rows, hidden), f"mask_predictions.{part}.bias": (rows,)}
        shapes |= {f"mask_predictions.LayerNorm.{kind}": (hidden,) for kind in ("weight", "bias")}
    return shapes


def load(model, path):
    """Assigns the parameters of the file to the model, and returns those that it has no place for."""
    weights = {k: torch.from_numpy(np.array(v)) for k, v in safetensors_file.read(path)[0].items()}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(weights.pop(key))
    assert all(key == POSITIONS or key.startswith("mask_predictions.") for key in weights), set(weights)
    return weights


def run_microsoft(case, model, rest, arguments):
    """What Microsoft's head computes, as `run` has what the class of transformers does."""
    with torch.no_grad():
        if case.microsoft == "rtd":
            return run_replaced_tokens(model, rest, **arguments)
        return run_mask_decoder(model, rest.get(POSITIONS), **arguments)


def run(model, arguments, mask_of_rows):
    """All activations and outputs, as arrays named activations.* and outputs.*."""
    recorded = {}
    settings = Settings.of(model.config.to_dict())
    pytorch.run(model, arguments, recorded.__setitem__, settings, mask_of_rows)
    return recorded


def save(path, arguments, recorded, cls, microsoft="", **more):
    tensors = {f"inputs.{k}": v for k, v in arguments.items()} | recorded
    arrays = {k: np.asarray(v.detach() if isinstance(v, torch.Tensor) else v) for k, v in tensors.items()}
    for name, array in arrays.items():
        assert np.isfinite(array).all(), f"{path}: {name} is not finite"
    framework, rows = ("microsoft", "zero") if microsoft else ("pytorch", "uniform")
    metadata = {"format": WHOLE, "framework": framework, "producer": PRODUCERS[microsoft], "class": cls}
    safetensors_file.write(path, arrays, metadata | {"masked_rows": rows} | more)


if __name__ == "__main__":
    main()
