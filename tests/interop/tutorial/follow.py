"""Does what docs/tutorial.md says, in an empty folder: follow.py FOLDER [FROM=TO …]

Blocks with a file name are written there; commands are run, and must print what stands below them, in which `…` is any
text, or any lines if it stands alone. FROM=TO replaces texts of the document: another model. Programs are those in PATH.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
# What run.sh has done.
DONE = ("python3 -m venv ", "pip install ", "git clone ")


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether lines are as the document says."""
    if not expected:
        return not printed
    first, rest = expected[0], expected[1:]
    if first == "…":
        return any(matches(rest, printed[skip:]) for skip in range(len(printed) + 1))
    pattern = ".*".join(re.escape(part) for part in first.split("…"))
    return bool(printed) and bool(re.fullmatch(pattern, printed[0])) and matches(rest, printed[1:])


def bash(script: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Runs a script; its exit status, and what it printed."""
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def session(lines: list[str], folder: Path) -> None:
    """Runs the commands of a block. One may fail if the next one shows its status."""
    commands: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
    status = 0
    for at, (command, expected) in enumerate(commands):
        if command.startswith(DONE):
            continue
        print(f"$ {command}", flush=True)
        status, stdout, stderr = bash(f"(exit {status})\n{command}", folder)
        shown = at + 1 < len(commands) and commands[at + 1][0] == "echo $?"
        if status != 0 and not shown:
            sys.exit(f"ends with {status}:\n{stdout}{stderr}")
        if expected and not matches(expected, [line.rstrip() for line in stdout.splitlines()]):
            sys.exit("prints\n{}\n{}\nthe document says\n{}".format(stdout, stderr, "\n".join(expected)))


def workflow(text: str, folder: Path) -> None:
    """Runs what the action runs to verify, with the inputs of a workflow, as `tests/documented_blocks.rs` does."""
    action = yaml.safe_load((ROOT / ".github/actions/deberta-verify/action.yml").read_text())
    [script] = [step["run"] for step in action["runs"]["steps"] if step.get("id") == "verify"]
    steps = yaml.safe_load(text)["jobs"]["verify"]["steps"]
    [given] = [step["with"] for step in steps if "/deberta-verify@" in step["uses"]]
    assert given.keys() <= action["inputs"].keys(), given
    names = ("policy", "shard", "merge", "model", "golden", "format", "report")
    inputs = {name.upper(): given.get(name, action["inputs"][name]["default"]) for name in names}
    output = folder / "output"
    status, stdout, stderr = bash(script, folder, GITHUB_OUTPUT=str(output), **inputs)
    assert status == 0 and output.read_text().startswith("outcome=pass\n"), stdout + stderr
    print("the workflow passes", flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "deberta").symlink_to(ROOT)
    document = (ROOT / "docs/tutorial.md").read_text()
    for change in sys.argv[2:]:
        document = document.replace(*change.split("=", 1))
    for kind, name, text in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL):
        if kind == "console":
            session(text.splitlines(), folder)
            continue
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        if name.startswith(".github/"):
            workflow(text, folder)


main()
