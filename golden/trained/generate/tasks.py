"""What the models learn: examples, losses, and how good a model is at them."""

import families
import numpy as np
import samples
import torch

NEW_HEAD = {"legacy": False, "tie_word_embeddings": False}
IGNORED = -100


def labels(names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


class Task:
    """A task has a `name`, the `head` that the name of the class ends with, `steps` and `batch` of the training."""

    # how the weights are stored
    dtype = "F16"
    # what the configuration has, and what it is built with besides
    config, built_with = {}, {}
    # whether it names the class
    architectures = True
    rate = 1e-3
    # whether it starts from the encoder that most have in common
    starts = True
    # whether words stand alone
    words = False
    # whether an example is two: input and target, and a pair of them
    two_parts = False

    def prepare(self, model):
        """Adds parameters that the class has not."""


class Nli(Task):
    """Natural language inference, three labels in the order of Microsoft's deberta-*-mnli."""

    name, head, dtype, steps, batch = "nli", "ForSequenceClassification", "F32", 2500, 64
    config = labels(samples.NLI)

    def example(self, tokenizer, random_):
        _, premise, hypothesis, label = samples.nli(random_)
        return tokenizer(premise, hypothesis), label

    def loss(self, model, batch, targets):
        return model(**batch, labels=torch.tensor(targets)).loss

    def right(self, model, batch, targets):
        return (model(**batch).logits.argmax(-1) == torch.tensor(targets)).float().mean().item()


class Similarity(Task):
    """The similarity of two sentences, from 0 to 5."""

    name, head, dtype, steps, batch = "similarity", "ForSequenceClassification", "F16", 1500, 64
    config = {"num_labels": 1, "problem_type": "regression"}

    def example(self, tokenizer, random_):
        first, second, score = samples.similarity(random_)
        return tokenizer(first, second), score

    def loss(self, model, batch, targets):
        return model(**batch, labels=torch.tensor(targets, dtype=torch.float32)).loss

    def right(self, model, batch, targets):
        scores = model(**batch).logits[:, 0].numpy()
        return float(np.corrcoef(scores, np.array(targets))[0, 1])


class Entities(Task):
    """People, places and firms."""

    name, head, dtype, steps, batch = "entities", "ForTokenClassification", "F16", 500, 32
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


class Questions(Task):
    """Answers in a text, or none."""

    name, head, dtype, steps, batch = "questions", "ForQuestionAnswering", "F16", 2500, 48
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


class Choices(Task):
    """One label that says how well a question with an answer fits a text: of four, the highest is chosen."""

    name, head, dtype, steps, batch = "choices", "ForSequenceClassification", "F16", 1000, 16
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


class Encoder(Task):
    """What the models start from that do not fill masks. It learns to look up in one text what is masked in
    another that says the same, and to tell of every token of a text whether another text has it too."""

    name, head, steps, batch = "encoder", "ForMaskedLM", 2500, 32
    config, rate, two_parts = {}, 2e-3, True

    def prepare(self, model):
        model.seen = torch.nn.Linear(model.config.hidden_size, 2)

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


class MaskedLm(Task):
    """Masked language modelling by the last layer and by the enhanced mask decoder, which share a head."""

    name, head, dtype, steps, batch = "masked-lm", "ForMaskedLM", "F16", 2500, 32
    config, rate, starts = NEW_HEAD, 2e-3, False

    def prepare(self, model):
        model.positions = positions(model.config)

    def example(self, tokenizer, random_):
        encoding = tokenizer(samples.sentence(random_))
        inside = range(1, len(encoding["input_ids"]) - 1)
        return mask(encoding, random_.sample(inside, max(1, round(0.15 * len(inside)))), tokenizer)

    def predictions(self, model, batch):
        import mask_decoder

        plain = model(**batch).logits
        # Training decodes by the module that the goldens of the decoder are recorded with.
        return plain, mask_decoder.run(model, model.positions, **batch)["outputs.logits"]

    def loss(self, model, batch, targets):
        targets = padded(targets, IGNORED).flatten()
        logits = self.predictions(model, batch)
        return sum(torch.nn.functional.cross_entropy(each.flatten(0, 1), targets) for each in logits)

    def right(self, model, batch, targets):
        targets = padded(targets, IGNORED)
        masked = targets != IGNORED
        found = [(each.argmax(-1) == targets)[masked] for each in self.predictions(model, batch)]
        return min(each.float().mean().item() for each in found)


class MultipleChoice(Choices):
    """The same by the class that sees the four of a question together."""

    head, config = "ForMultipleChoice", {}

    def logits(self, model, batch):
        return model(**{key: value.view(-1, 4, value.shape[-1]) for key, value in batch.items()}).logits


class LegacyMaskedLm(MaskedLm):
    """Masked language modelling by the last layer, with the head that transformers has always had."""

    config = {}

    def prepare(self, model):
        pass

    def predictions(self, model, batch):
        return [model(**batch).logits]


class ReplacedTokens(MaskedLm):
    """The detection of replaced tokens, and masked language modelling by the enhanced mask decoder on the same encoder:
    both heads of a published discriminator. In place of a generator, tokens of another text replace some."""

    name, steps = "replaced-tokens", 4000
    config, built_with, architectures, two_parts = {}, NEW_HEAD, False, True

    def prepare(self, model):
        hidden = model.config.hidden_size
        model.mask_predictions = torch.nn.ModuleDict({
            "dense": torch.nn.Linear(hidden, hidden),
            "LayerNorm": torch.nn.LayerNorm(hidden),
            "classifier": torch.nn.Linear(hidden, 1),
        })  # fmt: skip
        model.positions = positions(model.config)

    def example(self, tokenizer, random_):
        encoding = tokenizer(samples.sentence(random_))
        ids = list(encoding["input_ids"])
        others = tokenizer(samples.sentence(random_))["input_ids"][1:-1]
        for at in random_.sample(range(1, len(ids) - 1), max(1, round(0.15 * len(ids)))):
            ids[at] = random_.choice(others)
        encoding["input_ids"], text = ids, encoding["input_ids"]
        return encoding, text, super().example(tokenizer, random_)

    def detected(self, model, batch, text):
        import replaced_tokens

        head = {name: value for name, value in model.named_parameters() if name.startswith("mask_predictions.")}
        return replaced_tokens.run(model, head, **batch, labels=padded(text, 0))

    def predictions(self, model, batch):
        import mask_decoder

        return [mask_decoder.run(model, model.positions, **batch)["outputs.logits"]]

    def loss(self, model, batch, targets):
        text, masked = targets
        detected = self.detected(model, batch, text)["outputs.loss"]
        return 10 * detected + super().loss(model, *masked)

    def right(self, model, batch, targets):
        text, masked = targets
        print("  masked", super().right(model, *masked))
        found = self.detected(model, batch, text)["outputs.logits"] > 0
        text = padded(text, 0)
        replaced = (text > 0) & (text != batch["input_ids"])
        found &= text > 0
        return (2 * (found & replaced).sum() / (found.sum() + replaced.sum())).item()  # F1


KINDS = {
    families.V1: (Nli, Similarity, Entities, Questions, Choices, MaskedLm),
    families.V3: (Nli, Entities, Questions, MultipleChoice, LegacyMaskedLm, ReplacedTokens),
}


def positions(config):
    """The absolute positions of the mask decoder."""
    return torch.nn.Parameter(0.05 * torch.randn(config.max_position_embeddings, config.hidden_size))


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
