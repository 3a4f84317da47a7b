"""verify: what deberta-verify does, without a process."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from os import PathLike as OsPathLike
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from . import _native
from .arguments import PathLike, options
from .errors import RequestError
from .progress import Progress, telling


class FirstDivergence(NamedTuple):
    """Where to look first."""

    model: str
    file: str | None
    trace: str | None
    point: str | None
    """The activation or output that differs first; None if it is something else, which the report says."""
    want: float | tuple[int, ...] | None = None
    """What the golden has there, where it differs most: a number, or the shape if that differs."""
    got: float | tuple[int, ...] | None = None
    """What was computed in its place."""


class VerificationError(AssertionError):
    """A model that does not agree with its golden, or could not be judged. The message is the report; `file`, `tensor`, `want`
    and `got` are those of its first divergence."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"{report.outcome}\n\n{report}")
        self.report = report
        self.kind = "verification"
        first = report.first_divergence
        self.file = first and first.file
        self.tensor = first and first.point
        self.want = first and first.want
        self.got = first and first.got


class Report:
    """What a verification found. `print(report)` shows what the program prints, a notebook shows the page with plots."""

    def __init__(self, found: _native.Verification) -> None:
        self._found = found
        self._json: str | None = None

    @property
    def outcome(self) -> str:
        """`pass`, `divergence`, or `undecided`: something could not be judged."""
        return str(self.to_dict()["outcome"])

    @property
    def passed(self) -> bool:
        """Whether everything was judged, and agrees."""
        return self.outcome == "pass"

    @property
    def models(self) -> list[dict[str, Any]]:
        """The report of every model: one, or those of a policy."""
        found = self.to_dict()
        return list(found["models"]) if "models" in found else [found]

    @property
    def files(self) -> list[dict[str, Any]]:
        """Every weight file, with its runs on the traces of the golden."""
        return [file for model in self.models for file in model["files"]]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What concerns a model, a file or a run as a whole: kind, outcome, message."""
        places = [*self.models, *self.files, *(run for file in self.files for run in file["runs"])]
        return [finding for place in places for finding in place["findings"]]

    @property
    def diagnoses(self) -> list[dict[str, Any]]:
        """The causes that were found of what differs."""
        return [diagnosis for file in self.files for run in file["runs"] for diagnosis in run["diagnoses"]]

    @property
    def first_divergence(self) -> FirstDivergence | None:
        """Where to look first; None if everything passes."""
        found = self._found.first_divergence()
        if found is None:
            return None
        want, got = (tuple(each) if isinstance(each, list) else each for each in found[4:])
        return FirstDivergence(*found[:4], want, got)

    def raise_for_outcome(self) -> Report:
        """Raises VerificationError unless it passed."""
        if not self.passed:
            raise VerificationError(self)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The report as docs/report.md describes it."""
        found: dict[str, Any] = json.loads(self.to_json())
        return found

    def to_json(self) -> str:
        """The report for programs."""
        if self._json is None:
            self._json = self._found.render("json")
        return self._json

    def to_text(self, *, all_points: bool = False) -> str:
        """The report as the program prints it."""
        return self._found.render("text", all_points=all_points)

    def to_html(self) -> str:
        """One page with plots, which opens offline."""
        return self._found.render("html")

    def to_markdown(self) -> str:
        """The report for a comment on a pull request."""
        return self._found.render("markdown")

    def to_junit(self) -> str:
        """JUnit XML, for CI systems."""
        return self._found.render("junit")

    def to_model_card(self) -> str:
        """A section for the model's card."""
        return self._found.render("card")

    def save(self, path: PathLike) -> None:
        """Writes the report in the format of the extension: .txt, .json, .xml for JUnit, .md, card.md, .html."""
        path = Path(path)
        chosen = _native.format_of(path)
        if chosen is None:
            why = f"{path}: which format? expected .txt, .json, .xml, .md or .html"
            raise RequestError(why, kind="request", file=str(path))
        path.write_text(self._found.render(chosen), encoding="utf-8")

    def _repr_html_(self) -> str:
        page = html.escape(self.to_html())
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        names = ", ".join(file["file"] for file in self.files)
        return f"<Report {self.outcome}: {names}>"

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is neither true nor false: ask for .passed, or .outcome, which may be 'undecided'")


def verify(
    model: PathLike,
    golden: PathLike | Iterable[PathLike] | None = None,
    *,
    config: PathLike | None = None,
    revision: str | None = None,
    isolate: bool = False,
    diagnose: bool = True,
    backend: str | None = None,
    precision: str = "f32",
    strict: bool = False,
    by_itself: bool = False,
    threads: int | None = None,
    progress: Progress = None,
) -> Report:
    """Verifies every weight file of a model against goldens.

    Args:
        model: A folder, a weight file, an index of shards, or an id of the hub.
        golden: The folder of a golden, or several; if None, what is in the model's folder or comes with this package.
        config, revision, isolate, backend, precision, strict: As on the command line.
        diagnose: Whether to look for the causes of a divergence.
        by_itself: Whether to compare the files of the folder with each other, without a golden: `--self`.
        threads: How many compute; as many as there are processors if None.
        progress: True for bars, or a function of a step, what is done, and all.

    Returns:
        The report. That something differs or cannot be judged is part of it: ask for `passed`.

    Raises:
        FormatError, ModelError, HubError, OSError, ValueError: The model or the golden cannot be opened at all.
    """
    goldens = [golden] if isinstance(golden, (str, OsPathLike)) else list(golden or [])
    arguments = options(
        model=model, config=config, revision=revision, isolate=isolate, no_diagnosis=not diagnose, backend=backend,
        precision=precision, strict=strict,
    )  # fmt: skip
    for folder in goldens:
        arguments += options(golden=folder)
    if by_itself:
        arguments.append("--self")
    return _verified(arguments, threads, progress)


def verify_policy(
    policy: PathLike, *, shard: str | None = None, threads: int | None = None, progress: Progress = None
) -> Report:
    """Verifies the models of a policy, or of a part of it, as 2/8. The reports that the policy names are not written."""
    return _verified(options(policy=policy, shard=shard), threads, progress)


def assert_verified(model: PathLike, golden: PathLike | Iterable[PathLike] | None = None, **options: Any) -> Report:
    """Verifies a model, for tests: raises VerificationError, with the report as its message, unless everything agrees."""
    __tracebackhide__ = True
    return verify(model, golden, **options).raise_for_outcome()


def _verified(arguments: list[str], threads: int | None, progress: Progress) -> Report:
    if threads is not None and threads < 1:
        raise RequestError(f"threads: {threads}, at least 1 is needed", kind="request", tensor="threads", want=1, got=threads)
    with telling(progress) as callback:
        return Report(_native.verify(arguments, threads, callback))
