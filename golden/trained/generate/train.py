"""Trains the models from nothing, each in minutes on one core, and writes their folders. Prints how good they are on
examples that they did not see.

python train.py MODELS [NAME …]
"""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import samples
import torch
import transformers
import vocabulary
from language import rng
from transformers import DebertaConfig

GENERATE = Path(__file__).parents[2] / "generate"
sys.path.insert(0, str(GENERATE))
import safetensors_file  # noqa: E402

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers.logging.set_verbosity_error()

BASE = {
    "model_type": "deberta",
    "vocab_size": 0,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 128,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["c2p", "p2c"],
    "layer_norm_eps": 1e-7,
    "initializer_range": 0.05,
    "pad_token_id": 0,
    "type_vocab_size": 0,
}
POSITIONS = "deberta.embeddings.position_embeddings.weight"
IGNORED = -100


def labels(names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


class Nli:
    """Natural language inference, three labels in the order of Microsoft's deberta-*-mnli."""

    name, cls, dtype, steps, batch = "nli", "DebertaForSequenceClassification", "F32", 2500, 64
    config = labels(samples.NLI)

    def example(self, tokenizer, random_):
        _, premise, hypothesis, label = samples.nli(random_)
        return tokenizer(premise, hypothesis), label

    def loss(self, model, batch, targets):
        return model(**batch, labels=torch.tensor(targets)).loss

    def right(self, model, batch, targets):
        return (model(**batch).logits.argmax(-1) == torch.tensor(targets)).float().mean().item()


class Similarity:
    """The similarity of two sentences, from 0 to 5."""

    name, cls, dtype, steps, batch = "similarity", "DebertaForSequenceClassification", "F16", 1500, 64
    config = {"num_labels": 1, "problem_type": "regression"}

    def example(self, tokenizer, random_):
        first, second, score = samples.similarity(random_)
        return tokenizer(first, second), score

    def loss(self, model, batch, targets):
        return model(**batch, labels=torch.tensor(targets, dtype=torch.float32)).loss

    def right(self, model, batch, targets):
        scores = model(**batch).logits[:, 0].numpy()
        return float(np.corrcoef(scores, np.array(targets))[0, 1])


class Entities:
    """People, places and firms."""

    name, cls, dtype, steps, batch = "entities", "DebertaForTokenClassification", "F16", 500, 32
    config = labels(samples.TAGS)
    words = True

    def example(self, tokenizer, random_):
        words, tags = samples.tokens(random_)
        encoding = tokenizer(words, is_split_into_words=True)
        ids = encoding.word_ids()
        first = [i is not None and (at == 0 or ids[at - 1] != i) for at, i in enumerate(ids)]
        return encoding, [samples.TAGS.index(tags[i]) if start else IGNORED for i, start in zip(ids, first)]

    def loss(self, model, batch, targets):
        return model(**batch, labels=padded(targets, IGNORED)).loss

    def right(self, model, batch, targets):
        targets = padded(targets, IGNORED)
        right = (model(**batch).logits.argmax(-1) == targets) | (targets == IGNORED)
        return right.all(-1).float().mean().item()  # whole sentences


class Questions:
    """Answers in a text, or none."""

    name, cls, dtype, steps, batch = "questions", "DebertaForQuestionAnswering", "F16", 2500, 48
    config = {}

    def example(self, tokenizer, random_):
        context, question, answer, start = samples.question(random_)
        encoding = tokenizer(question, context)
        if answer is None:
            return encoding, (0, 0)
        return encoding, (
            encoding.char_to_token(start, sequence_index=1),
            encoding.char_to_token(start + len(answer) - 1, sequence_index=1),
        )

    def loss(self, model, batch, targets):
        start, end = torch.tensor(targets).T
        return model(**batch, start_positions=start, end_positions=end).loss

    def right(self, model, batch, targets):
        start, end = torch.tensor(targets).T
        output = model(**batch)
        return ((output.start_logits.argmax(-1) == start) & (output.end_logits.argmax(-1) == end)).float().mean().item()


class Choices:
    """One label that says how well a question with an answer fits a text: of four, the highest is chosen."""

    name, cls, dtype, steps, batch = "choices", "DebertaForSequenceClassification", "F16", 1000, 16
    config = {"num_labels": 1}

    def example(self, tokenizer, random_):
        _, article, question, options, right = samples.choices(random_)
        return [tokenizer(article, f"{question} {option}") for option in options], right

    def logits(self, model, batch):
        return model(**batch).logits.view(-1, 4)

    def loss(self, model, batch, targets):
        return torch.nn.functional.cross_entropy(self.logits(model, batch), torch.tensor(targets))

    def right(self, model, batch, targets):
        return (self.logits(model, batch).argmax(-1) == torch.tensor(targets)).float().mean().item()


class Encoder:
    """What every other model but the masked language model starts from. It learns to look up in one text what is masked in
    another that says the same, and to tell of every token of a text whether another text has it too."""

    name, cls, steps, batch = "encoder", "DebertaForMaskedLM", 2500, 32
    config = {}

    def example(self, tokenizer, random_):
        encoding = tokenizer(*samples.restated(random_))
        middle = encoding["input_ids"].index(tokenizer.sep_token_id)
        inside = range(1, middle) if random_.random() < 0.5 else range(middle + 1, len(encoding["input_ids"]) - 1)
        masked = mask(encoding, random_.sample(inside, max(1, round(0.3 * len(inside)))), tokenizer)
        return *masked, self.pair(tokenizer, random_)

    def pair(self, tokenizer, random_):
        encoding = tokenizer(*samples.related(random_))
        ids = encoding["input_ids"]
        middle = ids.index(tokenizer.sep_token_id)
        halves = ids[1:middle], ids[middle + 1 : -1]
        seen = [int(token in halves[1]) for token in halves[0]], [int(token in halves[0]) for token in halves[1]]
        return encoding, [IGNORED, *seen[0], IGNORED, *seen[1], IGNORED]

    def loss(self, model, batch, targets):
        masked, pairs = targets
        found = model.seen(model.deberta(**pairs[0]).last_hidden_state)
        common = torch.nn.functional.cross_entropy(found.flatten(0, 1), padded(pairs[1], IGNORED).flatten())
        return model(**batch, labels=padded(masked, IGNORED)).loss + common

    def right(self, model, batch, targets):
        masked, pairs = targets
        seen = padded(pairs[1], IGNORED)
        found = model.seen(model.deberta(**pairs[0]).last_hidden_state)
        print("  in common", (found.argmax(-1) == seen)[seen != IGNORED].float().mean().item())
        masked = padded(masked, IGNORED)
        return (model(**batch).logits.argmax(-1) == masked)[masked != IGNORED].float().mean().item()


class MaskedLm:
    """Masked language modelling by the last layer and by the enhanced mask decoder, which share a head."""

    name, cls, dtype, steps, batch = "masked-lm", "DebertaForMaskedLM", "F16", 2500, 32
    config = {"legacy": False, "tie_word_embeddings": False}

    def example(self, tokenizer, random_):
        encoding = tokenizer(samples.sentence(random_))
        inside = range(1, len(encoding["input_ids"]) - 1)
        return mask(encoding, random_.sample(inside, max(1, round(0.15 * len(inside)))), tokenizer)

    def predictions(self, model, batch, positions):
        import mask_decoder

        plain = model(**batch).logits
        # Training decodes by the module that the goldens of the decoder are recorded with.
        return plain, mask_decoder.run(model, positions, **batch)["outputs.logits"]

    def loss(self, model, batch, targets):
        targets = padded(targets, IGNORED).flatten()
        logits = self.predictions(model, batch, model.positions)
        return sum(torch.nn.functional.cross_entropy(each.flatten(0, 1), targets) for each in logits)

    def right(self, model, batch, targets):
        targets = padded(targets, IGNORED)
        masked = targets != IGNORED
        found = [(each.argmax(-1) == targets)[masked] for each in self.predictions(model, batch, model.positions)]
        return min(each.float().mean().item() for each in found)


KINDS = {kind.name: kind for kind in (Nli, Similarity, Entities, Questions, Choices, MaskedLm)}
for kind in (Encoder, *KINDS.values()):
    kind.rate = 2e-3 if kind in (Encoder, MaskedLm) else 1e-3


def mask(encoding, places, tokenizer):
    """The encoding with masks in these places, and what they hide."""
    ids, targets = list(encoding["input_ids"]), [IGNORED] * len(encoding["input_ids"])
    for at in places:
        targets[at], ids[at] = ids[at], tokenizer.mask_token_id
    encoding["input_ids"] = ids
    return encoding, targets


def padded(rows, value):
    longest = max(map(len, rows))
    return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])


def collated(examples):
    """The arguments of the model, and the targets."""
    encodings = [each[0] if isinstance(each[0], list) else [each[0]] for each in examples]
    encodings = [encoding for several in encodings for encoding in several]
    keys = ("input_ids", "attention_mask")
    return {key: padded([each[key] for each in encodings], 0) for key in keys}, [each[1] for each in examples]


def drawn(task, tokenizer, random_, count):
    """A batch of examples; those of the encoder have a second part."""
    examples = [task.example(tokenizer, random_) for _ in range(count)]
    batch, targets = collated(examples)
    if isinstance(task, Encoder):
        targets = targets, collated([pair for *_, pair in examples])
    return batch, targets


def build(kind, size):
    config = BASE | kind.config | {"vocab_size": size, "architectures": [kind.cls]}
    torch.manual_seed(0)
    model = getattr(transformers, kind.cls)(DebertaConfig(**config))
    if kind is Encoder:
        model.seen = torch.nn.Linear(config["hidden_size"], 2)
    if kind is MaskedLm:
        table = torch.randn(config["max_position_embeddings"], config["hidden_size"])
        model.positions = torch.nn.Parameter(0.05 * table)
    return model, config


def train(kind, tokenizer, encoder=None):
    task, random_ = kind(), rng("train", kind.name)
    model, config = build(kind, len(tokenizer))
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
    if kind is MaskedLm:
        weights[POSITIONS] = weights.pop("positions")
        weights.pop("cls.predictions.decoder.bias", None)
    arrays = {name: value.detach().numpy() for name, value in weights.items()}
    safetensors_file.write(folder / "model.safetensors", arrays, {"format": "pt"}, kind.dtype)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    models, names = Path(sys.argv[1]), sys.argv[2:]
    work = models / "work"
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "encoder.pt").exists():
        vocabulary.write(work)
        model = timed(Encoder, vocabulary.load(work))[0]
        torch.save(model.deberta.state_dict(), work / "encoder.pt")
    encoder = torch.load(work / "encoder.pt")
    for name, kind in KINDS.items():
        if names and name not in names:
            continue
        folder = models / name
        folder.mkdir(exist_ok=True)
        for file in ("vocab.json", "merges.txt"):
            shutil.copy(work / file, folder / file)
        tokenizer = vocabulary.load(folder, getattr(kind, "words", False))
        write(folder, kind, *timed(kind, tokenizer, None if kind is MaskedLm else encoder))


def timed(kind, *arguments):
    start = time.monotonic()
    print(kind.name, flush=True)
    model, config, right = train(kind, *arguments)
    print(f"  right {right:.4f} after {time.monotonic() - start:.0f} s", flush=True)
    return model, config


if __name__ == "__main__":
    main()
