"""Writes the TensorFlow traces of the cases from what record_pytorch.py wrote. Runs without torch.

python record_tensorflow.py DATA [CASE …]
"""

import os

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "USE_TORCH": "0", "USE_TF": "1"}
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "0"}

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import package  # noqa: E402, F401
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
import transformers  # noqa: E402
from cases import selected  # noqa: E402
from deberta_verify.recorder import safetensors_file, tensorflow  # noqa: E402
from deberta_verify.recorder.classes import ModelClass  # noqa: E402
from deberta_verify.recorder.taking import WHOLE  # noqa: E402

transformers.logging.set_verbosity_error()
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


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
    cls = ModelClass.of(f"TF{case.cls}")
    transformers_class = getattr(transformers, str(cls))
    weights = safetensors_file.read(folder / "model.safetensors")[0]
    model = tensorflow.build(transformers_class, transformers_class.config_class(**case.config), cls, weights.get, folder)
    unused = set(weights) - {name for name, _ in tensorflow.parameters(model, cls)}
    assert not unused, f"{folder}: {cls} has no place for {sorted(unused)}"
    return model


def record(model, path, arguments, cls):
    arrays = {f"inputs.{k}": v for k, v in arguments.items()}
    tensorflow.run(model, arguments, arrays.__setitem__)
    for name, array in arrays.items():
        assert np.isfinite(array).all(), f"{path}: {name} is not finite"
    metadata = {"format": WHOLE, "framework": "tensorflow", "producer": tensorflow.versions(), "class": cls}
    safetensors_file.write(path, arrays, metadata | {"masked_rows": "zero"})


if __name__ == "__main__":
    main()
