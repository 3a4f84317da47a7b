"""The tasks end to end: `deberta-verify task` against PyTorch, transformers' tokenizer, and the scripts' metrics, on the
trained models and the sample data."""

import collections
import csv
import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import reference
import scipy.stats
import sklearn.metrics
from compare import difference
from seqeval.metrics import classification_report
from transformers.data.metrics import squad_metrics


def checks(trained):
    data = trained / "data"
    for name, check in (
        ("mnli, tables", lambda: mnli(trained / "nli", data / "mnli", ["dev_matched.tsv", "dev_mismatched.tsv"])),
        ("mnli, lines", lambda: mnli(trained / "nli", data / "mnli", ["dev_matched.jsonl"])),
        ("stsb", lambda: stsb(trained / "similarity", data / "stsb" / "dev.tsv")),
        ("tokens", lambda: tokens(trained / "entities", data / "conll" / "test.txt")),
        ("tokens, whose labels are shifted", lambda: tokens(trained / "entities", data / "conll" / "test.txt", True)),
        ("race", lambda: race(trained / "choices", data / "race")),
        ("squad 2.0", lambda: squad(trained / "questions", data / "squad" / "dev-v2.json", 0.0, [])),
        ("squad 2.0, windows", lambda: squad(trained / "questions", data / "squad" / "dev-v2.json", 1.5, ["--max-length", "48", "--doc-stride", "10"])),
        ("squad 1.1", lambda: squad(trained / "questions", data / "squad" / "dev-v1.json", None, ["--max-length", "48", "--n-best", "5"])),
        ("mlm, mask decoder", lambda: masked_lm(trained / "masked-lm", data / "text" / "known.txt", "emd")),
        ("mlm, last layer", lambda: masked_lm(trained / "masked-lm", data / "text" / "known.txt", "plain")),
    ):
        yield name, check()


def run(task, model, data, *options):
    """The report, and the predictions."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "predictions.jsonl"
        command = [os.environ["DEBERTA_VERIFY"], "task", task, "--model", model, "--format", "json"]
        command += ["--predictions", file, "--data", *data, *options]
        printed = subprocess.run(command, capture_output=True, text=True)
        if printed.returncode:
            raise SystemExit(f"{task}: exit {printed.returncode}: {printed.stderr}")
        return json.loads(printed.stdout), [json.loads(line) for line in file.read_text().splitlines()]


def far(found, expected):
    """Whether logits are further apart than the arithmetic of two programs."""
    worst = float(np.abs(np.array(found) - np.array(expected)).max())
    return f"logits differ by {worst}" if worst > 1e-4 else ""


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def mnli(folder, data, names):
    report, predictions = run("mnli", folder, [data / name for name in names])
    groups = collections.OrderedDict()
    for name in names:
        path = data / name
        read = rows(path) if path.suffix == ".tsv" else [json.loads(line) for line in path.read_text().splitlines()]
        read = [row for row in read if row["gold_label"] != "-"]
        groups["mismatched" if "mismatched" in name else "matched"] = read
    model, tokenizer = reference.load(folder)
    by_name = {name.lower(): at for name, at in model.config.label2id.items()}
    expected, logits = {}, []
    for name, read in groups.items():
        of_group = reference.logits(model, tokenizer, [(row["sentence1"], row["sentence2"]) for row in read])
        gold = [by_name[row["gold_label"]] for row in read]
        expected[f"accuracy.{name}"] = sklearn.metrics.accuracy_score(gold, of_group.argmax(-1)), len(gold)
        logits.append(of_group)
    total = sum(count for _, count in expected.values())
    right = sum(round(accuracy * count) for accuracy, count in expected.values())
    metrics = {"accuracy": right / total}
    if len(groups) > 1:
        metrics |= {name: accuracy for name, (accuracy, _) in expected.items()}
    return difference(report["metrics"], metrics) or far([p["logits"] for p in predictions], np.concatenate(logits))


def stsb(folder, path):
    report, predictions = run("stsb", folder, [path])
    read = rows(path)
    model, tokenizer = reference.load(folder)
    logits = reference.logits(model, tokenizer, [(row["sentence1"], row["sentence2"]) for row in read])[:, 0]
    found, gold = [p["predicted"] for p in predictions], [float(row["score"]) for row in read]
    # On the same numbers to the last digit; on PyTorch's own as closely as these are the same.
    metrics = {"pearson": scipy.stats.pearsonr(found, gold)[0], "spearman": scipy.stats.spearmanr(found, gold)[0]}
    own = {"pearson": scipy.stats.pearsonr(logits, gold)[0], "spearman": scipy.stats.spearmanr(logits, gold)[0]}
    apart = max(abs(report["metrics"][name] - own[name]) for name in own)
    return difference(report["metrics"], metrics) or far(found, logits) or (f"PyTorch's are {own}" if apart > 1e-4 else "")


def sentences(path):
    blocks = path.read_text().split("\n\n")
    split = [[line.split() for line in block.splitlines() if line] for block in blocks]
    return [block for block in split if block and block[0][0] != "-DOCSTART-"]


def tokens(folder, path, shifted=False):
    with tempfile.TemporaryDirectory() as copy:
        if shifted:
            # A model that is wrong: its labels are called otherwise.
            for file in folder.iterdir():
                (Path(copy) / file.name).symlink_to(file.resolve())
            (Path(copy) / "config.json").unlink()
            config = json.loads((folder / "config.json").read_text())
            names = [config["id2label"][str(at)] for at in range(len(config["id2label"]))]
            names = [names[0], *names[2:], names[1]]
            config["id2label"] = {str(at): name for at, name in enumerate(names)}
            config["label2id"] = {name: at for at, name in enumerate(names)}
            (Path(copy) / "config.json").write_text(json.dumps(config))
            folder = Path(copy)
        report, predictions = run("tokens", folder, [path])
        read = sentences(path)
        model, tokenizer = reference.load(folder, words=True)
        words = [[word for word, _ in sentence] for sentence in read]
        found = reference.word_labels(model, tokenizer, words)
    gold = [[tag for _, tag in sentence] for sentence in read]
    scores = classification_report(gold, found, output_dict=True, zero_division=0)
    micro = scores["micro avg"]
    metrics = {"precision": micro["precision"], "recall": micro["recall"], "f1": micro["f1-score"]}
    flat = [tag for tags in gold for tag in tags], [tag for tags in found for tag in tags]
    metrics["accuracy"] = sklearn.metrics.accuracy_score(*flat)
    metrics |= {f"f1.{kind}": of["f1-score"] for kind, of in scores.items() if not kind.endswith("avg")}
    same = [p["predicted"] for p in predictions] == found
    return difference(report["metrics"], metrics) or ("" if same else "other labels than PyTorch's")


def race(folder, path):
    report, predictions = run("race", folder, [path])
    model, tokenizer = reference.load(folder)
    files = sorted(path.glob("high/*.txt")) + sorted(path.glob("middle/*.txt"))
    right, logits = collections.defaultdict(list), []
    for file in files:
        article = json.loads(file.read_text())
        for question, options, answer in zip(article["questions"], article["options"], article["answers"]):
            texts = [(article["article"], f"{question} {option}") for option in options]
            scores = reference.logits(model, tokenizer, texts)[:, 0]
            right[file.parent.name].append("ABCD"[int(scores.argmax())] == answer)
            logits.append(scores)
    metrics = {"accuracy": float(np.mean(right["high"] + right["middle"]))}
    metrics |= {f"accuracy.{level}": float(np.mean(of)) for level, of in right.items()}
    return difference(report["metrics"], metrics) or far([p["logits"] for p in predictions], logits)


def squad(folder, path, threshold, options):
    given = dict(zip(options[::2], options[1::2]))
    extra = [] if threshold is None else ["--null-threshold", str(threshold)]
    report, predictions = run("squad", folder, [path], *options, *extra)
    model, tokenizer = reference.load(folder)
    length = int(given.get("--max-length", 128))
    texts, none = reference.answers(
        model,
        tokenizer,
        path,
        length,
        int(given.get("--doc-stride", length // 3)),
        int(given.get("--n-best", 20)),
        threshold is not None,
    )
    paragraphs = [p for article in json.loads(path.read_text())["data"] for p in article["paragraphs"]]
    entries = [qas for paragraph in paragraphs for qas in paragraph["qas"]]
    examples = [SimpleNamespace(qas_id=qas["id"], answers=qas["answers"]) for qas in entries]
    if threshold is None:
        expected = squad_metrics.squad_evaluate(examples, texts)
        expected = {name: expected[name] for name in ("exact", "f1", "total")}
        chosen = texts
    else:
        expected = squad_metrics.squad_evaluate(examples, texts, none, threshold)
        chosen = {name: "" if none[name] > threshold else text for name, text in texts.items()}
        # A threshold is a difference of logits, as close as these are.
        for name in ("best_exact_thresh", "best_f1_thresh"):
            if abs(report["metrics"][name] - expected[name]) < 1e-4:
                expected[name] = report["metrics"][name]
    found = {p["id"]: p["predicted"] for p in predictions}
    return difference(report["metrics"], expected) or ("" if found == chosen else "other answers than transformers'")


def masked_lm(folder, path, decoder):
    report, predictions = run("mlm", folder, [path], "--decoder", decoder)
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    likelihoods, right, count = reference.pseudo_likelihoods(folder, lines, decoder)
    metrics = {"accuracy": right / count, "tokens": count}
    found = {name: report["metrics"][name] for name in metrics}
    own = np.exp(-sum(likelihoods) / count)
    apart = abs(report["metrics"]["pseudo_perplexity"] - own)
    problem = far([p["pseudo_log_likelihood"] for p in predictions], likelihoods)
    return difference(found, metrics) or problem or (f"PyTorch's is {own}" if apart > 1e-5 else "")
