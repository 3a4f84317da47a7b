"""Records a golden: a folder with what a model computes, small enough to be committed beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import case, inputs, layers, output, pytorch, sizes, texts
from .error import RecordError
from .inputs import Arguments
from .loading import Loaded, load
from .taking import Taken, Wanted, take
from .tokenizer_digest import tokenizer_digest

log = logging.getLogger("deberta_verify.record")
# Bytes of case.yaml, and of its line for a trace, at most.
OF_CASE, OF_TRACE = 2_000, 200


@dataclass(frozen=True)
class Golden:
    """A recorded golden."""

    folder: Path
    digest: str
    """The weight digest of the model, as `deberta-convert digest` prints it."""
    cls: str
    """The class that was run."""
    traces: tuple[str, ...]
    """The names of the trace files."""
    size: int
    """Bytes of the folder."""
    notes: tuple[str, ...] = field(default=())
    """What this golden cannot see, in words."""


def record(
    model: Any,
    texts: Iterable[str | Sequence[str]] | None = None,
    *,
    out: str | Path = "golden",
    inputs: Iterable[str | Path] | None = None,
    tokenizer: Any = None,
    framework: str | None = None,
    class_name: str | None = None,
    points: Iterable[str] | None = None,
    max_size: int | str | None = "1MB",
    cover: bool = True,
    description: str | None = None,
    overwrite: bool = False,
) -> Golden:
    """Records what a model computes, as a golden that `deberta-verify` judges by.

    Args:
        model: A folder, an id of the hub, or a model of transformers, for PyTorch or TensorFlow.
        texts: Texts, and pairs of them, that are recorded with their tokens; some that are built in if None.
        out: The folder to write. It is written whole, or not at all.
        inputs: Trace files, whose inputs are recorded instead of texts and generated ones.
        tokenizer: That of the model, or its folder or id of the hub; loaded from the same place if None.
        framework: `pytorch` or `tensorflow`; if None, what the files are for.
        class_name: The class of transformers, if config.json does not name it.
        points: The activations to record: patterns with `*` for any text, names of docs/activations.md; all if None.
        max_size: How large the folder may be: `1MB`, a number of bytes, or None for everything in whole. What does not fit
            is recorded as samples and statistics, and the states between the layers in whole for a short text.
        cover: Whether inputs are generated that make the model use all that it has.
        description: A line about the model, for people.
        overwrite: Whether a golden that is there is replaced.

    Returns:
        What was recorded.

    Raises:
        RecordError: The model cannot be recorded faithfully; nothing was written then.
    """
    out, limit = Path(out), sizes.parse(max_size)
    output.check(out, overwrite)
    loaded = load(model, framework, class_name)
    if loaded.cls.tensorflow:
        recorder = Recorder(loaded, points, limit)
        recorder.prepare(texts, inputs, tokenizer, cover, model)
        return recorder.write(out, overwrite, description)
    with pytorch.evaluating(loaded.model):
        recorder = Recorder(loaded, points, limit)
        recorder.prepare(texts, inputs, tokenizer, cover, model)
        return recorder.write(out, overwrite, description)


class Recorder:
    """A golden in the making."""

    def __init__(self, loaded: Loaded, patterns: Iterable[str] | None, limit: int | None) -> None:
        self.loaded, self.limit = loaded, limit
        self.wanted = Wanted(loaded, patterns)
        self.wanted.points(False)
        self.inputs: dict[str, Arguments] = {}
        self.tokenized: list[texts.Tokenized] = []
        self.tokenizer_digest: str | None = None
        self.notes: list[str] = []

    def prepare(self, given: Any, traces: Any, tokenizer: Any, cover: bool, model: Any) -> None:
        """Gathers the inputs."""
        settings, cls = self.loaded.settings, self.loaded.cls
        if traces is not None:
            if given is not None:
                raise RecordError("inputs and texts: give one of them")
            for path in map(Path, traces):
                if path.stem in self.inputs:
                    raise RecordError(f"--inputs: two traces are called {path.stem}")
                self.inputs[path.stem] = inputs.of_trace(path)
        else:
            self.prepare_texts(given, tokenizer, model)
            if cover:
                self.inputs |= inputs.covering(settings, cls)
                self.notes += [note for note in [inputs.uncovered(settings)] if note]
        if not self.inputs:
            raise RecordError("nothing to record: no texts, and no inputs are generated")
        for name, arguments in self.inputs.items():
            inputs.check(name, arguments, settings)

    def prepare_texts(self, given: Any, tokenizer: Any, model: Any) -> None:
        """Gathers the texts, those that are built in if none are given and there is a tokenizer."""
        chosen = texts.DEFAULT if given is None else texts.given(given)
        source = tokenizer
        if isinstance(tokenizer, (str, Path)):
            tokenizer = texts.load_tokenizer(str(tokenizer))
        if tokenizer is None:
            place = model if isinstance(model, (str, Path)) else getattr(model, "name_or_path", "")
            try:
                if not place or (given is None and not isinstance(model, (str, Path))):
                    raise RecordError("a model in memory has no tokenizer: give one by tokenizer=…")
                source, tokenizer = str(place), texts.load_tokenizer(str(place))
            except RecordError as error:
                if given is not None:
                    raise
                self.notes.append(f"no texts are recorded, and the tokenizer is not tested: {error}")
                return
        self.tokenized = texts.tokenize(tokenizer, chosen)
        settings = self.loaded.settings
        if given is None and settings.position_biased:
            self.tokenized = [text for text in self.tokenized if len(text.ids) <= settings.positions]
        self.tokenizer_digest, why_none = tokenizer_digest(source, self.loaded.config)
        self.notes += [why_none] if why_none else []
        pad = getattr(tokenizer, "pad_token_id", None) or 0
        self.inputs |= texts.batches(self.tokenized, pad, settings, self.loaded.cls)

    def write(self, out: Path, overwrite: bool, description: str | None) -> Golden:
        """Runs the model, chooses what fits, and writes the folder."""
        loaded = self.loaded
        metadata = self.metadata(loaded.module.masked_rows(loaded.model, loaded.cls))
        with output.whole(out, overwrite) as folder:
            (folder / "config.json").write_text(loaded.config, encoding="utf-8")
            digest = loaded.digest()
            log.info("digest %s", digest)
            written = self.write_traces(folder, metadata)
            lines = case.Case(
                description or f"{loaded.cls} of {Path(loaded.source).name or loaded.source}, recorded by deberta-record.",
                '"."',
                loaded.cls.pytorch_name,
                metadata["producer"],
                digest,
                self.tokenizer_digest,
            ).head()
            lines += case.tolerances() + case.traces(written)
            if self.tokenized:
                (folder / texts.FILE_NAME).write_text(self.lines_of_texts(), encoding="utf-8")
            (folder / case.FILE_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")
            size = sum(path.stat().st_size for path in folder.iterdir())
        return Golden(out, digest, str(loaded.cls), tuple(written), size, tuple(self.notes))

    def metadata(self, masked_rows: str) -> dict[str, str]:
        """The metadata of every trace."""
        framework, producer = self.loaded.framework, self.loaded.module.versions()
        known = {"framework": framework, "producer": producer, "class": str(self.loaded.cls), "masked_rows": masked_rows}
        if self.wanted.patterns is not None:
            known["points"] = " ".join(self.wanted.points(False))
        return known

    def lines_of_texts(self) -> str:
        """The file of the texts."""
        return "".join(text.line() for text in self.tokenized)

    def write_traces(self, folder: Path, metadata: dict[str, str]) -> dict[str, dict[str, str]]:
        """Writes a trace for every input, and gives the metadata by the name of the file."""
        loaded, written = self.loaded, {}
        end = ".tf.safetensors" if loaded.cls.tensorflow else ".safetensors"
        taken: dict[str, Taken] = {}
        for name, arguments in self.inputs.items():
            log.info("%s: %s", name, {key: value.shape for key, value in arguments.items()})
            found = take(loaded, arguments, self.wanted, self.limit)
            if self.limit is None:
                (folder / f"{name}{end}").write_bytes(found.whole_trace(metadata))
                written[f"{name}{end}"] = metadata
            else:
                taken[name] = found
        if self.limit is None:
            return written
        beside = len(loaded.config.encode()) + len(self.lines_of_texts().encode()) + OF_CASE
        left = self.limit - beside - OF_TRACE * (len(taken) + 1)
        chosen = sizes.fit(taken, metadata, left, loaded)
        said = metadata if chosen.names is None else metadata | {"points": sizes.patterns(chosen.names, loaded)}
        for name, data in chosen.files.items():
            (folder / f"{name}{end}").write_bytes(data)
            written[f"{name}{end}"] = said
            left -= len(data)
        if loaded.cls.tensorflow or self.wanted.patterns is not None or chosen.whole:
            return written
        whole = layers.record(loaded, metadata, left)
        for file, trace in whole.items():
            (folder / file).write_bytes(trace.data)
            written[file] = trace.metadata
        if layers.LAYERS not in whole:
            self.notes.append("there is no room for the states between layers: what differs is seen, and why is not told")
        return written
