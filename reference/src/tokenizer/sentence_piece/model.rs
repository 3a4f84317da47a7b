//! spm.model: the pieces of a SentencePiece model, and how a text is normalized before it is cut into them.
//!
//! Source: sentencepiece 0.2.3, `sentencepiece_model.proto` and `model_interface.cc`, `ModelInterface::InitializePieces`.

use std::path::Path;

use foldhash::{HashMap, HashMapExt};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use crate::error::Result;
use crate::tokenizer::files::{fault, read_bytes};

/// Larger files are refused, in bytes. That of mDeBERTa, with 250,000 pieces, has 4.3 million.
pub(crate) const LARGEST_FILE: u64 = 1 << 26;
/// More pieces are refused.
const MOST_PIECES: usize = 1 << 21;
/// Longer pieces are refused, in bytes: looking for the pieces of a text takes as long as the longest of them.
pub(crate) const LONGEST_PIECE: usize = 512;

/// `ModelProto`, as far as it is needed.
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
    #[prost(message, optional, tag = "5")]
    denormalizer_spec: Option<NormalizerSpec>,
}

/// `ModelProto.SentencePiece`
#[derive(Clone, PartialEq, Message)]
struct PieceProto {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3", default = "1")]
    r#type: Option<i32>,
}

/// `TrainerSpec`
#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3", default = "1")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
    #[prost(int32, optional, tag = "40")]
    unk_id: Option<i32>,
    #[prost(string, optional, tag = "44", default = " \u{2047} ")]
    unk_surface: Option<String>,
}

/// `NormalizerSpec`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NormalizerSpec {
    /// See [`Charsmap`](super::charsmap::Charsmap); empty if characters are left as they are.
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    /// Whether a text gets a space before it, so that its first word is like any other.
    #[prost(bool, optional, tag = "3", default = "true")]
    add_dummy_prefix: Option<bool>,
    /// Whether spaces at both ends fall off, and those between words are one.
    #[prost(bool, optional, tag = "4", default = "true")]
    remove_extra_whitespaces: Option<bool>,
    /// Whether pieces spell a space `▁`.
    #[prost(bool, optional, tag = "5", default = "true")]
    escape_whitespaces: Option<bool>,
}

/// What a piece is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text is cut into it where that is best.
    Normal,
    /// It stands for what no piece spells.
    Unknown,
    /// It is in no text, as `[CLS]` is.
    Control,
    /// Text is cut into it wherever it stands.
    UserDefined,
    /// It is in no text any more.
    Unused,
    /// It is a byte of what no piece spells.
    Byte(u8),
}

/// A piece of spm.model.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) score: f32,
    pub(crate) kind: Kind,
}

/// A SentencePiece model of the kind unigram.
#[derive(Debug)]
pub(crate) struct Model {
    /// By their ids.
    pub(crate) pieces: Vec<Piece>,
    /// Every piece's id.
    pub(crate) ids: HashMap<String, u32>,
    /// The piece that is [`Kind::Unknown`].
    pub(crate) unk_id: u32,
    /// What the trainer noted as `unk_id`, which nothing but transformers' converter reads.
    pub(crate) noted_unk_id: i32,
    /// How the unknown piece is decoded.
    pub(crate) unk_surface: String,
    /// Whether what no piece spells becomes bytes.
    pub(crate) byte_fallback: bool,
    /// Whether the space of a word is behind it.
    pub(crate) treat_whitespace_as_suffix: bool,
    pub(crate) normalizer_spec: NormalizerSpec,
    /// How decoded text is changed, if it is.
    pub(crate) denormalizer_spec: Option<NormalizerSpec>,
}

impl Model {
    /// Reads a file; gives its bytes, too.
    ///
    /// # Errors
    /// If the file is missing, too large, malformed, or of another kind than unigram.
    pub(crate) fn read(file: &Path) -> Result<(Model, Vec<u8>)> {
        let bytes = read_bytes(file, LARGEST_FILE)?;
        Ok((Model::decode(file, &bytes)?, bytes))
    }

    /// What the file asks for and transformers' conversion to a fast tokenizer leaves out, names and values, as far as it is
    /// not what the pieces or the defaults of SentencePiece say anyway: bytes in the place of what no piece spells are, where
    /// there are pieces of all bytes.
    pub(crate) fn unconverted(&self) -> Vec<(String, String)> {
        let spec = &self.normalizer_spec;
        let all_bytes = (0..=u8::MAX).all(|byte| self.ids.contains_key(&format!("<0x{byte:02X}>")));
        let flags = [
            ("byte_fallback", self.byte_fallback, all_bytes),
            ("add_dummy_prefix", spec.add_dummy_prefix(), true),
            ("remove_extra_whitespaces", spec.remove_extra_whitespaces(), true),
            ("escape_whitespaces", spec.escape_whitespaces(), true),
            ("treat_whitespace_as_suffix", self.treat_whitespace_as_suffix, false),
        ];
        let flags = flags.into_iter().filter(|(_, flag, usual)| flag != usual);
        let flags = flags.map(|(name, flag, _)| (name.to_owned(), flag.to_string()));
        let unused = self.pieces.iter().filter(|piece| piece.kind == Kind::Unused);
        let unused = unused.map(|piece| ("unused".to_owned(), piece.text.clone()));
        let unknown = (i64::from(self.noted_unk_id) != i64::from(self.unk_id)).then_some(self.unk_id);
        flags.chain(unused).chain(unknown.map(|id| ("unk_id".to_owned(), id.to_string()))).collect()
    }

    fn decode(file: &Path, bytes: &[u8]) -> Result<Model> {
        let count = count_pieces(bytes).map_err(|error| fault(file, "", error))?;
        if count > MOST_PIECES {
            return Err(fault(file, "pieces", format!("{count} pieces, at most {MOST_PIECES} are read")));
        }
        let proto = ModelProto::decode(bytes).map_err(|error| fault(file, "", error))?;
        let trainer = proto.trainer_spec.unwrap_or_default();
        match trainer.model_type() {
            1 => {}
            other => {
                let name = [(2, " (BPE)"), (3, " (word)"), (4, " (char)")];
                let name = name.iter().find(|(number, _)| *number == other).map_or("", |(_, name)| name);
                let problem = format!("{other}{name}, DeBERTa's is 1 (unigram)");
                return Err(fault(file, "trainer_spec.model_type", problem));
            }
        }
        let byte_fallback = trainer.byte_fallback();
        let mut pieces = Vec::with_capacity(count);
        let mut ids = HashMap::with_capacity(count);
        for (id, proto) in (0..).zip(proto.pieces) {
            let wrong = |problem: String| fault(file, format!("pieces[{id}]"), problem);
            let piece = piece(proto, byte_fallback).map_err(wrong)?;
            if let Some(other) = ids.insert(piece.text.clone(), id) {
                return Err(wrong(format!("{:?}, which pieces[{other}] is already", piece.text)));
            }
            pieces.push(piece);
        }
        let unknown: Vec<u32> =
            (0..).zip(&pieces).filter(|(_, piece)| piece.kind == Kind::Unknown).map(|(id, _)| id).collect();
        let [unk_id] = unknown[..] else {
            let problem = format!("{} pieces of the type unknown, one is needed", unknown.len());
            return Err(fault(file, "pieces", problem));
        };
        let bytes = pieces.iter().filter(|piece| matches!(piece.kind, Kind::Byte(_))).count();
        if byte_fallback && bytes != 256 {
            return Err(fault(file, "pieces", format!("{bytes} of the 256 bytes, byte_fallback needs all")));
        }
        Ok(Model {
            pieces,
            ids,
            unk_id,
            noted_unk_id: trainer.unk_id(),
            unk_surface: trainer.unk_surface().to_string(),
            byte_fallback,
            treat_whitespace_as_suffix: trainer.treat_whitespace_as_suffix(),
            normalizer_spec: proto.normalizer_spec.unwrap_or_default(),
            denormalizer_spec: proto.denormalizer_spec.filter(|spec| !spec.precompiled_charsmap().is_empty()),
        })
    }
}

/// How many pieces a message has, without making any.
fn count_pieces(mut bytes: &[u8]) -> std::result::Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        count += usize::from((tag, wire_type) == (1, WireType::LengthDelimited));
        skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
    }
    Ok(count)
}

/// Checks a piece.
fn piece(proto: PieceProto, byte_fallback: bool) -> std::result::Result<Piece, String> {
    let (score, number) = (proto.score(), proto.r#type());
    let text = proto.piece.unwrap_or_default();
    if text.is_empty() {
        return Err("empty, a piece has text".into());
    }
    if text.len() > LONGEST_PIECE {
        return Err(format!("a piece of {} bytes, at most {LONGEST_PIECE} are read", text.len()));
    }
    if !score.is_finite() {
        return Err(format!("score {score}, a finite number is needed"));
    }
    let kind = match number {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 if !byte_fallback => return Err(format!("{text:?} is a byte, but byte_fallback is false")),
        6 => Kind::Byte(byte_of(&text).ok_or_else(|| format!("{text:?} is no byte, as \"<0x41>\" is"))?),
        other => return Err(format!("type {other}, 1 to 6 are known")),
    };
    Ok(Piece { text, score, kind })
}

/// The byte that a piece such as `<0x41>` is.
fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    (digits.len() == 2 && upper).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
