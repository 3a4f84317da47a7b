"""Tokenizer folders of versions 2 and 3: SentencePiece models trained with many options on this project's documentation."""

import json
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as protobuf
from transformers import DebertaV2Tokenizer, DebertaV2TokenizerFast

REPOSITORY = Path(__file__).resolve().parents[3]
# As published: [PAD] 0, [CLS] 1, [SEP] 2, [UNK] 3.
PUBLISHED = dict(
    model_type="unigram", pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]",
    unk_piece="[UNK]", vocab_size=1500, normalization_rule_name="nmt_nfkc", max_sentence_length=20000, num_threads=1,
    character_coverage=0.9995, minloglevel=2, hard_vocab_limit=False,
)
SYMBOLS = ["<ent>", "New York", "▁▁", "x▁y", "don't", "…", "ä", "ﬁ", "[MASK]]", "tokenizer", " lead", "ĳ", "中文"]
FLAGS = {
    "<ent>": {"special": True},
    "<left>": {"lstrip": True, "special": True, "normalized": False},
    "<right>": {"rstrip": True, "normalized": True},
    "<both>": {"lstrip": True, "rstrip": True, "normalized": False},
    "word": {"single_word": True, "normalized": True},
    "wor": {"normalized": True},
    "Lonely": {"single_word": True, "lstrip": True, "rstrip": True, "normalized": False},
    "é🙂": {"normalized": True},
    "xbz": {"normalized": False},
    "Straße": {"normalized": True},
}


def models():
    """Name -> what the trainer is told beside `PUBLISHED`, and what is changed in the model afterwards."""
    yield "v2", {}, None
    yield "v3", {"byte_fallback": True, "vocab_size": 1700}, None
    yield "mask-piece", {"user_defined_symbols": ["[MASK]"]}, None
    yield "mask-control", {"control_symbols": ["[MASK]", "<ctrl>"], "byte_fallback": True}, None
    yield "identity", {"normalization_rule_name": "identity"}, None
    yield "nfkc-cf", {"normalization_rule_name": "nfkc_cf", "character_coverage": 1.0}, None
    yield "nmt-nfkc-cf", {"normalization_rule_name": "nmt_nfkc_cf", "byte_fallback": True}, None
    yield "symbols", {"user_defined_symbols": SYMBOLS}, None
    yield "symbols-bytes", {"user_defined_symbols": SYMBOLS, "byte_fallback": True, "split_by_whitespace": False}, None
    yield "bare", {"add_dummy_prefix": False, "remove_extra_whitespaces": False}, None
    yield "no-prefix", {"add_dummy_prefix": False, "byte_fallback": True}, None
    yield "spaces", {"remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True}, None
    yield "suffix", {"treat_whitespace_as_suffix": True}, None
    yield "phrases", {"split_by_whitespace": False, "split_by_unicode_script": False, "split_by_number": False}, None
    yield "surface", {"unk_surface": "??", "unk_piece": "<unk>"}, None
    yield "other-ids", {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3}, None
    yield "large", {"vocab_size": 12000, "character_coverage": 1.0, "byte_fallback": True}, None
    yield "unused", {}, unused
    yield "ties", {}, ties
    yield "unescaped", {}, unescaped


def unused(model):
    """Every third piece is in no text any more."""
    for number, piece in enumerate(model.pieces):
        if piece.type == 1 and number % 3 == 0:
            piece.type = 5


def ties(model):
    """Many ways are equally good."""
    for piece in model.pieces:
        if piece.type == 1:
            piece.score = -float(len(piece.piece)) - (0.1 if len(piece.piece) > 4 else 0)


def unescaped(model):
    """Spaces are written as they are."""
    model.normalizer_spec.escape_whitespaces = False
    for piece in model.pieces:
        piece.piece = piece.piece.replace("▁", " ") if piece.type == 1 else piece.piece


def sentences():
    files = sorted(REPOSITORY.glob("**/*.md")) + sorted(REPOSITORY.glob("reference/src/**/*.rs"))
    lines = (line.strip() for file in files for line in file.read_text(encoding="utf-8").split("\n"))
    extra = ["naïve Straße Ελληνικά русский 日本語 中文字 한국어 Việt ½ ² ﬁ 𝔘𝔫𝔦 “q” « » … 👍🏽"] * 3
    return [line for line in lines if line] + extra


def train(folder, options, change):
    """A folder with an spm.model."""
    folder.mkdir()
    extra = {"control_symbols": options.get("control_symbols", [])}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_prefix=str(folder / "spm"), **{**PUBLISHED, **options, **extra})
    (folder / "spm.vocab").unlink()
    if change:
        model = protobuf.ModelProto()
        model.ParseFromString((folder / "spm.model").read_bytes())
        change(model)
        (folder / "spm.model").write_bytes(model.SerializeToString())
    return folder


def folders(root):
    """Folders, and which share of the texts each is asked for."""
    kept = {}
    for name, options, change in models():
        kept[name] = train(root / f"v2-{name}", options, change)
        yield kept[name], 0.08 if name in ("v2", "v3") else 0.03
    for style in ("v2", "v3"):
        for name, config in configurations(kept[style]):
            yield copy(kept[style], root / f"v2-{style}-{name}", config), 0.03
        yield legacy(copy(kept[style], root / f"v2-{style}-legacy", {})), 0.02
        added = root / f"v2-{style}-added"
        for kind, tokenizer in (("slow", DebertaV2Tokenizer), ("fast", DebertaV2TokenizerFast)):
            folder = root / f"v2-{style}-saved-{kind}"
            tokenizer.from_pretrained(added).save_pretrained(folder)
            yield folder, 0.02
    yield copy(kept["symbols"], root / "v2-symbols-lower", {"do_lower_case": True, "split_by_punct": True}), 0.02


def configurations(folder):
    yield "lower", {"do_lower_case": True}
    yield "punctuation", {"split_by_punct": True}
    yield "both", {"do_lower_case": True, "split_by_punct": True, "model_max_length": 512, "padding_side": "left"}
    yield "split", {"split_special_tokens": True, "clean_up_tokenization_spaces": True}
    yield "added", added(folder)
    yield "added-lower", {**added(folder), "do_lower_case": True}


def added(folder):
    size = sentencepiece.SentencePieceProcessor(str(folder / "spm.model")).GetPieceSize()
    token = lambda content, flags: {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": False, **flags}
    decoder = {str(size + 1 + at): token(content, flags) for at, (content, flags) in enumerate(FLAGS.items())}
    decoder[str(size)] = token("[MASK]", {"special": True})
    return {"added_tokens_decoder": decoder, "additional_special_tokens": ["<ent>", "<left>", "<new>"], "mask_token": "[MASK]"}


def copy(folder, other, config):
    other.mkdir()
    (other / "spm.model").write_bytes((folder / "spm.model").read_bytes())
    (other / "tokenizer_config.json").write_text(json.dumps(config))
    return other


def legacy(folder):
    size = sentencepiece.SentencePieceProcessor(str(folder / "spm.model")).GetPieceSize()
    (folder / "added_tokens.json").write_text(json.dumps({"[MASK]": size, "xbz": size + 1, "word": size + 2}))
    mask = {"content": "[MASK]", "lstrip": True, "rstrip": False, "single_word": False, "normalized": True}
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": mask, "additional_special_tokens": ["<s>"]}))
    return folder
