"""Files that must not be converted: exit 1, one line that names the file (and the tensor), nothing written, nothing run."""

import json

from cases import FILE_NAMES, FORMATS
from converter import listing, said

LFS_POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 557844512
"""
HTML_PAGE = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Entry not found</body></html>\n"

# how: (tensor for PyTorch and safetensors, dataset for Keras, what the message must name)
DAMAGES = {
    "missing": (
        "deberta.encoder.layer.1.attention.self.q_bias",
        "deberta/deberta/encoder/layer_._1/attention/self/q_bias:0",
        "attention{}self{}q_bias",
    ),
    "extra": (
        "deberta.encoder.layer.0.attention.self.bogus.weight",
        "deberta/deberta/encoder/layer_._0/attention/self/bogus/kernel:0",
        "attention{}self{}bogus",
    ),
    "shape": (
        "deberta.encoder.layer.0.output.dense.weight",
        "deberta/deberta/encoder/layer_._0/output/dense/kernel:0",
        "output{}dense{}",
    ),
    "flattened": (
        "deberta.encoder.layer.0.output.dense.weight",
        "deberta/deberta/encoder/layer_._0/output/dense/kernel:0",
        "output{}dense{}",
    ),
    "transposed": (
        "deberta.encoder.layer.1.intermediate.dense.weight",
        "deberta/deberta/encoder/layer_._1/intermediate/dense/kernel:0",
        "intermediate{}dense{}",
    ),
    "integers": (
        "deberta.encoder.layer.1.attention.output.LayerNorm.bias",
        "deberta/deberta/encoder/layer_._1/attention/output/LayerNorm/beta:0",
        "LayerNorm{}b",
    ),
    "bert": (None, None, None),
}


def queue_damages(staged, pt, tf):
    """Damaged copies of the sources of `staged`, made with the frameworks that wrote them."""
    for how, (tensor, variable, _) in DAMAGES.items():
        for form in FORMATS:
            target = place(staged, how, form) / FILE_NAMES[form]
            copy = dict(source=staged.case.sources[form], how=how, target=target)
            if form == "tf":
                tf.add(None, "damage", tensor=variable, **copy)
            else:
                pt.add(None, "damage", tensor=tensor, form=form, **copy)
    system = place(staged, "system", "pt") / FILE_NAMES["pt"]
    pt.add(None, "damage", source=staged.case.sources["pt"], how="system", tensor=None, form="pt", target=system)


def queue_control(staged, pt):
    """The hostile pickle is one: Python would run its program."""
    system = place(staged, "system", "pt") / FILE_NAMES["pt"]
    pt.add("control: unpickled by Python, the hostile file runs its program", "obey", file=system, folder=staged.out("obeyed"))


def place(staged, how, form):
    return staged.out("refused") / f"{how}-{form}"


def write_impostors(staged):
    """Truncated files, pages and pointers in place of each format; BERT with its own configuration."""
    config = staged.config.read_text()
    for form in FORMATS:
        whole = staged.case.sources[form].read_bytes()
        contents = {
            "empty": b"",
            "cut-in-half": whole[: len(whole) // 2],
            "one-byte-short": whole[:-1],
            "lfs-pointer": LFS_POINTER.encode(),
            "html": HTML_PAGE.encode(),
        }
        for how, content in contents.items():
            folder = place(staged, how, form)
            folder.mkdir(parents=True)
            (folder / FILE_NAMES[form]).write_bytes(content)
            (folder / "config.json").write_text(config)
        folder = place(staged, "bert-and-its-config", form)
        folder.mkdir(parents=True)
        (folder / FILE_NAMES[form]).write_bytes((place(staged, "bert", form) / FILE_NAMES[form]).read_bytes())
        bert = json.loads(config) | {"model_type": "bert", "architectures": ["BertModel"]}
        (folder / "config.json").write_text(json.dumps(bert))
    return sorted({p.name for p in staged.out("refused").iterdir()})


def refusals(staged, converter, report):
    """Every bad file into every other format."""
    for name in write_impostors(staged):
        how, _, form = name.rpartition("-")
        source = place(staged, how, form) / FILE_NAMES[form]
        for to in FORMATS:
            if to != form:
                refused(staged, converter, report, source, how, form, to)
    called = list(staged.folder.parent.rglob("called-by-a-pickle"))
    report.check("a pickle that calls os.system was not obeyed", f"{called}" if called else None)
    process = converter.run("audit", place(staged, "system", "pt") / FILE_NAMES["pt"])
    names_it = "system" in process.stdout and not list(staged.folder.parent.rglob("called-by-a-pickle"))
    report.check("audit says what the pickle would have called", None if names_it else said(process))


def refused(staged, converter, report, source, how, form, to):
    out = staged.out("refused-output")
    out.mkdir(exist_ok=True)
    before = listing(staged.folder)
    process = converter.run(f"{form}2{to}", source, "-o", out / FILE_NAMES[to])
    wrong = []
    if process.returncode != 1:
        wrong.append("exit 1 expected")
    if len(process.stderr.strip().splitlines()) != 1:
        wrong.append("one line expected")
    if source.name not in process.stderr and "config.json" not in process.stderr:
        wrong.append("the file is not named")
    pattern = DAMAGES.get(how, (None, None, None))[2]
    if pattern and not any(pattern.format(*[mark] * 3) in process.stderr for mark in "./"):
        wrong.append(f"the tensor ({pattern.format('.', '.')}) is not named")
    after = listing(staged.folder)
    if after != before:
        wrong.append(f"files changed: {sorted(set(after.items()) ^ set(before.items()))[:2]}")
    error = f"{', '.join(wrong)}: {said(process)}" if wrong else None
    report.check(f"{form}2{to} refuses: {how}", error, " ".join(process.stderr.split())[:160].replace(str(staged.folder), ""))
