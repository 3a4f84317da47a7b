//! `tokenize`: what a model's tokenizer makes of texts.

use std::io::{BufRead, Read as _, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use deberta_converters::cli::print;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::Tokenizer;
use deberta_reference::tokenizer::LONGEST_TEXT;

use super::exit_status::ExitStatus;
use super::terminal::say;
use crate::tokens::digest::digest;
use crate::tokens::encoded::{Asked, Line};
use crate::tokens::files::{self, Kept, folder_of};

/// The longest line that is read, in bytes: a text takes some hundred times its length in memory.
const LONGEST_LINE: usize = LONGEST_TEXT;

/// Arguments of `tokenize`.
#[derive(Debug, Args)]
pub(super) struct TokenizeArgs {
    /// Folder with the tokenizer, or a weight file beside it
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Use the slow class of transformers, which has no offsets; the fast one, which AutoTokenizer takes, when not given
    #[arg(long)]
    slow: bool,
    /// Read a JSON object a line, with "text" and, if wanted, "text_pair" and "max_length"; other entries are ignored
    #[arg(long)]
    jsonl: bool,
    /// Write what was read, too, as a golden's tokenizer.jsonl has it
    #[arg(long)]
    with_text: bool,
    /// Print the tokenizer digest of the files that the class reads, and read no texts
    #[arg(long, conflicts_with_all = ["jsonl", "with_text"])]
    digest: bool,
}

impl TokenizeArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        if !self.model.exists() {
            let message = "no such folder: tokenize reads files, and fetches none";
            return Err(Error::new(Kind::Request, message).in_file(&self.model));
        }
        let folder = folder_of(&self.model);
        if files::vocabulary(&folder).is_none() {
            let message = "no tokenizer: neither vocab.json, nor spm.model, nor tokenizer.json";
            return Err(Error::new(Kind::Request, message).in_file(&folder));
        }
        if self.digest {
            let kept =
                if self.slow || Kept::Fast.files(&folder).is_empty() { Kept::Slow } else { Kept::Fast };
            print(&digest(&kept.fast(&folder)?.meaning()))?;
            return Ok(ExitStatus::Success);
        }
        let tokenizer = files::open(&folder, self.slow)?;
        for warning in tokenizer.warnings() {
            say(&format!("warning: {warning}"));
        }
        self.answer(&tokenizer, &mut std::io::stdin().lock())?;
        Ok(ExitStatus::Success)
    }

    /// Answers line by line, so that a program that asks and waits gets what it waits for.
    fn answer(&self, tokenizer: &Tokenizer, input: &mut impl BufRead) -> Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            let in_line = |error: Error| error.in_file(Path::new(&format!("standard input, line {number}")));
            let Some(text) = next_line(input, &mut line).map_err(in_line)? else { break };
            let asked = self.asked(text).map_err(in_line)?;
            let encoded = asked.encoded(tokenizer).map_err(in_line)?;
            let answer = Line { asked: self.with_text.then_some(&asked), encoded };
            if !write_line(&answer)? {
                break;
            }
        }
        Ok(())
    }

    fn asked(&self, line: &str) -> Result<Asked> {
        match self.jsonl {
            false => Ok(Asked::text(line)),
            true => Asked::from_json(line),
        }
    }
}

/// The next line without its end, `\n` or `\r\n`; nothing if there is none.
pub(super) fn next_line<'l>(input: &mut impl BufRead, line: &'l mut Vec<u8>) -> Result<Option<&'l str>> {
    line.clear();
    // The longest line, its end, and a byte more.
    let read = input.by_ref().take(LONGEST_LINE as u64 + 3).read_until(b'\n', line);
    read.map_err(|error| Error::new(Kind::Io, format!("cannot read: {error}")).caused_by(error))?;
    if line.is_empty() {
        return Ok(None);
    }
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() > LONGEST_LINE {
        return Err(Error::refused(format!("more than {LONGEST_LINE} bytes: cut the text before")));
    }
    let text = std::str::from_utf8(text)
        .map_err(|error| Error::malformed(format!("byte {}: not UTF-8", error.valid_up_to())))?;
    Ok(Some(text))
}

/// Writes a line; false if the reader has seen enough and closed the pipe.
fn write_line(line: &Line<'_>) -> Result<bool> {
    let failed = |error: &dyn std::fmt::Display| Error::new(Kind::Io, format!("cannot print: {error}"));
    let text = line.json()?;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed(&error)),
    }
}
