"""Prints a line for every check, and `N passed, N failed`; exits with 1 if one failed.

python check.py TRAINED
"""

import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import models  # noqa: E402
import random_predictions  # noqa: E402


def main():
    results = [*random_predictions.checks(), *models.checks(Path(sys.argv[1]))]
    for name, problem in results:
        print(f"{'FAILED' if problem else 'ok':6} {name}{': ' + problem if problem else ''}")
    failed = sum(1 for _, problem in results if problem)
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not results else 0)


main()
