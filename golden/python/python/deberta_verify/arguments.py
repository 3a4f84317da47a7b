"""Arguments of Python as those of the programs, whose options have the same names."""

from __future__ import annotations

import os
from typing import Union

PathLike = Union[str, "os.PathLike[str]"]


def options(**given: object) -> list[str]:
    """`--name=value` for every option that is given, `--name` for one that is True."""
    found = []
    for name, value in given.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            found.append(option)
        elif value is not None and value is not False:
            found.append(f"{option}={os.fspath(value) if isinstance(value, os.PathLike) else value}")
    return found
