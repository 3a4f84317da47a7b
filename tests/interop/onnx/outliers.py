"""Models with outlier channels: the nodes that `deberta-verify --nodes-to-exclude` names are those that meet the channels, and
with them in f32 the same tool makes a graph that passes.

    python outliers.py VERIFY [NAME…]

A few rows of a layer's values and their biases are 512 times as large, the columns of attention.output.dense that meet them
512 times smaller: the same function in f32.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import onnxruntime
import quantizers
import torch
import transformers
from converter import Report
from exporters import by_optimum, by_pytorch, optimum
from variants import MODELS, ROOT, batches

FACTOR, CHANNELS, LAYER = 512.0, (3, 9, 14), 1
EXPORTERS = {"torch": by_pytorch(dynamo=False), "optimum": optimum and by_optimum()}
TOOLS = {
    "int8": quantizers.dynamic,
    "int8-channels": lambda **options: quantizers.dynamic(per_channel=True, **options),
    "qdq": lambda **options: quantizers.static(**options),
}
GUILTY = {
    "int8": {"attention/self/in_proj", "attention/self/value_proj", "attention/output/dense"},
    "int8-channels": {"attention/output/dense"},
    "qdq": {"attention/self/in_proj", "attention/self/value_proj", "attention/self", "attention/output/dense"},
}
"""What may be named, of the layer. Scales of channels have no outliers in the rows of values."""


def widen(model):
    """Makes the channels outliers."""
    layer = model.deberta.encoder.layer[LAYER].attention
    attention, output = layer.self, layer.output.dense
    with torch.no_grad():
        for channel in CHANNELS:
            if hasattr(attention, "in_proj"):
                size = attention.all_head_size // attention.num_attention_heads
                head, place = divmod(channel, size)
                attention.in_proj.weight[head * 3 * size + 2 * size + place] *= FACTOR
                attention.v_bias[channel] *= FACTOR
            else:
                attention.value_proj.weight[channel] *= FACTOR
                attention.value_proj.bias[channel] *= FACTOR
            output.weight[:, channel] /= FACTOR


def verified(verify, graph, folder, golden, *options):
    report = folder / "report.json"
    done = subprocess.run([verify, "--model", graph, "--golden", golden, "--config", golden / "config.json", "--report", report, *options], capture_output=True, text=True)
    files = json.loads(report.read_text())["files"] if report.exists() else []
    return done, (files[0].get("quantization") if files else None) or {}


def blamed(names):
    """The modules of names, without the layer; of another layer with it."""
    modules = set()
    for name in names:
        _, _, rest = name.partition(f"layer.{LAYER}/")
        modules.add(rest.rsplit("/", 1)[0] if rest else name)
    return modules


def tried(report, label, verify, tool, base, given, folder, golden):
    graph, names = folder / "graph.onnx", folder / "names.txt"
    TOOLS[tool]()(base, graph, given)
    done, known = verified(verify, graph, folder, golden, "--nodes-to-exclude", names)
    losses = known.get("losses") or {}
    listed = names.read_text().splitlines() if names.exists() else []
    wrong = blamed(listed) - GUILTY[tool]
    missing = "attention/output/dense" not in blamed(listed)
    if missing or wrong or listed != losses.get("nodes_to_exclude"):
        return report.check(label, f"names {listed}; exit {done.returncode} {done.stdout[-800:]}{done.stderr[-200:]} {losses.get('rounded_db')} {losses.get('restored_db')}")
    TOOLS[tool](nodes_to_exclude=listed)(base, graph, given)
    again, better = verified(verify, graph, folder, golden)
    before, after = known["cost"]["sqnr_db"], better["cost"]["sqnr_db"]
    report.check(f"{label}: {before:.1f} dB, {after:.1f} without {', '.join(sorted(blamed(listed)))}", "" if again.returncode == 0 else f"exit {again.returncode}, {before} {after}")


def main():
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(4)
    _, verify, *wanted = sys.argv
    report, folder = Report(), Path(tempfile.mkdtemp(prefix="deberta-outliers-"))
    try:
        for name, (source, head, traces) in MODELS.items():
            if wanted and name not in wanted:
                continue
            golden = ROOT / source
            for exporter, export in EXPORTERS.items():
                if export is None:
                    report.skip(f"{name} {exporter}", "is not installed")
                    continue
                place = folder / name / exporter
                place.mkdir(parents=True)
                model = getattr(transformers, head).from_pretrained(golden, dtype=torch.float32).eval()
                widen(model)
                model.save_pretrained(place)
                base = place / "base.onnx"
                export(model, place, base)
                own = record(place, golden, model, sorted(golden.glob(traces)))
                for tool in TOOLS:
                    tried(report, f"{name} {exporter} {tool}", verify, tool, base, batches(base, *sorted(golden.glob(traces))), place, own)
    finally:
        shutil.rmtree(folder)
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    sys.exit(1 if report.failed or not report.passed else 0)


def record(place, golden, model, traces):
    """The golden with the widened weights: its traces are of the same function."""
    own = place / "golden"
    own.mkdir()
    for path in [golden / "config.json", *traces]:
        shutil.copy(path, own)
    shutil.copy(place / "model.safetensors", own / "model.safetensors")
    return own


if __name__ == "__main__":
    main()
