"""The byte-level vocabulary of the models of version 1: vocab.json and merges.txt, trained on the synthetic text."""

import json

import samples
from language import rng
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import DebertaTokenizerFast

SIZE = 640
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
FILES = ("vocab.json", "merges.txt")


def corpus():
    random_ = rng("vocabulary")
    for _ in range(3000):
        yield samples.sentence(random_)
        yield from samples.nli(random_)[1:3]
        yield from samples.similarity(random_)[:2]
        yield " ".join(samples.tokens(random_)[0])
        yield from samples.question(random_)[:2]


def write(folder):
    """Writes vocab.json and merges.txt. [MASK] has the last id, as in DeBERTa's own vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = SIZE - len(SPECIAL) - 1
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    ranked = sorted(model["vocab"], key=model["vocab"].get)
    vocabulary = {token: at for at, token in enumerate([*SPECIAL, *ranked, "[MASK]"])}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    text = json.dumps(vocabulary, ensure_ascii=False, indent=0) + "\n"
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def load(folder, words=False):
    """The tokenizer; for words that stand alone it puts the space before each, as in running text."""
    return DebertaTokenizerFast.from_pretrained(folder, add_prefix_space=words)


def rows(tokenizer):
    """The vocab_size of the configuration."""
    return len(tokenizer)
