//! The encodings of the `tokenizers` crate, several times faster: words between spaces are normalized and cut into pieces
//! alone, once each, and come from a cache when they are seen again.
//!
//! That is exact where nothing reaches beyond a word. Where something may, the crate encodes the whole text: a mark over a
//! space, a word that is normalized to nothing, an added token that is looked for in normalized text.

use std::cell::Cell;

use tokenizers::normalizer::Range;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{
    AddedVocabulary, Encoding, Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper,
    OffsetReferential, OffsetType, PreTokenizerWrapper, Tokenizer,
};
use unicode_segmentation::UnicodeSegmentation;

use super::lists::Lists;
use crate::tokenizer::byte_level::cache::Caches;
use crate::tokenizer::sentence_piece::unigram::{UNKNOWN_PENALTY, Unigram};

/// A tokenizer that normalizes, and cuts pieces, as `DebertaV2Converter` writes it.
#[derive(Debug)]
pub(super) struct MetaspaceWords {
    /// The characters that are normalized to a space.
    spaces: Vec<char>,
    /// The characters of ASCII that are normalized to themselves.
    plain: Vec<u8>,
    unigram: Unigram<f64>,
    /// The added tokens that are looked for in the text as it is.
    outside: AddedVocabulary,
    /// The added tokens that are looked for in normalized text, as they are normalized.
    inside: Vec<String>,
    caches: Caches<Part>,
}

/// A token of a word with the spaces before it, and its characters there.
#[derive(Debug, Default)]
struct Part {
    id: u32,
    start: usize,
    end: usize,
    /// Its word, if normalization makes several of the one; [`BEYOND`] if something reaches beyond it.
    word: u32,
    /// What it is of, if no token of the vocabulary spells it.
    unknown: Option<Box<str>>,
}

const BEYOND: u32 = u32::MAX;
/// The place of a token of which the crate alone knows it.
const NOWHERE: usize = usize::MAX;
/// A character that is none.
const UNASSIGNED: &str = "\u{10ffff}";

/// What may be normalized to a space.
const SPACES: [char; 28] = [
    ' ', '\t', '\n', '\u{b}', '\u{c}', '\r', '\u{85}', '\u{a0}', '\u{1680}', '\u{2000}', '\u{2001}',
    '\u{2002}', '\u{2003}', '\u{2004}', '\u{2005}', '\u{2006}', '\u{2007}', '\u{2008}', '\u{2009}',
    '\u{200a}', '\u{200b}', '\u{2028}', '\u{2029}', '\u{202f}', '\u{205f}', '\u{2060}', '\u{3000}',
    '\u{feff}',
];

impl MetaspaceWords {
    /// None if the tokenizer is of another kind, or has added tokens of several words.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<MetaspaceWords> {
        let unigram = unigram(tokenizer.get_model())?;
        let normalizer = tokenizer.get_normalizer().filter(|normalizer| is_converted(normalizer))?;
        if !tokenizer.get_pre_tokenizer().is_some_and(is_metaspace) {
            return None;
        }
        let normalized = |text: &str| {
            let mut normalized = NormalizedString::from(text);
            normalizer.normalize(&mut normalized).ok()?;
            Some(normalized.get().to_string())
        };
        let spaces =
            SPACES.into_iter().filter(|space| normalized(&format!("a{space}b")).as_deref() == Some("a b"));
        let spaces: Vec<char> = spaces.collect();
        let plain = (b'!'..=b'~').filter(|byte| {
            let text = char::from(*byte).to_string();
            normalized(&text) == Some(text)
        });
        let plain = plain.collect();

        let added = tokenizer.get_added_vocabulary();
        let tokens: Vec<_> = added.get_added_tokens_decoder().values().cloned().collect();
        let (inside, outside): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|token| token.normalized);
        let inside: Option<Vec<String>> = inside.iter().map(|token| normalized(&token.content)).collect();
        let inside =
            inside.filter(|inside| inside.iter().all(|token| !token.is_empty() && !token.contains(' ')))?;
        let mut vocabulary = AddedVocabulary::new();
        vocabulary.set_encode_special_tokens(added.get_encode_special_tokens());
        vocabulary.add_tokens(outside, tokenizer.get_model(), None::<&NormalizerWrapper>).ok()?;
        Some(MetaspaceWords {
            spaces,
            plain,
            unigram,
            outside: vocabulary,
            inside,
            caches: Caches::default(),
        })
    }

    /// What [`Encoder::encode`](super::Encoder::encode) is to give; tokens that the vocabulary spells are empty.
    pub(super) fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        offsets: bool,
    ) -> tokenizers::Result<Encoding> {
        match self.lists(tokenizer, text, offsets) {
            Some(lists) => Ok(lists.into_encoding()),
            None => tokenizer.encode_char_offsets(text, false),
        }
    }

    /// None if something reaches beyond a word.
    fn lists(&self, tokenizer: &Tokenizer, text: &str, offsets: bool) -> Option<Lists> {
        let mut lists = Lists::with_capacity(text.len() / 4);
        let outside = self.outside.get_added_tokens_decoder().values();
        if outside.into_iter().all(|token| !text.contains(&token.content)) {
            return self.follow_text(tokenizer, text, offsets, &mut lists).then_some(lists);
        }
        let pieces = self.outside.extract_and_normalize(None::<&NormalizerWrapper>, text);
        for (piece, _, added) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            if let Some(tokens) = added {
                for found in tokens {
                    // The ids of `outside` are its own.
                    let token = self.outside.get_added_tokens_decoder().get(&found.id)?;
                    lists.ids.push(tokenizer.token_to_id(&token.content)?);
                }
                if offsets {
                    lists.follow_added(piece, tokens);
                }
                continue;
            }
            if !self.follow_text(tokenizer, piece, offsets, &mut lists) {
                return None;
            }
        }
        Some(lists)
    }

    /// Follows a text without added tokens; false if something reaches beyond a word.
    fn follow_text(&self, tokenizer: &Tokenizer, text: &str, offsets: bool, lists: &mut Lists) -> bool {
        let skip = |lists: &mut Lists, spaces: usize| {
            let spaces = text.get(..spaces).filter(|_| offsets);
            lists.end_words(spaces.map_or(0, |spaces| spaces.chars().count()), 0);
        };
        let inner = text.trim_start();
        skip(lists, text.len() - inner.len());
        let mut whole = true;
        let beyond = || vec![Part { word: BEYOND, ..Part::default() }];
        let cut = |word: &str| self.cut(tokenizer, word).unwrap_or_else(beyond);
        let skipped = Cell::new("");
        self.caches.each(self.words(inner.trim_end(), &skipped), cut, |word, parts| {
            let unknown = |part: &Part| part.word == BEYOND || offsets && part.start == NOWHERE;
            whole &= !parts.first().is_some_and(unknown);
            lists.ids.extend(parts.iter().map(|part| part.id));
            if offsets && whole {
                lists.end_words(skipped.get().chars().count(), 0);
                follow(lists, word, parts);
            }
        });
        if offsets {
            let behind = inner.chars().rev().take_while(|character| character.is_whitespace());
            lists.end_words(behind.count(), 0);
        }
        whole
    }

    /// The words of a text, each with the last space before it, or the last line end if that is two characters. What is
    /// before that is in `skipped` until the next word. The first word of a text may have no space.
    fn words<'t>(&self, text: &'t str, skipped: &Cell<&'t str>) -> impl Iterator<Item = &'t str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let word = rest.find(|character| !self.is_space(character)).unwrap_or(rest.len());
            let length = rest.get(word..)?.find(|character| self.is_space(character));
            let spaces = rest.get(..word)?;
            let last = if spaces.ends_with("\r\n") {
                2
            } else {
                spaces.chars().next_back().map_or(0, char::len_utf8)
            };
            let (first, behind) = rest.split_at_checked(length.map_or(rest.len(), |length| word + length))?;
            let (before, first) = first.split_at_checked(word - last)?;
            skipped.set(before);
            rest = behind;
            Some(first).filter(|first| !first.is_empty())
        })
    }

    #[inline]
    fn is_space(&self, character: char) -> bool {
        character == ' ' || (character <= '\r' || character > '~') && self.spaces.contains(&character)
    }

    /// The pieces of a word with the spaces before it; none if something reaches beyond it.
    fn cut(&self, tokenizer: &Tokenizer, text: &str) -> Option<Vec<Part>> {
        let at = text.find(|character| !self.is_space(character))?;
        let (spaces, word) = text.split_at_checked(at)?;
        let word = if word.bytes().all(|byte| self.plain.contains(&byte)) {
            Word { marked: format!("▁{word}"), normalized: None, tame: !spaces.contains("\r\n") }
        } else {
            Word::of(tokenizer, spaces, word)?
        };
        if self.inside.iter().any(|token| word.marked.contains(token)) {
            return None;
        }
        let characters = characters(text);
        let mut parts = Vec::new();
        let (mut start, mut number) = (0, 0);
        let ends = word.marked.match_indices('▁').map(|(start, _)| start).skip(1).chain([word.marked.len()]);
        for end in ends {
            let piece = word.marked.get(start..end)?;
            self.pieces(piece, |id, from, to| {
                let range = word.original(spaces, start + from..start + to).filter(|_| word.tame);
                let character = |byte: usize| characters.get(byte).copied();
                let range = range.and_then(|range| Some((character(range.start)?, character(range.end)?)));
                let (first, last) = range.unwrap_or((NOWHERE, NOWHERE));
                let unknown = id == self.unigram.unk_id();
                let unknown = unknown.then(|| piece.get(from..to).unwrap_or_default().into());
                parts.push(Part { id, start: first, end: last, word: number, unknown });
            });
            start = end;
            number += 1;
        }
        Some(parts)
    }

    /// Calls `emit` with the id and the bytes of each piece of a text; unknown characters side by side are one.
    fn pieces(&self, text: &str, mut emit: impl FnMut(u32, usize, usize)) {
        let unk_id = self.unigram.unk_id();
        let (mut unknown, mut at) = (0, 0);
        let id = |from: usize, to: usize| {
            text.get(from..to).and_then(|run| self.unigram.id(run)).unwrap_or(unk_id)
        };
        self.unigram.encode(text, |piece, piece_id| {
            let end = at + piece.len();
            if piece_id != unk_id {
                if unknown < at {
                    emit(id(unknown, at), unknown, at);
                }
                emit(piece_id, at, end);
                unknown = end;
            }
            at = end;
        });
        if unknown < at {
            emit(id(unknown, at), unknown, at);
        }
    }
}

/// A word that is normalized.
struct Word {
    /// With `▁` before it and for its spaces.
    marked: String,
    /// Without the `▁` before it; none if all its characters are normalized to themselves.
    normalized: Option<NormalizedString>,
    /// Whether the places of its pieces are known here. Where characters are dropped, the crate alone knows them.
    tame: bool,
}

impl Word {
    /// None if something reaches beyond the word or the spaces before it.
    fn of(tokenizer: &Tokenizer, spaces: &str, word: &str) -> Option<Word> {
        let normalizer = tokenizer.get_normalizer()?;
        let boundary = |first: char, second: char| {
            [first, second].iter().collect::<String>().graphemes(true).count() == 2
        };
        let last = spaces.chars().next_back();
        let alone = last.is_none_or(|last| word.chars().next().is_some_and(|first| boundary(last, first)))
            && boundary(word.chars().next_back()?, ' ')
            && !word.contains(char::is_whitespace);
        let mut normalized = NormalizedString::from(word);
        normalizer.normalize(&mut normalized).ok()?;
        let clean = !normalized.get().starts_with([' ', '▁']) && !normalized.get().ends_with(' ');
        if !alone || !clean || normalized.is_empty() {
            return None;
        }
        let stays = |grapheme: &str| {
            let mut normalized = NormalizedString::from(grapheme);
            grapheme.chars().count() == 1
                && normalizer.normalize(&mut normalized).is_ok()
                && !normalized.is_empty()
        };
        let tame = !spaces.contains("\r\n")
            && word.graphemes(true).all(|grapheme| {
                grapheme.is_ascii() && grapheme > "\x1f" && grapheme != "\x7f" || stays(grapheme)
            });
        normalized.replace(' ', "▁").ok()?;
        Some(Word { marked: format!("▁{}", normalized.get()), normalized: Some(normalized), tame })
    }

    /// The bytes of a text, the word with the spaces before it, of which a part of `marked` is. The `▁` before the word
    /// is of the last space; if there is none, of the first character.
    fn original(&self, spaces: &str, part: std::ops::Range<usize>) -> Option<std::ops::Range<usize>> {
        let bytes = |part: std::ops::Range<usize>| match &self.normalized {
            Some(normalized) => normalized.convert_offsets(Range::Normalized(part)),
            None => Some(part),
        };
        let prefix = '▁'.len_utf8();
        let at = spaces.len();
        let behind = if part.end > prefix {
            Some(bytes(part.start.saturating_sub(prefix)..part.end - prefix)?)
        } else {
            None
        };
        let mark = || match spaces.chars().next_back() {
            Some(last) => Some(at - last.len_utf8()..at),
            None => bytes(0..self.marked.chars().nth(1)?.len_utf8()),
        };
        let start = if part.start < prefix { mark()?.start } else { at + behind.as_ref()?.start };
        let end = if let Some(behind) = behind { at + behind.end } else { mark()?.end };
        Some(start..end)
    }
}

/// The pieces of a model and their scores; none of one that makes bytes of what no piece spells.
fn unigram(model: &ModelWrapper) -> Option<Unigram<f64>> {
    let ModelWrapper::Unigram(unigram) = model else { return None };
    // No vocabulary has this character.
    let unknown = unigram.tokenize(UNASSIGNED).ok().filter(|_| !unigram.byte_fallback())?;
    let unk_id = unknown.first()?.id;
    let pieces = unigram.iter().map(|(text, _)| text.as_str()).zip(0..);
    let scores: Vec<f64> = unigram.iter().map(|(_, score)| *score).collect();
    (unigram.token_to_id(UNASSIGNED).is_none())
        .then(|| Unigram::new(pieces, scores, unk_id, unigram.min_score - f64::from(UNKNOWN_PENALTY)))
}

/// How many characters begin before each byte of a text, and before its end.
fn characters(text: &str) -> Vec<usize> {
    let begun = text.chars().zip(0..).flat_map(|(character, number)| {
        // The bytes of a character behind its first one have it before them.
        (0..character.len_utf8()).map(move |byte| number + usize::from(byte > 0))
    });
    begun.chain([text.chars().count()]).collect()
}

/// Follows a word with the spaces before it.
fn follow(lists: &mut Lists, word: &str, parts: &[Part]) {
    for part in parts {
        let unknown = part.unknown.as_deref().unwrap_or_default();
        lists.push(unknown.to_owned(), part.start, part.end, part.word);
    }
    let words = parts.last().map_or(0, |part| part.word.wrapping_add(1));
    lists.end_words(word.chars().count(), words);
}

/// Whether a normalizer is that of `DebertaV2Converter`.
fn is_converted(normalizer: &NormalizerWrapper) -> bool {
    let NormalizerWrapper::Sequence(sequence) = normalizer else { return false };
    let mut parts = sequence.as_ref();
    if let [NormalizerWrapper::Lowercase(_), rest @ ..] = parts {
        parts = rest;
    }
    let [NormalizerWrapper::StripNormalizer(strip), rest @ ..] = parts else { return false };
    let spaces = match rest {
        [NormalizerWrapper::Precompiled(_), NormalizerWrapper::Replace(spaces)]
        | [NormalizerWrapper::Replace(spaces)] => spaces,
        _ => return false,
    };
    let merges = serde_json::json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " });
    strip.strip_left && strip.strip_right && serde_json::to_value(spaces).is_ok_and(|spaces| spaces == merges)
}

fn is_metaspace(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::Metaspace(metaspace) => {
            *metaspace == Metaspace::new('▁', PrependScheme::Always, true)
        }
        PreTokenizerWrapper::Sequence(sequence) => match sequence.as_ref() {
            [only] => is_metaspace(only),
            _ => false,
        },
        _ => false,
    }
}
