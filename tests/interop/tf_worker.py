"""The checks in TensorFlow. Started by interop.py; see worker.py."""

import json
import shutil
import tempfile
from pathlib import Path

import keras_model  # first: it sets the environment that TensorFlow reads
import h5py
import numpy as np
import tensorflow as tf
import tf_keras
import transformers
from safetensors.numpy import load_file
from worker import expect, same_names, serve

transformers.logging.set_verbosity_error()
# The group, unknown to Keras, for what TensorFlow has no variable for: position embeddings of the mask decoder.
KEPT_ASIDE = "deberta_kept_aside"
tf.config.threading.set_intra_op_parallelism_threads(1)


def make(cls, truth, config, h5, named):
    """Writes the model as `h5`, and as the safetensors file `named` with TensorFlow's names."""
    tf_keras.backend.clear_session()
    config_class = getattr(transformers, "TF" + cls).config_class
    model = keras_model.build(cls, config_class.from_pretrained(config), load_file(truth))
    for file in (h5, named):
        model.save_pretrained(Path(file).parent, safe_serialization=file == named)
        shutil.copyfile(config, Path(file).with_name("config.json"))


def before(folder, cls, before, target):
    """Records what TensorFlow computes from the source, which must be what PyTorch computes."""
    model, _ = load(folder, cls)
    recorded = dict(np.load(before))
    outputs = keras_model.run(model, recorded)
    worst = keras_model.worst_difference(recorded, outputs)
    expect(worst <= 1e-5, f"TensorFlow and PyTorch differ by {worst:.3g} on the source")
    np.savez(target, **outputs)


def load(folder, cls):
    tf_keras.backend.clear_session()
    return getattr(transformers, "TF" + cls).from_pretrained(folder, output_loading_info=True)


def check_h5(file, cls, truth, dtype=None):
    """h5py finds the tensors of `truth`, bit for bit; Keras's attributes list them all, but for what is kept aside."""
    want = load_file(truth)
    if dtype:
        want = {name: value.astype(dtype) for name, value in want.items()}
    found = {}
    with h5py.File(file) as opened:
        layers = names_in(opened, "layer_names")
        same_names(set(opened) - {KEPT_ASIDE}, [*layers, "top_level_model_weights"])
        listed = [f"{layer}/{name}" for layer in layers for name in names_in(opened[layer], "weight_names")]
        stored = []
        opened.visititems(lambda path, item: stored.append(path) if isinstance(item, h5py.Dataset) else None)
        same_names([path for path in stored if not path.startswith(f"{KEPT_ASIDE}/")], listed)
        for path in stored:
            layer, _, variable = path.partition("/")
            name, transposed = (variable, False) if layer == KEPT_ASIDE else keras_model.canonical(variable, cls)
            value = opened[path][()].T if transposed else opened[path][()]
            expect(name in want, f"{path}: the source has no {name}")
            expect(value.dtype == want[name].dtype, f"{path}: {value.dtype}, not {want[name].dtype}")
            expect(value.shape == want[name].shape, f"{path}: shape {value.shape}, not {want[name].shape}")
            equal = np.ascontiguousarray(value).tobytes() == np.ascontiguousarray(want[name]).tobytes()
            expect(equal, f"{path}: other bits than {name}")
            expect(layer != KEPT_ASIDE or "position_embeddings" in name, f"{path} is kept from TensorFlow")
            found[name] = path
    same_names(found, want)
    return f"{len(found)} tensors"


def names_in(group, attribute):
    """A list of names that Keras may have split over attributes `name0`, `name1`, …"""
    parts = [attribute] if attribute in group.attrs else []
    while not (parts and parts[0] == attribute) and f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    expect(parts, f"{group.name} has no attribute {attribute}")
    return [n.decode() if isinstance(n, bytes) else n for part in parts for n in group.attrs[part]]


def check_load(folder, cls, truth, before, exact=None, dtype=None, tolerance=1e-5):
    """from_pretrained finds nothing missing or unexpected; outputs are PyTorch's, and exactly TensorFlow's from before."""
    model, info = load(folder, cls)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        expect(not info[kind], f"{kind}: {sorted(map(str, info[kind]))[:3]}")
    want = load_file(truth)
    for variable in model.weights:
        name, transposed = keras_model.canonical(variable.name, cls)
        value = (want[name].astype(dtype) if dtype else want[name]).astype(np.float32)
        expect(np.array_equal(variable.numpy(), value.T if transposed else value), f"{variable.name}: other values than {name}")
    recorded = dict(np.load(before))
    outputs = keras_model.run(model, recorded)
    worst = keras_model.worst_difference(recorded, outputs)
    expect(worst <= tolerance, f"outputs differ from PyTorch's by {worst:.3g}")
    if exact:
        for name, value in np.load(exact).items():
            expect(np.array_equal(outputs[name], value), f"{name} is not exactly what TensorFlow computed before")
    return f"{len(model.weights)} weights, outputs differ from PyTorch's by {worst:.1e}"


def damage(source, how, tensor, target):
    """Writes `source` with one dataset missing, extra, unlisted, reshaped, transposed or changed."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(source).with_name("config.json"), Path(target).with_name("config.json"))
    if how == "bert":
        return bert(target)
    shutil.copyfile(source, target)
    with h5py.File(target, "r+") as opened:
        layer, _, variable = tensor.partition("/")
        group = opened[layer]
        names = names_in(group, "weight_names")
        full = next((name for name in names if name.endswith(variable)), names[0].split("/")[0] + "/" + variable)
        expect((full in group) == (how not in ("extra", "unlisted")), f"{full}: there, or not there")
        value = group[full][()] if full in group else np.ones((3, 4), np.float32)
        if full in group:
            del group[full]
        if how == "missing":
            names.remove(full)
        elif how == "extra":
            names.append(full)
        elif how == "shape":
            value = np.concatenate([value, value[:1]])
        elif how == "flattened":
            value = value.reshape(-1)
        elif how == "transposed":
            value = np.ascontiguousarray(value.T)
        elif how == "changed":
            value.reshape(-1)[7] += 0.25
        elif how == "integers":
            value = value.astype(np.int64)
        if how != "missing":
            group[full] = value  # "unlisted": only this, so that no attribute names it
        group.attrs["weight_names"] = names


def bert(target):
    """A BERT model as TensorFlow saves it."""
    config = transformers.BertConfig(
        vocab_size=97, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=29
    )
    model = transformers.TFBertModel(config)
    model.build_in_name_scope()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        shutil.copyfile(Path(folder) / "tf_model.h5", target)


def as_published(source, target, compression):
    """Writes `source` as other writers of HDF5 do: chunked and compressed, or big-endian."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(source).with_name("config.json"), Path(target).with_name("config.json"))
    with h5py.File(source) as old, h5py.File(target, "w") as new:

        def copy(path, item):
            if isinstance(item, h5py.Group):
                new.require_group(path)
            elif compression == "big-endian":
                new.create_dataset(path, data=item[()], dtype=">f4")
            else:
                new.create_dataset(path, data=item[()], compression="gzip", shuffle=True)
            new[path].attrs.update(item.attrs)

        old.visititems(copy)
        new.attrs.update(old.attrs)


serve(
    {
        "make": make,
        "before": before,
        "check_h5": check_h5,
        "check_load": check_load,
        "damage": damage,
        "as_published": as_published,
    }
)
