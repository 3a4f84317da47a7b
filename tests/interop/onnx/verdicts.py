"""What `deberta-verify` says of graphs that tools make of good models, and of the same graphs with one weight changed: every
good one passes, whether or not it still holds all weights, and no damaged one does.

    python verdicts.py CONVERT VERIFY [1] [2] [committed]    models of version 1 and 2, and those of golden/ with their goldens
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import rewrites
from exporters import by_optimum, by_pytorch, generate_onnx, optimum
from safetensors import safe_open
from safetensors.numpy import save_file

sys.path.append(str(Path(__file__).resolve().parents[1]))
from cases import RANDOM
from random_model import build

REPOSITORY = Path(__file__).resolve().parents[3]
TRANSFORMERS = REPOSITORY / "tests" / "fixtures" / "transformers"
TOOLS = {
    "basic": rewrites.runtime("ORT_ENABLE_BASIC"),
    "extended": rewrites.runtime("ORT_ENABLE_EXTENDED"),
    "onnxslim": rewrites.onnxslim and rewrites.slim,
    "onnxsim": rewrites.onnxsim and rewrites.simplified,
}


def stage(converter, report, versions=("1", "2", "committed")):
    if "1" in versions:
        for path in sorted(path for path in TRANSFORMERS.iterdir() if (path / "model.safetensors").exists()):
            if "safetensors" not in path.name:
                judge_all(converter, report, path.name, generate_onnx.load(path).float())
    names = [name for name, (_, _, dtype) in RANDOM.items() if name.startswith("v2-") and dtype == "f32"]
    for number, name in enumerate(names if "2" in versions else []):
        cls, settings, _ = RANDOM[name]
        judge_all(converter, report, name, build(cls, settings, number).float())
    committed = sorted(path.parent for path in REPOSITORY.glob("golden/*/*/model.safetensors"))
    for golden in committed if "committed" in versions else []:
        try:
            model = generate_onnx.load(golden).float()
        except Exception as error:
            report.skip(f"verdict {golden.name}", f"transformers does not load it: {type(error).__name__}: {error}")
            continue
        judge_all(converter, report, golden.name, model, golden)


def judge_all(converter, report, name, model, golden=None):
    folder = converter.folder / f"verdicts-{name}"
    model.eval().save_pretrained(folder)
    if golden and positions(golden) - positions(folder):
        report.skip(f"verdict {name}", "transformers leaves out the positions of its mask decoder")
        return
    golden = golden or record(converter, report, name, folder, model.config)
    if golden is None:
        return
    graphs = {"ours": lambda out: converter.run("st2onnx", folder / "model.safetensors", "-o", out)}
    graphs["torchscript"] = lambda out: by_pytorch(dynamo=False)(model, folder, out)
    graphs["dynamo"] = lambda out: by_pytorch(dynamo=True)(model, folder, out)
    if optimum is not None:
        graphs["optimum"] = lambda out: by_optimum()(model, folder, out)
        graphs["optimum O2"] = lambda out: by_optimum(optimize="O2")(model, folder, out)
    for form, make in graphs.items():
        out = folder / f"{form}.onnx"
        try:
            make(out)
        except Exception as error:
            report.skip(f"verdict {name} {form}", f"is not exported: {type(error).__name__}: {error}")
            continue
        judge(converter, report, f"verdict {name} {form}", out, folder, golden)
        if form not in ("ours", "torchscript"):
            continue
        for tool, apply in TOOLS.items():
            if apply is None:
                report.skip(f"verdict {name} {form} {tool}", "is not installed")
                continue
            changed = folder / f"{form}-{tool}.onnx"
            apply(out, changed)
            judge(converter, report, f"verdict {name} {form} {tool}", changed, folder, golden)


def positions(folder):
    with safe_open(folder / "model.safetensors", "numpy") as file:
        return {name for name in file.keys() if name.endswith("position_embeddings.weight")}


def record(converter, report, name, folder, config):
    """What the reference computes with the weights, which `interop.py` compares with PyTorch."""
    golden = folder / "golden"
    golden.mkdir()
    choices = "MultipleChoice" in (config.architectures or [""])[0]
    shape = (2, 3, 7) if choices else (3, 7)
    ids = (np.arange(np.prod(shape)) * 7 % (config.vocab_size - 1) + 1).astype(np.int64).reshape(shape)
    mask = np.ones_like(ids)
    mask[1, ..., 4:] = 0
    given, inputs = {"inputs.input_ids": ids, "inputs.attention_mask": mask}, golden.parent / "inputs.safetensors"
    if config.type_vocab_size > 1:
        given["inputs.token_type_ids"] = (ids % 2).astype(np.int64)
    save_file(given, inputs, {"format": "deberta-trace-1"})
    said = converter.verify("record", "--model", folder / "model.safetensors", "--inputs", inputs, "-o", golden / "trace.safetensors")
    return golden if report.check(f"verdict {name}: record", said) else None


def judge(converter, report, label, graph, folder, golden):
    options = ["--golden", golden, "--config", folder / "config.json"]
    report.check(label, converter.verify("--model", graph, *options))
    model = onnx.load(str(graph))
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2]
    weight = max(weights, key=lambda tensor: np.prod(tensor.dims) * (min(tensor.dims) > 3), default=None)
    if weight is not None:
        values = onnx.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(-values), weight.name))
        damaged = folder / "damaged.onnx"
        onnx.save(model, str(damaged))
        said = converter.verify("--model", damaged, *options)
        report.check(f"{label}, damaged", "" if said.startswith("exit") else f"{weight.name} negated is not seen")


if __name__ == "__main__":
    from converter import Converter, Report
    import tempfile

    report = Report()
    with tempfile.TemporaryDirectory(prefix="deberta-onnx-") as folder:
        convert, verify, *versions = sys.argv[1:]
        stage(Converter(convert, verify, Path(folder)), report, versions or ("1", "2", "committed"))
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    sys.exit(1 if report.failed or not report.passed else 0)
