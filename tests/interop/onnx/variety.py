"""Models of random configurations: exported and run at many lengths, and imported from what PyTorch and Optimum export."""

import random

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from exporters import by_optimum, by_pytorch, optimum

OUTPUTS = {
    "Model": ["last_hidden_state"],
    "ForMaskedLM": ["logits"],
    "ForSequenceClassification": ["logits"],
    "ForTokenClassification": ["logits"],
    "ForQuestionAnswering": ["start_logits", "end_logits"],
    "ForMultipleChoice": ["logits"],
}
FAMILIES = {"Deberta": list(OUTPUTS)[:-1], "DebertaV2": list(OUTPUTS)}
"""Of each family the classes, without its prefix."""
LIMIT = 5e-6
"""The largest difference, as a share of the largest number of the output if that is over 1."""
MODELS = 30


def configuration(draw, family, cls):
    """Odd sizes and every option; no size is like another."""
    heads = draw.choice([1, 2, 3, 5, 7])
    size = heads * draw.choice([2, 3, 8, 11])
    settings = dict(
        vocab_size=draw.randrange(17, 90),
        hidden_size=size,
        num_attention_heads=heads,
        num_hidden_layers=draw.choice([1, 1, 2, 3, 4]),
        intermediate_size=draw.choice([1, 13, 29, 64]),
        max_position_embeddings=draw.choice([9, 16, 21]),
        max_relative_positions=draw.choice([-1, -1, 1, 4, 40]),
        relative_attention=draw.random() < 0.8,
        position_biased_input=draw.random() < 0.4,
        pos_att_type=draw.choice([["c2p", "p2c"], ["c2p"], ["p2c"], "c2p|p2c", "p2c", []]),
        type_vocab_size=draw.choice([0, 0, 2, 3]),
        hidden_act=draw.choice(["gelu", "gelu", "relu", "gelu_new", "silu", "tanh"]),
        layer_norm_eps=draw.choice([1e-7, 1e-12, 1e-5]),
        num_labels=draw.choice([1, 2, 5]) if cls != "ForQuestionAnswering" else 2,
    )
    settings |= dict(talking_head=draw.random() < 0.2) if family == "Deberta" else version_2(draw, size)
    if draw.random() < 0.3:
        settings["embedding_size"] = size + draw.choice([-1, 1, 6])
    if cls == "ForMaskedLM" and draw.random() < 0.4:
        # transformers cannot build this head when its embeddings are tied.
        settings |= dict(legacy=False, tie_word_embeddings=False)
        settings.pop("embedding_size", None)
    return getattr(transformers, f"{family}Config")(**settings)


def version_2(draw, size):
    """What version 1 has not. Buckets need a largest distance above half their number."""
    settings = dict(
        share_att_key=draw.random() < 0.6,
        norm_rel_ebd=draw.choice(["layer_norm", "none"]),
        conv_kernel_size=draw.choice([0, 0, 1, 3, 5, 7]),
        conv_act=draw.choice(["tanh", "gelu", "relu"]),
    )
    if draw.random() < 0.7:
        settings |= dict(position_buckets=draw.choice([2, 4, 6, 7, 8]), max_relative_positions=draw.choice([-1, 9, 14, 40]))
    if settings["conv_kernel_size"] and size % 2 == 0 and draw.random() < 0.3:
        settings["conv_groups"] = 2
    return settings


def build(draw, family, cls, fresh):
    """A model with random weights; a fresh one has those that it is initialised with, so that exporters merge equal tensors."""
    config = configuration(draw, family, cls)
    torch.manual_seed(draw.randrange(1 << 30))
    model = getattr(transformers, family + cls)(config).eval()
    if not fresh:
        for parameter in model.parameters():
            noise = torch.randn_like(parameter) * 0.3
            parameter.data = noise if parameter.dim() > 1 else parameter.data + noise
        model.tie_weights()
    return model


def batches(draw, config):
    """Token ids, masks and token types: one token, more than twice the heads, all positions, and padding everywhere."""
    longest = config.max_position_embeddings
    lengths = {1, 2, min(2 * config.num_attention_heads + 1, longest), longest}
    lengths |= set() if config.position_biased_input else {longest + 7, 3 * max(longest, config.max_relative_positions)}
    for length in sorted(lengths):
        for count in (1, 3):
            ids = torch.tensor([[draw.randrange(config.vocab_size) for _ in range(length)] for _ in range(count)])
            mask = torch.ones_like(ids)
            if count > 1:
                mask[1, length // 2 :] = 0
                mask[2, : (length + 1) // 3] = 0
            types = torch.tensor([[draw.randrange(max(config.type_vocab_size, 1)) for _ in range(length)] for _ in range(count)])
            yield f"{count} x {length}", dict(input_ids=ids, attention_mask=mask, token_type_ids=types)


def stage(converter, report):
    for family, classes in FAMILIES.items():
        draw = random.Random(1)
        for number in range(MODELS):
            cls = classes[number % len(classes)]
            model = build(draw, family, cls, fresh=number % 7 == 5)
            folder = converter.folder / f"variety-{family}-{number}"
            model.save_pretrained(folder)
            label = f"variety {number} {family}{cls}"
            exported(draw, label, model, OUTPUTS[cls], folder, converter, report)
            imported(label, model, number, folder, converter, report)


def imported(label, model, number, folder, converter, report):
    """What others export of the model, as we read it."""
    source = converter.digest(folder / "model.safetensors")
    forms = [("torchscript", by_pytorch(dynamo=False))] + [("dynamo", by_pytorch(dynamo=True))] * (number % 3 == 0)
    forms += [("optimum", by_optimum())] * (optimum is not None)
    for form, export in forms:
        out = folder / f"{form}.onnx"
        export(model, folder, out)
        found = converter.digest(out, "--config", folder / "config.json")
        if unused(model.config):
            # No node takes them, so that an exporter leaves them out: to be named, and not to be made up.
            problem = "" if "rel_embeddings.weight\": missing" in found else f"{found[:300]}, the graph has no relative positions"
            report.check(f"{label}: import of {form} without rel_embeddings", problem)
            continue
        report.check(f"{label}: import of {form}", "" if found == source else f"{found[:300]}, the source has {source}")


def unused(config):
    """Whether the model has relative positions that no term takes."""
    return config.relative_attention and not config.pos_att_type


def exported(draw, label, model, outputs, folder, converter, report):
    """Our graph against the model in PyTorch."""
    ledger, path = converter.export(folder / "model.safetensors")
    if not report.check(f"{label}: export", ledger if ledger.startswith("exit") else ""):
        return
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path))
    names = [argument.name for argument in session.get_inputs()]
    for form, inputs in batches(draw, model.config):
        if "MultipleChoice" in label:
            # The sequences are the choices of one question.
            inputs = {name: value[None] for name, value in inputs.items()}
        with torch.no_grad():
            expected = model(**{name: inputs[name] for name in names})
        given = {name: inputs[name].numpy() for name in names}
        problems = []
        for output, value in zip(session.get_outputs(), session.run(None, given)):
            want = expected[output.name].numpy()
            off = np.abs(value - want).max() / max(1.0, np.abs(want).max()) if value.shape == want.shape else np.inf
            problems += [f"{output.name}: {value.shape}, off by {off}"] * (not off <= LIMIT)
        if sorted(output.name for output in session.get_outputs()) != sorted(outputs):
            problems.append("other outputs")
        report.check(f"{label}: {form}", "; ".join(problems))
