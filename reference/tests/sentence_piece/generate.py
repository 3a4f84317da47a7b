"""Trains the two small SentencePiece models of these tests and writes down what transformers makes of their texts.

    python generate.py        (transformers 4.57.6, sentencepiece 0.2.3, protobuf)

The text is this project's documentation. Maps of characters have a few rules each, since all of NFKC would be 240 KB.
"""

import json
import tempfile
from pathlib import Path

import sentencepiece
from transformers import DebertaV2Tokenizer, DebertaV2TokenizerFast

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
RULES = {"\n": " ", "\t": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u200b": " ", "\ufeff": " ", "\x01": "", "…": "...", "ﬁ": "fi", "Ⅷ": "VIII",
         "¨": " \u0308", "e\u0301": "é", "e": "e", "Ａ": "A", "１": "1", "［": "[", "］": "]", "½": "1⁄2", "ﷺ": "صلى الله"}
COMMON = dict(
    model_type="unigram", pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]",
    unk_piece="[UNK]", hard_vocab_limit=False, max_sentence_length=20000, num_threads=1, minloglevel=2, input_sentence_size=0,
)
MODELS = {
    "plain": dict(vocab_size=500, user_defined_symbols=["<ent>", "New York", "x▁y"], control_symbols=["<ctrl>"]),
    "bytes": dict(vocab_size=700, byte_fallback=True),
}
TEXTS = [
    "", " ", "  ", "\n", "▁", "▁▁", "a", " a ", "a  b", "Every point has a name, and every name has one meaning.", "don't, I'll", "naïve café", "cafe\u0301 e\u0301e\u0301",
    "a[MASK]b", " [MASK] ", "[CLS] a [SEP]", "a [UNK] b", "[UNK]", "［UNK］", "<0x41>", "a<0x41>b", "<ctrl>", "a<ctrl>b", "<ent>x<ent>", "New York", "in New York City",
    "x▁y", "x y", "…", "wait…", "ﬁle ﬁ", "Ⅷ", "¨a", "a¨ b", "Ａ１", "½ ½", "\u200b", "a\u200b", "\u200ba \u200bb\u200b", "\ufeffa\ufeff", "a\u00a0\u3000b", "\u0085a\u0085", "a\u0085b",
    "\x00", "a\x01b", "\x01", "\u0301a", "a \u0301b", "日本語", "中文 中文字", "👩\u200d👩\u200d👧 👍🏽", "🙂🙂 🙂", "русский Ελληνικά ΣΑΣ Σας", "İstanbul ISTANBUL", "ﷺ", "\u0600 a", "a\r\nb\r\n\r\nc",
    "tokenizer" * 6, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "!?.,;: \"'()[]{}", "$5 + 3 = 8 €", "https://example.com/a?b=c#d", "fn main() { println!(\"{}\", 1); }", "UPPER lower MiXeD", "\ud7ff\ue000\U0010ffff",
]
OPTIONS = [{}, {"do_lower_case": True}, {"split_by_punct": True}, {"do_lower_case": True, "split_by_punct": True}]


def sentences():
    lines = (line.strip() for file in sorted((REPOSITORY / "docs").glob("**/*.md")) for line in file.read_text(encoding="utf-8").split("\n"))
    return [line for line in lines if line]


def main():
    for name, options in MODELS.items():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            rules = Path(temporary) / "rules.tsv"
            code = lambda text: " ".join(f"{ord(character):X}" for character in text)
            rules.write_text("".join(f"{code(key)}\t{code(value)}\n" for key, value in RULES.items() if key != value))
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences()), model_prefix=f"{temporary}/spm", normalization_rule_tsv=str(rules), **COMMON, **options)
            (folder / "spm.model").write_bytes((Path(temporary) / "spm.model").read_bytes())
        with open(folder / "expected.jsonl", "w", encoding="utf-8") as out:
            for options in OPTIONS:
                slow = DebertaV2Tokenizer(str(folder / "spm.model"), **options)
                fast = DebertaV2TokenizerFast(str(folder / "spm.model"), **options)
                for text in TEXTS:
                    answer = {**options, "text": text, **answers(slow, fast, text, not options)}
                    out.write(json.dumps(answer, ensure_ascii=False, separators=(",", ":")) + "\n")


def answers(slow, fast, text, whole):
    ids, encoding = slow(text)["input_ids"], fast(text, return_offsets_mapping=True)
    if not whole:
        return {"slow": ids, "fast": encoding["input_ids"]}
    return {
        "slow": ids, "slow_tokens": slow.tokenize(text), "slow_decode": slow.decode(ids, skip_special_tokens=True), "slow_decode_all": slow.decode(ids),
        "fast": encoding["input_ids"], "fast_tokens": encoding.tokens(), "offsets": [list(pair) for pair in encoding["offset_mapping"]],
        "word_ids": encoding.word_ids(), "fast_decode": fast.decode(encoding["input_ids"], skip_special_tokens=True),
    }


main()
