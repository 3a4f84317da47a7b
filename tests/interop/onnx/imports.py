"""Files that PyTorch and Optimum export now: every one must hold the weights that it was made from, bit for bit."""

from pathlib import Path

import transformers
from exporters import TASKS, by_optimum, by_pytorch, generate_onnx, optimum

TRANSFORMERS = Path(__file__).resolve().parents[2] / "fixtures" / "transformers"
SKIPPED = {
    "tf-safetensors": "has TensorFlow's names, which transformers reads by TensorFlow",
}
OPTIONS = [dict(), dict(optimize="O1"), dict(optimize="O2"), dict(optimize="O3"), dict(slim=True), dict(do_constant_folding=False)]


def stage(converter, report):
    if optimum is None:
        report.skip("files of Optimum", "the packages of requirements-optimum.txt are not installed")
    transformers.logging.set_verbosity_error()
    classes = {form: set() for form in ("torchscript", "dynamo", "optimum")}
    for folder in sorted(path for path in TRANSFORMERS.iterdir() if (path / "model.safetensors").exists()):
        if folder.name in SKIPPED:
            report.skip(f"import {folder.name}", SKIPPED[folder.name])
            continue
        forms = [("torchscript", by_pytorch(dynamo=False)), ("dynamo", by_pytorch(dynamo=True))]
        if folder.name == "seqcls":
            forms += [("external", by_pytorch(dynamo=True, external_data=True))]
            forms += [("half", by_pytorch(dynamo=False)), ("dynamo half", by_pytorch(dynamo=True))]
        if optimum is not None:
            forms += [(" ".join(["optimum", *(f"{key}={value}" for key, value in options.items())]), by_optimum(**options)) for options in OPTIONS]
        for form, export in forms:
            label = f"import {folder.name} {form}"
            out = converter.folder / label.replace(" ", "-")
            out.mkdir()
            model = generate_onnx.load(folder)
            model = model.half() if "half" in form else model.float()
            model.save_pretrained(out)
            export(model, out, out / "exported.onnx")
            expected, found = converter.digest(out / "model.safetensors"), converter.digest(out / "exported.onnx")
            report.check(label, "" if found == expected else f"{found[:300]}, the source has {expected}")
            classes.get(form, set()).add(type(model).__name__)
    for form, seen in classes.items():
        if form != "optimum" or optimum is not None:
            report.check(f"import by {form}: every class", "" if seen == set(TASKS) else f"only {sorted(seen)}")
