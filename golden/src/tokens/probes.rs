//! Texts that show what tokenizers do differently, where goldens have none.

/// Words, case, prefixes, accents in both forms, ligatures and full-width forms, digits, scripts without spaces, emoji, white
/// space of all kinds, punctuation, contractions, special tokens and parts of them.
pub(crate) const TEXTS: [&str; 36] = [
    "the quick brown fox jumps over the lazy dog",
    "The Quick Brown Fox JUMPS Over The LAZY Dog",
    " the",
    "the ",
    "a",
    "A",
    "tokenization internationalization unhappiness",
    "Hello, world! How's it going? (fine) \u{201c}yes\u{201d} - no",
    "don't we'll I'M they're it's",
    "naïve Straße über São Paulo",
    "nai\u{308}ve u\u{308}ber",
    "ﬁne ﬂow … ½ ² Ａ１ ｶﾞ ™",
    "0 1 12 123 1,234.5 2023-11-26 3.14e-5 １２",
    "Ελληνικά Σας ΣΑΣ русский МОСКВА",
    "עברית العربية हिन्दी ไทย",
    "日本語のテキスト 中文文本 한국어",
    "🙂 👩\u{200d}👩\u{200d}👧 🇩🇪 ❤\u{fe0f} 👍🏽",
    "a  b   c    d",
    "tab\tand\nline\r\nends\n\n\n",
    "\u{a0}no\u{a0}break \u{3000}wide\u{200b}zero\u{2003}em",
    "  both ends  ",
    "",
    " ",
    "[MASK]",
    "The [MASK] is red.",
    "a[MASK]b",
    "a [MASK]  b",
    "[CLS] a [SEP] b [PAD] c [UNK] d",
    "[mask] [Mask] [MASK",
    "https://example.com/a?b=c#d user@example.com C++ x_y __init__",
    "$9.99 100% #1 @you & co. <tag> {x} [y] ~ ^ | \\ `",
    "aaaaaaaaaaaaaaaaaaaa bababababababa",
    "Ġthe ▁the <0x41> <s> </s> <unk>",
    "I\u{307} İ ı ǅ ß ẞ",
    "\u{1}\u{7f}\u{85}\u{feff}",
    "x\u{301}\u{302}\u{303} 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \u{10ffff}",
];

/// Pairs, for what stands between two texts and which segments they have.
pub(crate) const PAIRS: [(&str, &str); 3] =
    [("the kite is red", "It is not."), ("", "alone"), ("One. Two?", " 日本 🙂")];
