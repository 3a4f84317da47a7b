"""Loads the model that is recorded: by transformers, from a folder or the hub, in f32, and complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import pytorch, tensorflow, weights
from .classes import MASKED_LM, ModelClass
from .digest import digest
from .error import RecordError
from .settings import Settings

PYTORCH, TENSORFLOW = "pytorch", "tensorflow"
# Keys that transformers reports as missing though nothing is.
TIED = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "embeddings.position_ids")


@dataclass
class Loaded:
    """A model that can be recorded."""

    model: Any
    cls: ModelClass
    settings: Settings
    config: str
    """config.json."""
    files: weights.Tensors
    """The tensors of its files; none of a model that was given as an object."""
    source: str
    """What messages call it."""

    @property
    def framework(self) -> str:
        """What runs it: pytorch or tensorflow."""
        return TENSORFLOW if self.cls.tensorflow else PYTORCH

    @property
    def module(self) -> Any:
        """The functions of its framework."""
        return tensorflow if self.cls.tensorflow else pytorch

    def digest(self) -> str:
        """The weight digest, 64 hexadecimal digits."""
        return digest(weights.counted(self.parameters(), self.files, self.settings, self.cls), self.settings)

    def parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every parameter of the model by its canonical name."""
        return tensorflow.parameters(self.model, self.cls) if self.cls.tensorflow else pytorch.parameters(self.model)

    def check(self) -> None:
        """Checks that the model is what its configuration says. Raises RecordError if not."""
        if self.cls.version_2 != self.settings.version_2:
            raise RecordError(f"{self.source}: model_type of the configuration is not that of {self.cls}")
        if self.cls.tensorflow:
            tensorflow.check(self.settings, self.cls)
        else:
            pytorch.check(self.model, self.settings, self.cls)


def load(model: Any, framework: str | None, class_name: str | None) -> Loaded:
    """The model of a folder or an id of the hub, or the one that was given itself: an instance of a class of transformers,
    for PyTorch or TensorFlow. Raises RecordError for what cannot be recorded faithfully."""
    is_place = isinstance(model, (str, Path))
    loaded = of_place(str(model), framework, class_name) if is_place else of_object(model, framework)
    loaded.check()
    return loaded


def of_object(model: Any, framework: str | None) -> Loaded:
    """A model in memory."""
    model = pytorch.unwrap(model)
    name = type(model).__name__
    if not type(model).__module__.startswith("transformers.") or not hasattr(model, "config"):
        raise RecordError(
            f"{type(model).__module__}.{name} is no model of transformers: give a folder, an id of the hub, or an instance "
            "of one of its classes for DeBERTa; of a class that inherits from one, the weights in that class"
        )
    cls = ModelClass.of(name)
    if framework not in (None, TENSORFLOW if cls.tensorflow else PYTORCH):
        raise RecordError(f"{name} is no class of {framework}")
    config = json.loads(model.config.to_json_string()) | {"architectures": [cls.pytorch_name]}
    full = model.config.to_dict()
    config |= {key: full[key] for key in ("model_type", "id2label", "label2id") if key in full}
    settings = Settings.of(full)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    return Loaded(model, cls, settings, text, {}, name)


def of_place(place: str, framework: str | None, class_name: str | None) -> Loaded:
    """A model of a folder or an id of the hub."""
    find = weights.finder(place)
    path = find("config.json")
    if path is None:
        raise RecordError(f"{place}: no config.json there: name the folder of a model, or an id of the hub")
    text = path.read_text(encoding="utf-8")
    try:
        config = json.loads(text)
        settings = Settings.of(config)
    except (ValueError, AttributeError) as error:
        raise RecordError(f"{path}: {error}") from error
    except RecordError as error:
        raise RecordError(f"{place}: {error}") from error
    named = class_name or next(iter(config.get("architectures") or []), None)
    if named is None:
        raise RecordError(f"{path}: architectures names no class: name it by --class, DebertaV2ForMaskedLM or another one")
    if Path(place).is_dir() and find("adapter_config.json") is not None:
        raise RecordError(
            f"{place}: adapter_config.json is beside the weights, and transformers adds the adapter to them: save "
            "model.merge_and_unload(), and record that"
        )
    if framework is None:
        on_keras_alone = not weights.is_of_pytorch(find) and find(weights.KERAS) is not None
        framework = TENSORFLOW if named.startswith("TF") or on_keras_alone else PYTORCH
    named = named.removeprefix("TF")
    cls = ModelClass.of(f"TF{named}" if framework == TENSORFLOW else named)
    files = weights.of_pytorch(find, pickles=not cls.tensorflow)
    if cls.tensorflow:
        tensorflow.check(settings, cls)
        model, files = of_tensorflow(place, cls, config, files)
    else:
        if not files:
            others = f"; there is {weights.KERAS}: --framework tensorflow" if find(weights.KERAS) else ""
            raise RecordError(f"{place}: no weights for PyTorch ({weights.SAFETENSORS}, {weights.PICKLE}){others}")
        model = of_pytorch(place, cls, settings)
    return Loaded(model, cls, settings, text, files, place)


def class_of(cls: ModelClass) -> Any:
    """The class of transformers."""
    import transformers

    found = getattr(transformers, str(cls), None)
    if found is None or "dummy" in getattr(found, "__module__", ""):
        version, wanted = transformers.__version__, "TensorFlow" if cls.tensorflow else "PyTorch"
        what = "pip install 'transformers<5' tensorflow tf-keras" if cls.tensorflow else "pip install torch"
        raise RecordError(f"transformers {version} has no {cls!s} here: it needs {wanted} ({what})")
    return found


def of_pytorch(place: str, cls: ModelClass, settings: Settings) -> Any:
    """The PyTorch model, of which every parameter was in the file."""
    import torch
    import transformers

    transformers_class = class_of(cls)
    recent = tuple(int(part) for part in transformers.__version__.split(".")[:2]) >= (4, 56)
    options: dict[str, Any] = {"dtype" if recent else "torch_dtype": torch.float32}
    if cls.head == MASKED_LM and not settings.legacy and settings.tied:
        # transformers 4.47 to 4.57 cannot load such a model. The head decodes by the word embeddings either way.
        options["tie_word_embeddings"] = False
    try:
        model, info = transformers_class.from_pretrained(place, output_loading_info=True, **options)
    except Exception as error:  # transformers raises whatever its parts do
        message = str(error).strip().split("\n")[0]
        raise RecordError(f"{place}: {cls!s} cannot be loaded: {type(error).__name__}: {message}") from error
    missing = [key for key in info["missing_keys"] if not key.endswith(TIED)]
    if missing and cls.head == MASKED_LM and not settings.legacy and not hasattr(model, "lm_predictions"):
        raise RecordError(
            f"{place}: legacy is false, and {pytorch.versions()} has no such head: take transformers 4.47 or newer"
        )
    refuse_incomplete(place, cls, missing, info.get("mismatched_keys"))
    return model


def refuse_incomplete(place: str, cls: ModelClass, missing: list[str], mismatched: Any) -> None:
    """Raises RecordError if a parameter was not in the file: transformers makes random ones, with a warning."""
    if mismatched:
        raise RecordError(f"{place}: {next(iter(mismatched))} has another shape in the file than in {cls!s}")
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RecordError(
            f"{place}: {sorted(missing)[0]}{more} of {cls!s} is not in the file, and transformers would make random numbers: "
            "name the class that the file is of by --class"
        )


def of_tensorflow(place: str, cls: ModelClass, config: dict, files: weights.Tensors) -> tuple[Any, weights.Tensors]:
    """The TensorFlow model, and the tensors of the files that it was made of: PyTorch's are assigned by name, Keras' are
    loaded by transformers."""
    transformers_class = class_of(cls)
    if files:
        known = {name.removeprefix(weights.LOCAL_PREFIX): read for name, read in files.items()}

        def find(name: str) -> np.ndarray | None:
            read = known.get(name.removeprefix(weights.LOCAL_PREFIX))
            return None if read is None else read()

        configuration = transformers_class.config_class.from_dict(config)
        return tensorflow.build(transformers_class, configuration, cls, find, place), files
    try:
        model, info = transformers_class.from_pretrained(place, output_loading_info=True)
    except Exception as error:  # transformers raises whatever its parts do
        message = str(error).strip().split("\n")[0]
        raise RecordError(f"{place}: {cls!s} cannot be loaded: {type(error).__name__}: {message}") from error
    refuse_incomplete(place, cls, tensorflow.without_numbers(model, info["missing_keys"]), info.get("mismatched_keys"))
    return model, {}
