"""Checks what deberta-convert writes as ONNX in ONNX Runtime against recorded traces, and that it reads what PyTorch exports."""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from converter import Converter, Report
from safetensors import safe_open

REPOSITORY = Path(__file__).resolve().parents[3]
TRANSFORMERS = REPOSITORY / "tests" / "fixtures" / "transformers"

LIMIT = 5e-6
"""The largest absolute difference in f32, of outputs and of every activation."""
HALF_LIMIT = 5e-3
OUTPUTS = ("last_hidden_state", "logits", "start_logits", "end_logits")


def trace(path):
    with safe_open(path, "np") as file:
        return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}


def is_checkpoint(path):
    with safe_open(path, "np") as file:
        return not any(key.startswith("inputs.") for key in file.keys())


def golden(converter, report):
    """Every class and flag at every recorded length and batch, all activations among the outputs."""
    for folder in sorted(path for path in (REPOSITORY / "golden" / "data").iterdir() if path.is_dir()):
        source = folder / "model.safetensors"
        if not source.exists() or not is_checkpoint(source):
            report.skip(folder.name, "holds no weights")
            continue
        sessions = {}
        for path in sorted(folder.glob("*.safetensors")):
            if path == source:
                continue
            metadata, tensors = trace(path)
            inputs = {key[7:]: value for key, value in tensors.items() if key.startswith("inputs.")}
            pairs = np.ndim(inputs.get("attention_mask", 0)) > np.ndim(inputs.get("input_ids", 0))
            if "position_ids" in inputs or "input_ids" not in inputs or pairs:
                report.skip(f"{folder.name}/{path.stem}", "has inputs that Optimum's signature has not")
                continue
            if folder.name == "v2-model-rounding" and metadata.get("framework") == "tensorflow":
                report.skip(f"{folder.name}/{path.stem}", "is of TensorFlow's buckets, a graph of PyTorch's")
                continue
            more = ["--masked-rows", metadata.get("masked_rows", "uniform"), "--activations"]
            more += ["--head", "emd"] * (".emd." in path.name)
            key = tuple(more)
            if key not in sessions:
                sessions[key] = session(f"{folder.name} {' '.join(more[1:])}", source, more, converter, report)
            if sessions[key]:
                label = f"{folder.name}/{path.stem}"
                report.check(label, differences(sessions[key], inputs, tensors))


def session(label, source, more, converter, report):
    """The exported model in ONNX Runtime, checked by onnx, with the digest of its source."""
    ledger, model = converter.export(source, *more)
    if not report.check(f"{label}: export", ledger if ledger.startswith("exit") else ""):
        return None
    try:
        onnx.checker.check_model(str(model), full_check=True)
        report.check(f"{label}: onnx.checker", "")
    except Exception as error:
        report.check(f"{label}: onnx.checker", str(error)[:300])
    report.check(f"{label}: digest", "" if converter.digest(model) == converter.digest(source) else "another")
    try:
        return onnxruntime.InferenceSession(str(model))
    except Exception as error:
        if "BFLOAT16" in dtypes(model) and "NOT_IMPLEMENTED" in str(error):
            report.skip(label, "ONNX Runtime computes no bfloat16 on a CPU")
        else:
            report.check(f"{label}: session", str(error)[:300])
        return None


def dtypes(model):
    graph = onnx.load(str(model), load_external_data=False).graph
    return {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer}


def differences(model, inputs, expected):
    """What differs from the trace; nothing compared is a difference, too."""
    given = {}
    for argument in model.get_inputs():
        default = np.ones_like if argument.name == "attention_mask" else np.zeros_like
        given[argument.name] = inputs.get(argument.name, default(inputs["input_ids"])).astype(np.int64)
    results = dict(zip((output.name for output in model.get_outputs()), model.run(None, given)))
    problems, compared = [], 0
    for name, value in results.items():
        kind = "outputs" if name in OUTPUTS else "activations"
        if (reference := expected.get(f"{kind}.{name}")) is None:
            continue
        limit = LIMIT if value.dtype == np.float32 else HALF_LIMIT
        if reference.shape != value.shape and reference.size != value.size:
            problems.append(f"{name}: shape {value.shape}, recorded {reference.shape}")
        elif not (difference := np.abs(value.astype(np.float32) - reference.reshape(value.shape)).max()) <= limit:
            problems.append(f"{name}: differs by {difference}")
        compared += 1
    missing = [key for key in expected if key.startswith("activations.") and key[12:] not in results]
    problems += [f"no output {key}" for key in missing] + ["nothing was compared"] * (not compared)
    return "; ".join(problems[:4])


def half(converter, report):
    """f16 with rows of nothing but padding: finite, in both kinds of masked rows, and close to f32."""
    for name in ("seqcls", "mlm", "base"):
        source = TRANSFORMERS / name / "model.safetensors"
        results = []
        for more in ([], ["--dtype", "f16"], ["--dtype", "f16", "--masked-rows", "zero"]):
            _, model = converter.export(source, *more)
            ids = np.arange(2, 26).reshape(3, 8)
            mask = np.array([[1] * 8, [1] * 3 + [0] * 5, [0] * 8])
            results.append(onnxruntime.InferenceSession(str(model)).run(None, {"input_ids": ids, "attention_mask": mask})[0])
        exact, uniform, zero = results
        for kind, value in (("uniform", uniform), ("zero", zero)):
            report.check(f"{name} f16 {kind}: finite", "" if np.isfinite(value).all() else "NaN or infinity")
        difference = np.abs(exact - uniform.astype(np.float32)).max()
        report.check(f"{name} f16: close to f32", "" if difference <= 2e-2 else f"differs by {difference}")


def stored(converter, report):
    """Halves that are computed with in f32, against the same weights in f32."""
    data = REPOSITORY / "golden" / "data"
    for source in (data / "masked-lm", data / "v2-masked-lm", data / "v2-model-conv", data / "v2-multiple-choice"):
        for dtype in ("f16", "bf16"):
            label = f"{source.name} {dtype} computed in f32"
            ledger, halves = converter.export(source / "model.safetensors", "--dtype", dtype, "--compute", "f32")
            if not report.check(f"{label}: export", ledger if ledger.startswith("exit") else ""):
                continue
            onnx.checker.check_model(str(halves), full_check=True)
            report.check(f"{label}: initializers", "" if DTYPES[dtype] in dtypes(halves) else str(dtypes(halves)))
            wide = halves.with_name("wide.onnx")
            ledger = converter.run("convert", halves, "--to", "onnx", "--dtype", "f32", "-o", wide)
            if not report.check(f"{label}: import", ledger if ledger.startswith("exit") else ""):
                continue
            shape = (2, 3, 9) if "choice" in source.name else (6, 9)
            ids = np.arange(2, 56).reshape(shape)
            sessions = [onnxruntime.InferenceSession(str(model)) for model in (halves, wide)]
            given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            given = {argument.name: given[argument.name] for argument in sessions[0].get_inputs()}
            results = [session.run(None, given)[0] for session in sessions]
            difference = np.abs(results[0] - results[1]).max()
            report.check(label, "" if difference <= LIMIT else f"differs by {difference}")


DTYPES = {"f16": "FLOAT16", "bf16": "BFLOAT16"}


def external(converter, report):
    source = TRANSFORMERS / "mlm" / "model.safetensors"
    _, one = converter.export(source)
    _, two = converter.export(source, "--external-data")
    onnx.checker.check_model(str(two), full_check=True)
    inputs = {"input_ids": np.arange(2, 12).reshape(1, 10), "attention_mask": np.ones((1, 10), np.int64)}
    results = [onnxruntime.InferenceSession(str(model)).run(None, inputs)[0] for model in (one, two)]
    report.check("external data computes the same", "" if np.array_equal(*results) else "other outputs")


def control(converter, report):
    """The comparison must notice a model with another number in it."""
    folder = REPOSITORY / "golden" / "data" / "model"
    _, model = converter.export(folder / "model.safetensors")
    changed = onnx.load(str(model))
    for tensor in changed.graph.initializer:
        if tensor.name == "encoder.layer.0.attention.self.q_bias":
            values = np.frombuffer(tensor.raw_data, np.float32).copy()
            values[0] += 0.5
            tensor.raw_data = values.tobytes()
    onnx.save(changed, str(model))
    _, tensors = trace(folder / "plain.safetensors")
    inputs = {key[7:]: value for key, value in tensors.items() if key.startswith("inputs.")}
    found = differences(onnxruntime.InferenceSession(str(model)), inputs, tensors)
    report.check("control: a changed number is noticed", "" if "last_hidden_state: differs" in found else f"found: {found}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--convert", required=True, type=Path, help="the deberta-convert program")
    parser.add_argument("--verify", required=True, type=Path, help="the deberta-verify program")
    parser.add_argument("--large", action="store_true", help="also a model of more than 2 GB: needs 12 GB of disk and 8 of memory")
    arguments = parser.parse_args()
    import imports
    import large
    import variety
    import verdicts

    onnxruntime.set_default_logger_severity(3)
    warnings.filterwarnings("ignore")
    report = Report()
    with tempfile.TemporaryDirectory(prefix="deberta-onnx-") as folder:
        converter = Converter(arguments.convert.resolve(), arguments.verify.resolve(), Path(folder))
        for stage in (golden, half, stored, external, control, imports.stage, variety.stage, verdicts.stage):
            stage(converter, report)
        if arguments.large:
            large.stage(converter, report)
        else:
            report.skip("a model of more than 2 GB", "is made with --large alone")
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
