"""Random texts: plain, strange and hostile. The same seed gives the same texts."""

import random

SPACES = [*map(chr, (9, 10, 11, 12, 13, 0x1C, 0x1D, 0x1E, 0x1F, 32, 32, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)))]
SPACES += [*map(chr, (0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0x180E, 0x200B, 0x2060, 0xFEFF))]
SPECIAL = ["[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK", "MASK]", "[[MASK]]", "[mask]", "[MASK][MASK]", "<s>", "[CLS]]"]
ADDED = ["<ent>", "<ent>x", "<left>", "<right>", "<both>", "word", "wor", "lonely", "é🙂", "xbz", "b", "xbQz", "Ġthe", " the", "<new>", "nor mal"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "’s", "''", "'", "'lll", "'session", " 's", "n't", " n't"]
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "1️⃣", "🫠", "👨🏿‍🚀", "☠", "\u200d", "\ufe0f", "\U000e0067"]
WORDS = (
    "the of and to in Hello world newest widest lower DeBERTa don't I'll we've tokenization internationalization 2023 3.14 "
    "C++ e-mail user@example.com https://example.com/a?b=c#d naïve Straße Ελληνικά русский עברית العربية हिन्दी ไทย 日本語 "
    "中文 한국어 Việt ½ ² Ⅷ ٣٤ ᠠ 𝔘𝔫𝔦 ﬁ ǅ İ ı ß \\ud83d \\u00e9 Ġ Ċ âĢ Ã© _ __init__ ::: --- ... !? “q” «q» $9 £5 #x @y 100,000"
).split()
SENTENCE_PIECE = ["▁", "▁▁", "<0x41>", "<0xF0>", "<ctrl>", "New York", "x▁y", "don't", "…", "ﬁ", "ĳ", "Ａ１", "［ＵＮＫ］", "\u200b", "aaaaaaa", "tokenizertokenizer", "<unk>", "Σας ΣΑΣ", "Straße", "STRASSE", "Lonely", "[unk]", "[Mask]", "\ufffd", " lead", "中文"]
COMBINING = [*map(chr, (*range(0x300, 0x310), 0x345, 0x5B0, 0x64B, 0x93C, 0x94D, 0xE31, 0x1AB0, 0x20DD, 0x302A, 0xFE20))]


def character(rng):
    """A code point of any kind, but no surrogate."""
    while True:
        ranges = [(0, 0x7F), (0, 0xFF), (0x100, 0x24F), (0x250, 0xFFF), (0x1000, 0xFFFF), (0x10000, 0x1FFFF), (0, 0x10FFFF)]
        code = rng.randint(*rng.choice(ranges))
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def piece(rng):
    kind = rng.randrange(15)
    if kind < 4:
        return rng.choice(WORDS)
    if kind == 4:
        return "".join(rng.choice(SPACES) for _ in range(rng.choice((1, 1, 2, 3, 8))))
    if kind == 5:
        return rng.choice(SPECIAL)
    if kind == 6:
        return rng.choice(ADDED)
    if kind == 7:
        return rng.choice(WORDS) + rng.choice(CONTRACTIONS)
    if kind == 8:
        return rng.choice(EMOJI)
    if kind == 9:
        return "".join(character(rng) for _ in range(rng.randint(1, 6)))
    if kind == 10:
        return rng.choice("aeInoé字") + "".join(rng.choice(COMBINING) for _ in range(rng.randint(1, 3)))
    if kind == 11:
        return "".join(chr(rng.randrange(128)) for _ in range(rng.randint(1, 8)))
    if kind == 12:
        return rng.choice((rng.choice(WORDS), rng.choice(CONTRACTIONS), character(rng))) * rng.randint(1, 5)
    if kind == 13:
        return rng.choice(SENTENCE_PIECE)
    return "".join(rng.choice("[]MASKCLEP <>xbw '") for _ in range(rng.randint(1, 9)))


def text(rng):
    """A short text; one in fifty is empty or white space."""
    if rng.random() < 0.02:
        return rng.choice(("", " ", "  ", "\n", "\x1c", "[MASK]", " [MASK] ", "\u3000"))
    joiner = rng.choice(("", " ", " ", " ", rng.choice(SPACES)))
    return joiner.join(piece(rng) for _ in range(rng.randint(1, rng.choice((2, 6, 20)))))


def texts(seed, count):
    rng = random.Random(seed)
    return [text(rng) for _ in range(count)]


def long_texts(seed):
    """Words of up to 100,000 characters."""
    rng = random.Random(seed)
    n = 100_000
    yield "a" * n
    yield " " * n
    yield " " * n + "x"
    yield "\n \u3000" * (n // 3) + "[MASK]"
    yield "ab" * (n // 2)
    yield "!" * n
    yield "0" * n
    yield "🙂" * (n // 10)
    yield "[MASK]" * (n // 10)
    yield "the" * (n // 30)
    yield "".join(rng.choice("etaoinshrdlu") for _ in range(5000))
    yield "".join(rng.choice("中文字日本語") for _ in range(5000))
    yield "[" * n


def code_point_texts(step=128):
    """Every code point after a letter, a digit and punctuation; those of the first scripts before a mask, too."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for at in range(0, len(codes), step):
        yield "".join(f"a{c}1{c}!{c}" for c in map(chr, codes[at : at + step]))
    for code in range(0x3100):
        yield f"a{chr(code)}[MASK]{chr(code)} [MASK]"
