"""Writes the TensorFlow traces of the cases from what record_pytorch.py wrote. Runs without torch.

python record_tensorflow.py DATA [CASE …]
"""

import os

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "USE_TORCH": "0", "USE_TF": "1"}
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "0"}

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import safetensors_file  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
import transformers  # noqa: E402
from cases import selected  # noqa: E402
from transformers import DebertaConfig, DebertaV2Config  # noqa: E402

transformers.logging.set_verbosity_error()
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

VERSIONS = f"tensorflow {tf.__version__} + transformers {transformers.__version__}"
ENDS = {".kernel": (".weight", True), ".gamma": (".weight", False), ".beta": (".bias", False)}
ENDS |= {"embeddings.embeddings": ("embeddings.weight", False)}
# Version 2 has other names in PyTorch alone.
V2_NAMES = {".pos_proj.": ".pos_key_proj.", ".pos_q_proj.": ".pos_query_proj."}


def main():
    data = Path(sys.argv[1])
    for name, case in selected(sys.argv[2:]):
        if "" in case.no_tensorflow:
            continue
        print(name, flush=True)
        model = build(data / name, case)
        for input_name, arguments in case.inputs.items():
            if input_name not in case.no_tensorflow:
                record(model, data / name / f"{input_name}.tf.safetensors", arguments, f"TF{case.cls}")


def build(folder, case):
    """The TensorFlow model of the weights in `folder`, assigned by name."""
    tf_keras.backend.clear_session()
    config = (DebertaV2Config if case.v2 else DebertaConfig)(**case.config)
    model = getattr(transformers, f"TF{case.cls}")(config)
    model.build_in_name_scope()
    weights = safetensors_file.read(folder / "model.safetensors")[0]
    unused = set(weights)
    for variable in model.weights:
        name, reversed_axes = canonical(variable.name, case.cls)
        variable.assign(weights[name].T if reversed_axes else weights[name])
        unused.discard(name)
    assert not unused, f"{folder}: TF{case.cls} has no place for {sorted(unused)}"
    return model


def canonical(variable, cls):
    """PyTorch's name of the Keras variable `<scope>/…:0`, and whether its axes are in reverse."""
    path = variable.removesuffix(":0").split("/")[1:]
    name = ".".join(path[1:] if cls in ("DebertaModel", "DebertaV2Model") else path).replace("layer_._", "layer.")
    if cls.startswith("DebertaV2"):
        for keras, torch in V2_NAMES.items():
            name = name.replace(keras, torch)
    for keras, (torch, reversed_axes) in ENDS.items():
        if name.endswith(keras):
            return name.removesuffix(keras) + torch, reversed_axes
    return name, False


def record(model, path, arguments, cls):
    tensors = {k: tf.constant(v) for k, v in arguments.items()}
    outputs = model(tensors, output_hidden_states=True, output_attentions=True)
    arrays = {f"inputs.{k}": v for k, v in arguments.items()}
    for field, value in outputs.items():
        values = {f".{i}": x for i, x in enumerate(value)} if isinstance(value, tuple) else {"": value}
        arrays |= {f"outputs.{field}{i}": x.numpy() for i, x in values.items()}
    for name, array in arrays.items():
        assert np.isfinite(array).all(), f"{path}: {name} is not finite"
    metadata = {"format": "deberta-trace-1", "framework": "tensorflow", "producer": VERSIONS, "class": cls}
    safetensors_file.write(path, arrays, metadata | {"masked_rows": "zero"})


if __name__ == "__main__":
    main()
