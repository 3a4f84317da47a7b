"""Every committed model as a release of many graphs: those that tools make of it pass, and the same with one fault do not, also
under a golden that says no tolerances.

    python committed.py CONVERT VERIFY [NAME…]

CONVERT and VERIFY are the programs. NAMEs are folders of golden/data and golden/trained, tools of quantizers.py, or `ours` and
`torch`, which say whose export of the model the tools take; without them all models, exporters and the tools of a transformers.js
repository are tried. PYTHON needs what README.md says, and onnxconverter-common. What is right is counted, and not printed.
"""

import itertools
import json
import re
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
import safetensors.torch
import torch
import transformers
import variants
from converter import Report
from exporters import by_pytorch

GOLDEN = variants.ROOT / "golden"
TOOLS = "int8", "uint8", "q4", "q4f16", "bnb4", "fp16", "int8-channels", "uint8-channels", "qdq"

def models(wanted):
    for folder in sorted([*GOLDEN.glob("data/*"), *GOLDEN.glob("trained/*")]):
        if (folder / "model.safetensors").exists() and (not wanted or folder.name in wanted):
            yield folder


def with_weights(source, target, change):
    """A model with other weights."""
    target.mkdir(parents=True)
    shutil.copy(source / "config.json", target)
    torch.manual_seed(7)
    weights = safetensors.torch.load_file(source / "model.safetensors")
    changed = change(weights)
    safetensors.torch.save_file(weights, target / "model.safetensors", {"format": "pt"})
    return changed


def other_weights(weights):
    for tensor in weights.values():
        if tensor.is_floating_point() and tensor.numel() > 1:
            tensor += torch.randn_like(tensor.float()).to(tensor.dtype) * 0.05 * tensor.float().std().nan_to_num(0.0).to(tensor.dtype)
    return True


def other_labels(weights):
    names = [name for name in weights if name.startswith(("classifier.", "qa_outputs.")) and len(weights[name]) > 1]
    for name in names:
        weights[name] = weights[name].roll(1, 0).contiguous()
    return bool(names)


class Release:
    """A model, what tools make of it, and what is broken in it."""

    def __init__(self, programs, report, folder, source, tools, exporter):
        self.convert, self.verify = programs
        self.report, self.folder, self.source, self.tools, self.exporter = report, folder, source, tools, exporter
        self.expected = {}
        self.release = folder / "release"
        shutil.copytree(source, self.release, ignore=shutil.ignore_patterns("*.onnx", "*.bin", "*.h5", "case.yaml", "*[!l].safetensors"))
        (self.release / "onnx").mkdir()
        self.golden = {"": source, "bare": folder / "bare"}
        traces = {path.name for path in source.glob("*.safetensors")} - {"model.safetensors"}
        (folder / "bare").mkdir()
        for name in traces | {"config.json", "model.safetensors"}:
            shutil.copy(source / name, folder / "bare" / name)
        self.traces = sorted(traces)

    def export(self, source, out):
        if self.exporter == "ours":
            subprocess.run([self.convert, "-q", "st2onnx", source / "model.safetensors", "-o", out, "--dtype", "f32"], check=True, capture_output=True)
            return
        name = re.search(r"^class: (.*)$", (self.source / "case.yaml").read_text(), re.MULTILINE)[1]
        model = getattr(transformers, name).from_pretrained(source, dtype=torch.float32).eval()
        by_pytorch(dynamo=False)(model, source, out)

    def add(self, name, expected):
        self.expected[f"onnx/{name}.onnx"] = expected
        return self.release / "onnx" / f"{name}.onnx"

    def make(self):
        base = self.add("model", "pass")
        try:
            self.export(self.source, base)
            given = self.batches(base)
        except Exception as error:
            self.report.skip(f"{self.source.name} {self.exporter}", f"cannot be exported: {str(error)[-120:]}")
            return False
        others = {}
        for kind, change in (("weights", other_weights), ("labels", other_labels)):
            place = self.folder / f"other-{kind}"
            if with_weights(self.source, place, change):
                others[kind] = place / "base.onnx"
                self.export(place, others[kind])
        for tool in self.tools:
            self.tool(tool, base, given, others)
        return True

    def tool(self, tool, base, given, others):
        graph = self.add(tool, "pass")
        try:
            quantizers.make(tool, base, graph, given)
            onnxruntime.InferenceSession(str(graph))
        except Exception as error:
            self.report.skip(f"{self.source.name} {self.exporter} {tool}", f"the tool fails: {str(error)[-120:]}")
            del self.expected[f"onnx/{tool}.onnx"]
            graph.unlink(missing_ok=True)
            return
        for fault, change in variants.FAULTS.items():
            model, before = onnx.load(str(graph)), onnx.load(str(graph)).SerializeToString()
            try:
                change(model)
            except (variants.Absent, StopIteration, ValueError):
                continue
            if model.SerializeToString() != before:
                onnx.save(model, str(self.add(f"{tool}-{fault}", "divergence")))
        for kind, other in others.items():
            quantizers.make(tool, other, self.add(f"{tool}-other-{kind}", "divergence"), given)

    def batches(self, graph):
        names = [value.name for value in onnxruntime.InferenceSession(str(graph)).get_inputs()]
        found = []
        for trace in self.traces:
            tensors = {name: tensor.numpy() for name, tensor in safetensors.torch.load_file(self.source / trace).items() if name.startswith("inputs.")}
            if "inputs.input_ids" not in tensors:
                continue
            ids = tensors["inputs.input_ids"].astype(np.int64)
            mask = tensors.get("inputs.attention_mask", np.ones_like(ids))
            if mask.shape != ids.shape:
                continue
            types = tensors.get("inputs.token_type_ids", np.zeros_like(ids))
            of = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": types.astype(np.int64)}
            if all(name in of for name in names):
                found.append({name: of[name] for name in names})
        return found

    def judge(self):
        for kind, golden in self.golden.items():
            label = f"{self.source.name} {self.exporter} {kind}"
            command = [self.verify, "--model", self.release, "--golden", golden, "--format", "json", "--no-diagnosis"]
            done = subprocess.run(command, capture_output=True, text=True)
            try:
                files = {file["file"]: file for file in json.loads(done.stdout)["files"]}
            except (ValueError, KeyError):
                self.report.check(label, f"exit {done.returncode}: {done.stderr[-300:]}{done.stdout[-300:]}")
                continue
            plain = files.get("onnx/model.onnx", {}).get("outcome")
            for name, expected in self.expected.items():
                found = files.get(name)
                if found is None:
                    self.report.check(f"{label} {name}", "is not listed")
                    continue
                answer = (found.get("quantization") or {}).get("graph", {}).get("outcome")
                if found["outcome"] == expected:
                    self.report.passed += 1
                elif expected == "pass" and plain != "pass" and answer != "divergence" and name != "onnx/model.onnx":
                    self.report.skip(f"{label} {name}", f"{found['outcome']}, the plain graph is {plain}")
                else:
                    findings = found["findings"] + [finding for run in found["runs"] for finding in run["findings"]]
                    said = [finding["message"] for finding in findings if finding["outcome"] != "pass"]
                    self.report.check(f"{label} {name}", f"{found['outcome']}, not {expected}: {' | '.join(said)[:500]}")


def main():
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(4)
    convert, verify, *wanted = sys.argv[1:]
    report = Report()
    tools = [name for name in wanted if name in quantizers.TOOLS] or TOOLS
    exporters = [name for name in wanted if name in ("ours", "torch")] or ["ours", "torch"]
    named = [name for name in wanted if name not in tools and name not in exporters]
    for source, exporter in itertools.product(models(named), exporters):
        with tempfile.TemporaryDirectory(prefix="deberta-committed-") as folder:
            release = Release((convert, verify), report, Path(folder), source, tools, exporter)
            if release.make():
                release.judge()
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    sys.exit(1 if report.failed or not report.passed else 0)


if __name__ == "__main__":
    main()
