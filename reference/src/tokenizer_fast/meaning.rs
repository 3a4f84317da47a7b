//! What a tokenizer makes of texts, as far as its files say it, apart from how they say it.

use serde::Deserialize as _;
use serde_json::{Value, json};
use tokenizers::{Encoding, ModelWrapper, PostProcessor as _};

use super::{Encoder, PreTrainedTokenizerFast};
use crate::tokenizer::byte_level::alphabet::byte_alphabet;
use crate::tokenizer::{AddedToken, Side};

/// What a fast tokenizer makes of texts. Two of equal meaning encode every text alike.
///
/// vocab.json with merges.txt, or spm.model, and the tokenizer.json that transformers writes for them have equal meanings.
/// What concerns decoding alone is not part of it, and neither are `model_max_length` and the order or spelling of JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// The tokens of the vocabulary, without added ones, in order of their ids; of two tokens with an id in order of their
    /// text.
    pub tokens: Vec<(u32, String)>,
    /// Of a unigram model: the score of every token.
    pub scores: Option<Vec<f32>>,
    /// Of byte-pair encoding: the merges, the first ones first.
    pub merges: Option<Vec<(String, String)>>,
    /// The added tokens in order of their ids.
    pub added: Vec<(u32, AddedToken)>,
    /// The steps of the normalizer, as tokenizer.json writes each.
    pub normalizer: Vec<String>,
    /// The steps that cut words, as tokenizer.json writes each.
    pub pre_tokenizer: Vec<String>,
    /// What becomes of one text and of a pair: `1:0 A:0 2:0 B:1 2:1` is id 1 in segment 0, the first text in segment 0, id 2,
    /// the second text in segment 1, id 2 in segment 1.
    pub templates: [String; 2],
    /// Everything else that is not as usual: names and values.
    pub options: Vec<(String, String)>,
}

impl Meaning {
    /// The meaning as lines of `KEY JSON`, which is what its digest is of (docs/formats/digest.md). Every line ends with a
    /// line break; strings are JSON's, scores the eight hexadecimal digits of their bits as f32.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let none = Vec::new();
        let scores =
            self.scores.as_ref().unwrap_or(&none).iter().map(|score| format!("{:08x}", score.to_bits()));
        let mut scores = scores.collect::<Vec<_>>().into_iter();
        let tokens = self.tokens.iter().map(move |(id, token)| match scores.next() {
            Some(score) => line("token", &json!([id, token, score])),
            None => line("token", &json!([id, token])),
        });
        let merges = self.merges.iter().flatten().map(|(left, right)| line("merge", &json!([left, right])));
        let added = self.added.iter().map(|(id, token)| {
            let flags = [token.single_word, token.lstrip, token.rstrip, token.normalized, token.special];
            line("added", &json!([id, token.content, flags]))
        });
        let step = |key: &'static str| move |step: &String| format!("{key} {step}\n");
        let normalizer = self.normalizer.iter().map(step("normalize"));
        let pre_tokenizer = self.pre_tokenizer.iter().map(step("cut"));
        let templates = self.templates.iter().map(|template| line("template", &json!(template)));
        let options = self.options.iter().map(|(name, value)| line("option", &json!([name, value])));
        let head = std::iter::once("deberta-tokenizer-1\n".to_owned());
        head.chain(tokens)
            .chain(merges)
            .chain(added)
            .chain(normalizer)
            .chain(pre_tokenizer)
            .chain(templates)
            .chain(options)
    }
}

fn line(key: &str, value: &Value) -> String {
    format!("{key} {value}\n")
}

impl<E: Encoder + ?Sized> PreTrainedTokenizerFast<E> {
    /// What the tokenizer makes of texts.
    pub fn meaning(&self) -> Meaning {
        let model = json!(self.tokenizer.get_model());
        let (tokens, scores, merges, mut options) = match self.tokenizer.get_model() {
            ModelWrapper::Unigram(unigram) => {
                let tokens = (0..).zip(unigram.iter()).map(|(id, (token, _))| (id, token.clone())).collect();
                let scores = unigram.iter().map(|(_, score)| *score as f32).collect();
                (tokens, Some(scores), None, unusual(&model, &["unk_id", "byte_fallback"]))
            }
            _ => {
                let vocabulary = self.tokenizer.get_vocab(false);
                let mut tokens: Vec<(u32, String)> =
                    vocabulary.into_iter().map(|(token, id)| (id, token)).collect();
                tokens.sort_unstable();
                let merges =
                    model.get("merges").map(Vec::deserialize).and_then(Result::ok).unwrap_or_default();
                let options = options_of_bpe(&model, &tokens);
                (tokens, None, Some(merges), options)
            }
        };
        let added = self.tokenizer.get_added_tokens_decoder();
        let mut added: Vec<(u32, AddedToken)> =
            added.iter().map(|(id, token)| (*id, from_backend(token))).collect();
        added.sort_unstable_by_key(|(id, _)| *id);
        options.extend(self.own_options());
        Meaning {
            tokens,
            scores,
            merges,
            added,
            normalizer: steps(&json!(self.tokenizer.get_normalizer()), "normalizers"),
            pre_tokenizer: steps(&json!(self.tokenizer.get_pre_tokenizer()), "pretokenizers"),
            templates: [self.template(false), self.template(true)],
            options,
        }
    }

    /// What surrounds the tokenizer of the crate: the ids of its special tokens, and what is not as usual.
    fn own_options(&self) -> Vec<(String, String)> {
        let ids = &self.special_ids;
        let unk = self.tokenizer.token_to_id(&self.unk_token);
        let special = [
            ("cls_token", Some(ids.cls)),
            ("sep_token", Some(ids.sep)),
            ("pad_token", Some(ids.pad)),
            ("mask_token", ids.mask),
            ("unk_token", unk),
        ];
        let special = special.into_iter().filter_map(|(name, id)| Some((name, id?.to_string())));
        let left = |name, side: Side| (side == Side::Left).then(|| (name, "left".to_owned()));
        let sides = [left("padding_side", self.padding_side), left("truncation_side", self.truncation_side)];
        let split = self.tokenizer.get_encode_special_tokens();
        let split = split.then(|| ("split_special_tokens", "true".to_owned()));
        let own = special.chain(sides.into_iter().flatten()).chain(split);
        let unconverted =
            self.unconverted.iter().map(|(name, value)| (format!("spm.model {name}"), value.clone()));
        own.map(|(name, value)| (name.to_owned(), value)).chain(unconverted).collect()
    }

    /// What the post-processor makes of one text, or of a pair.
    fn template(&self, pair: bool) -> String {
        /// Ids that no token has stand for the texts.
        const TEXTS: [(u32, &str); 2] = [(u32::MAX, "A"), (u32::MAX - 1, "B")];
        /// The place of a token of a word with the space before it.
        const PLACE: (usize, usize) = (0, 2);
        let text = |id: u32, segment: u32| {
            Encoding::new(
                vec![id],
                vec![segment],
                vec!["Ġa".to_owned()],
                vec![Some(0)],
                vec![PLACE],
                vec![0],
                vec![1],
                Vec::new(),
                Default::default(),
            )
        };
        let [(a, _), (b, _)] = TEXTS;
        let (first, second) = (text(a, 0), pair.then(|| text(b, 1)));
        let whole = match &self.post_processor {
            Some(processor) => processor.process(first, second, true),
            None => Ok(Encoding::merge(std::iter::once(first).chain(second), false)),
        };
        let whole = match whole {
            Ok(whole) => whole,
            Err(error) => return error.to_string(),
        };
        let each = whole.get_ids().iter().zip(whole.get_type_ids()).zip(whole.get_offsets());
        let each = each.map(|((id, segment), place)| match TEXTS.iter().find(|(text, _)| text == id) {
            // Some post-processors take the space out of the place of a word.
            Some((_, name)) if *place != PLACE => format!("{name}:{segment}@{}", place.0),
            Some((_, name)) => format!("{name}:{segment}"),
            None => format!("{id}:{segment}"),
        });
        each.collect::<Vec<_>>().join(" ")
    }
}

/// The options of byte-pair encoding that are not as usual. What becomes of bytes that the vocabulary lacks matters only if
/// it lacks some.
fn options_of_bpe(model: &Value, tokens: &[(u32, String)]) -> Vec<(String, String)> {
    let bytes = byte_alphabet();
    let known = tokens.iter().filter(|(_, token)| {
        let mut characters = token.chars();
        characters.next().is_some_and(|first| characters.next().is_none() && bytes.contains(&first))
    });
    let of_unknown: &[&str] =
        if known.count() >= bytes.len() { &[] } else { &["unk_token", "fuse_unk", "byte_fallback"] };
    let always = ["continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"];
    [unusual(model, &always), unusual(model, of_unknown)].concat()
}

/// The options of a model in tokenizer.json that are neither absent, nor false, nor empty.
fn unusual(model: &Value, keys: &[&str]) -> Vec<(String, String)> {
    let named = keys.iter().filter_map(|key| Some((format!("model.{key}"), model.get(key)?)));
    let usual = |value: &Value| value.is_null() || *value == json!(false) || *value == json!("");
    named.filter(|(_, value)| !usual(value)).map(|(name, value)| (name, value.to_string())).collect()
}

/// The steps of a part of tokenizer.json, of sequences in sequences too, without what has no effect there.
fn steps(part: &Value, sequence: &str) -> Vec<String> {
    match (part, part.get(sequence)) {
        (Value::Null, _) => Vec::new(),
        (_, Some(Value::Array(parts))) => parts.iter().flat_map(|part| steps(part, sequence)).collect(),
        (part, _) => {
            let mut part = part.clone();
            if let Some(object) = part.as_object_mut() {
                // Of ByteLevel: the post-processor of that name alone reads it.
                object.shift_remove("trim_offsets");
            }
            part.sort_all_objects();
            vec![part.to_string()]
        }
    }
}

fn from_backend(token: &tokenizers::AddedToken) -> AddedToken {
    AddedToken {
        content: token.content.clone(),
        single_word: token.single_word,
        lstrip: token.lstrip,
        rstrip: token.rstrip,
        normalized: token.normalized,
        special: token.special,
    }
}
