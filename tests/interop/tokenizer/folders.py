"""Tokenizer folders of version 1, of every kind that transformers reads."""

import json
import shutil
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import DebertaTokenizer, DebertaTokenizerFast

REPOSITORY = Path(__file__).resolve().parents[3]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
FLAGS = {
    "<ent>": {"special": True},
    "<left>": {"lstrip": True, "special": True},
    "<right>": {"rstrip": True},
    "<both>": {"lstrip": True, "rstrip": True, "normalized": False},
    "word": {"single_word": True},
    "wor": {},
    "lonely": {"single_word": True, "lstrip": True, "rstrip": True, "normalized": False},
    "é🙂": {},
    "xbz": {},
    "b": {},
    "nor mal": {"special": True, "single_word": True},
    "Ġthe": {"normalized": False},
}


def folders(vocabulary, root):
    """Folders, and which share of the texts each is asked for."""
    if not (vocabulary / "vocab.json").is_file():
        print(f"absent: {vocabulary}; a small vocabulary, made from this project's own texts, stands for it")
        vocabulary = small_vocabulary(root / "vocabulary", 4000)
    yield make(vocabulary, root / "plain", {}), 0.5
    yield make(vocabulary, root / "prefix", {"tokenizer_config.json": {"add_prefix_space": True, "model_max_length": 512}}), 0.1
    yield make(vocabulary, root / "split", {"tokenizer_config.json": {"split_special_tokens": True, "clean_up_tokenization_spaces": True}}), 0.05
    yield make(vocabulary, root / "added", {"tokenizer_config.json": added_config(vocabulary)}), 0.1
    yield make(vocabulary, root / "legacy", legacy(vocabulary)), 0.05
    serialized = make(vocabulary, root / "serialized", {})
    tokenizer = DebertaTokenizerFast.from_pretrained(root / "added")
    tokenizer.backend_tokenizer.save(str(serialized / "tokenizer.json"))
    yield serialized, 0.05
    whole = root / "whole"
    DebertaTokenizer.from_pretrained(root / "added").save_pretrained(whole)
    DebertaTokenizerFast.from_pretrained(root / "added").save_pretrained(whole)
    yield whole, 0.05
    yield make(small_vocabulary(root / "trained", 1000), root / "small", {}), 0.05
    yield make(narrow_vocabulary(root / "shrunk"), root / "narrow", {}), 0.05


def make(vocabulary, folder, files):
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(vocabulary / name, folder / name)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def size(vocabulary):
    return len(json.loads((vocabulary / "vocab.json").read_text()))


def added_config(vocabulary):
    start = size(vocabulary)
    token = lambda content, flags: {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": not flags.get("special", False), "special": False, **flags}
    decoder = {str(start + at): token(content, flags) for at, (content, flags) in enumerate(FLAGS.items()) if content != "Ġthe"}
    known = json.loads((vocabulary / "vocab.json").read_text())
    decoder[str(known["Ġthe"])] = token("Ġthe", FLAGS["Ġthe"])
    return {"added_tokens_decoder": decoder, "additional_special_tokens": ["<ent>", "<left>", "<new>"], "mask_token": "[MASK]"}


def legacy(vocabulary):
    start = size(vocabulary)
    mask = {"content": "[MASK]", "lstrip": True, "rstrip": True, "single_word": False, "normalized": True}
    return {
        "added_tokens.json": {"<ent>": start, "xbz": start + 1, "word": start + 2},
        "special_tokens_map.json": {"cls_token": "[CLS]", "mask_token": mask, "additional_special_tokens": ["<ent>", "<s>"]},
        "tokenizer_config.json": {"padding_side": "left", "truncation_side": "left", "unk_token": {"__type": "AddedToken", "content": "[UNK]", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}},
    }


def small_vocabulary(folder, tokens):
    """A vocabulary made from the documentation of this project."""
    folder.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=tokens, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train(sorted(map(str, REPOSITORY.glob("**/*.md"))), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    write(folder, model["vocab"], [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    return folder


def narrow_vocabulary(folder):
    """The small vocabulary of transformers' own tests: most bytes are unknown, the special tokens are added."""
    folder.mkdir()
    tokens = "l o w e r s t i d n Ġ Ġl Ġn Ġlo Ġlow er Ġlowest Ġnewer Ġwider [UNK]".split()
    write(folder, {token: at for at, token in enumerate(tokens)}, ["Ġ l", "Ġl o", "Ġlo w", "e r"])
    return folder


def write(folder, vocabulary, merges):
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(merge + "\n" for merge in merges))
