"""The SentencePiece vocabulary of the models of version 3, trained on the synthetic text: spm.model."""

import io
import json
import string

import sentencepiece
from transformers import DebertaV2TokenizerFast
from vocabulary import corpus

# 4 special ones, 256 for bytes, 280 of text, which has hardly more; [MASK] comes after all.
PIECES = 540
# The embeddings have more rows than there are tokens, as those of published models.
ROWS = 544
FILES = ("spm.model", "tokenizer_config.json")


def write(folder):
    """Writes spm.model, and tokenizer_config.json as Microsoft publishes it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(),
        model_writer=model,
        model_type="unigram",
        vocab_size=PIECES,
        normalization_rule_name="nmt_nfkc",
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        byte_fallback=True,
        pad_id=0, pad_piece="[PAD]",
        bos_id=1, bos_piece="[CLS]",
        eos_id=2, eos_piece="[SEP]",
        unk_id=3, unk_piece="[UNK]",
        num_threads=1,
        minloglevel=1,
    )  # fmt: skip
    (folder / "spm.model").write_bytes(model.getvalue())
    config = {"do_lower_case": False, "vocab_type": "spm"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(folder, words=False):
    """The fast tokenizer, which puts a space before every word, also before those that stand alone."""
    return DebertaV2TokenizerFast.from_pretrained(folder)


def rows(_tokenizer):
    """The vocab_size of the configuration."""
    return ROWS
