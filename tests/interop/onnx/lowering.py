"""What every tool makes of a graph against the same in standard operators on f32, both by ONNX Runtime without optimization; and
products with blocks (`MatMulNBits`) with every combination of its attributes and of the inputs that may be left out; numbers of f8.

    python lowering.py LOWER [TOOL…]

LOWER is the example `lower` of deberta-converters; a TOOL is one of quantizers.py, `blocks`, or `floats`. Activations are rounded in both, so
that nothing is between them but the order of sums.
"""

import itertools

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
from exporters import by_pytorch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from variants import ROOT, batches

LEAST = {"bert-half": 60, "q4f16": 60, "fp16": 60, "fp16-io": 60}
"""Decibels, where ONNX Runtime computes in a half; else 100."""
LEFT = {"DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"}
"""What is left of operators on integers: for its scale, and in pairs on weights with a scale for each channel."""


def computed(graph, given):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(graph), options)
    return session.run(None, {value.name: given[value.name] for value in session.get_inputs()})[0].astype(np.float64)


RANDOM = np.random.default_rng(19)
IMPORTS = helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)


def packed(codes, bits):
    """Integers in bytes, along the last axis, the first one in the lowest bits."""
    each = 8 // bits
    codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % each)]).astype(np.uint8)
    codes = codes.reshape(*codes.shape[:-1], -1, each)
    return sum(codes[..., at] << (bits * at) for at in range(each)).astype(np.uint8)


def product(bits, block, level, inner, of, zero, order, bias, rows):
    """A graph of one product."""
    columns, blocks, to = 24, -(-inner // block), np.float16 if of == TensorProto.FLOAT16 else np.float32
    tensors = {
        "w": packed(RANDOM.integers(0, 1 << bits, (columns, blocks, block)), bits),
        "s": RANDOM.uniform(0.005, 0.05, (columns, blocks)).astype(to) * RANDOM.choice([1, -1], (columns, blocks)).astype(to),
        "z": {
            "packed": lambda: packed(RANDOM.integers(0, 1 << bits, (columns, blocks)), bits),
            "real": lambda: RANDOM.uniform(0, (1 << bits) - 1, (columns, blocks)).astype(to),
            None: lambda: None,
        }[zero](),
        "g": RANDOM.permutation(np.arange(inner) // block).astype(np.int32) if order else None,
        "b": RANDOM.normal(size=columns).astype(to) if bias else None,
    }
    inputs = ["x", *("" if value is None else name for name, value in tensors.items())]
    while not inputs[-1]:
        inputs.pop()
    said = {} if level is None else {"accuracy_level": level}
    node = helper.make_node("MatMulNBits", inputs, ["y"], "product", domain="com.microsoft", K=inner, N=columns, bits=bits, block_size=block, **said)
    value = lambda name, last: helper.make_tensor_value_info(name, of, ["batch", "rows", last])
    constants = [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items() if tensor is not None]
    graph = helper.make_graph([node], "product", [value("x", inner)], [value("y", columns)], constants)
    return helper.make_model(graph, opset_imports=IMPORTS, ir_version=8), RANDOM.normal(size=(2, rows, inner)).astype(to)


def products(report, lower, graph, lowered):
    """What ONNX Runtime does not run, or of what it makes something else than it documents, stays as it is."""
    kinds = itertools.product(
        (2, 4, 8), (16, 32, 64, 128, 256), (None, 1, 4), (256, 80), (TensorProto.FLOAT, TensorProto.FLOAT16),
        (None, "packed", "real"), (False, True), (False, True),
    )
    least, ran = {}, 0
    for bits, block, level, inner, of, zero, order, bias in kinds:
        label = f"MatMulNBits {bits} bits, blocks of {block}, level {level}, K {inner}{', f16' if of == TensorProto.FLOAT16 else ''}{f', zero points {zero}' if zero else ''}{', g_idx' if order else ''}{', bias' if bias else ''}"
        model, values = product(bits, block, level, inner, of, zero, order, bias, rows=1 + RANDOM.integers(4))
        onnx.save(model, str(graph))
        try:
            want = computed(graph, {"x": values})
        except Exception:
            continue
        done = subprocess.run([lower, graph, lowered, "rounded"], capture_output=True, text=True)
        if done.returncode:
            report.check(label, done.stderr[-200:])
            continue
        model = onnx.load(str(lowered))
        stays = order and (bits == 2 or zero == "packed")
        left = any(node.op_type == "MatMulNBits" for node in model.graph.node)
        if left or stays:
            if left != stays:
                report.check(label, "stays as it is" if left else "is lowered")
            continue
        noise = ((want - computed(lowered, {"x": values.astype(np.float32)})) ** 2).sum()
        decibels, half = 10 * np.log10((want**2).sum() / max(noise, 1e-300)), of == TensorProto.FLOAT16
        least[half], ran = min(least.get(half, np.inf), decibels), ran + 1
        if decibels < (65 if half else 100):
            report.check(label, f"{decibels:.1f} dB")
    report.check(f"{ran} products with blocks, at least {least.get(False):.1f} dB in f32 and {least.get(True):.1f} in f16", "" if ran else "none ran")


def floats(report, lower, graph, lowered):
    """Numbers rounded to floating-point ones of 8 bits: every size, among them what is less than normal and more than the largest."""
    for of in (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2):
        label = TensorProto.DataType.Name(of)
        zero = helper.make_tensor("z", of, [], b"\0", raw=True)
        scale = numpy_helper.from_array(np.float32(0.37), "s")
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "round"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "numbers"),
        ]
        value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 64])
        made = helper.make_graph(nodes, "floats", [value("x")], [value("y")], [zero, scale])
        onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), str(graph))
        values = (RANDOM.normal(size=(2048, 64)) * np.exp2(RANDOM.uniform(-20, 18, (2048, 64)))).astype(np.float32)
        subprocess.run([lower, graph, lowered, "rounded"], check=True, capture_output=True)
        want, got = (computed(of, {"x": values}) for of in (graph, lowered))
        off = int((want != got).sum())
        report.check(f"{label}: {off} of {want.size} numbers differ", off or None)


def main():
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(4)
    lower, *wanted = sys.argv[1:]
    report, golden = Report(), ROOT / "golden/trained/nli"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(golden, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory(prefix="deberta-lowering-") as folder:
        base, graph, lowered = (Path(folder) / name for name in ("base.onnx", "graph.onnx", "lowered.onnx"))
        if not wanted or "blocks" in wanted:
            products(report, lower, graph, lowered)
        if not wanted or "floats" in wanted:
            floats(report, lower, graph, lowered)
        by_pytorch(dynamo=False)(model, folder, base)
        given = batches(base, golden / "texts.safetensors")
        for tool, make in quantizers.TOOLS.items():
            if make is None or (wanted and tool not in wanted):
                continue
            try:
                quantizers.make(tool, base, graph, given)
                want = computed(graph, given[-1])
            except Exception as error:
                report.skip(tool, f"ONNX Runtime or the tool fails: {str(error)[:100]}")
                continue
            done = subprocess.run([lower, graph, lowered, "rounded"], capture_output=True, text=True)
            if done.returncode:
                report.check(tool, done.stderr[-200:])
                continue
            left = {node.op_type for node in onnx.load(str(lowered)).graph.node if node.domain or "Quantize" in node.op_type or "Integer" in node.op_type}
            noise = ((want - computed(lowered, given[-1])) ** 2).sum()
            decibels = np.inf if noise == 0 else 10 * np.log10((want**2).sum() / noise)
            wrong = f"{decibels:.1f} dB" if decibels < LEAST.get(tool, 100) else ""
            report.check(f"{tool} ({decibels:.1f} dB)", wrong or ", ".join(left - LEFT))
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    sys.exit(1 if report.failed or not report.passed else 0)


if __name__ == "__main__":
    main()
