"""Runs the cells of docs/notebook.ipynb in docs/ and compares the values of their last expressions with those that the
notebook shows: notebook.py [--write]. With --write, the notebook shows what was found."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[3] / "docs/notebook.ipynb"


def run(source: str, known: dict[str, Any]) -> str | None:
    """Runs a cell; how Python shows its value, if it has one."""
    cell = ast.parse(source)
    last = cell.body.pop() if isinstance(cell.body[-1], ast.Expr) else None
    exec(compile(cell, "cell", "exec"), known)
    if last is None:
        return None
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), known)
    # What a notebook shows instead.
    html = getattr(value, "_repr_html_", None)
    assert html is None or "<" in html()
    return None if value is None else repr(value)


def main() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    os.chdir(NOTEBOOK.parent)
    known: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        count += 1
        found = run("".join(cell["source"]), known)
        if "--write" in sys.argv:
            data = {"text/plain": [found]}
            shown = {"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"}
            cell.update(execution_count=count, outputs=[] if found is None else [shown])
            continue
        expected = ["".join(output["data"]["text/plain"]) for output in cell["outputs"]]
        if expected != ([] if found is None else [found]):
            sys.exit("cell {}:\n{}\nis {}\nthe notebook shows {}".format(count, "".join(cell["source"]), found, expected))
    if "--write" in sys.argv:
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{count} cells: pass")


main()
