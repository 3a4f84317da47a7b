"""The programs, interruptions, forks, and what is imported."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from conftest import ROOT

pytest.importorskip("deberta_verify._native")
import deberta_verify

NLI = ROOT / "golden/trained/nli"
# As the package is found here, whether it is installed or not.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(deberta_verify.__file__).parents[1])}
CALL = "import sys; from deberta_verify import programs; sys.exit(programs.{}())"


def python(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, **options)


@pytest.mark.parametrize(
    ("program", "arguments", "status"),
    [
        ("convert", ["--version"], 0),
        ("convert", ["--help"], 0),
        ("convert", ["digest", NLI], 0),
        ("convert", ["digest", "nowhere.bin"], 1),
        ("convert", ["nonsense"], 2),
        ("verify", ["--model", NLI / "model.safetensors", "--golden", NLI], 0),
        ("convert", ["diff", NLI / "model.safetensors", ROOT / "golden/data/masked-lm"], 1),
        ("verify", ["--model", NLI, "--golden", "nowhere"], 2),
        ("verify", [], 2),
    ],
)
def test_programs_end_as_the_native_ones(program, arguments, status):
    run = python(CALL.format(program), *arguments)
    assert run.returncode == status, run.stderr
    native = os.environ.get(f"DEBERTA_{program.upper()}")
    if native:
        same = subprocess.run([native, *map(str, arguments)], capture_output=True, text=True)
        assert (same.returncode, same.stderr) == (run.returncode, run.stderr)


def test_the_package_is_a_program():
    run = subprocess.run([sys.executable, "-m", "deberta_verify", "--version"], capture_output=True, text=True, env=ENVIRONMENT)
    assert run.stdout.startswith("deberta-verify ") and run.returncode == 0


def test_installed_programs_start():
    scripts = Path(sysconfig.get_path("scripts"))
    if not (scripts / "deberta-convert").exists():
        pytest.skip("the package is not installed")
    for name in ("deberta-convert", "deberta-verify"):
        assert subprocess.run([scripts / name, "--version"], capture_output=True, text=True).stdout.startswith(name)
    assert subprocess.run([scripts / "deberta-record", "--help"], capture_output=True).returncode == 0


def test_numpy_comes_with_the_first_array():
    code = "import deberta_verify, sys; deberta_verify.digest(sys.argv[1]); print('numpy' in sys.modules)"
    assert python(code, NLI).stdout == "False\n"


def interrupted(code, *arguments):
    """Interrupts a process that says when its call begins; how it ended, what it said, after how many seconds."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def heed():
        # A shell lets what it runs in the background ignore interruptions.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(command, **pipes, env=ENVIRONMENT, preexec_fn=heed)
    assert process.stdout.readline() == "begins\n"
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - began


def test_an_interruption_stops_a_call():
    code = """
import sys, numpy as np, deberta_verify
model = deberta_verify.Model.load(sys.argv[1])
print("begins", flush=True)
model(np.full((64, 2000), 5))
"""
    status, said, seconds = interrupted(code, NLI)
    assert "KeyboardInterrupt" in said and status == -signal.SIGINT
    assert seconds < 2, f"it took {seconds} s"


def test_an_interruption_stops_a_program():
    code = "print('begins', flush=True)\nfrom deberta_verify import programs\nprograms.verify()"
    status, said, _ = interrupted(code, "bench", "--model", NLI, "--batch", 32, "--seq", 1500)
    assert status == -signal.SIGINT and "Traceback" not in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_after_a_call_is_refused():
    code = """
import os, sys, deberta_verify
tokenizer = deberta_verify.Tokenizer.load(sys.argv[1])
model = deberta_verify.Model.load(sys.argv[1])
model([[1, 2, 3]])
if os.fork() == 0:
    tokenizer("This works.")
    for call in (lambda: model([[1, 2, 3]]), lambda: deberta_verify.verify(sys.argv[1])):
        try:
            call()
        except RuntimeError as error:
            assert "spawn" in str(error), error
        else:
            os._exit(1)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    run = python(code, NLI)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_before_any_call_works():
    code = """
import os, sys, deberta_verify
if os.fork() == 0:
    deberta_verify.Model.load(sys.argv[1])([[1, 2, 3]])
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert python(code, NLI).returncode == 0


def test_other_threads_run_meanwhile():
    code = """
import sys, threading, numpy as np, deberta_verify
model = deberta_verify.Model.load(sys.argv[1])
counted, done = 0, threading.Event()
def compute():
    model(np.full((8, 600), 5))
    done.set()
thread = threading.Thread(target=compute)
thread.start()
while not done.wait(0.001):
    counted += 1
print(counted > 20)
"""
    assert python(code, NLI).stdout == "True\n"
