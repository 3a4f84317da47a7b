"""Adapters of peft: merged by peft and by deberta-convert, parameter by parameter.

Every case is a small model with random weights and an adapter with random ones, as a training would leave it.
"""

import json
import os
import subprocess
import sys
import tempfile

import torch
from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import (
    DebertaConfig,
    DebertaForMaskedLM,
    DebertaForQuestionAnswering,
    DebertaForSequenceClassification,
    DebertaForTokenClassification,
    DebertaModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification,
    DebertaV2Model,
)

SIZE = dict(
    vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40, relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0,
    num_labels=3,
)
V1 = DebertaConfig(**SIZE)
V2 = DebertaV2Config(
    **SIZE, position_buckets=8, share_att_key=True, norm_rel_ebd="layer_norm", conv_kernel_size=3, conv_act="gelu"
)
TWO_LABELS = DebertaConfig(**{**SIZE, "num_labels": 2})
V1_MODULES = ["in_proj", "pos_proj", "pos_q_proj", "dense"]
V2_MODULES = ["query_proj", "key_proj", "value_proj", "dense"]
HALF = torch.float16

# Name, class, configuration, settings of LoRA, dtype of the model, and further arguments of the command.
CASES = [
    ("plain", DebertaForSequenceClassification, V1, dict(task_type="SEQ_CLS", target_modules=["in_proj"]), None, []),
    ("every-linear", DebertaForSequenceClassification, V1, dict(task_type="SEQ_CLS", target_modules=V1_MODULES), None, []),
    ("all-linear", DebertaModel, V1, dict(task_type="FEATURE_EXTRACTION", target_modules="all-linear"), None, []),
    ("token-classification", DebertaForTokenClassification, V1, dict(task_type="TOKEN_CLS", target_modules=V1_MODULES), None, []),
    ("rslora", DebertaForSequenceClassification, V1, dict(task_type="SEQ_CLS", target_modules=V1_MODULES, use_rslora=True), None, []),
    ("fan-in-fan-out", DebertaForSequenceClassification, V1, dict(task_type="SEQ_CLS", target_modules=["in_proj"], fan_in_fan_out=True), None, []),
    ("patterns", DebertaForSequenceClassification, V1, dict(
        task_type="SEQ_CLS", target_modules=V1_MODULES, rank_pattern={"layer.1.output.dense": 2, r"layer\.0\..*in_proj": 7},
        alpha_pattern={r"encoder\.layer\.[1-9]\.attention.*": 3, "pos_proj": 20}), None, []),
    ("bias-all", DebertaForSequenceClassification, V1, dict(task_type="SEQ_CLS", target_modules=V1_MODULES, bias="all"), None, []),
    ("bias-lora-only", DebertaForSequenceClassification, V1, dict(task_type="SEQ_CLS", target_modules=V1_MODULES, bias="lora_only"), None, []),
    ("modules-to-save", DebertaForSequenceClassification, V1, dict(
        task_type="SEQ_CLS", target_modules=["in_proj"], modules_to_save=["pooler", "classifier", "LayerNorm"]), None, []),
    ("embeddings", DebertaModel, V1, dict(task_type="FEATURE_EXTRACTION", target_modules=["word_embeddings", "rel_embeddings", "in_proj"]), None, []),
    ("question-answering", DebertaForQuestionAnswering, TWO_LABELS, dict(task_type="QUESTION_ANS", target_modules=["in_proj"]), None, []),
    ("masked-lm", DebertaForMaskedLM, V1, dict(target_modules=V1_MODULES), None, []),
    ("half", DebertaForSequenceClassification, V1, dict(task_type="SEQ_CLS", target_modules=V1_MODULES), HALF, []),
    ("bfloat16", DebertaV2ForSequenceClassification, V2, dict(task_type="SEQ_CLS", target_modules=V2_MODULES), torch.bfloat16, []),
    ("v2", DebertaV2ForSequenceClassification, V2, dict(task_type="SEQ_CLS", target_modules=V2_MODULES), None, []),
    ("v2-conv", DebertaV2ForTokenClassification, V2, dict(task_type="TOKEN_CLS", target_modules=["conv.conv", "query_proj"]), None, []),
    ("v2-base", DebertaV2Model, V2, dict(task_type="FEATURE_EXTRACTION", target_modules=V2_MODULES, use_rslora=True), None, []),
]
REFUSED = [
    ("dora", LoraConfig(task_type="SEQ_CLS", target_modules=["in_proj"], use_dora=True), "DoRA"),
    ("ia3", IA3Config(task_type="SEQ_CLS", target_modules=["in_proj"], feedforward_modules=[]), "IA3"),
    ("loha", LoHaConfig(target_modules=["in_proj"]), "LOHA"),
    ("lora-bias", LoraConfig(task_type="SEQ_CLS", target_modules=["dense"], lora_bias=True), "lora_bias"),
]


def train(model):
    """Gives what an adapter may train values that a training could."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def convert(program, *arguments):
    return subprocess.run([program, "convert", *arguments], capture_output=True, text=True)


def summands(tuned):
    """For every weight that LoRA changes, the sum of the absolute values of what is added to each number of it."""
    sums = {}
    for name, module in tuned.base_model.model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        if "default" in module.lora_A:
            a, b = (part["default"].weight.detach().abs().flatten(1) for part in (module.lora_A, module.lora_B))
            product = b @ a
        else:
            a, b = (part["default"].detach().abs() for part in (module.lora_embedding_A, module.lora_embedding_B))
            product = (b @ a).T
        sums[name + ".weight"] = (product * module.scaling["default"]).reshape(module.get_base_layer().weight.shape)
    return sums


def rounding(ours, pefts, base, added):
    """The largest difference, in units of the last place of the largest number that takes part in a sum."""
    largest = torch.stack([part.double() for part in (ours.abs(), pefts.abs(), base.abs(), added)]).amax(0)
    eps = torch.finfo(pefts.dtype).eps
    unit = torch.exp2(torch.floor(torch.log2(largest.double().clamp_min(torch.finfo(torch.float32).tiny)))) * eps
    return ((ours.double() - pefts.double()).abs() / unit).max().item() if ours.numel() else 0.0


def check(program, folder, name, model_class, config, settings, dtype, arguments, pickled):
    torch.manual_seed(len(name))
    base, adapter, output = (os.path.join(folder, part) for part in ("base", "adapter", "merged"))
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    model = model.to(dtype or torch.float32).eval()
    model.save_pretrained(base)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=10, **settings))
    train(tuned)
    tuned.save_pretrained(adapter, safe_serialization=not pickled)
    sums = summands(tuned)
    merged = tuned.merge_and_unload().state_dict()
    run = convert(program, base, "--merge-adapter", adapter, "--to", "safetensors", "-o", output + "/", *arguments)
    if run.returncode:
        return [f"{name}: {run.stderr.strip()}"]
    ours = load_file(output + "/model.safetensors")
    wrong = [f"{name}: {key} is missing" for key in ours if key not in merged]
    worst = 0.0
    for key, value in ours.items():
        before = weights.get(key, value)
        before = before if before.shape == value.shape else value
        difference = rounding(value, merged[key].to(value.dtype), before, sums.get(key, torch.zeros_like(value)))
        worst = max(worst, difference)
        if value.dtype != merged[key].dtype or difference > 1.0:
            wrong.append(f"{name}: {key} differs by {difference} roundings, {value.dtype} for {merged[key].dtype}")
    changed = sum(not torch.equal(value, weights[key]) for key, value in ours.items() if key in weights)
    if not changed:
        wrong.append(f"{name}: nothing was merged")
    loaded, report = model_class.from_pretrained(output, output_loading_info=True)
    if report["missing_keys"] or report["unexpected_keys"]:
        wrong.append(f"{name}: {report}")
    print(f"{name:20} {changed:3} parameters changed, at most {worst:.2f} roundings apart", flush=True)
    return wrong


def refuse(program, folder, name, settings, expected):
    base, adapter = os.path.join(folder, "base"), os.path.join(folder, "adapter")
    model = DebertaForSequenceClassification(V1)
    model.save_pretrained(base)
    get_peft_model(model, settings).save_pretrained(adapter)
    run = convert(program, base, "--merge-adapter", adapter, "--to", "safetensors", "-o", folder + "/out/")
    said = run.stderr.strip()
    print(f"{name:20} refused: {said[said.rfind('json: ') + 6:][:90]}", flush=True)
    return [] if run.returncode == 1 and expected in said else [f"{name}: {run.returncode} {said}"]


def refuse_beside(program, folder):
    """transformers applies an adapter that is in the model's own folder."""
    model = DebertaForSequenceClassification(V1)
    model.save_pretrained(folder)
    get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["in_proj"])).save_pretrained(folder)
    run = convert(program, folder, "--to", "pytorch", "-o", folder + "/out/")
    wrong = [] if run.returncode == 1 and "--merge-adapter" in run.stderr else [f"beside: {run.stderr}"]
    run = convert(program, folder, "--merge-adapter", folder, "--to", "pytorch", "-o", folder + "/out/", "--format", "json")
    if run.returncode or "LoRA merged into 2 parameters" not in " ".join(json.loads(run.stdout)["notes"]):
        wrong.append(f"beside: {run.stdout}{run.stderr}")
    return wrong


def main():
    program = sys.argv[1]
    wrong = []
    for name, *case in CASES:
        for pickled in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                wrong += check(program, folder, name + (" .bin" if pickled else ""), *case, pickled)
    for case in REFUSED:
        with tempfile.TemporaryDirectory() as folder:
            wrong += refuse(program, folder, *case)
    with tempfile.TemporaryDirectory() as folder:
        wrong += refuse_beside(program, folder)
    print("\n".join(wrong) or "all as peft merges them")
    sys.exit(bool(wrong))


main()
