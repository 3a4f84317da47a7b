"""`--quantize int8` against `onnxruntime.quantization.quantize_dynamic(per_channel=True)` on the same models: bytes, SQNR of the
outputs, flips, and how good either is at the task. With rows of a layer's values times 512 and the columns that meet them divided
by it, which is the same function in f32, both are off; with `--keep-f32` of that product the loss is restored.

    python quantize.py CONVERT VERIFY [NAME…]

CONVERT and VERIFY are the programs; NAMEs are models (`nli`, `v3-entities`, …), without them all of golden/trained. PYTHON needs
what README.md says, sentencepiece, and a processor with VNNI, or 8 bits overflow. Ends in 1 where ours is worse.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import runtime
import transformers
from converter import Report
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[3]
TRAINED = ROOT / "golden" / "trained"
DATA = TRAINED / "data"
MNLI = DATA / "mnli" / "dev_matched.tsv"
CONLL = DATA / "conll" / "test.txt"
SQUAD = DATA / "squad" / "dev-v1.json"
SWAG = DATA / "swag" / "val.csv"
TEXT = DATA / "text" / "known.txt"
TASKS = [
    ("nli", "accuracy", "mnli", MNLI),
    ("similarity", "pearson", "stsb", DATA / "stsb" / "dev.tsv"),
    ("entities", "f1", "tokens", CONLL),
    ("questions", "f1", "squad", SQUAD),
    ("choices", "accuracy", "race", DATA / "race"),
    ("choices", "accuracy", "swag", SWAG),
    ("masked-lm", "accuracy", "mlm", TEXT),
    ("v3-nli", "accuracy", "mnli", MNLI),
    ("v3-entities", "f1", "tokens", CONLL),
    ("v3-questions", "f1", "squad", SQUAD),
    ("v3-choices", "accuracy", "race", DATA / "race"),
    ("v3-choices", "accuracy", "swag", SWAG),
    ("v3-masked-lm", "accuracy", "mlm", TEXT),
    ("v3-replaced-tokens", "f1", "rtd", TEXT),
    ("v3-replaced-tokens", "f1", "rtd", DATA / "rtd" / "replaced.tsv"),
]
"""The model, the metric, the task and its data."""
HEADS = {"masked-lm": ["--head", "emd"]}
"""What the task needs where it is not what the file is taken for."""
LAYER = "deberta.encoder.layer.0.attention."
FACTOR = 512
COLUMNS = 5, 23, 42
"""The channels of a context that are outliers."""
MARGIN_DB = 0.5
"""How far ours may be below: of two roundings with the same number of bits either is better by chance."""


def texts(folder):
    """What the model has learned to read: sentences, or pairs of them."""
    if folder.name.endswith("entities"):
        sentences = (DATA / "conll" / "test.txt").read_text().split("\n\n")
        return [(" ".join(line.split()[0] for line in sentence.splitlines() if line), None) for sentence in sentences[1:301]]
    if folder.name.endswith("masked-lm"):
        return [(line, None) for line in (DATA / "text" / "known.txt").read_text().splitlines()]
    rows = [line.split("\t") for line in MNLI.read_text().splitlines()]
    first, second = rows[0].index("sentence1"), rows[0].index("sentence2")
    return [(row[first], row[second]) for row in rows[1:301]]


def batches(folder, inputs):
    """The texts, padded, in batches of 8; those of a model with choices four by four."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=False)
    pairs = texts(folder)
    for start in range(0, len(pairs), 8):
        first, second = map(list, zip(*pairs[start : start + 8]))
        batch = tokenizer(first, second if all(second) else None, padding=True, return_tensors="np")
        batch = {name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
        if len(inputs[0].shape) == 3:
            count = len(batch["input_ids"]) // 4 * 4
            batch = {name: value[:count].reshape(-1, 4, value.shape[1]) for name, value in batch.items()}
        if len(batch["input_ids"]):
            yield batch


def outputs(graph, folder):
    """What the graph computes of every batch, padding left out."""
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(graph))
    found = []
    for batch in batches(folder, session.get_inputs()):
        mask = batch["attention_mask"].astype(bool)
        for output in session.run(None, batch):
            of_tokens = output.shape[: mask.ndim] == mask.shape
            found.append(output[mask] if of_tokens else output)
    return found


def sqnr(want, got):
    """In decibels."""
    noise = sum(float(((one.astype(np.float64) - other) ** 2).sum()) for one, other in zip(want, got))
    signal = sum(float((one.astype(np.float64) ** 2).sum()) for one in want)
    return 10 * np.log10(signal / max(noise, 1e-300))


def flips(want, got):
    """Rows of several logits with another largest one."""
    rows = [(one, other) for one, other in zip(want, got) if one.ndim > 1 and one.shape[-1] > 1]
    return sum(int((one.argmax(-1) != other.argmax(-1)).sum()) for one, other in rows)


def outlier_model(folder, target):
    """The same function, with numbers in a few channels that are FACTOR times as large."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "*.h5", "*.onnx", "case.yaml"))
    config = json.loads((folder / "config.json").read_text())
    weights = {name: tensor.copy() for name, tensor in load_file(folder / "model.safetensors").items()}
    weights = {name: tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor for name, tensor in weights.items()}
    size = config["hidden_size"] // config["num_attention_heads"]
    for column in COLUMNS:
        head, at = divmod(column, size)
        if LAYER + "self.in_proj.weight" in weights:
            weights[LAYER + "self.in_proj.weight"][head * 3 * size + 2 * size + at] *= FACTOR
            weights[LAYER + "self.v_bias"][column] *= FACTOR
        else:
            weights[LAYER + "self.value_proj.weight"][column] *= FACTOR
            weights[LAYER + "self.value_proj.bias"][column] *= FACTOR
        weights[LAYER + "output.dense.weight"][:, column] /= FACTOR
    save_file(weights, target / "model.safetensors", {"format": "pt"})


class Trial:
    def __init__(self, convert, verify, folder):
        self.convert, self.verify, self.folder, self.count = convert, verify, folder, 0

    def export(self, model, *more):
        self.count += 1
        out = self.folder / str(self.count)
        subprocess.run([self.convert, "-q", "st2onnx", model, "-o", f"{out}/", *more], check=True)
        return out / "model.onnx"

    def by_onnxruntime(self, graph):
        """In a folder of its own, beside the tokenizer."""
        self.count += 1
        out = self.folder / str(self.count)
        shutil.copytree(graph.parent, out, ignore=shutil.ignore_patterns("*.onnx"))
        quantize_dynamic(str(graph), str(out / "model.onnx"), weight_type=QuantType.QInt8, per_channel=True)
        return out / "model.onnx"

    def diverges(self, graph, golden):
        """What the gate finds wrong, or nothing."""
        done = subprocess.run([self.verify, "--model", graph.parent, "--golden", golden], capture_output=True, text=True)
        wrong = [line.strip() for line in done.stdout.splitlines() if "divergence" in line]
        return None if done.returncode == 0 else "; ".join(wrong) + done.stderr

    def metric(self, metric, task, data, graph):
        command = [self.verify, "task", task, "--model", graph.parent, "--backend", "onnxruntime", "--ort-library", runtime.library(), "--data", data]
        done = subprocess.run(map(str, command), capture_output=True, text=True)
        found = re.search(rf"^ +{metric} +([0-9.]+)", done.stdout, re.MULTILINE)
        if not found:
            raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return float(found[1])


def judge(trial, report, name):
    model = TRAINED / name
    head = HEADS.get(name, [])
    exact = trial.export(model, "--dtype", "f32", *head)
    ours, theirs = trial.export(model, "--quantize", "int8", *head), trial.by_onnxruntime(exact)
    want = outputs(exact, model)
    got, their = outputs(ours, model), outputs(theirs, model)
    noise, other = sqnr(want, got), sqnr(want, their)
    sizes = [path.stat().st_size for path in (exact, ours, theirs)]
    say = f"{noise:.1f} dB, theirs {other:.1f}; {flips(want, got)} flips, theirs {flips(want, their)}; {sizes[1] / sizes[0]:.2f} of the bytes, theirs {sizes[2] / sizes[0]:.2f}"
    worse = noise < other - MARGIN_DB or flips(want, got) > flips(want, their) + 2
    report.check(f"{name}: {say}", "worse" if worse else None)
    for metric, task, data in (of for model_name, *of in TASKS if model_name == name):
        was, now, their = (trial.metric(metric, task, data, graph) for graph in (exact, ours, theirs))
        # F1 of answers is in per cent.
        lost = now < was - (1 if was > 1 else 0.01)
        report.check(f"{name}: {task}, {metric} {was}, int8 {now}, theirs {their}", "lost" if lost else None)
    if trial.diverges(exact, model):
        report.skip(f"{name}: the gate", "the golden's tolerance is too narrow for the graph in f32, too")
    else:
        report.check(f"{name}: the gate", trial.diverges(ours, model))
    return noise


def judge_outliers(trial, report, name, without):
    model = trial.folder / f"outliers-{name}"
    outlier_model(TRAINED / name, model)
    want = outputs(trial.export(TRAINED / name, "--dtype", "f32"), TRAINED / name)
    same = sqnr(want, outputs(trial.export(model), model))
    report.check(f"{name}: outliers are the same function in f32: {same:.1f} dB", None if same > 80 else "they are not")
    kept = ["--keep-f32", "/" + (LAYER + "output.dense.Gemm").replace(".", "/")]
    off, restored = [sqnr(want, outputs(trial.export(model, "--quantize", "int8", *more), model)) for more in ([], kept)]
    wrong = off > without - 6 or restored < without - 3
    report.check(f"{name}: outliers {off:.1f} dB, with {kept[1]} in f32 {restored:.1f}, without outliers {without:.1f}", "not restored" if wrong else None)


def main():
    convert, verify, *names = sys.argv[1:]
    report = Report()
    names = names or sorted(folder.parent.name for folder in TRAINED.glob("*/config.json"))
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(convert, verify, Path(folder))
        for name in names:
            judge_outliers(trial, report, name, judge(trial, report, name))
    print(f"{report.passed} passed, {report.failed} failed")
    sys.exit(report.failed > 0)


if __name__ == "__main__":
    main()
