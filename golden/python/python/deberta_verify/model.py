"""Models that run on arrays of numpy: by the reference implementation, or as the graph of an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _native
from .arguments import PathLike
from .errors import RequestError
from .progress import Progress, telling

if TYPE_CHECKING:
    import numpy as np

# How many axes an argument has, and what they are; one more, after the first, for multiple choice.
AXES = {
    "input_ids": "[b, n]",
    "attention_mask": "[b, n] or [b, n, n]",
    "token_type_ids": "[b, n]",
    "position_ids": "[b, n]",
    "inputs_embeds": "[b, n, E]",
}
REAL = ("attention_mask", "inputs_embeds", "labels")


class Output(Mapping[str, Any]):
    """What a model computed, by the names in transformers: `output.logits` is `output["logits"]`."""

    activations: dict[str, np.ndarray]
    """The activations that were asked for, by the names of docs/activations.md, in the order of execution."""

    def __init__(self, found: Iterable[tuple[str, np.ndarray]]) -> None:
        self._outputs: dict[str, Any] = {}
        self.activations = {}
        for name, array in found:
            kind, _, rest = name.partition(".")
            group = rest.split(".")[0]
            if kind == "activations":
                self.activations[rest] = array
            elif group in ("hidden_states", "attentions"):
                self._outputs[group] = (*self._outputs.get(group, ()), array)
            else:
                self._outputs[rest] = array

    def __getitem__(self, name: str) -> Any:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._outputs:
            raise AttributeError(f"this model puts out {', '.join(self.__dict__.get('_outputs', ()))}, and no {name}")
        return self._outputs[name]

    def __repr__(self) -> str:
        shapes = (f"{name}={list(value.shape)}" for name, value in self.items() if not isinstance(value, tuple))
        return f"<Output {', '.join(shapes)}>"


class Model:
    """A model of any class of v1, v2, v3 and mDeBERTa, from a checkpoint of any format."""

    def __init__(self, native: _native.Model) -> None:
        self._native = native

    @classmethod
    def load(
        cls,
        model: PathLike,
        *,
        config: PathLike | None = None,
        revision: str | None = None,
        class_name: str | None = None,
        masked_rows: str | None = None,
        precision: str = "f32",
        backend: str | None = None,
        ort_library: PathLike | None = None,
        progress: Progress = None,
    ) -> Model:
        """Loads a model.

        Args:
            model: A folder, a weight file, an index of shards, or an id of the hub.
            config, revision: As on the command line.
            class_name: The class to run, such as TFDebertaForMaskedLM; if None, that of the checkpoint.
            masked_rows: `uniform` or `zero`: what becomes of attention rows whose every key is masked; if None, as in
                the class.
            precision: `f32`, or `f64` to compute in double precision.
            backend: `reference`, which computes with the weights; or what runs the ONNX graph of the file or folder, in a
                process of its own: `onnx`, the runtime that is part of this package, or `onnxruntime`, the library of pip's
                package of that name. If None, `onnx` for an ONNX file, and `reference` for everything else.
            ort_library: ONNX Runtime's library, if it is not that of pip's onnxruntime. The first that a process names counts.
        """
        if precision not in ("f32", "f64"):
            raise RequestError(f"precision={precision!r}: expected 'f32' or 'f64'", kind="request", tensor="precision")
        with telling(progress) as callback:
            native = _native.Model.load(
                os.fspath(model), config=config, revision=revision, class_name=class_name, masked_rows=masked_rows,
                double=precision == "f64", backend=backend, ort_library=ort_library, progress=callback,
            )  # fmt: skip
        return cls(native)

    @property
    def class_name(self) -> str:
        """The class."""
        return self._native.class_name

    @property
    def backend(self) -> str:
        """What computes: `reference`, `onnx` or `onnxruntime`."""
        return self._native.backend

    @property
    def digest(self) -> str:
        """The weight digest.

        Raises:
            ModelError: A graph that does not hold the weights of its class as they are, such as a quantized one.
        """
        return self._native.digest

    def label(self, label: int) -> str:
        """The name of a label."""
        return self._native.label(label)

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        *,
        labels: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        points: str | Iterable[str] = (),
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> Output:
        """Runs the model, as in transformers.

        Args:
            input_ids: Integers [b, n] of any dtype, in lists, arrays or tensors; [b, c, n] for multiple choice.
            attention_mask, token_type_ids, position_ids, inputs_embeds, labels, start_positions, end_positions: As there.
            points: Which activations to record: names of docs/activations.md, `*` for any text. A graph has those that it
                puts out.
            output_hidden_states, output_attentions: Whether they are among the outputs.

        Raises:
            ValueError: Inputs that do not fit the model: `tensor` names the argument, `want` and `got` say what is wrong.
        """
        given = {
            "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids,
            "position_ids": position_ids, "inputs_embeds": inputs_embeds, "labels": labels,
            "start_positions": start_positions, "end_positions": end_positions,
        }  # fmt: skip
        arguments = [(name, _array(name, value)) for name, value in given.items() if value is not None]
        asked = [points] if isinstance(points, str) else list(points)
        return Output(self._native.run(arguments, asked, output_hidden_states, output_attentions))

    def __repr__(self) -> str:
        return f"<Model {self.class_name}>"


def _array(name: str, value: Any) -> np.ndarray:
    """An argument as int64 or float32."""
    import numpy as np

    def wrong(why: str, **numbers: Any) -> RequestError:
        return RequestError(f"{name}: {why}", kind="request", tensor=name, **numbers)

    try:
        array = np.asarray(value)
    except ValueError as error:
        raise wrong(f"no array: {error}; sequences of different lengths are padded first") from None
    if name in AXES:
        axes = {shape.count(",") + 1 for shape in AXES[name].split(" or ")}
        if array.ndim not in axes | {count + 1 for count in axes}:
            raise wrong(f"shape {list(array.shape)}, expected {AXES[name]}", want=AXES[name], got=array.shape)
    if array.size == 0:
        raise wrong(f"shape {list(array.shape)}: there is nothing to compute", got=array.shape)
    if array.dtype.kind in "iub":
        if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
            raise wrong(f"{array.max()} is beyond 64 bits with a sign", want="int64", got=str(array.dtype))
        return np.ascontiguousarray(array, dtype=np.float32 if name == "inputs_embeds" else np.int64)
    if array.dtype.kind == "f" and name in REAL:
        return np.ascontiguousarray(array, dtype=np.float32)
    expected = "numbers" if name in REAL else "integers"
    raise wrong(f"dtype {array.dtype}, expected {expected}", want=expected, got=str(array.dtype))
