"""Trains the models from nothing, each in minutes on one core, and writes their folders. Prints how good they are on
examples that they did not see.

python train.py MODELS [NAME …]
"""

import json
import shutil
import sys
import time
from pathlib import Path

import torch
import transformers
from language import rng
from tasks import KINDS, Encoder, padded

GENERATE = Path(__file__).parents[2] / "generate"
sys.path.insert(0, str(GENERATE))
import package  # noqa: E402, F401
from deberta_verify.recorder import safetensors_file  # noqa: E402

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers.logging.set_verbosity_error()

POSITIONS = "deberta.embeddings.position_embeddings.weight"


def collated(examples):
    """The arguments of the model, and the targets."""
    encodings = [each[0] if isinstance(each[0], list) else [each[0]] for each in examples]
    encodings = [encoding for several in encodings for encoding in several]
    keys = ("input_ids", "attention_mask")
    return {key: padded([each[key] for each in encodings], 0) for key in keys}, [each[1] for each in examples]


def drawn(task, tokenizer, random_, count):
    """A batch of examples, which may have two parts."""
    examples = [task.example(tokenizer, random_) for _ in range(count)]
    batch, targets = collated(examples)
    if task.two_parts:
        targets = targets, collated([pair for *_, pair in examples])
    return batch, targets


def build(family, task, size):
    config = family.base | task.config | {"vocab_size": size}
    cls = f"{family.classes}{task.head}"
    torch.manual_seed(0)
    model = getattr(transformers, cls)(family.configuration(**config | task.built_with))
    task.prepare(model)
    return model, config | ({"architectures": [cls]} if task.architectures else {})


def train(family, kind, tokenizer, encoder=None):
    task, random_ = kind(), rng("train", kind.name)
    model, config = build(family, task, family.vocabulary.rows(tokenizer))
    if encoder:
        model.deberta.load_state_dict(encoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=kind.rate, weight_decay=0.01)
    warm = 100
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.02, min(1, 2 * (1 - step / kind.steps))))
    )
    for step in range(kind.steps):
        batch, targets = drawn(task, tokenizer, random_, kind.batch)
        loss = task.loss(model, batch, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 250 == 0:
            print(f"  {step:5} loss {loss.item():.4f}", flush=True)
    unseen = rng("test", kind.name)
    with torch.no_grad():
        found = [task.right(model.eval(), *drawn(task, tokenizer, unseen, 100)) for _ in range(5)]
    return model, config, sum(found) / len(found)


def write(folder, kind, model, config):
    weights = dict(model.named_parameters())
    if "positions" in weights:
        weights[POSITIONS] = weights.pop("positions")
    weights.pop("cls.predictions.decoder.bias", None)
    arrays = {name: value.detach().numpy() for name, value in weights.items()}
    safetensors_file.write(folder / "model.safetensors", arrays, {"format": "pt"}, kind.dtype)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    models, names = Path(sys.argv[1]), sys.argv[2:]
    for family, kinds in KINDS.items():
        chosen = {family.folder + kind.name: kind for kind in kinds}
        chosen = {name: kind for name, kind in chosen.items() if not names or name in names}
        if chosen:
            train_family(models, family, chosen)


def train_family(models, family, kinds):
    """The models of a family, by the names of their folders."""
    work = models / "work" / family.classes
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "encoder.pt").exists():
        family.vocabulary.write(work)
        model = timed(family, Encoder, family.vocabulary.load(work))[0]
        torch.save(model.deberta.state_dict(), work / "encoder.pt")
    encoder = torch.load(work / "encoder.pt")
    for name, kind in kinds.items():
        folder = models / name
        folder.mkdir(exist_ok=True)
        for file in family.vocabulary.FILES:
            shutil.copy(work / file, folder / file)
        tokenizer = family.vocabulary.load(folder, kind.words)
        if name in family.saved:
            tokenizer.save_pretrained(folder)
        write(folder, kind, *timed(family, kind, tokenizer, encoder if kind.starts else None))


def timed(family, kind, *arguments):
    start = time.monotonic()
    print(family.folder + kind.name, flush=True)
    model, config, right = train(family, kind, *arguments)
    print(f"  right {right:.4f} after {time.monotonic() - start:.0f} s", flush=True)
    return model, config


if __name__ == "__main__":
    main()
