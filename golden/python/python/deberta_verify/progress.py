"""How far long work is: for a callback, or as bars of tqdm."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, Union

Callback = Callable[[str, int, int], object]
"""Is called with a step, what is done of it, and all that there is to do: bytes, or 0 where they are not counted."""
Progress = Union[Callback, bool, None]

log = logging.getLogger("deberta_verify")


@contextmanager
def telling(progress: Progress) -> Iterator[Callback | None]:
    """The callback for what a user gives: a callback, True for bars, or nothing."""
    if callable(progress):
        yield progress
    elif progress:
        bars = Bars()
        try:
            yield bars
        finally:
            bars.close()
    else:
        yield None


class Bars:
    """A bar of tqdm for every step; lines in the log, if there is no tqdm."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            tqdm = None
        self.tqdm: Any = tqdm
        self.bar: Any = None
        self.step = ("", 0)

    def __call__(self, step: str, done: int, total: int) -> None:
        if (step, total) != self.step or done < getattr(self.bar, "n", 0):
            self.step = (step, total)
            self.close()
            if self.tqdm is None:
                log.info("%s", step)
            elif step:
                counted = {"total": total, "unit": "B", "unit_scale": True} if total else {"bar_format": "{desc} {elapsed}"}
                self.bar = self.tqdm(desc=step, leave=False, **counted)
        if self.bar is not None:
            self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
