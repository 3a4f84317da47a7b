"""The programs deberta-convert and deberta-verify, which are all Rust."""

from __future__ import annotations

import signal
import sys

from ._native import run


def convert() -> int:
    """Runs deberta-convert on the arguments of the process, and returns its exit status."""
    return _run("deberta-convert")


def verify() -> int:
    """Runs deberta-verify on the arguments of the process, and returns its exit status."""
    return _run("deberta-verify")


def _run(program: str) -> int:
    # Python would note an interruption, and look at it when the program is done.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run(program, sys.argv[1:])
