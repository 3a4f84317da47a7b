"""Checks `deberta-verify --backend tch` on TorchScript programs that are traced from transformers: see README.md."""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from safetensors import safe_open

DATA = Path(__file__).resolve().parents[2] / "golden" / "data"
CASES = (
    "model-both-positions",
    "model-token-types",
    "masked-lm",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "v2-model",
    "v2-model-separate",
    "v2-model-conv",
    "v2-model-absolute",
    "v2-masked-lm",
    "v2-sequence-single-label",
    "v2-token-classification",
    "v2-question-answering",
    "v2-multiple-choice",
)


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, label, problem):
        """A problem is a text, or nothing."""
        print("ok     " if not problem else "FAILED ", label, problem or "", flush=True)
        self.passed, self.failed = self.passed + (not problem), self.failed + bool(problem)


class LogitsAlone(torch.nn.Module):
    """A class that is none of transformers', and returns a tensor."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask)[0]


class OneLength(LogitsAlone):
    """Right at the length that it is traced with alone."""

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask)[0] + 0 * torch.ones(input_ids.shape[0], int(input_ids.shape[1]), 1)


def model(case, **options):
    """The model of a case."""
    config = transformers.AutoConfig.from_pretrained(DATA / case)
    for name, value in options.items():
        setattr(config, name, value)
    kind = getattr(transformers, json.loads((DATA / case / "config.json").read_text())["architectures"][0])
    return kind.from_pretrained(DATA / case, config=config).eval()


def example(case):
    """Inputs to trace with: another length and batch than most goldens have, and of multiple choice another number of choices."""
    config = json.loads((DATA / case / "config.json").read_text())
    shape = (2, 3, 5) if config["architectures"] == ["DebertaV2ForMultipleChoice"] else (2, 5)
    ids = (torch.arange(math.prod(shape)).reshape(shape) * 7 + 3) % config["vocab_size"]
    inputs = [ids, torch.ones_like(ids)]
    if config.get("type_vocab_size", 0) > 0:
        inputs.append(torch.zeros_like(ids))
    return tuple(inputs)


def trace(module, inputs, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, inputs, **options)


class Verifier:
    def __init__(self, program, folder):
        self.program, self.folder, self.count = program, Path(folder), 0

    def place(self, case, weights=True):
        """A new folder with the configuration and the weights of a case."""
        self.count += 1
        place = self.folder / str(self.count)
        place.mkdir()
        for name in ["config.json"] + ["model.safetensors"] * weights:
            shutil.copy(DATA / case / name, place)
        return place

    def run(self, path, case, backend="tch"):
        """The exit status, and the report or what was said."""
        arguments = ["--model", path, "--golden", DATA / case, "--format", "json"]
        arguments += ["--backend", backend] if backend else []
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True)
        try:
            return done.returncode, json.loads(done.stdout)
        except json.JSONDecodeError:
            return done.returncode, done.stdout + done.stderr

    def verify(self, module, case, expected=0, points=(), weights=True):
        """Saves a program and verifies it: the problem, if there is one."""
        path = self.place(case, weights) / "program.pt"
        module.save(path)
        code, report = self.run(path, case)
        if isinstance(report, str):
            return f"exit {code}: {report}"
        runs = [run for file in report["files"] for run in file["runs"]]
        findings = [finding["message"] for file in report["files"] for finding in file["findings"]]
        findings += [finding["message"] for run in runs for finding in run["findings"]]
        if code != expected:
            return f"exit {code}, expected {expected}: {findings}"
        if not runs or any(run["backend"] != "tch" for run in runs):
            return f"not run by tch: {[run['backend'] for run in runs]} {findings}"
        if report["files"][0]["format"] != "TorchScript":
            return f"read as {report['files'][0]['format']}"
        lengths = [run for run in runs if run["golden"] == "other lengths"]
        if bool(lengths) != weights:
            return f"{len(lengths)} other lengths, weights are {'' if weights else 'not '}there"
        seen = {point["name"] for run in runs for point in run["points"] if point["verdict"]["kind"] == "match"}
        if expected == 0 and not set(points) <= seen:
            return f"not compared: {sorted(set(points) - seen)}"
        return None


def outputs(case):
    """The outputs that a class has in a golden, without hidden states and attentions."""
    names = set()
    for path in DATA.joinpath(case).glob("*.safetensors"):
        with safe_open(path, "np") as file:
            names |= {name for name in file.keys() if name.startswith("outputs.") and name.count(".") == 1}
    return names - {"outputs.loss"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verify", required=True, help="deberta-verify, built with the feature tch")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    report = Report()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        verifier = Verifier(arguments.verify, folder)
        for case in CASES:
            program = trace(model(case, torchscript=True), example(case))
            report.check(f"{case}: a tuple", verifier.verify(program, case, points=outputs(case)))
            wordy = model(case, torchscript=True, output_hidden_states=True, output_attentions=True)
            layers = wordy.config.num_hidden_layers
            points = {f"outputs.hidden_states.{i}" for i in range(layers + 1)}
            points |= {f"outputs.attentions.{i}" for i in range(layers)} | outputs(case)
            program = trace(wordy, example(case))
            report.check(f"{case}: with hidden states and attentions", verifier.verify(program, case, points=points))
            program = trace(model(case, return_dict=True), example(case), strict=False)
            report.check(f"{case}: a dictionary", verifier.verify(program, case, points=outputs(case)))
        case = "masked-lm"
        program = trace(LogitsAlone(model(case)), example(case))
        report.check("another class, a tensor", verifier.verify(program, case, points=outputs(case)))
        report.check("frozen", verifier.verify(torch.jit.freeze(trace(model(case, torchscript=True), example(case))), case))
        report.check("without weights beside it", verifier.verify(program, case, weights=False))

        program = trace(OneLength(model(case)), example(case))
        report.check("right at one length alone", verifier.verify(program, case, expected=1))
        wrong = model(case, torchscript=True)
        dense = wrong.deberta.encoder.layer[-1].attention.output.dense.weight
        dense.copy_(dense.T.clone())
        report.check("a transposed kernel", verifier.verify(trace(wrong, example(case)), case, expected=1))

        path = verifier.place(case) / "program.pt"
        program.save(path)
        for backend in ("reference", None):
            code, said = verifier.run(path, case, backend)
            text = said if isinstance(said, str) else json.dumps(said)
            refused = code == 2 and "TorchScript" in text
            report.check(f"not run by {backend or 'default'}", None if refused else f"exit {code}: {text}")
        path = verifier.place(case) / "weights.pt"
        torch.save(model(case).state_dict(), path)
        code, said = verifier.run(path, case)
        read = code == 0 and said["files"][0]["format"] == "PyTorch" and said["files"][0]["digest"]
        report.check("a state dict is read by our reader", None if read else f"exit {code}: {said}")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
