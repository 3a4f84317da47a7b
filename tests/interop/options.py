"""--dtype, --max-shard-size, --mlm-head, diff, inspect: on the cases that show them."""

import json
import shutil

from cases import FILE_NAMES, FORMATS, OPTION
from conversions import check_written
from converter import said, tensor_bytes


def dtypes(staged, converter, report, pt, tf):
    """Rounding to half precision is torch's own, from every format into every format."""
    for form in FORMATS:
        for to in FORMATS:
            for dtype in ("f16", "bf16"):
                if to == "tf" and dtype == "bf16":
                    continue
                label = f"{staged.case.name}: {form} -> {to} --dtype {dtype}"
                out = staged.out(f"{form}-to-{to}-{dtype}")
                options = ["--to", OPTION[to], "--dtype", dtype, "-o", f"{out}/"]
                process = converter.run("convert", staged.case.sources[form], *options)
                if report.check(label, None if process.returncode == 0 else said(process)):
                    check_written(staged, f"{label}:", to, out, pt, tf, loads=False, dtype=dtype)


def sharded_output(staged, converter, report, pt):
    """Shards of at most 50 KB, with an index that from_pretrained follows."""
    case = staged.case
    for form in FORMATS:
        label = f"{case.name}: {form} -> st --max-shard-size 50KB"
        out = staged.out(f"{form}-to-shards")
        if not report.check(label, converter.convert(case.sources[form], form, "st", out, "--max-shard-size", "50KB")):
            continue
        shards = sorted(out.glob("*.safetensors"))
        large = [p.name for p in shards if sum(len(data) for _, _, data in tensor_bytes(p).values()) > 50_000]
        report.check(f"{label}: several shards, none too large", None if len(shards) > 1 and not large else f"{shards}, too large: {large}")
        index = out / "model.safetensors.index.json"
        pt.add(f"{label}: the index leads to the same tensors", "check_st", file=index, truth=staged.truth)
        model = dict(folder=out, cls=case.cls, overrides={}, aliases=case.aliases, truth=staged.truth, before=staged.before, tolerance=0.0)
        pt.add(f"{label}: {case.cls} loads all of it and computes exactly the same", "check_load", **model)
        one, error = converter.digest(index)
        two, other_error = converter.digest(case.sources[form])
        report.check(f"{label}: same digest", error or other_error or (None if one == two else f"{one}, not {two}"))


def remap(staged, converter, report, pt, tf):
    """lm_predictions becomes cls.predictions on request, and back; without the request TensorFlow gets an error."""
    name, source, pt_source = staged.case.name, staged.case.sources["pt"], staged.case.sources["pt"]
    cls = staged.case.cls
    for to in FORMATS:
        label = f"{name}: pt -> {to} --mlm-head remap"
        out = staged.out(f"remapped-{to}")
        error = converter.convert(source, "pt", to, out, "--mlm-head", "remap") if to != "pt" else None
        if to == "pt":
            process = converter.run("convert", pt_source, "--to", "pytorch", "-o", f"{out}/", "--mlm-head", "remap")
            error = None if process.returncode == 0 else said(process)
        if not report.check(label, error):
            continue
        if to == "tf":
            model = dict(folder=out, cls=cls, truth=staged.out("remapped.npz.safetensors"))
            tf.add(f"{label}: TF{cls} loads all of it", "check_load", before=staged.out("remapped.npz"), **model)
        else:
            same = dict(folder=out, truth=staged.truth, cls=cls)
            pt.add(f"{label}: {cls} computes what the head computed", "check_remap", **same)
            pt.add(f"{label}: the base is untouched", "check_remapped_base", **same)
    back = staged.out("remapped-back")
    there = staged.out("remapped-pt") / FILE_NAMES["pt"]
    if not there.exists():
        report.check(f"{name}: pt -> pt --mlm-head remap -> st --mlm-head remap", "the first step wrote nothing")
        return
    label = f"{name}: pt -> pt --mlm-head remap -> st --mlm-head remap"
    if report.check(label, converter.convert(there, "pt", "st", back, "--mlm-head", "remap")):
        pt.add(f"{label}: the tensors of the source", "check_st", file=back / FILE_NAMES["st"], truth=staged.truth)


def queue_remap_preparation(staged, pt):
    model = dict(truth=staged.truth, config=staged.config, cls=staged.case.cls)
    pt.add(None, "write_remapped_reference", target=staged.out("remapped.npz"), **model)


SQUARE = {
    "pt": "deberta.encoder.layer.1.attention.output.dense.weight",
    "st": "deberta.encoder.layer.1.attention.output.dense.weight",
    "tf": "deberta/deberta/encoder/layer_._1/attention/output/dense/kernel:0",
}


def queue_differences(staged, pt, tf):
    """Copies of each source with one number changed, and with one square matrix transposed."""
    for how in ("changed", "transposed"):
        for form in FORMATS:
            target = staged.out(f"{how}/{form}") / FILE_NAMES[form]
            copy = dict(source=staged.case.sources[form], how=how, tensor=SQUARE[form], target=target)
            if form == "tf":
                tf.add(None, "damage", **copy)
            else:
                pt.add(None, "damage", form=form, **copy)


def differences(staged, converter, report):
    """diff across all formats: the same model, one number changed, one square matrix transposed."""
    for form in FORMATS:
        source = staged.case.sources[form]
        for other in FORMATS:
            process = converter.run("diff", source, staged.case.sources[other])
            report.check(f"diff {form} {other}: the same model", None if process.returncode == 0 else said(process))
            for how in ("changed", "transposed"):
                process = converter.run("diff", source, staged.out(f"{how}/{other}") / FILE_NAMES[other])
                says = process.stdout + process.stderr
                named = "layer.1.attention.output.dense" in says or "layer_._1/attention/output/dense" in says
                transposed = "transpos" in says.lower()
                good = process.returncode == 1 and named and transposed == (how == "transposed")
                report.check(f"diff {form} {other}: one tensor {how}", None if good else said(process))


def header_lengths(staged, converter, report):
    """A safetensors file is one whatever the length of its header, whose first byte some other format may begin with."""
    source = staged.case.sources["st"]
    want, error = converter.digest(source)
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    folder = staged.out("headers")
    folder.mkdir()
    (folder / "config.json").write_bytes(staged.config.read_bytes())
    wrong = {}
    for padding in range(0, 256, 8):
        file = folder / "model.safetensors"
        header = data[8 : 8 + length] + b" " * padding
        file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
        got, trouble = converter.digest(file)
        if trouble or got != want:
            wrong[len(header)] = trouble or got
    report.check("safetensors headers of 32 lengths", error or (f"{len(wrong)} fail: {wrong}" if wrong else None))


def default_place(staged, converter, report, pt):
    """Without -o the output has the conventional name and stands beside the input."""
    folder = staged.out("default-place")
    shutil.copytree(staged.case.sources["tf"].parent, folder)
    process = converter.run("tf2pt", folder / "tf_model.h5")
    label = "tf2pt tf_model.h5, without -o"
    if report.check(label, None if process.returncode == 0 else said(process)):
        file = folder / FILE_NAMES["pt"]
        pt.add(f"{label}: torch.load reads the same tensors", "check_bin", file=file, aliases={}, truth=staged.truth)


def inspect(staged, converter, report):
    """inspect counts what the file holds."""
    tensors = tensor_bytes(staged.truth)
    parameters = sum(product(shape) for _, shape, _ in tensors.values())
    for form, source in staged.case.sources.items():
        process = converter.run("inspect", source, "--format", "json")
        label = f"{staged.case.name}: inspect its {form} file"
        try:
            document = json.loads(process.stdout)
        except ValueError:
            report.check(label, said(process))
            continue
        numbers = [value for value in document.values() if value == parameters] if isinstance(document, dict) else []
        report.check(label, None if numbers else f"{parameters} parameters expected: {str(document)[:300]}")


def product(shape):
    count = 1
    for axis in shape:
        count *= axis
    return count
