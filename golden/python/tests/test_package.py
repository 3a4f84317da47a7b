"""What is in the package, and whether it says the truth of itself."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HERE = ROOT / "golden/python"


def test_the_licence_is_that_of_the_repository():
    assert (HERE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_every_name_is_there():
    import deberta_verify

    pytest.importorskip("deberta_verify._native")
    for name in set(deberta_verify.__all__) - {"RecordGolden"}:
        assert getattr(deberta_verify, name) is not None
    assert set(deberta_verify.__all__) <= set(dir(deberta_verify))


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_sessions_print_what_they_show(page, monkeypatch, tmp_path):
    pytest.importorskip("deberta_verify._native")
    monkeypatch.chdir(ROOT)
    text = (ROOT / page).read_text().replace("/tmp/", f"{tmp_path}/")
    sessions = [block.split("```")[0] for block in text.split("```pycon\n")[1:]]
    assert sessions
    # One session goes on with the names of the one before it.
    names: dict = {}
    for session in sessions:
        example = doctest.DocTestParser().get_doctest(session, names, page, page, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        assert runner.run(example, clear_globs=False).failed == 0
        names = example.globs


def test_the_stubs_are_those_of_the_library():
    pytest.importorskip("mypy")
    native = pytest.importorskip("deberta_verify._native")
    path = str(Path(native.__file__).parents[1])
    sources = {} if "site-packages" in path else {"PYTHONPATH": path, "MYPYPATH": path}
    command = [sys.executable, "-m", "mypy.stubtest", "deberta_verify._native"]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | sources, cwd=HERE)
    assert run.returncode == 0, run.stdout + run.stderr


def test_types_are_right():
    pytest.importorskip("mypy")
    modules = ["arguments", "conversion", "errors", "model", "programs", "progress", "tokenizer", "verification"]
    files = [f"python/deberta_verify/{name}.py" for name in modules]
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports", *files]
    run = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    assert run.returncode == 0, run.stdout + run.stderr
