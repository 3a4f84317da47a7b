"""Files that PyTorch and Optimum export now: every one must hold the weights that it was made from, bit for bit."""

import sys
from pathlib import Path

import numpy as np
import rewrites
import torch
import transformers
from exporters import TASKS, by_optimum, by_pytorch, generate_onnx, head, optimum
from safetensors.numpy import load_file, save_file

sys.path.append(str(Path(__file__).resolve().parents[1]))
from cases import RANDOM
from random_model import build

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
            classes.get(form, set()).add(head(model))
    for form, seen in classes.items():
        if form != "optimum" or optimum is not None:
            report.check(f"import by {form}: every class", "" if seen == set(TASKS) - {"ForMultipleChoice"} else f"only {sorted(seen)}")
    versions_2_and_3(converter, report)


# Version 2: what makes a graph, and whether it may fold the table of relative positions, or what is computed from it.
FORMS = {
    "opset 14": (by_pytorch(dynamo=False, opset=14), False),
    "torchscript": (by_pytorch(dynamo=False), False),
    "opset 20": (by_pytorch(dynamo=False, opset=20), False),
    "not folded": (by_pytorch(dynamo=False, opset=16, do_constant_folding=False), False),
    "dynamo": (by_pytorch(dynamo=True), True),
    "dynamo not optimized": (by_pytorch(dynamo=True, optimize=False), False),
}
BY_OPTIMUM = {
    "optimum": (by_optimum(), False),
    "optimum O1": (by_optimum(optimize="O1"), True),
    "optimum O2": (by_optimum(optimize="O2"), True),
    "optimum slim": (by_optimum(slim=True), True),
}
REWRITES = {
    "anonymous": (rewrites.anonymous, False),
    "nameless": (rewrites.nameless, False),
    "duplicated": (rewrites.duplicated, False),
    "basic": (rewrites.runtime("ORT_ENABLE_BASIC"), True),
    "extended": (rewrites.runtime("ORT_ENABLE_EXTENDED"), True),
    "onnxslim": (rewrites.onnxslim and rewrites.slim, True),
    "onnxsim": (rewrites.onnxsim and rewrites.simplified, True),
}
FOLDED = "folded them into constants"
UNUSED = "nothing in this model computes with it"


def versions_2_and_3(converter, report):
    """Every model of cases.py by every exporter, and what tools make of these files. A file that no longer holds a
    parameter must be refused with the reason."""
    forms = FORMS | (BY_OPTIMUM if optimum is not None else {})
    names = [name for name, (_, _, dtype) in RANDOM.items() if name.startswith("v2-") and dtype in ("f32", "f16", "bf16")]
    for number, name in enumerate(names):
        cls, settings, dtype = RANDOM[name]
        folder = converter.folder / f"import-{name}"
        model = build(cls, settings, number).to(dict(f16=torch.float16, bf16=torch.bfloat16).get(dtype, torch.float32))
        model.save_pretrained(folder)
        source = converter.digest(folder / "model.safetensors")

        def judge(form, out, source, may_fold):
            found = converter.digest(out, "--config", folder / "config.json")
            refusals = [UNUSED] * unused(model.config) + [FOLDED] * may_fold
            refused = found.startswith("exit") and any(reason in found for reason in refusals)
            report.check(f"import {name} {form}", "" if found == source or refused else f"{found[:300]}, the source has {source}")

        for form, (export, may_fold) in forms.items():
            if form == "dynamo not optimized" and number % 4:
                continue
            out = folder / f"{form}.onnx"
            export(model.eval(), folder, out)
            judge(form, out, source, may_fold)
            if form in ("torchscript", "dynamo") and dtype == "f32":
                for rewrite, (apply, folds) in REWRITES.items():
                    if apply is None:
                        report.skip(f"import {name} {form} {rewrite}", "is not installed")
                        continue
                    rewritten = folder / f"{form}-{rewrite}.onnx"
                    apply(out, rewritten)
                    judge(f"{form} {rewrite}", rewritten, source, may_fold or folds)
        if dtype == "f32":
            half = folder / "half" / "model.safetensors"
            half.parent.mkdir()
            weights = load_file(folder / "model.safetensors")
            save_file({key: value.astype(np.float16) for key, value in weights.items()}, half, {"format": "pt"})
            (half.parent / "config.json").write_bytes((folder / "config.json").read_bytes())
            for canonical in (True, False):
                out = folder / f"halves-{canonical}.onnx"
                rewrites.halves(canonical)(folder / "torchscript.onnx", out)
                judge(f"halves, canonical names: {canonical}", out, converter.digest(half), False)


def unused(config):
    """Whether parameters of relative positions are stored that no term takes."""
    return not (config.relative_attention and config.pos_att_type) and "none" not in config.norm_rel_ebd
