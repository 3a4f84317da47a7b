"""Writes sample data in the formats of the tasks: examples that no model was trained on. Needs the standard library alone.

python data.py DATA
"""

import csv
import json
import sys
from pathlib import Path

import samples
from language import COLOURS, PEOPLE, TOWNS


def main():
    data = Path(sys.argv[1])
    for kind in ("mnli", "squad", "conll", "stsb", "race/middle", "race/high", "swag", "text", "zero-shot", "rtd"):
        (data / kind).mkdir(parents=True, exist_ok=True)
    mnli(data / "mnli")
    squad(data / "squad")
    conll(data / "conll")
    stsb(data / "stsb")
    race(data / "race")
    swag(data / "swag")
    zero_shot(data / "zero-shot")
    replaced_tokens(data / "rtd")
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


def swag(folder):
    """The public table, and lines of JSON whose examples have three to five endings."""
    header = "video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label".split(",")
    with (folder / "val.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["", *header])
        for at, example in enumerate(samples.distinct(samples.choices, "swag", 300)):
            _, first, start, endings, right = example
            table.writerow([at, f"made_{at}", at, f"{first} {start}", first, start, "gold", *endings, right])
    lines = []
    for at, (_, first, start, endings, right) in enumerate(samples.distinct(samples.choices, "swag lines", 24)):
        wrong = [ending for number, ending in enumerate(endings) if number != right]
        wrong = [*wrong, "nothing"][: 2 + at % 3]
        place = at % (len(wrong) + 1)
        endings = [*wrong[:place], endings[right], *wrong[place:]]
        record = {"sent1": first, "sent2": start, "label": place}
        lines.append(record | {f"ending{number}": ending for number, ending in enumerate(endings)})
    (folder / "val.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))


def zero_shot(folder):
    """Of which colour a kite is; and in lines of JSON, of which colours all kites are."""

    def one(random_):
        colour = random_.choice(COLOURS)
        return f"{random_.choice(PEOPLE)} owns a {colour} kite and lives in {random_.choice(TOWNS)}.", colour

    def several(random_):
        named = random_.sample(COLOURS, random_.randrange(1, 3))
        people = random_.sample(PEOPLE, len(named))
        texts = [f"{person} owns a {colour} kite and lives in {random_.choice(TOWNS)}." for person, colour in zip(people, named)]
        return " ".join(texts), named

    table(folder / "colours.tsv", ["text", "label"], samples.distinct(one, "zero-shot", 40))
    lines = [{"text": text, "labels": labels} for text, labels in samples.distinct(several, "zero-shot several", 30)]
    (folder / "colours.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def replaced_tokens(folder):
    """Texts, and the same with words of other texts in them."""

    def pair(random_):
        words, others = samples.sentence(random_).split(" "), samples.sentence(random_).split(" ")
        replaced = list(words)
        for at in random_.sample(range(len(words)), max(1, round(0.15 * len(words)))):
            replaced[at] = random_.choice(others)
        return " ".join(words), " ".join(replaced)

    table(folder / "replaced.tsv", ["original", "replaced"], samples.distinct(pair, "replaced tokens", 300))


main()
