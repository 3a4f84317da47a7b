//! Tokenizes what it is given, for `tests/interop/tokenizer`, or measures how fast it does.
//!
//! ```text
//! tokenize FOLDER slow|fast < REQUESTS > ANSWERS    one JSON object a line, see `Request`
//! tokenize FOLDER slow|fast --bench FILE            megabytes of text a second, on one core
//! ```

use std::error::Error;
use std::io::{BufRead, BufWriter, Write, stdin, stdout};
use std::process::ExitCode;
use std::time::Instant;

use deberta_reference::{
    AddedToken, EncodeOptions, Encoding, PaddingStrategy, PreTrainedTokenizerBase, Side, Tokenizer,
    TruncationStrategy,
};
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: tokenize FOLDER slow|fast [--bench FILE]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        [folder, class] => tokenize(folder, class, None),
        [folder, class, "--bench", file] => tokenize(folder, class, Some(file)),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tokenize(folder: &str, class: &str, bench: Option<&str>) -> Result<()> {
    let mut tokenizer = match class {
        "slow" => Tokenizer::Slow(Tokenizer::slow_from_pretrained(folder)?),
        "fast" => Tokenizer::Fast(Tokenizer::fast_from_pretrained(folder)?),
        _ => return Err(format!("{class:?} is neither slow nor fast").into()),
    };
    for warning in tokenizer.warnings() {
        eprintln!("warning: {warning}");
    }
    match bench {
        Some(file) => measure(&tokenizer, &std::fs::read_to_string(file)?),
        None => answer_all(&mut tokenizer),
    }
}

/// Answers every line of standard input.
fn answer_all(tokenizer: &mut Tokenizer) -> Result<()> {
    let mut output = BufWriter::new(stdout().lock());
    for line in stdin().lock().lines() {
        let request: Map<String, Value> = serde_json::from_str(&line?)?;
        let answer = match answer(tokenizer, &Request(request)) {
            Ok(answer) => answer,
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(output, "{answer}")?;
    }
    Ok(output.flush()?)
}

/// One line of input: what to do with `text` and `pair`, or with `ids`.
struct Request(Map<String, Value>);

impl Request {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.0.get(key)?.as_u64()?.try_into().ok()
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.as_bool()
    }

    fn options(&self) -> EncodeOptions {
        EncodeOptions {
            add_special_tokens: self.flag("add_special_tokens").unwrap_or(true),
            truncation: self.text("truncation").map(|strategy| match strategy {
                "only_first" => TruncationStrategy::OnlyFirst,
                "only_second" => TruncationStrategy::OnlySecond,
                "longest_first" => TruncationStrategy::LongestFirst,
                _ => TruncationStrategy::DoNotTruncate,
            }),
            max_length: self.number("max_length"),
            padding: match self.text("padding") {
                Some("longest") => PaddingStrategy::Longest,
                Some("max_length") => PaddingStrategy::MaxLength,
                _ => PaddingStrategy::DoNotPad,
            },
            pad_to_multiple_of: self.number("pad_to_multiple_of"),
            padding_side: self.text("padding_side").map(side),
        }
    }
}

fn side(name: &str) -> Side {
    if name == "left" { Side::Left } else { Side::Right }
}

fn answer(tokenizer: &mut Tokenizer, request: &Request) -> Result<Value> {
    let options = request.options();
    if let Some(Value::Array(tokens)) = request.0.get("add_tokens") {
        let tokens: Vec<AddedToken> = tokens.iter().filter_map(added_token).collect();
        match tokenizer {
            Tokenizer::Slow(slow) => slow.add_tokens(&tokens),
            Tokenizer::Fast(fast) => fast.add_tokens(&tokens)?,
        };
        return Ok(json!({ "len": tokenizer.len() }));
    }
    if let Some(name) = request.text("truncation_side") {
        match tokenizer {
            Tokenizer::Slow(slow) => slow.truncation_side = side(name),
            Tokenizer::Fast(fast) => fast.truncation_side = side(name),
        }
    }
    if let Some(Value::Array(ids)) = request.0.get("ids") {
        let ids: Vec<u32> = ids.iter().filter_map(|id| id.as_u64()?.try_into().ok()).collect();
        let skip = request.flag("skip_special_tokens").unwrap_or(false);
        let clean = request.flag("clean_up_tokenization_spaces");
        return Ok(json!({ "text": tokenizer.decode(&ids, skip, clean)? }));
    }
    let text = request.text("text").ok_or("no text")?;
    let pair = request.text("pair");
    if request.flag("brief") == Some(true) {
        return Ok(json!({ "input_ids": tokenizer.encode(text, pair, &options)? }));
    }
    match tokenizer {
        Tokenizer::Slow(slow) => {
            let mut answer = lists(&slow.encode_plus(text, pair, &options)?);
            answer.insert("tokens".into(), json!(slow.tokenize(text)));
            Ok(Value::Object(answer))
        }
        Tokenizer::Fast(fast) => {
            let encoded = fast.encode_plus(text, pair, &options)?;
            let mut answer = lists(&encoded.encoding);
            answer.insert("tokens".into(), json!(fast.tokenize(text)?));
            answer.insert("offset_mapping".into(), json!(encoded.offsets));
            answer.insert("word_ids".into(), json!(encoded.word_ids));
            answer.insert("sequence_ids".into(), json!(encoded.sequence_ids));
            Ok(Value::Object(answer))
        }
    }
}

fn lists(encoding: &Encoding) -> Map<String, Value> {
    let lists = [
        ("input_ids", &encoding.input_ids),
        ("token_type_ids", &encoding.token_type_ids),
        ("attention_mask", &encoding.attention_mask),
        ("special_tokens_mask", &encoding.special_tokens_mask),
    ];
    lists.into_iter().map(|(name, list)| (name.to_string(), json!(list))).collect()
}

fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
    Some(AddedToken {
        content: value.get("content")?.as_str()?.to_string(),
        single_word: flag("single_word"),
        lstrip: flag("lstrip"),
        rstrip: flag("rstrip"),
        normalized: flag("normalized"),
        special: flag("special"),
    })
}

/// Encodes the paragraphs of a text five times, and says how fast each time was; the fast class once more with offsets.
fn measure(tokenizer: &Tokenizer, text: &str) -> Result<()> {
    let options = EncodeOptions::default();
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let time = |what: &str, tokens: &dyn Fn(&str) -> deberta_reference::error::Result<usize>| -> Result<()> {
        let start = Instant::now();
        let count = paragraphs
            .iter()
            .map(|paragraph| tokens(paragraph))
            .sum::<deberta_reference::error::Result<usize>>()?;
        let seconds = start.elapsed().as_secs_f64();
        let megabytes = text.len() as f64 / 1e6;
        let speed = megabytes / seconds;
        println!(
            "{megabytes:.1} MB, {} paragraphs, {count} tokens{what}: {seconds:.3} s, {speed:.1} MB/s",
            paragraphs.len()
        );
        Ok(())
    };
    for _ in 0..5 {
        time("", &|paragraph| Ok(tokenizer.encode(paragraph, None, &options)?.len()))?;
    }
    match tokenizer {
        Tokenizer::Slow(_) => Ok(()),
        Tokenizer::Fast(fast) => time(" with offsets", &|paragraph| {
            Ok(fast.encode_plus(paragraph, None, &options)?.encoding.len())
        }),
    }
}
