"""Every form of a graph that releases have, made by the tool that makes it: good ones pass, broken ones end in 1 with the tensor
that is broken named.

    python variants.py CONVERT VERIFY [NAME…]

CONVERT and VERIFY are the programs. NAMEs are models (`nli`, `v3-entities`, …) or tools of quantizers.py; without them all are
tried. PYTHON needs what README.md says, and onnxconverter-common.
"""

import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import quantizers
import torch
import transformers
from converter import Report
from exporters import by_optimum, by_pytorch, optimum
from onnx import numpy_helper
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[3]
MODELS = {
    "nli": ("golden/trained/nli", "AutoModelForSequenceClassification", "texts.safetensors"),
    "v3-entities": ("golden/trained/v3-entities", "AutoModelForTokenClassification", "texts.safetensors"),
    "v2-sequence-single-label": ("golden/data/v2-sequence-single-label", "AutoModelForSequenceClassification", "[lp]*.safetensors"),
}
EXPORTERS = {"torch": by_pytorch(dynamo=False), "optimum": optimum and by_optimum(), "dynamo": by_pytorch(dynamo=True)}
OF_ALL_TOOLS = "torch", "optimum"
"""The exporters whose graphs go through every tool; what is said of the others is said of the graph alone."""
BROKEN = {"qdq-mask", "qoperator-mask", "fp16-defaults"}
"""What tools make that is no model any more."""
FAULTY = "int8", "uint8-channels", "qdq", "qoperator", "q4", "q4-zeros", "q4-gptq-ordered", "q4-compensated", "bnb4", "fp16", "bf16-stored"
"""The tools whose graphs are broken on purpose, in each of the ways of FAULTS."""


class Absent(Exception):
    """A graph that a fault has nothing to change in."""


def of_weight(model, layer, ends):
    """The initializer that the output's dense layer of a layer multiplies with, or that comes with it: by what the node takes."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if f"layer.{layer}/output/dense" in node.name.replace("layer/", "layer.") and node.op_type in quantizers.PRODUCTS_OF:
            place = quantizers.PRODUCTS_OF[node.op_type].get(ends)
            name = node.input[place] if place is not None and place < len(node.input) else None
            while name is not None and name not in tensors:
                producer = next((other for other in model.graph.node if name in other.output), None)
                if producer is None or producer.op_type not in ("DequantizeLinear", "Cast", "Identity", "Transpose"):
                    break
                place = {"weight": 0, "scale": 1, "zero": 2}[ends if producer.op_type == "DequantizeLinear" else "weight"]
                name = producer.input[place] if place < len(producer.input) else None
            if name in tensors and (ends == "weight" or node.op_type not in ("MatMul", "Gemm") or name != node.input[1]):
                return tensors[name]
            if node.op_type == "MatMulInteger" and ends == "scale":
                return scale_behind(model, node, tensors)
    raise Absent


def scale_behind(model, node, tensors):
    value = node.output[0]
    for _ in range(3):
        consumer = next(other for other in model.graph.node if value in other.input)
        if consumer.op_type == "Mul":
            factor = next(name for name in consumer.input if name != value)
            product = next(other for other in model.graph.node if factor in other.output)
            return next(tensors[name] for name in product.input if name in tensors)
        value = consumer.output[0]
    raise Absent


def edit(tensor, change):
    values = numpy_helper.to_array(tensor).copy()
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(values)).astype(values.dtype), tensor.name))


def scale(model):
    edit(of_weight(model, 0, "scale"), lambda values: values * np.asarray(1.5, values.dtype))


def zero(model):
    edit(of_weight(model, 0, "zero"), lambda values: values + np.asarray(9, values.dtype))


def layers(model):
    for ends in ("weight", "scale", "zero"):
        try:
            one, other = of_weight(model, 0, ends), of_weight(model, 1, ends)
        except Absent:
            if ends == "weight":
                raise
            continue
        if one.name == other.name:
            continue
        held = onnx.TensorProto()
        held.CopyFrom(one)
        names = one.name, other.name
        one.CopyFrom(other)
        other.CopyFrom(held)
        one.name, other.name = names


def weights(model):
    tensor = of_weight(model, 0, "weight")
    flat = np.frombuffer(tensor.raw_data, np.uint8).copy()
    np.random.default_rng(1).shuffle(flat)
    tensor.raw_data = flat.tobytes()


FAULTS = {"scale": scale, "zero": zero, "layers": layers, "weights": weights}


def other_weights(model):
    """The model after one more step of training, as it were."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05 * parameter.std().nan_to_num(0.0))


def other_labels(model):
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.copy_(parameter.roll(1, 0))


def batches(graph, *traces):
    """The inputs of traces as a graph takes them: each text alone, and each trace."""
    names = [value.name for value in onnxruntime.InferenceSession(str(graph)).get_inputs()]
    found = []
    for trace in traces:
        tensors = load_file(trace)
        ids, mask = tensors["inputs.input_ids"].astype(np.int64), tensors.get("inputs.attention_mask")
        mask = np.ones_like(ids) if mask is None else mask.astype(np.int64)
        types = tensors.get("inputs.token_type_ids", np.zeros_like(ids)).astype(np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        found += [{name: given[name][at : at + 1] for name in names} for at in range(len(ids))]
        found.append({name: given[name] for name in names})
    return found


class Run:
    def __init__(self, verify, report, folder):
        self.verify, self.report, self.folder = verify, report, folder

    def judge(self, label, graph, golden, expected, named=None):
        done = subprocess.run([self.verify, "--model", graph, "--golden", golden, "--config", golden / "config.json"], capture_output=True, text=True)
        wrong = ""
        if done.returncode != expected:
            said = [line for line in done.stdout.splitlines() if "divergence" in line or "undecided" in line or "quantization" in line]
            wrong = f"exit {done.returncode}, not {expected}: " + " | ".join(line.strip()[:220] for line in said[:6]) + done.stderr[-200:]
        elif named and named not in done.stdout:
            wrong = f"does not name {named}"
        self.report.check(label, wrong)

    def model(self, name, wanted):
        source, head, traces = MODELS[name]
        golden = ROOT / source
        load = lambda: getattr(transformers, head).from_pretrained(golden, dtype=torch.float32).eval()
        for exporter, export in EXPORTERS.items():
            if export is None:
                self.report.skip(f"{name} {exporter}", "is not installed")
                continue
            folder = self.folder / name / exporter
            folder.mkdir(parents=True)
            base = folder / "base.onnx"
            load().save_pretrained(folder)
            export(load(), folder, base)
            given = batches(base, *sorted(golden.glob(traces)))
            self.judge(f"{name} {exporter}", base, golden, 0)
            tools = {tool: make for tool, make in quantizers.TOOLS.items() if not wanted or tool in wanted}
            for tool, make in tools.items():
                if exporter not in OF_ALL_TOOLS and tool not in FAULTY:
                    continue
                self.tool(f"{name} {exporter} {tool}", tool, make, base, given, golden)
            for kind, change in (("other weights", other_weights), ("other labels", other_labels)):
                other = load()
                change(other)
                changed = folder / "other.onnx"
                other.save_pretrained(folder / "other")
                export(other, folder / "other", changed)
                for tool in ("int8", "q4"):
                    if wanted and tool not in wanted:
                        continue
                    graph = folder / f"{tool}-other.onnx"
                    quantizers.make(tool, changed, graph, given)
                    self.judge(f"{name} {exporter} {tool}, {kind}", graph, golden, 1, "not the model's" if kind == "other weights" else "classifier")

    def tool(self, label, tool, make, base, given, golden):
        graph = base.parent / f"{tool}.onnx"
        if make is None:
            return self.report.skip(label, "is not installed")
        try:
            quantizers.make(tool, base, graph, given)
        except Exception as error:
            return self.report.skip(label, f"the tool fails: {str(error)[:120]}")
        self.judge(label, graph, golden, 1 if tool in BROKEN or not loads(graph, tool) else 0)
        if tool not in FAULTY:
            return None
        for fault, change in FAULTS.items():
            model = onnx.load(str(graph))
            try:
                change(model)
            except (Absent, StopIteration):
                continue
            broken = base.parent / "broken.onnx"
            onnx.save(model, str(broken))
            self.judge(f"{label}, {fault}", broken, golden, 1, "output.dense.weight")
        return None


def loads(graph, tool):
    """Whether ONNX Runtime loads a graph; of bf16 it has no kernels, which says nothing."""
    if tool.startswith("bf16"):
        return True
    try:
        onnxruntime.InferenceSession(str(graph))
    except Exception as error:
        return "NOT_IMPLEMENTED" in str(error)
    return True


def main():
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(4)
    _, verify, *wanted = sys.argv[1:]
    report = Report()
    models = [name for name in MODELS if name in wanted] or list(MODELS)
    folder = Path(tempfile.mkdtemp(prefix="deberta-variants-"))
    try:
        for name in models:
            Run(verify, report, folder).model(name, [name for name in wanted if name not in MODELS])
    finally:
        shutil.rmtree(folder)
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    sys.exit(1 if report.failed or not report.passed else 0)


if __name__ == "__main__":
    main()
