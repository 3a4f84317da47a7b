"""The checks in PyTorch. Started by interop.py; see worker.py."""

import json
import os
import shutil
from pathlib import Path

os.environ |= {"USE_TF": "0", "USE_TORCH": "1", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import torch
import transformers
from random_model import build, padded_batch, run
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from worker import expect, same_names, serve

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}

def make(cls, config, dtype, seed, layout, pt, st):
    """Writes a random model to the files `pt` and `st`, the first one in `layout`."""
    model = build(cls, config, seed).to(DTYPES.get(dtype, torch.float32))
    if dtype == "mixed":
        for index, parameter in enumerate(model.parameters()):
            parameter.data = parameter.data.to((torch.float16, torch.float32, torch.float64)[index % 3])
    if layout == "odd-values":
        odd = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, -1e-40, 3.4e38])
        odd = torch.cat([odd, torch.tensor([0x7F800001, 0x7FC12345, -1], dtype=torch.int32).view(torch.float32)])
        for parameter in model.parameters():
            parameter.data.view(-1)[: len(odd)] = odd
    for file in (pt, st):
        model.save_pretrained(Path(file).parent, safe_serialization=file == st)
        if isinstance(config["pos_att_type"], str):
            path = Path(file).with_name("config.json")
            path.write_text(json.dumps(json.loads(path.read_text()) | {"pos_att_type": config["pos_att_type"]}))
    state = model.state_dict()
    options = {}
    if layout == "wrapped-state-dict":
        state = {"epoch": 3, "best": None, "state_dict": state, "lr": 1e-4}
    elif layout == "wrapped-model":
        optimizer = torch.optim.AdamW(model.parameters())
        sum(parameter.sum() for parameter in model.parameters()).backward()
        optimizer.step()
        model = build(cls, config, seed)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    elif layout == "parameters":
        state = {name: nn.Parameter(tensor) for name, tensor in state.items()}
    elif layout == "strided":
        state = {name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in state.items()}
    elif layout == "one-storage":
        whole = torch.cat([tensor.flatten() for tensor in state.values()])
        parts = whole.split([tensor.numel() for tensor in state.values()])
        state = {name: part.view(tensor.shape) for (name, tensor), part in zip(state.items(), parts)}
    elif layout == "stream":
        options = {"_use_new_zipfile_serialization": False}
    torch.save(state, pt, **options)


def truth(source, form, target, keras_target, aliases):
    """Writes the tensors of `source` under today's names: what every conversion must preserve."""
    state = read(source, form)
    for wrapper in ("state_dict", "model"):
        state = state.get(wrapper, state)
    tensors = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        name = "deberta." + name.removeprefix("bert.") if name.startswith("bert.") else name
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if not name.endswith(("embeddings.position_ids", "embeddings._weight")):
            tensors[name] = tensor.detach().contiguous().clone()
    for alias, name in aliases.items():
        if alias in tensors:
            expect(torch.equal(tensors.pop(alias), tensors[name]), f"{alias} is not {name}")
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target, {"format": "pt"})
    save_file({k: v.float() if v.dtype == torch.bfloat16 else v for k, v in tensors.items()}, keras_target)


def read(file, form):
    """The entries of a file, or of all shards of an index."""
    file = Path(file)
    load = load_file if form == "st" else lambda path: torch.load(path, weights_only=True)
    if file.suffix != ".json":
        return load(file)
    index = json.loads(file.read_text())["weight_map"]
    state = {}
    for shard in sorted(set(index.values())):
        part = load(file.with_name(shard))
        same_names(part, [name for name, place in index.items() if place == shard])
        state |= part
    return state


def before(cls, config, overrides, aliases, truth, target):
    """Records what the model computes before any conversion, its weights assigned by name."""
    model = getattr(transformers, cls)
    model = model(model.config_class.from_dict(json.loads(Path(config).read_text()) | overrides)).eval()
    state = {name: tensor.float() for name, tensor in load_file(truth).items()}
    kept_aside = {name for name in state if "position_embeddings" in name} - set(model.state_dict())
    absent = set(model.state_dict()) - set(state) - set(aliases)
    expect(not absent, f"the source has no {sorted(absent)}")
    model.load_state_dict({name: tensor for name, tensor in state.items() if name not in kept_aside}, strict=False)
    model.tie_weights()
    np.savez(target, **run(model))


def check_bin(file, truth, aliases, dtype=None):
    """torch.load gives the tensors of `truth`, bit for bit; the decoder shares its storage with what it repeats."""
    want = expected(truth, dtype)
    state = read(file, "pt")
    same_names(state, [*want, *aliases])
    for alias, name in aliases.items():
        same_place = state[alias].data_ptr() == state[name].data_ptr() and state[alias].stride() == state[name].stride()
        expect(same_place or Path(file).suffix == ".json", f"{alias} has a storage of its own")
        want[alias] = want[name]
    same_tensors(state, want)
    if Path(file).suffix != ".json":
        same_tensors(torch.load(file, weights_only=True, mmap=True), want)
        expect(not any(tensor.is_meta for tensor in state.values()), "tensors on the meta device")
    return f"{len(state)} tensors, also by mmap"


def check_st(file, truth, dtype=None):
    """The file holds the tensors of `truth`, bit for bit, and says that it is PyTorch's."""
    want = expected(truth, dtype)
    state = read(file, "st")
    same_names(state, want)
    same_tensors(state, want)
    shards = [file] if not file.endswith(".json") else Path(file).parent.glob("*.safetensors")
    for shard in shards:
        with safe_open(shard, "pt") as opened:
            form = (opened.metadata() or {}).get("format")
            expect(form == "pt", f'{shard}: metadata format is {form!r}, transformers wants "pt"')
    return f"{len(state)} tensors"


def expected(truth, dtype):
    state = load_file(truth)
    return {name: tensor.to(DTYPES[dtype]) for name, tensor in state.items()} if dtype else state


def same_tensors(got, want):
    """Equal in dtype, shape and bits (so that -0 and NaN count)."""
    for name, tensor in want.items():
        value = got[name].detach()
        expect(value.dtype == tensor.dtype, f"{name}: {value.dtype}, not {tensor.dtype}")
        expect(value.shape == tensor.shape, f"{name}: shape {list(value.shape)}, not {list(tensor.shape)}")
        equal = np.array_equal(bits(value), bits(tensor))
        expect(equal, f"{name}: other bits, max abs {(value.double() - tensor.double()).abs().max():.3g}")


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def check_load(folder, cls, overrides, aliases, truth, before, tolerance, dtype=None):
    """from_pretrained finds nothing missing, unexpected or mismatched; the outputs are those from before."""
    model, info = getattr(transformers, cls).from_pretrained(folder, output_loading_info=True, **overrides)
    # On some processors the last bit depends on where in memory a matrix is, and a safetensors file is used in place.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    loaded_whole(info)
    want = {name: tensor.float() for name, tensor in expected(truth, dtype).items()}
    parameters = model.state_dict()
    want |= {alias: want[name] for alias, name in aliases.items()}
    same_tensors(parameters, {name: want[name] for name in parameters})
    recorded, outputs = dict(np.load(before)), run(model.eval())
    same_names([k for k in recorded if k.startswith("outputs.")], [k for k in outputs if k.startswith("outputs.")])
    worst = max(float(np.abs(outputs[k] - recorded[k]).max()) for k in recorded)
    expect(worst <= tolerance, f"outputs differ by {worst:.3g}")
    return f"outputs differ by {worst:.1e}" if worst else "same outputs"


def loaded_whole(info):
    """Nothing was missing or unexpected, but for the positions of the mask decoder: DebertaV2ForMaskedLM alone reports them."""
    positions = {name for name in info["unexpected_keys"] if "position_embeddings" in name}
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        left = set(map(str, info[kind])) - positions
        expect(not left, f"{kind}: {sorted(left)[:3]}")


def check_remap(folder, truth, cls):
    """A converted lm_predictions head computes in transformers' legacy class what its own chain computes in torch."""
    model, info = getattr(transformers, cls).from_pretrained(folder, output_loading_info=True)
    loaded_whole(info)
    expect(model.config.legacy, "config.json says legacy: false")
    head = {k.removeprefix("lm_predictions.lm_head."): v for k, v in load_file(truth).items() if "lm_head" in k}
    embeddings = load_file(truth)["deberta.embeddings.word_embeddings.weight"]
    inputs = padded_batch(model.config)
    with torch.no_grad():
        hidden = model.deberta.eval()(**inputs)[0]
        hidden = nn.functional.gelu(hidden @ head["dense.weight"].T + head["dense.bias"])
        hidden = nn.functional.layer_norm(
            hidden, hidden.shape[-1:], head["LayerNorm.weight"], head["LayerNorm.bias"], model.config.layer_norm_eps
        )
        want = hidden @ embeddings.T + head["bias"]
        worst = (model.eval()(**inputs).logits - want).abs().max().item()
    expect(worst <= 1e-5, f"logits differ by {worst:.3g}")
    return f"logits differ by {worst:.1e}"


def check_remapped_base(folder, truth, cls):
    """A remap does not touch the base model: its tensors are those of `truth`."""
    want = {k: v for k, v in load_file(truth).items() if k.startswith("deberta.") and "position_embeddings" not in k}
    same_tensors(getattr(transformers, cls).from_pretrained(folder).state_dict(), want)


def write_remapped_reference(truth, config, cls, target):
    """Records the logits of a legacy head renamed here, for TensorFlow to reproduce."""
    state = {}
    for name, tensor in load_file(truth).items():
        name = name.replace("lm_predictions.lm_head.bias", "cls.predictions.bias")
        state[name.replace("lm_predictions.lm_head.", "cls.predictions.transform.")] = tensor
    save_file(state, target + ".safetensors")
    aliases = {
        "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    overrides = {"legacy": True, "tie_word_embeddings": True}
    before(cls, config, overrides, aliases, target + ".safetensors", target)


def damage(source, form, how, tensor, target):
    """Writes `source` with one tensor missing, extra, reshaped, transposed or changed, or makes it call a program."""
    state = dict(read(source, form))
    if how == "missing":
        del state[tensor]
    elif how == "extra":
        state[tensor] = torch.randn(3, 4)
    elif how == "shape":
        state[tensor] = torch.randn(state[tensor].shape[0] + 1, *state[tensor].shape[1:])
    elif how == "flattened":
        state[tensor] = state[tensor].flatten()
    elif how == "transposed":
        state[tensor] = state[tensor].t().contiguous()
    elif how == "changed":
        value = state[tensor].clone()
        value.view(-1)[7] += 0.25
        state[tensor] = value
    elif how == "integers":
        state[tensor] = torch.arange(state[tensor].numel()).reshape(state[tensor].shape)
    elif how == "bert":
        state = transformers.BertModel(transformers.BertConfig(
            vocab_size=97, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=29
        )).state_dict()  # fmt: skip
    elif how == "system":
        state["x"] = Calls()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(source).with_name("config.json"), Path(target).with_name("config.json"))
    if form == "st":
        save_file({name: value.contiguous() for name, value in state.items()}, target, {"format": "pt"})
    else:
        torch.save(state, target)


def obey(file, folder):
    """What Python's own unpickling of `file` does in `folder`: it runs the program that the file names."""
    Path(folder).mkdir()
    os.chdir(folder)
    torch.load(file, weights_only=False)
    left = Path("called-by-a-pickle")
    expect(left.exists(), "the pickle did not call anything")
    left.unlink()
    os.chdir("..")


class Calls:
    """Unpickled, it would run a program that leaves a file behind."""

    def __reduce__(self):
        return os.system, ("touch called-by-a-pickle",)


serve(
    {
        "make": make,
        "truth": truth,
        "before": before,
        "check_bin": check_bin,
        "check_st": check_st,
        "check_load": check_load,
        "check_remap": check_remap,
        "check_remapped_base": check_remapped_base,
        "write_remapped_reference": write_remapped_reference,
        "damage": damage,
        "obey": obey,
    }
)
