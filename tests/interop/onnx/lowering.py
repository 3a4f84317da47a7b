"""What every tool makes of a graph against the same in standard operators on f32, both by ONNX Runtime without optimization.

    python lowering.py LOWER [TOOL…]

LOWER is the example `lower` of deberta-converters. Activations are rounded in both, so that nothing is between them but the order
of sums.
"""

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
from safetensors.numpy import load_file
from variants import ROOT, batches

LEAST = {"q4-level4": 40, "bert-half": 60, "q4f16": 60, "fp16": 60, "fp16-io": 60}
"""Decibels, where ONNX Runtime computes in a half, or rounds activations of its own accord; else 100."""
LEFT = {"DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"}
"""What is left of operators on integers: for its scale, and in pairs on weights with a scale for each channel."""


def computed(graph, given):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(graph), options)
    return session.run(None, {value.name: given[value.name] for value in session.get_inputs()})[0].astype(np.float64)


def main():
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(4)
    lower, *wanted = sys.argv[1:]
    report, golden = Report(), ROOT / "golden/trained/nli"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(golden, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory(prefix="deberta-lowering-") as folder:
        base, graph, lowered = (Path(folder) / name for name in ("base.onnx", "graph.onnx", "lowered.onnx"))
        by_pytorch(dynamo=False)(model, folder, base)
        given = batches(base, golden / "texts.safetensors")
        for tool, make in quantizers.TOOLS.items():
            if make is None or (wanted and tool not in wanted):
                continue
            try:
                make(base, graph, given)
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
