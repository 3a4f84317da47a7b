"""Every ordered pair of formats of every case: converted, loaded in the target's framework, converted back."""

from cases import FILE_NAMES, FORMATS
from converter import said, tensor_bytes


def convert_pairs(staged, converter, report, pt, tf):
    """Runs the conversions of one case and queues the checks of what they wrote."""
    case = staged.case
    digests = {}
    for form, source in case.sources.items():
        digests[f"source {form}"] = digest(report, converter, case, source)
        for to in FORMATS:
            if form == to and source.suffix != ".json":
                continue
            label = f"{case.name}: {form} -> {to}"
            out = staged.out(f"{form}-to-{to}")
            if to == "tf" and not case.tensorflow:
                refuse(report, converter, label, source, out)
                continue
            if report.check(label, converter.convert(source, form, to, out)):
                written = out / FILE_NAMES[to]
                digests[label] = digest(report, converter, case, written)
                through = "f32" if case.dtype == "bf16" and to == "tf" else None
                check_written(staged, f"{label}:", to, out, pt, tf, loads=case.computes)
                there_and_back(staged, converter, report, label, form, to, through, pt, tf)
    same_digest(report, case, digests)
    same_bytes(staged, report, converter)


def digest(report, converter, case, file):
    value, error = converter.digest(file)
    if error:
        report.check(f"{case.name}: digest", error)
    return value


def same_digest(report, case, digests):
    """One model, one digest, whatever the format; a double loses nothing, so no format is left out."""
    distinct = set(digests.values())
    error = None if len(distinct) == 1 and None not in distinct else f"{digests}"
    report.check(f"{case.name}: one digest in all formats", error, f"{len(digests)} files")


def refuse(report, converter, label, source, out):
    """TensorFlow's class cannot hold the model: an error, and nothing written."""
    process = converter.run("convert", source, "--to", "tf", "-o", f"{out}/")
    wrote = [path.name for path in out.iterdir()] if out.exists() else []
    refused = process.returncode == 1 and process.stderr.strip() and not wrote
    report.check(f"{label}: refused, TensorFlow has no such model", None if refused else f"{said(process)}; wrote {wrote}")


def check_written(staged, label, form, out, pt, tf, loads, dtype=None):
    """Queues the checks of the file of `form` in the folder `out`: its tensors, and that its framework loads it."""
    case, file = staged.case, out / FILE_NAMES[form]
    same = dict(truth=staged.truth, dtype=dtype)
    if form == "tf":
        numpy_dtype = {"f16": "float16", "f32": "float32", "f64": "float64"}.get(dtype)
        same = dict(truth=staged.keras_truth, dtype=numpy_dtype)
        tf.add(f"{label} h5py reads the same tensors", "check_h5", file=file, cls=case.cls, **same)
        if loads:
            exact = staged.tf_before if "tf" in case.sources and not dtype else None
            model = dict(folder=out, cls=case.cls, before=staged.before, exact=exact)
            tf.add(f"{label} TF{case.cls} loads all of it and computes the same", "check_load", **model, **same)
        return
    if form == "pt":
        pt.add(f"{label} torch.load reads the same tensors", "check_bin", file=file, aliases=case.aliases, **same)
    else:
        pt.add(f"{label} safetensors reads the same tensors", "check_st", file=file, **same)
    if loads:
        model = dict(folder=out, cls=case.cls, overrides=case.overrides, aliases=case.aliases, before=staged.before, tolerance=0.0)
        pt.add(f"{label} {case.cls} loads all of it and computes exactly the same", "check_load", **model, **same)


def there_and_back(staged, converter, report, label, form, to, through, pt, tf):
    """A -> B -> A holds the tensors of A. What HDF5 had to widen is narrowed again on request."""
    origin = {"pt-legacy": "pt", "tf-names": "st"}.get(form, form)
    if origin == to:
        return
    back = staged.out(f"{form}-to-{to}-and-back")
    options = ["--dtype", staged.case.dtype] if through else []
    there = staged.out(f"{form}-to-{to}") / FILE_NAMES[to]
    if report.check(f"{label} -> {origin}", converter.convert(there, to, origin, back, *options)):
        check_written(staged, f"{label} -> {origin}:", origin, back, pt, tf, loads=False)


def same_bytes(staged, report, converter):
    """bin -> h5 -> safetensors holds the bytes of bin -> safetensors."""
    case = staged.case
    direct, h5 = staged.out("pt-to-st") / FILE_NAMES["st"], staged.out("pt-to-tf") / FILE_NAMES["tf"]
    if "pt" not in case.sources or not case.tensorflow or case.dtype == "bf16":
        return
    label = f"{case.name}: pt -> tf -> st holds the bytes of pt -> st"
    out = staged.out("pt-to-tf-to-st")
    if not (direct.exists() and h5.exists()):
        report.check(label, "one of the two was not written")
        return
    error = converter.convert(h5, "tf", "st", out)
    if not error:
        one, two = tensor_bytes(direct), tensor_bytes(out / FILE_NAMES["st"])
        differ = [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)]
        error = f"{sorted(differ)[:3]} differ" if differ else None
    report.check(label, error)
