"""Writes what PyTorch computes in f64, `model.double()`, for some inputs of the cases: F64 traces that judge the reference
implementation where it judges others.

python record_double.py FOLDER

Three places of transformers compute in f32 whatever the model is: DebertaLayerNorm, the scale of the attention, and one of
the losses, by `.float()` and `torch.float`. Both mean f64 here. The parameters are the f32 numbers of golden/data.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import package  # noqa: F401
import torch
from cases import selected
from deberta_verify.recorder import safetensors_file
from record_pytorch import VERSIONS, build, run, run_microsoft

DATA = Path(__file__).parent.parent / "data"
# Every class, loss, activation function and part of the arithmetic once, in inputs as small as there are.
RECORDED = {
    "activation-gelu": "plain",
    "activation-gelu-fast": "plain",
    "activation-gelu-new": "plain",
    "activation-gelu-pytorch-tanh": "plain",
    "activation-mish": "plain",
    "activation-sigmoid": "plain",
    "activation-silu": "plain",
    "activation-tanh": "plain",
    "mask-decoder": "nothing-allowed",
    "masked-lm": "loss",
    "model-both-positions": "plain",
    "model-embedding-size": "embeddings",
    "model-pair-masks": "blocks",
    "model-short-spans": "plain",
    "model-talking-head": "plain",
    "question-answering": "loss",
    "sequence-classification": "loss-soft",
    "sequence-multi-label": "loss",
    "sequence-regression": "loss",
    "sequence-single-label": "loss",
    "token-classification": "loss",
    "v2-mask-decoder": "plain",
    "v2-model": "plain",
    "v2-model-absolute": "embeddings",
    "v2-model-conv": "plain",
    "v2-model-long": "far",
    "v2-model-no-buckets": "plain",
    "v2-model-separate": "plain",
    "v2-multiple-choice": "loss",
    "v2-replaced-tokens": "loss",
    "v2-sequence-multi-label": "loss",
}
# Of a longer recording the base model is left out: it is in others.
LARGEST = 15_000
BASE_MODEL = ("activations.deberta", "outputs.hidden_states", "outputs.attentions")


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    for name, case in selected(list(RECORDED)):
        input_name = RECORDED[name]
        with tempfile.TemporaryDirectory() as scratch:
            model, rest = build(name, case, Path(scratch))
            written = (Path(scratch) / "model.safetensors").read_bytes()
        assert written == (DATA / name / "model.safetensors").read_bytes(), f"{name}: not the weights of golden/data"
        model.double()
        arguments = {k: double(torch.from_numpy(v)) for k, v in case.inputs[input_name].items()}
        if case.microsoft:
            framework, rows = "microsoft", "zero"
            record = run_microsoft(case, model, {k: v.double() for k, v in rest.items()}, arguments)
        else:
            framework, rows = "pytorch", "uniform"
            record = run(model, arguments, input_name in case.mask_of_rows)
        record = {k: np.asarray(v) for k, v in record.items()}
        if sum(v.size for v in record.values()) > LARGEST:
            record = {k: v for k, v in record.items() if not k.startswith(BASE_MODEL)}
        arrays = {f"inputs.{k}": v.numpy() for k, v in arguments.items()} | record
        for tensor_name, array in arrays.items():
            assert array.dtype in (np.float64, np.int64), f"{name}: {tensor_name} is {array.dtype}"
            assert np.isfinite(array).all(), f"{name}: {tensor_name} is not finite"
        metadata = {
            "format": "deberta-trace-1",
            "framework": framework,
            "producer": f"{VERSIONS} in f64",
            "class": case.cls,
            "masked_rows": rows,
        }
        path = folder / f"{name}.{input_name}.safetensors"
        safetensors_file.write(path, arrays, metadata, "F64")
        print(f"{path.name}: {len(record)} tensors, {sum(v.size for v in record.values())} numbers")


def double(tensor):
    return tensor.double() if tensor.is_floating_point() else tensor


if __name__ == "__main__":
    torch.Tensor.float = torch.Tensor.double
    torch.float = torch.float64
    main()
