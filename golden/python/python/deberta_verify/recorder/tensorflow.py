"""Runs a TensorFlow model of transformers (up to version 4) and hands over its outputs; its layers have no hooks. Imports
TensorFlow when it is called, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .classes import BASE, CHOICE, MASKED_LM, ModelClass
from .error import RecordError
from .pytorch import convention
from .settings import Settings

Add = Callable[[str, np.ndarray], None]
ENDS = {".kernel": (".weight", True), ".gamma": (".weight", False), ".beta": (".bias", False)}
ENDS |= {"embeddings.embeddings": ("embeddings.weight", False)}
# Version 2 has other names in PyTorch alone.
V2_NAMES = {".pos_proj.": ".pos_key_proj.", ".pos_q_proj.": ".pos_query_proj."}


def versions() -> str:
    """The programs that compute: `tensorflow 2.19.1 + transformers 4.57.6`."""
    import tensorflow
    import transformers

    return f"tensorflow {tensorflow.__version__} + transformers {transformers.__version__}"


def build(
    transformers_class: Any,
    configuration: Any,
    cls: ModelClass,
    find: Callable[[str], np.ndarray | None],
    source: str,
) -> Any:
    """The TensorFlow model of a configuration, to which `find` gives every parameter by its canonical name, in PyTorch's
    layout. Raises RecordError if one is missing or has another shape."""
    try:
        model = transformers_class(configuration)
        model.build_in_name_scope()
    except Exception as error:  # Keras raises whatever its parts do
        message = " ".join(str(error).split())[:300]
        raise RecordError(f"{source}: {cls} cannot be built: {type(error).__name__}: {message}") from error
    for variable in model.weights:
        name, reversed_axes = canonical(variable.name, cls)
        array = find(name)
        if array is None:
            why = f"{source}: {name} of {cls} is not in the file: name the class that the file is of by --class"
            raise RecordError(why, file=str(source), tensor=name)
        array = array.T if reversed_axes else array
        if tuple(array.shape) != tuple(variable.shape):
            want = tuple(variable.shape)
            why = f"{source}: {name} has shape {array.shape}, {cls} needs {want}"
            raise RecordError(why, file=str(source), tensor=name, want=want, got=tuple(array.shape))
        variable.assign(array)
    return model


def without_numbers(model: Any, missing: Iterable[str]) -> list[str]:
    """Which of the layers and variables that transformers did not find in a file have numbers that it makes up. It names
    layers without variables, too, such as dropout, which Keras counts within a process: `dropout_37`."""
    nothing_to_load = {layer.name for layer in model.layers if not layer.weights}
    return [name for name in missing if name not in nothing_to_load]


def check(settings: Settings, cls: ModelClass) -> None:
    """Raises RecordError for what PyTorch's class computes and TensorFlow's leaves out without a word."""
    if cls.head == MASKED_LM and not settings.tied:
        raise RecordError(f"{cls} always decodes by the word embeddings, and tie_word_embeddings is false: record PyTorch's")
    if cls.head == MASKED_LM and not settings.legacy:
        raise RecordError(f"{cls} has only the head under cls.predictions, and legacy is false: record PyTorch's")
    if settings.kernel and settings.groups > 1:
        raise RecordError(f"{cls} ignores conv_groups, which is {settings.groups}: record PyTorch's")


def run(model: Any, arguments: Mapping[str, np.ndarray], add: Add) -> None:
    """Runs the model on arguments of `call` [b, n] by name, and gives `add` the full name and the numbers of every output:
    `outputs.hidden_states.0`."""
    import tensorflow

    tensors = {key: tensorflow.constant(value) for key, value in arguments.items()}
    outputs = model(tensors, output_hidden_states=True, output_attentions=True, return_dict=True, training=False)
    for field, value in outputs.items():
        for i, tensor in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            name = f"outputs.{field}" if i is None else f"outputs.{field}.{i}"
            if tensor.dtype != tensorflow.float32:
                raise RecordError(
                    f"{name} was computed in {tensor.dtype.name}, and a golden is computed in f32: build the model under the "
                    "policy float32 of keras.mixed_precision"
                )
            add(name, tensor.numpy())


def masked_rows(model: Any, cls: ModelClass) -> str:
    """What becomes of attention rows whose every key is masked: `zero`, in all versions so far."""
    import tensorflow

    ids, mask = np.ones((1, 3), np.int64), np.array([[1, 1, 0]])
    if cls.head == CHOICE:
        ids, mask = ids[None], mask[None]
    tensors = {"input_ids": tensorflow.constant(ids), "attention_mask": tensorflow.constant(mask)}
    return convention(model(tensors, output_attentions=True, return_dict=True).attentions[0].numpy())


def parameters(model: Any, cls: ModelClass) -> Iterator[tuple[str, np.ndarray]]:
    """Every parameter by its canonical name and in PyTorch's layout."""
    for variable in model.weights:
        name, reversed_axes = canonical(variable.name, cls)
        array = variable.numpy()
        yield name, array.T if reversed_axes else array


def canonical(variable: str, cls: ModelClass) -> tuple[str, bool]:
    """PyTorch's name of the Keras variable `<scope>/…:0`, and whether its axes are in reverse."""
    path = variable.removesuffix(":0").split("/")[1:]
    name = ".".join(path[1:] if cls.head == BASE else path).replace("layer_._", "layer.")
    if cls.version_2:
        for keras, torch in V2_NAMES.items():
            name = name.replace(keras, torch)
    for keras, (torch, reversed_axes) in ENDS.items():
        if name.endswith(keras):
            return name.removesuffix(keras) + torch, reversed_axes
    return name, False
