"""Writes case.yaml into the folders of the cases, from the traces that lie in them. Needs numpy alone.

python write_cases.py DATA [CASE …]
"""

import sys
from pathlib import Path

import package  # noqa: F401
from cases import CASES, selected
from deberta_verify.recorder import safetensors_file, weights
from deberta_verify.recorder.case import Case, quoted
from deberta_verify.recorder.case import traces as lines_of_traces
from deberta_verify.recorder.digest import digest_line, digest_of


def main():
    data = Path(sys.argv[1])
    known = {name for name, _ in CASES}
    for folder in data.iterdir():
        if (folder / "config.json").exists() and folder.name not in known:
            raise SystemExit(f"{folder}: no function writes this case any more; remove it")
    for name, case in selected(sys.argv[2:]):
        (data / name / "case.yaml").write_text(describe(data / name, case))


def describe(folder, case):
    traces = {path.name: safetensors_file.read(path)[1] for path in sorted(folder.glob("*.safetensors"))}
    del traces["model.safetensors"]
    check_complete(folder, case, traces)
    producers = "; ".join(sorted({metadata["producer"] for metadata in traces.values()}))
    lines = Case(case.description, '"."', case.cls, producers, digest(folder)).head()
    tolerance = "{atol: 5.0e-6" + (f", scale: {case.scale}" if case.scale else "") + "}"
    lines += ["tolerances:", f"  default: {tolerance}", *lines_of_traces(traces)]
    absent = [("tensorflow", case.no_tensorflow), ("pytorch", case.no_pytorch)]
    entries = [entry for framework, reasons in absent for entry in without(framework, reasons)]
    if entries:
        lines += ["absent:", *entries]
    return "\n".join(lines) + "\n"


def without(framework, reasons):
    for reason in sorted(set(reasons.values())):
        inputs = [name for name, given in reasons.items() if given == reason and name]
        which = f"inputs: [{', '.join(inputs)}], " if inputs else ""
        yield f"  - {{framework: {framework}, {which}reason: {quoted(reason)}}}"


def check_complete(folder, case, traces):
    """Every input has the traces that the case does not excuse, and there are no others."""
    expected = set()
    for name in case.inputs:
        if name not in case.no_pytorch and "" not in case.no_pytorch:
            expected.add(f"{name}.safetensors")
        if name not in case.no_tensorflow and "" not in case.no_tensorflow:
            expected.add(f"{name}.tf.safetensors")
        if case.microsoft:
            expected.add(f"{name}.{case.microsoft}.safetensors")
    if expected != set(traces):
        raise SystemExit(f"{folder}: missing or left over: {sorted(expected ^ set(traces))}")


def digest(folder):
    """The weight digest of the model in a folder: of all that its file holds."""
    tensors = weights.of_safetensors(folder / weights.SAFETENSORS)
    return digest_of(digest_line(name, read()) for name, read in tensors.items())


if __name__ == "__main__":
    main()
