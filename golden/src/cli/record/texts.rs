//! `--text`, `--text-pair` and `--texts`: texts in the place of a trace's inputs.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use deberta_converters::error::{Error, Kind, Result};

use super::super::tokenize::next_line;
use crate::record::texts::MOST;
use crate::tokens::encoded::Asked;

const TEXT: &str = "text";
const TEXT_PAIR: &str = "text_pair";
const TEXTS: &str = "texts";

/// The lines of a file of texts, blank ones too.
const MOST_LINES: u64 = 10_000;

/// The arguments that any of texts are given by.
pub(super) const ALL: [&str; 3] = [TEXT, TEXT_PAIR, TEXTS];

/// Texts on the command line, and a file with more of them.
#[derive(Debug, Default)]
pub(super) struct TextsArgs {
    asked: Vec<Asked>,
    file: Option<PathBuf>,
}

impl TextsArgs {
    /// Those of the file, and those of the command line.
    ///
    /// # Errors
    /// The file cannot be read; a line that is no text, with its number.
    pub(super) fn read(self) -> Result<Vec<Asked>> {
        let mut texts = self.file.map_or_else(|| Ok(Vec::new()), |path| read(&path))?;
        texts.extend(self.asked);
        Ok(texts)
    }
}

/// The texts of a file: one a line, a tab between the two of a pair; of `.jsonl` an object a line.
///
/// The user names it, and it may be a pipe or standard input, which need not end: no more is read than a golden holds.
fn read(path: &Path) -> Result<Vec<Asked>> {
    let file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
    let is_json = path.extension().is_some_and(|extension| extension == "jsonl");
    let (mut input, mut line, mut texts) = (BufReader::new(file), Vec::new(), Vec::new());
    for number in 1_u64.. {
        let in_line = |error: Error| error.followed_by(&format!(" (line {number})")).in_file(path);
        let Some(text) = next_line(&mut input, &mut line).map_err(in_line)? else { break };
        if number > MOST_LINES || texts.len() > MOST {
            let what =
                if texts.len() > MOST { format!("{MOST} texts") } else { format!("{MOST_LINES} lines") };
            let why = format!("more than {what}: a golden needs few texts, and different ones");
            return Err(Error::new(Kind::Request, why).in_file(path));
        }
        if text.trim().is_empty() {
            continue;
        }
        texts.push(if is_json { Asked::from_json(text) } else { split(text) }.map_err(in_line)?);
    }
    Ok(texts)
}

/// A text, or two with a tab between them.
fn split(line: &str) -> Result<Asked> {
    let mut parts = line.split('\t').map(str::to_owned);
    let (text, text_pair) = (parts.next().unwrap_or_default(), parts.next());
    match parts.next() {
        None => Ok(Asked { text_pair, ..Asked::text(text) }),
        Some(_) => Err(Error::malformed("expected one text, or two with a tab between them")),
    }
}

impl FromArgMatches for TextsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<TextsArgs, clap::Error> {
        let placed = |id: &str| -> Vec<(usize, String)> {
            let places = matches.indices_of(id).into_iter().flatten();
            places.zip(matches.get_many::<String>(id).into_iter().flatten().cloned()).collect()
        };
        let mut asked: Vec<(usize, Asked)> =
            placed(TEXT).into_iter().map(|(at, text)| (at, Asked::text(text))).collect();
        for (place, pair) in placed(TEXT_PAIR) {
            let of = asked.iter_mut().rfind(|(at, _)| *at < place);
            match of.filter(|(_, text)| text.text_pair.is_none()) {
                Some((_, text)) => text.text_pair = Some(pair),
                None => {
                    let message =
                        "--text-pair: it is the second text of the --text before it, and there is none\n";
                    return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, message));
                }
            }
        }
        let asked = asked.into_iter().map(|(_, text)| text).collect();
        Ok(TextsArgs { asked, file: matches.get_one::<PathBuf>(TEXTS).cloned() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = TextsArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for TextsArgs {
    fn augment_args(command: Command) -> Command {
        let text = |id: &'static str, name: &'static str, help: &'static str| {
            let arg = Arg::new(id).long(name).value_name("TEXT").action(ArgAction::Append);
            arg.allow_hyphen_values(true).help(help)
        };
        let file = Arg::new(TEXTS).long("texts").value_name("FILE").value_parser(ValueParser::path_buf());
        command
            .arg(text(TEXT, "text", "Text to record, in the place of a trace's inputs; may be repeated"))
            .arg(text(TEXT_PAIR, "text-pair", "The second text of the last --text"))
            .arg(file.help(
                "Texts to record, a line each, a tab between the two of a pair; of .jsonl an object a line with \"text\" and, \
                 if wanted, \"text_pair\"; a pipe will do, as /dev/stdin",
            ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        TextsArgs::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> std::result::Result<Vec<Asked>, String> {
        let matches = TextsArgs::augment_args(Command::new("record"));
        let matches =
            matches.try_get_matches_from([&["record"], args].concat()).map_err(|error| error.to_string())?;
        let texts = TextsArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        texts.read().map_err(|error| error.to_string())
    }

    #[test]
    fn a_second_text_belongs_to_the_one_before_it() {
        let texts = parsed(&["--text", "a", "--text", "b", "--text-pair", "-c", "--text", "d"]).unwrap();
        let pairs: Vec<Option<&str>> = texts.iter().map(|text| text.text_pair.as_deref()).collect();
        assert_eq!(pairs, [None, Some("-c"), None]);
        assert!(parsed(&["--text-pair", "c", "--text", "d"]).unwrap_err().contains("before it"));
        assert!(parsed(&["--text", "a", "--text-pair", "b", "--text-pair", "c"]).is_err());
    }

    #[test]
    fn files_have_a_text_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            parsed(&["--texts", path.to_str().unwrap()])
        };
        let texts = read("a.txt", "one\r\n\ntwo\tthree\n").unwrap();
        assert_eq!((texts.len(), texts[1].text_pair.as_deref()), (2, Some("three")));
        let texts = read("a.jsonl", "{\"text\": \"a\", \"pair\": \"b\", \"ids\": []}\n").unwrap();
        assert_eq!(texts[0].text_pair.as_deref(), Some("b"));
        assert!(read("b.txt", "a\nb\tc\td\n").unwrap_err().contains("(line 2)"));
        assert!(read("b.jsonl", "{\"text\": 1}\n").unwrap_err().contains("(line 1)"));
    }

    #[test]
    fn no_more_is_read_than_a_golden_holds() {
        let folder = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            let path = folder.path().join("texts");
            std::fs::write(&path, text).unwrap();
            parsed(&["--texts", path.to_str().unwrap()]).unwrap_err()
        };
        assert!(error(&"y\n".repeat(100_000)).contains("texts: more than 64 texts"));
        assert!(error(&"\n".repeat(100_000)).contains("texts: more than 10000 lines"));
    }
}
