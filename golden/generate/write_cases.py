"""Writes case.yaml into the folders of the cases, from the traces that lie in them. Needs numpy alone, and the
program deberta-convert, whose path is DEBERTA_CONVERT.

python write_cases.py DATA [CASE …]
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import safetensors_file
from cases import CASES, selected


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
    lines = [
        f"description: {quoted(case.description)}",
        'model: "."',
        f"class: {case.cls}",
        f"producer: {quoted(producers)}",
        f"digest: {quoted(digest(folder))}",
        "tolerances:",
        "  default: {atol: 5.0e-6" + (f", scale: {case.scale}" if case.scale else "") + "}",
        "traces:",
    ]
    for file, metadata in traces.items():
        fields = {"file": file} | {key: metadata[key] for key in ("framework", "class", "masked_rows")}
        lines.append("  - {" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}")
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
    command = [os.environ["DEBERTA_CONVERT"], "digest", str(folder / "model.safetensors")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return printed.split()[0]


def quoted(text):
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    main()
