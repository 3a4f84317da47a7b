"""Files that must not be converted: exit 1, one line that names the file (and the tensor), nothing written, nothing run."""

import json
import shutil
from pathlib import Path

from cases import FILE_NAMES, FORMATS, OPTION
from converter import listing, said

LFS_POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 557844512
"""
HTML_PAGE = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Entry not found</body></html>\n"

Q_BIAS, BOGUS = "encoder.layer.1.attention.self.q_bias", "encoder.layer.0.attention.self.bogus.weight"
OUTPUT, INTERMEDIATE = "encoder.layer.0.output.dense.weight", "encoder.layer.1.intermediate.dense.weight"
LAYER_NORM = "encoder.layer.1.attention.output.LayerNorm.bias"

# What is done to which tensor, and the words by which the message must name it.
DAMAGES = {
    "missing": (Q_BIAS, "self.q_bias"),
    "extra": (BOGUS, "self.bogus"),
    "shape": (OUTPUT, "output.dense"),
    "flattened": (OUTPUT, "output.dense"),
    "transposed": (INTERMEDIATE, "intermediate.dense"),
    "integers": (LAYER_NORM, "LayerNorm.b"),
}
# Further damages, of one format each.
WORDS = {name: words for name, (_, words) in DAMAGES.items()} | {
    "other-decoder": "decoder",
    "other-embeddings": "embeddings",
}


def keras(name):
    """The dataset of a tensor of the base model, without its scope."""
    path = name.replace(".", "/").replace("layer/", "layer_._")
    for torch, dataset in (("LayerNorm/bias", "LayerNorm/beta"), ("/weight", "/kernel")):
        path = path.replace(torch, dataset)
    return f"deberta/deberta/{path}:0"


def queue_damages(seqcls, mlm, pt, tf):
    """Damaged copies of the sources, made with the frameworks that wrote them."""
    for form in FORMATS:
        for how, (tensor, _) in DAMAGES.items():
            queue_damage(seqcls, how, form, how, keras(tensor) if form == "tf" else f"deberta.{tensor}", pt, tf)
        queue_damage(seqcls, "bert", form, "bert", None, pt, tf)
    queue_damage(seqcls, "system", "pt", "system", None, pt, tf)
    unlisted = seqcls.out("unlisted") / FILE_NAMES["tf"]
    tf.add(None, "damage", source=seqcls.case.sources["tf"], how="unlisted", tensor=keras(BOGUS), target=unlisted)
    queue_damage(mlm, "other-decoder", "pt", "changed", "cls.predictions.decoder.weight", pt, tf)
    queue_damage(mlm, "other-embeddings", "tf", "changed", "cls/deberta/embeddings/word_embeddings/weight:0", pt, tf)


def queue_damage(staged, name, form, how, tensor, pt, tf):
    copy = dict(source=staged.case.sources[form], how=how, tensor=tensor)
    copy["target"] = place(staged, name, form) / FILE_NAMES[form]
    if form == "tf":
        tf.add(None, "damage", **copy)
    else:
        pt.add(None, "damage", form=form, **copy)


def queue_control(staged, pt):
    """The hostile pickle is one: Python would run its program."""
    system = place(staged, "system", "pt") / FILE_NAMES["pt"]
    pt.add("control: unpickled by Python, the hostile file runs its program", "obey", file=system, folder=staged.out("obeyed"))


def place(staged, how, form):
    return staged.out("refused") / f"{how}-{form}"


def refusals(seqcls, mlm, base, sharded, converter, report):
    """Every bad file into every other format."""
    write_impostors(seqcls)
    for staged in (seqcls, mlm):
        for folder in sorted(staged.out("refused").iterdir()):
            how, _, form = folder.name.rpartition("-")
            for to in FORMATS:
                if to != form:
                    source = folder / FILE_NAMES[form]
                    refused(staged, converter, report, f"{form}2{to} refuses: {how}", source, to, WORDS.get(how, ""))
    hostile(seqcls, converter, report)
    bad_indexes(sharded, converter, report)
    unlisted(seqcls, converter, report)
    for form, source in base.case.sources.items():
        label = f"{form}: a base model is no masked LM"
        to = "pt" if form != "pt" else "st"
        refused(base, converter, report, label, source, to, "random", "--head", "mlm")


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
            "bert-and-its-config": (place(staged, "bert", form) / FILE_NAMES[form]).read_bytes(),
        }
        for how, content in contents.items():
            folder = place(staged, how, form)
            folder.mkdir(parents=True)
            (folder / FILE_NAMES[form]).write_bytes(content)
            (folder / "config.json").write_text(config)
        bert = json.loads(config) | {"model_type": "bert", "architectures": ["BertModel"]}
        (place(staged, "bert-and-its-config", form) / "config.json").write_text(json.dumps(bert))


def bad_indexes(staged, converter, report):
    """An index whose shard is absent, and one whose shard is outside the folder, where it would be found."""
    for form in ("st", "pt"):
        source = staged.case.sources[form]
        index = json.loads(source.read_text())
        shard = sorted(set(index["weight_map"].values()))[1]
        for how, other in (("absent", "model-of-nobody" + Path(shard).suffix), ("outside", f"../{form}/{shard}")):
            folder = place(staged, f"shard-{how}", form)
            shutil.copytree(source.parent, folder)
            names = {name: other if file == shard else file for name, file in index["weight_map"].items()}
            (folder / source.name).write_text(json.dumps(index | {"weight_map": names}))
            shutil.copytree(source.parent, staged.out("refused") / form, dirs_exist_ok=True)
            label = f"{form} index refused: shard {how}"
            refused(staged, converter, report, label, folder / source.name, "tf", Path(other).name)


def unlisted(staged, converter, report):
    """A dataset that Keras would never read may be left behind, but not without a word."""
    source, out = staged.out("unlisted") / FILE_NAMES["tf"], staged.out("unlisted-output")
    process = converter.run("tf2pt", source, "-o", f"{out}/")
    error = None if "self/bogus" in process.stdout + process.stderr else said(process)
    report.check("tf2pt names a dataset that no attribute lists", error)


def hostile(staged, converter, report):
    """A file that calls a program has called nothing, and audit names what it would have called."""
    called = list(staged.folder.parent.rglob("called-by-a-pickle"))
    report.check("a pickle that calls os.system was not obeyed", f"{called}" if called else None)
    process = converter.run("audit", place(staged, "system", "pt") / FILE_NAMES["pt"])
    names_it = "system" in process.stdout and not list(staged.folder.parent.rglob("called-by-a-pickle"))
    report.check("audit says what the pickle would have called", None if names_it else said(process))


def refused(staged, converter, report, label, source, to, words, *options):
    """Exit 1, one line that names the file and holds `words`, and every file of the case as it was."""
    out = staged.out("refused-output")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    before = listing(staged.folder)
    process = converter.run("convert", source, "--to", OPTION[to], "-o", out / FILE_NAMES[to], *options)
    wrong = []
    if process.returncode != 1:
        wrong.append("exit 1 expected")
    if len(process.stderr.strip().splitlines()) != 1:
        wrong.append("one line expected")
    if not any(name in process.stderr for name in (source.name, "config.json", words or source.name)):
        wrong.append("the file is not named")
    if words not in process.stderr and words.replace(".", "/") not in process.stderr:
        wrong.append(f"{words} is not named")
    after = listing(staged.folder)
    if after != before:
        wrong.append(f"files changed: {sorted(set(after.items()) ^ set(before.items()))[:2]}")
    error = f"{', '.join(wrong)}: {said(process)}" if wrong else None
    report.check(label, error, " ".join(process.stderr.split()).replace(str(staged.folder), "")[:160])
