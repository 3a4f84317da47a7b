"""Runs a PyTorch model of transformers and hands over every activation and output, by hooks on its modules. Imports torch
when it is called, and not before."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .classes import CHOICE, ModelClass
from .error import RecordError
from .points import is_silent, name_of_call, points
from .settings import Settings

Add = Callable[[str, np.ndarray], None]
WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
SHARDED = ("FullyShardedDataParallel", "DeepSpeedEngine")


def versions() -> str:
    """The programs that compute: `torch 2.13.0 + transformers 4.57.6`."""
    import torch
    import transformers

    return f"torch {torch.__version__.split('+')[0]} + transformers {transformers.__version__}"


def unwrap(model: Any) -> Any:
    """The model of transformers inside of torch.compile, DataParallel and DistributedDataParallel. Raises RecordError for
    what else wraps it: adapters that are not merged, parameters that are sharded."""
    while (name := type(model).__name__) in WRAPPERS:
        model = getattr(model, WRAPPERS[name])
    if name in SHARDED:
        raise RecordError(f"{name} has a part of the parameters: save the model, and record the folder")
    if hasattr(model, "peft_config") or hasattr(model, "merge_and_unload"):
        raise RecordError(
            "the model has adapters of PEFT that are not merged, so that its weights are not what it computes with: record "
            "model.merge_and_unload()"
        )
    return model


def check(model: Any, settings: Settings, cls: ModelClass) -> None:
    """Checks that the model is computed in f32, and that its modules are those that the points are named after. Raises
    RecordError if not."""
    import torch

    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise RecordError(f"{name} is on the device meta, without numbers: load the model with low_cpu_mem_usage=False")
        if parameter.dtype != torch.float32:
            dtype = str(parameter.dtype).removeprefix("torch.")
            why = f"{name} is {dtype}, and a golden is computed in f32: record model.float()"
            raise RecordError(why, tensor=name, want="float32", got=dtype)
    known = set(points(settings, cls)) | {cls.prefix + "encoder.rel_embeddings"}
    for path, module in model.named_modules():
        if not is_silent(path, type(module).__name__) and path not in known:
            unused = cls.prefix + "encoder.LayerNorm"
            if path == unused and settings.norm_rel_ebd:
                continue  # of a table that is not there
            raise RecordError(
                f"{path} ({type(module).__name__}) is no module of {cls} with this configuration: the configuration is not "
                "that of the model, or something was added to it. Record the model of transformers itself"
            )


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout, gradients and autocast, on the CPU; afterwards everything is as it was. Accelerate, and with it the
    Trainer, puts autocast into a forward of the model's own: that of the class is run."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) > 1:
        raise RecordError(f"the model is on {len(devices)} devices: record model.to('cpu')")
    device = devices.pop() if devices else torch.device("cpu")
    wrapped = vars(model).pop("forward", None) if hasattr(model, "_original_forward") else None
    try:
        if device.type != "cpu":
            model.to("cpu")
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for module, training in modes:
            module.training = training
        if wrapped is not None:
            model.forward = wrapped
        if device.type != "cpu":
            model.to(device)


def run(model: Any, arguments: Mapping[str, Any], add: Add, settings: Settings, mask_of_rows: bool = False) -> None:
    """Runs the model on arguments of `forward` [b, n], tensors or arrays by name, and gives `add` the full name and the
    numbers of every activation and output: `activations.deberta.embeddings`, `outputs.logits`.

    What a hook gets is copied at once: DeBERTa divides some of it in place after the hook. `mask_of_rows`: embeddings are
    multiplied by 1 for rows of a mask [b, n, n] that allow any key, where transformers fails otherwise.
    """
    import torch

    hooks, calls = [], Counter()

    def keep(path: str):
        def hook(_module, _arguments, output):
            output = output[0] if isinstance(output, tuple) else output
            calls[path] += 1
            named = name_of_call(path, calls[path], settings)
            if named:
                add(f"activations.{named}", numbers(named, output))

        return hook

    def rows_of_pairs(_module, arguments, named):
        return arguments, named | {"mask": named["mask"].amax(-1)}

    arguments = {key: torch.as_tensor(value) for key, value in arguments.items()}
    try:
        for path, module in model.named_modules():
            if not is_silent(path, type(module).__name__):
                hooks.append(module.register_forward_hook(keep(path)))
            if mask_of_rows and type(module).__name__ in ("DebertaEmbeddings", "DebertaV2Embeddings"):
                hooks.append(module.register_forward_pre_hook(rows_of_pairs, with_kwargs=True))
        with torch.no_grad():
            outputs = model(**arguments, output_hidden_states=True, output_attentions=True, return_dict=True)
    finally:
        for hook in hooks:
            hook.remove()
    for field, value in outputs.items():
        for i, tensor in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            name = f"outputs.{field}" if i is None else f"outputs.{field}.{i}"
            add(name, numbers(name, tensor))


def numbers(name: str, tensor: Any) -> np.ndarray:
    """A copy of the numbers of a tensor. Raises RecordError for half precision, which autocast makes."""
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise RecordError(
            f"{name} was computed in {dtype}, though the parameters are f32: the model's forward is wrapped (mixed "
            "precision of accelerate: unwrap_model(model, keep_fp32_wrapper=False)), or autocast is on"
        )
    return tensor.numpy().copy()


def masked_rows(model: Any, cls: ModelClass) -> str:
    """What becomes of attention rows whose every key is masked: `uniform`, or `zero` up to transformers 4.46."""
    import torch

    ids, mask = torch.tensor([[1, 1, 1]]), torch.tensor([[1, 1, 0]])
    if cls.head == CHOICE:
        ids, mask = ids[None], mask[None]
    with torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=mask, output_attentions=True, return_dict=True)
    return convention(outputs.attentions[0].numpy())


def convention(attentions: np.ndarray) -> str:
    """The convention for masked rows that probabilities [1, h, 3, 3] show, whose last query is masked. Raises RecordError
    if it is none that is known."""
    row = attentions[0, :, -1]
    if not row.any():
        return "zero"
    if np.allclose(row, row[:, :1], rtol=1e-5, atol=1e-6):
        return "uniform"
    raise RecordError(f"the attention of masked rows is {row[0].tolist()}, neither 0 nor the same for all keys")


def parameters(model: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every parameter once, by its first name: f32, as it is saved."""
    for name, parameter in model.named_parameters():
        yield name, parameter.detach().cpu().numpy()
