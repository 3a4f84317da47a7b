"""What goes wrong, as exceptions. What the operating system refuses is an OSError; a wrong type a TypeError."""

from __future__ import annotations

import re
from typing import Any, Union

Amount = Union[int, tuple[int, ...], str, None]


class DebertaError(Exception):
    """Anything that went wrong, with its place."""

    kind: str = ""
    """What kind of thing: `malformed`, `refused`, `unsupported`, `model`, `config`, `verification`, `request`, `hub`, or of
    the recorder `record`."""
    file: str | None = None
    """The file that it is about, if it is about one."""
    tensor: str | None = None
    """The tensor or argument that it is about, if it is about one."""
    want: Amount = None
    """What was wanted, where that is a number or a shape: an int, a tuple of them, or words such as `0..61`."""
    got: Amount = None
    """What was found in its place."""

    def __init__(self, message: str, **place: Any) -> None:
        super().__init__(message)
        self.__dict__.update(place)


class FormatError(DebertaError):
    """A file that breaks the rules of its format, asks for something that is not allowed, or is of no known kind."""


class ModelError(DebertaError):
    """Tensors or a configuration that make no model, or an output that is not what was meant to be written."""


class HubError(DebertaError):
    """A hub that cannot be reached, or does not give what was asked for."""


class RequestError(DebertaError, ValueError):
    """Arguments that cannot be followed, inputs that do not fit the model, an output that exists."""


CLASSES: dict[str, type[DebertaError]] = {
    "malformed": FormatError,
    "refused": FormatError,
    "unsupported": FormatError,
    "model": ModelError,
    "config": ModelError,
    "verification": ModelError,
    "request": RequestError,
    "hub": HubError,
}


def of_native(
    kind: str,
    message: str,
    file: str | None,
    tensor: str | None,
    want: str | None,
    got: str | None,
    errno: int | None,
) -> Exception:
    """The exception for an error of the library."""
    place = {"kind": kind, "file": file, "tensor": tensor, "want": amount(want), "got": amount(got)}
    if kind == "io":
        # OSError chooses FileNotFoundError and the others by the number.
        refused = OSError(errno, message) if errno is not None else OSError(message)
        refused.filename = None
        for name, value in place.items():
            setattr(refused, name, value)
        return refused
    return CLASSES.get(kind, DebertaError)(message, **place)


def amount(text: str | None) -> Amount:
    """A number or a shape, if the text is one."""
    if text is None:
        return None
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if re.fullmatch(r"\[(\d+(, \d+)*)?\]", text):
        return tuple(int(length) for length in re.findall(r"\d+", text))
    return text
