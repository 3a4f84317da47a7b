"""Checks deberta-convert in the real frameworks. Started by run.sh; standard library only.

PyTorch and TensorFlow never share a process: their checks are queued as jobs and run in workers of their own.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import options
import refusals
from cases import committed, random_cases
from conversions import convert_pairs
from converter import Converter
from framework import Framework
from report import Report
from stage import prepare_pytorch, prepare_tensorflow, stage

REPOSITORY = Path(__file__).resolve().parents[2]


def main():
    arguments = parse()
    if arguments.keep:
        arguments.keep.mkdir(parents=True)
        return check_all(arguments, arguments.keep.resolve())
    with tempfile.TemporaryDirectory(prefix="deberta-interop-") as folder:
        return check_all(arguments, Path(folder))


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--convert", required=True, type=Path, help="the deberta-convert program")
    parser.add_argument("--pt", required=True, help="a Python with requirements-pt.txt")
    parser.add_argument("--tf", required=True, help="a Python with requirements-tf.txt")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this new folder and leave the files for a look")
    return parser.parse_args()


def check_all(arguments, folder):
    report = Report()
    converter = Converter(arguments.convert.resolve(), folder)
    pt = Framework("pt", arguments.pt, folder, report)
    tf = Framework("tf", arguments.tf, folder, report)

    cases = [*committed(REPOSITORY), *random_cases(folder / "random")]
    all_staged = {case.name: stage(case, folder) for case in cases}
    seqcls, mlm = all_staged["seqcls"], all_staged["mlm"]
    convolved = all_staged["random/v2-seqcls-conv"]
    new_heads = [s for s in all_staged.values() if s.case.new_head]
    borrow_truth(all_staged["tf-safetensors"], seqcls)

    for staged in all_staged.values():
        if staged.case.name != "tf-safetensors":
            prepare_pytorch(staged, pt)
    for staged in new_heads:
        options.queue_remap_preparation(staged, pt)
    for staged in all_staged.values():
        prepare_tensorflow(staged, tf)
    options.queue_differences(seqcls, pt, tf)
    refusals.queue_damages(seqcls, mlm, pt, tf)
    other_hdf5(mlm, tf)
    pt.run()
    tf.run()

    controls(seqcls, pt, tf)
    refusals.queue_control(seqcls, pt)
    for staged in all_staged.values():
        convert_pairs(staged, converter, report, pt, tf)
        options.inspect(staged, converter, report)
    for staged in (seqcls, mlm, convolved):
        options.dtypes(staged, converter, report, pt, tf)
        options.sharded_output(staged, converter, report, pt)
    for staged in new_heads:
        options.remap(staged, converter, report, pt, tf)
    options.differences(seqcls, converter, report)
    options.header_lengths(seqcls, converter, report)
    options.default_place(seqcls, converter, report, pt)
    convert_other_hdf5(mlm, converter, report, pt)
    pt.run()
    tf.run()
    refusals.refusals(seqcls, mlm, all_staged["base"], all_staged["sharded"], converter, report)
    return report.verdict()


def borrow_truth(staged, owner):
    """tf-safetensors holds the weights of seqcls."""
    for name in ("truth", "keras_truth", "before"):
        setattr(staged, name, getattr(owner, name))


def controls(staged, pt, tf):
    """The checks themselves must notice a square kernel that is transposed, and a changed number."""
    case = staged.case
    for how in ("changed", "transposed"):
        bin_file, st_file, h5_file = (next((staged.out(how) / form).glob("*model*")) for form in ("pt", "st", "tf"))
        same = dict(truth=staged.truth)
        model = dict(cls=case.cls, before=staged.before)
        label = f"control: the check of a {how} tensor fails in"
        pt.add(f"{label} .bin", "check_bin", must_fail="other bits", file=bin_file, aliases={}, **same)
        pt.add(f"{label} .safetensors", "check_st", must_fail="other bits", file=st_file, **same)
        loaded = dict(folder=bin_file.parent, overrides={}, aliases={}, tolerance=0.0)
        pt.add(f"{label} from_pretrained", "check_load", must_fail="other bits", **loaded, **model, **same)
        tf.add(f"{label} .h5", "check_h5", must_fail="other bits", file=h5_file, cls=case.cls, truth=staged.keras_truth)
        loaded = dict(folder=h5_file.parent, truth=staged.keras_truth)
        tf.add(f"{label} TensorFlow's from_pretrained", "check_load", must_fail="other values", **loaded, **model)


def other_hdf5(staged, tf):
    """TensorFlow's file as other writers of HDF5 store it."""
    for compression in ("gzip", "big-endian"):
        target = staged.out(f"h5-{compression}") / "tf_model.h5"
        tf.add(None, "as_published", source=staged.case.sources["tf"], target=target, compression=compression)


def convert_other_hdf5(staged, converter, report, pt):
    for compression in ("gzip", "big-endian"):
        source, out = staged.out(f"h5-{compression}") / "tf_model.h5", staged.out(f"h5-{compression}-to-pt")
        label = f"{staged.case.name}: {compression} h5 -> pt"
        if report.check(label, converter.convert(source, "tf", "pt", out)):
            same = dict(truth=staged.truth, aliases=staged.case.aliases)
            pt.add(f"{label}: torch.load reads the same tensors", "check_bin", file=out / "pytorch_model.bin", **same)


if __name__ == "__main__":
    sys.exit(main())
