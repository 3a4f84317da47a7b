"""Writes sample data in the formats of the tasks: examples that no model was trained on. Needs the standard library alone.

python data.py DATA
"""

import json
import sys
from pathlib import Path

import samples
from language import rng


def main():
    data = Path(sys.argv[1])
    for kind in ("mnli", "squad", "conll", "stsb", "race/middle", "race/high", "text"):
        (data / kind).mkdir(parents=True, exist_ok=True)
    mnli(data / "mnli")
    squad(data / "squad")
    conll(data / "conll")
    stsb(data / "stsb")
    race(data / "race")
    lines = samples.distinct(samples.sentence, "text", 40)
    (data / "text" / "known.txt").write_text("\n".join(lines) + "\n")


def table(path, header, rows):
    lines = ["\t".join(map(str, row)) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n")


def mnli(folder):
    """GLUE's tables, and the original lines of JSON; five of these have no label that most annotators agreed on."""
    header = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
    header = [*header.split(), "sentence1", "sentence2", "label1", "gold_label"]
    for name, genre in (("matched", "letters"), ("mismatched", "notices")):
        rows, records = [], []
        for at, example in enumerate(samples.distinct(lambda r: samples.nli(r, genre), f"mnli {name}", 300)):
            _, premise, hypothesis, label = example
            label = samples.NLI[label].lower()
            rows.append([at, at, f"{at}n", genre, "", "", "", "", premise, hypothesis, label, label])
            gold = "-" if at % 60 == 59 else label
            records.append({"genre": genre, "sentence1": premise, "sentence2": hypothesis, "gold_label": gold})
        table(folder / f"dev_{name}.tsv", header, rows)
        if name == "matched":
            text = "".join(json.dumps(record) + "\n" for record in records)
            (folder / f"dev_{name}.jsonl").write_text(text)


def squad(folder):
    """SQuAD 2.0; every tenth text is long enough for several windows of 64 tokens."""

    def entry(at, example):
        context, question, answer, start = example
        answers = [] if answer is None else [{"text": answer, "answer_start": start}]
        qas = {"id": f"q{at:03}", "question": question, "answers": answers, "is_impossible": answer is None}
        return {"context": context, "qas": [qas]}

    short = samples.distinct(samples.question, "squad", 225)
    long = samples.distinct(lambda r: samples.question(r, r.randrange(12, 20)), "squad long", 25)
    paragraphs = [entry(at, example) for at, example in enumerate([*short, *long])]
    text = json.dumps({"version": "v2.0", "data": [{"title": "people", "paragraphs": paragraphs}]}, indent=0)
    (folder / "dev-v2.json").write_text(text + "\n")
    answered = [paragraph for paragraph in paragraphs if paragraph["qas"][0]["answers"]]
    for paragraph in answered:
        del paragraph["qas"][0]["is_impossible"]
    text = json.dumps({"version": "1.1", "data": [{"title": "people", "paragraphs": answered[:100]}]}, indent=0)
    (folder / "dev-v1.json").write_text(text + "\n")


def conll(folder):
    sentences = samples.distinct(samples.tokens, "conll", 250)
    blocks = ["".join(f"{word} {tag}\n" for word, tag in zip(*sentence)) for sentence in sentences]
    (folder / "test.txt").write_text("-DOCSTART- O\n\n" + "\n".join(blocks))


def stsb(folder):
    header = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"]
    rows = []
    for at, (first, second, score) in enumerate(samples.distinct(samples.similarity, "stsb", 300)):
        rows.append([at, "sentences", "made", 2026, at, "none", "none", first, second, f"{score:.3f}"])
    table(folder / "dev.tsv", header, rows)


def race(folder):
    """An article a file, in the folders of its level, as in the original."""
    counts = {"middle": 0, "high": 0}
    for level, article, question, options, right in samples.distinct(samples.choices, "race", 100):
        counts[level] += 1
        name = f"{level}{counts[level]}.txt"
        record = {"answers": ["ABCD"[right]], "options": [options], "questions": [question]}
        record |= {"article": article, "id": name}
        (folder / level / name).write_text(json.dumps(record) + "\n")


main()
