"""The tasks end to end: `deberta-verify task` against PyTorch, transformers' tokenizer, and the scripts' metrics, on the
trained models and the sample data."""

import collections
import csv
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import reference
import scipy.stats
import sklearn.metrics
import transformers
from compare import difference
from seqeval.metrics import classification_report
from transformers.data.metrics import squad_metrics


def checks(trained):
    data = trained / "data"
    race_, swag_, conll, known = data / "race", data / "swag", data / "conll" / "test.txt", data / "text" / "known.txt"
    squad1, squad2, tables = data / "squad" / "dev-v1.json", data / "squad" / "dev-v2.json", ["dev_matched.tsv", "dev_mismatched.tsv"]
    colours, replaced, v3_nli, v3_rtd = data / "zero-shot", data / "rtd" / "replaced.tsv", trained / "v3-nli", trained / "v3-replaced-tokens"
    windows = ["--max-length", "48", "--doc-stride", "10"]
    for name, check in (
        ("mnli, tables", lambda: mnli(trained / "nli", data / "mnli", tables)),
        ("mnli, lines", lambda: mnli(trained / "nli", data / "mnli", ["dev_matched.jsonl"])),
        ("mnli, version 3", lambda: mnli(v3_nli, data / "mnli", tables)),
        ("stsb", lambda: stsb(trained / "similarity", data / "stsb" / "dev.tsv")),
        ("tokens", lambda: tokens(trained / "entities", conll)),
        ("tokens, whose labels are shifted", lambda: tokens(trained / "entities", conll, True)),
        ("tokens, version 3", lambda: tokens(trained / "v3-entities", conll)),
        ("tokens, version 3, whose labels are shifted", lambda: tokens(trained / "v3-entities", conll, True)),
        ("race", lambda: race(trained / "choices", race_)),
        ("race, multiple choice", lambda: race(trained / "v3-choices", race_)),
        ("swag, table", lambda: swag(trained / "v3-choices", swag_ / "val.csv")),
        ("swag, from three to five endings", lambda: swag(trained / "v3-choices", swag_ / "val.jsonl")),
        ("swag, version 1", lambda: swag(trained / "choices", swag_ / "val.jsonl")),
        ("squad 2.0", lambda: squad(trained / "questions", squad2, 0.0, [])),
        ("squad 2.0, windows", lambda: squad(trained / "questions", squad2, 1.5, windows)),
        ("squad 1.1", lambda: squad(trained / "questions", squad1, None, ["--max-length", "48", "--n-best", "5"])),
        ("squad 2.0, version 3", lambda: squad(trained / "v3-questions", squad2, 0.0, [])),
        ("squad 2.0, version 3, windows", lambda: squad(trained / "v3-questions", squad2, 1.5, windows)),
        ("squad 1.1, version 3", lambda: squad(trained / "v3-questions", squad1, None, windows)),
        ("mlm, mask decoder", lambda: masked_lm(trained / "masked-lm", known, "emd")),
        ("mlm, last layer", lambda: masked_lm(trained / "masked-lm", known, "plain")),
        ("mlm, version 3, last layer", lambda: masked_lm(trained / "v3-masked-lm", known, None)),
        ("mlm, version 3, mask decoder", lambda: masked_lm(v3_rtd, known, None)),
        ("zero-shot", lambda: zero_shot(v3_nli, colours / "colours.tsv", False)),
        ("zero-shot, a template", lambda: zero_shot(v3_nli, colours / "colours.tsv", False, template="The kite is {}, {{or}} not.")),
        ("zero-shot, version 1", lambda: zero_shot(trained / "nli", colours / "colours.tsv", False)),
        ("zero-shot, several labels", lambda: zero_shot(v3_nli, colours / "colours.jsonl", True, template="The kite is {}.")),
        ("zero-shot, one candidate", lambda: zero_shot(v3_nli, colours / "colours.jsonl", True, labels=["red"])),
        ("zero-shot, cut", lambda: zero_shot(v3_nli, colours / "colours.tsv", False, length=20)),
        ("zero-shot, too short to be cut", lambda: zero_shot(v3_nli, colours / "colours.tsv", False, length=12)),
        ("zero-shot, entailment first", lambda: zero_shot(v3_nli, colours / "colours.jsonl", True, order=["Entailment", "neutral", "contradiction"])),
        ("rtd, pairs", lambda: rtd(v3_rtd, replaced)),
        ("rtd, drawn", lambda: rtd(v3_rtd, known, "--seed", "7")),
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


def relabelled(folder, copy, names):
    """A copy of a model in whose configuration the labels have these names."""
    for file in folder.iterdir():
        shutil.copy(file, copy)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(at): name for at, name in enumerate(names)}
    config["label2id"] = {name: at for at, name in enumerate(names)}
    (Path(copy) / "config.json").write_text(json.dumps(config))
    return Path(copy)


def tokens(folder, path, shifted=False):
    with tempfile.TemporaryDirectory() as copy:
        if shifted:
            # A model that is wrong: its labels are called otherwise.
            config = json.loads((folder / "config.json").read_text())
            names = [config["id2label"][str(at)] for at in range(len(config["id2label"]))]
            folder = relabelled(folder, copy, [names[0], *names[2:], names[1]])
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


def swag(folder, path):
    report, predictions = run("swag", folder, [path])
    model, tokenizer = reference.load(folder)
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            read = list(csv.DictReader(file))
    else:
        read = [json.loads(line) for line in path.read_text().splitlines()]
    expected, logits = [], []
    for row in read:
        endings = [row[f"ending{at}"] for at in range(9) if row.get(f"ending{at}")]
        scores = reference.logits(model, tokenizer, [(row["sent1"], f"{row['sent2']} {ending}") for ending in endings])[:, 0]
        expected.append(int(scores.argmax()))
        logits.append(scores)
    metrics = {"accuracy": sklearn.metrics.accuracy_score([int(row["label"]) for row in read], expected)}
    problems = [far(p["logits"], scores) for p, scores in zip(predictions, logits)]
    return difference(report["metrics"], metrics) or next(filter(None, problems), "")


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
    # A piece of version 3 has the space before it, an answer has not.
    chosen = {name: text.lstrip(" ") for name, text in chosen.items()}
    found = {p["id"]: p["predicted"] for p in predictions}
    return difference(report["metrics"], expected) or ("" if found == chosen else "other answers than transformers'")


def masked_lm(folder, path, decoder):
    """Without a decoder that of the model's parameters: the mask decoder of a discriminator, else the last layer."""
    report, predictions = run("mlm", folder, [path], *(["--decoder", decoder] if decoder else []))
    decoder = decoder or ("emd" if report["class"] == "EnhancedMaskDecoder" else "plain")
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    likelihoods, right, count = reference.pseudo_likelihoods(folder, lines, decoder)
    metrics = {"accuracy": right / count, "tokens": count}
    found = {name: report["metrics"][name] for name in metrics}
    own = np.exp(-sum(likelihoods) / count)
    apart = abs(report["metrics"]["pseudo_perplexity"] - own)
    problem = far([p["pseudo_log_likelihood"] for p in predictions], likelihoods)
    return difference(found, metrics) or problem or (f"PyTorch's is {own}" if apart > 1e-5 else "")


def zero_shot(folder, path, several, template=None, labels=None, length=None, order=None):
    """Against transformers' pipeline."""
    with tempfile.TemporaryDirectory() as copy:
        if order:
            folder = relabelled(folder, copy, order)
        options = ["--multi-label"] if several else []
        options += ["--hypothesis-template", template] if template else []
        options += ["--max-length", str(length)] if length else []
        if path.suffix == ".tsv":
            read = [(row["text"], [row["label"]]) for row in rows(path)]
        else:
            read = [(row["text"], row["labels"]) for row in map(json.loads, path.read_text().splitlines())]
        if labels:
            # Of texts that have another label, none is left.
            read = [(text, [label for label in given if label in labels]) for text, given in read]
            path = Path(copy) / "texts.jsonl"
            path.write_text("".join(json.dumps({"text": text, "labels": given}) + "\n" for text, given in read))
            options += ["--labels", ",".join(labels)]
        report, predictions = run("zero-shot", folder, [path], *options)
        model, tokenizer = reference.load(folder)
    candidates = labels or list(dict.fromkeys(label for _, given in read for label in given))
    tokenizer.model_max_length = length or 128
    pipeline = transformers.pipeline("zero-shot-classification", model=model, tokenizer=tokenizer, device="cpu")
    given = {"hypothesis_template": template} if template else {}
    made = pipeline([text for text, _ in read], candidates, multi_label=several, **given)
    scores = [[dict(zip(each["labels"], each["scores"]))[label] for label in candidates] for each in made]
    if any(p["labels"] != candidates for p in predictions):
        return "other candidates"
    apart = float(np.abs(np.array([p["scores"] for p in predictions]) - np.array(scores)).max())
    if several:
        expected = np.array([[label in given for label in candidates] for _, given in read], dtype=int)
        found = (np.array(scores) > 0.5).astype(int)
        metrics = dict(zip(("precision", "recall", "f1"), micro(expected, found)))
        metrics["f1_macro"] = sklearn.metrics.f1_score(expected, found, average="macro", zero_division=0)
        metrics["accuracy"] = sklearn.metrics.accuracy_score(expected, found)
        each = sklearn.metrics.f1_score(expected, found, average=None, zero_division=0)
        metrics |= {f"f1.{label}": float(f1) for label, f1 in zip(candidates, np.atleast_1d(each))}
        if len(candidates) == 1:
            # Of one column scikit-learn makes a problem of two classes.
            metrics |= dict(zip(("precision", "recall", "f1"), binary(expected[:, 0], found[:, 0])))
            metrics["f1_macro"] = metrics[f"f1.{candidates[0]}"] = metrics["f1"]
    else:
        metrics = {"accuracy": sklearn.metrics.accuracy_score([given[0] for _, given in read], [each["labels"][0] for each in made])}
    return difference(report["metrics"], metrics) or (f"scores differ by {apart}" if apart > 1e-5 else "")


def micro(expected, found):
    return sklearn.metrics.precision_recall_fscore_support(expected, found, average="micro", zero_division=0)[:3]


def binary(expected, found):
    return sklearn.metrics.precision_recall_fscore_support(expected, found, average="binary", zero_division=0)[:3]


def rtd(folder, path, *options):
    report, predictions = run("rtd", folder, [path], *options)
    model, tokenizer = reference.load(folder)
    plain = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    logits = [reference.detected(model, p["input_ids"]) for p in predictions]
    expected, found, problem = [], [], ""
    texts = rows(path) if path.suffix == ".tsv" else path.read_text().splitlines()
    for prediction, text, of_text in zip(predictions, texts, logits):
        ids = prediction["input_ids"][1:-1]
        if path.suffix == ".tsv":
            words = [(plain(a), plain(b)) for a, b in zip(text["original"].split(), text["replaced"].split())]
            problem = problem or ("other tokens" if ids != sum((b for _, b in words), []) else "")
            flags = [len(a) != len(b) or a[at] != b[at] for a, b in words for at in range(len(b))]
        else:
            flags = [a != b for a, b in zip(plain(text), ids, strict=True)]
        problem = problem or ("other places" if prediction["replaced"] != [at + 1 for at, flag in enumerate(flags) if flag] else "")
        expected += flags
        found += list(of_text[1:-1] > 0)
    metrics = dict(zip(("precision", "recall", "f1"), binary(expected, found)))
    metrics |= {"accuracy": sklearn.metrics.accuracy_score(expected, found), "tokens": len(expected), "replaced": sum(expected)}
    problems = [far(p["logits"], of_text) for p, of_text in zip(predictions, logits)]
    return problem or difference(report["metrics"], metrics) or next(filter(None, problems), "")
