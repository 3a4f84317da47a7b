"""The metrics on random predictions, by the program `task_metrics` and by the scripts that they come from."""

import json
import os
import random
import subprocess
import types

import numpy as np
import scipy.stats
from compare import difference
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as lenient
from seqeval.metrics.v1 import precision_recall_fscore_support as strict
from seqeval.scheme import IOB1, IOB2, IOBES, Entities
from transformers.data.metrics import squad_metrics

ROUNDS = 200


def ask(requests):
    text = "".join(json.dumps(request) + "\n" for request in requests)
    command = [os.environ["DEBERTA_TASK_METRICS"]]
    printed = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def checks():
    for name, make in (("correlation", correlation), ("entities", entities), ("squad", squad), ("normalize", normalize)):
        random_ = random.Random(name)
        asked = [make(random_) for _ in range(ROUNDS)]
        answers = ask([request for request, _ in asked])
        problems = [judge(answer) for answer, (_, judge) in zip(answers, asked)]
        problems = [problem for problem in problems if problem]
        yield f"{name}: {len(answers)} random predictions", problems[0] if problems else ""


def correlation(random_):
    n = random_.randrange(2, 40)
    # Few values, so that there are ties; now and then all are the same.
    x = [random_.choice([0.0, 1.5, 2.0, random_.random()]) for _ in range(n)]
    y = [a + random_.gauss(0, 1) if random_.random() < 0.5 else float(random_.randrange(3)) for a in x]

    def judge(answer):
        expected = {"pearson": scipy.stats.pearsonr(x, y)[0], "spearman": scipy.stats.spearmanr(x, y)[0]}
        expected = {name: None if np.isnan(value) else float(value) for name, value in expected.items()}
        return difference(answer, expected)

    return {"correlation": {"x": x, "y": y}}, judge


SCHEMES = {"lenient": (None, "BIES"), "iob1": (IOB1, "BI"), "iob2": (IOB2, "BI"), "bioes": (IOBES, "BIES")}


def entities(random_):
    name = random_.choice(list(SCHEMES))
    scheme, prefixes = SCHEMES[name]
    tags = ["O"] + [f"{prefix}-{kind}" for prefix in prefixes for kind in ("PER", "LOC", "MISC-X")]

    def tag():
        return "O" if random_.random() < 0.4 else random_.choice(tags)

    expected = [[tag() for _ in range(random_.randrange(1, 12))] for _ in range(random_.randrange(1, 8))]
    found = [[other if random_.random() < 0.7 else tag() for other in row] for row in expected]

    def judge(answer):
        if scheme:
            sides = {"entities_true": Entities(expected, scheme), "entities_pred": Entities(found, scheme)}
            run = lambda average: strict(expected, found, average=average, scheme=scheme)  # noqa: E731
            kinds = sorted(sides["entities_true"].unique_tags | sides["entities_pred"].unique_tags)
        else:
            run = lambda average: lenient(expected, found, average=average)  # noqa: E731
            kinds = sorted({kind for kind, *_ in get_entities(expected)} | {kind for kind, *_ in get_entities(found)})
        if not kinds:
            return difference(dict(enumerate(answer["all"])), dict(enumerate([0.0] * 4)))
        problem = difference(dict(enumerate(answer["all"])), dict(enumerate(run("micro"))))
        by_type = {kind: list(values) for kind, *values in zip(kinds, *run(None))}
        if sorted(answer["types"]) != kinds:
            return f"types {answer['types']}, expected {kinds}"
        for kind, values in by_type.items():
            problem = problem or difference(dict(enumerate(answer["types"][kind])), dict(enumerate(values)))
        return f"{name}: {problem} in {expected} {found}" if problem else ""

    return {"entities": {"expected": expected, "found": found, "scheme": name}}, judge


WORDS = ["the", "a", "An", "red", "kite", "Kite!", "Selby,", "—", "Straße", "theatre", "1,000", "U.S.", "é", "a-b", ""]


def text(random_):
    return random_.choice(["", " "]).join(random_.choice([" ", "  ", "\u00a0", "\t"]).join(random_.choices(WORDS, k=3)).split("|"))


def squad(random_):
    questions = []
    for _ in range(random_.randrange(1, 20)):
        answers = [] if random_.random() < 0.4 else [text(random_) for _ in range(random_.randrange(1, 4))]
        prediction = random_.choice([text(random_), *answers, ""])
        questions.append({"answers": answers, "prediction": prediction, "no_answer": round(random_.gauss(0, 1), 1)})
    threshold = random_.choice([0.0, 0.5, -0.3])

    def judge(answer):
        examples = [
            types.SimpleNamespace(qas_id=str(at), answers=[{"text": text} for text in each["answers"]])
            for at, each in enumerate(questions)
        ]
        predictions = {str(at): each["prediction"] for at, each in enumerate(questions)}
        none = {str(at): each["no_answer"] for at, each in enumerate(questions)}
        expected = squad_metrics.squad_evaluate(examples, predictions, none, threshold)
        problem = difference(answer, expected, exact=expected)
        return f"{problem} in {questions}" if problem else ""

    return {"squad": {"questions": questions, "threshold": threshold}}, judge


def normalize(random_):
    characters = "aA the, an. THE\u2019 \u00a0\u2003_-'\"éÀßΣςİ1²ⅷ\u1c80\u0301ªaⅠ中\u200b\x1c\x85\u2028"
    given = "".join(random_.choices(characters, k=12)) + random_.choice([" the", " a", "_a", "é the x"])

    def judge(answer):
        expected = squad_metrics.normalize_answer(given)
        return "" if answer == expected else f"{answer!r}, expected {expected!r} of {given!r}"

    return {"normalize": given}, judge
