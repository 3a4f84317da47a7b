//! Data files: lines, tables and JSON, with the file and the line in every error.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::containers::by_bytes;
use deberta_converters::error::{Error, Kind, Printable, Result};
use deberta_converters::opening;
use serde::de::DeserializeOwned;

use super::csv;

/// The largest data file that is read.
const LARGEST: u64 = 4 << 30;

/// A text file.
#[derive(Debug)]
pub struct TextFile {
    path: PathBuf,
    text: String,
}

/// A line of a text file.
#[derive(Clone, Copy, Debug)]
pub struct Line<'f> {
    file: &'f TextFile,
    /// Counted from 1.
    pub number: usize,
    /// Without its end.
    pub text: &'f str,
}

impl TextFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is no file, has more than 4 GiB, or is not UTF-8, with the line.
    pub fn read(path: &Path) -> Result<TextFile> {
        let metadata = fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
        if !metadata.is_file() {
            return Err(Error::new(Kind::Request, "no file: --data names files").in_file(path));
        }
        if metadata.len() > LARGEST {
            let message = format!("{} bytes, a data file may have {LARGEST}: split it", metadata.len());
            return Err(Error::new(Kind::Refused, message).in_file(path));
        }
        let bytes = opening::read(path, LARGEST)?;
        // What else has a signature may be data: a text that starts with `<html>`.
        let known = ["a git-LFS pointer, not the file itself", "gzip data"];
        if let Some(container) = by_bytes(&bytes).filter(|container| known.contains(&container.name)) {
            return Err(Error::unsupported(format!("{}: {}", container.name, container.lead)).in_file(path));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = before.filter(|byte| **byte == b'\n').count() + 1;
            let message = format!("line {line}: not UTF-8; `iconv -f ENCODING -t UTF-8` makes it so");
            Error::malformed(message).in_file(path)
        })?;
        Ok(TextFile { path: path.to_owned(), text })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lines, without the mark that some programs write first.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let text = self.text();
        let lines = text.split_terminator('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        (1..).zip(lines).map(|(number, text)| Line { file: self, number, text })
    }

    /// The lines that are not blank.
    pub fn texts(&self) -> impl Iterator<Item = Line<'_>> {
        self.lines().filter(|line| !line.text.trim().is_empty())
    }

    /// The whole file as one JSON value.
    ///
    /// # Errors
    /// Text that is no JSON or not of that type, with the line.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let text = self.text();
        serde_json::from_str(text).map_err(|error| {
            let line = error.line().max(1);
            self.at(line, &strip_place(&error))
        })
    }

    /// Whether the file is JSON or lines of it, and no table.
    pub fn looks_like_json(&self) -> bool {
        self.text().trim_start().starts_with('{')
    }

    /// Whether the file is a list in JSON.
    pub fn is_json_list(&self) -> bool {
        self.text().trim_start().starts_with('[')
    }

    /// The text, without the mark that some programs write first.
    pub fn text(&self) -> &str {
        self.text.strip_prefix('\u{feff}').unwrap_or(&self.text)
    }

    /// An error in a line.
    pub fn at(&self, line: usize, message: &str) -> Error {
        Error::malformed(format!("line {line}: {message}")).in_file(&self.path)
    }

    /// The error for a file without examples.
    pub fn empty(&self) -> Error {
        Error::malformed("no examples in this file").in_file(&self.path)
    }
}

/// Reads the examples of files with `read`, which gets the number of examples that it may take of each.
///
/// # Errors
/// A file that cannot be read, or that has no example; what `read` reports.
pub fn read_all<E>(
    files: &[PathBuf],
    limit: Option<usize>,
    mut read: impl FnMut(&TextFile, usize) -> Result<Vec<E>>,
) -> Result<Vec<E>> {
    let mut examples = Vec::new();
    for path in files {
        let file = TextFile::read(path)?;
        let found = read(&file, limit.unwrap_or(usize::MAX))?;
        if found.is_empty() {
            return Err(file.empty());
        }
        examples.extend(found);
    }
    Ok(examples)
}

impl Line<'_> {
    /// An error in this line.
    pub fn error(&self, message: &str) -> Error {
        self.file.at(self.number, message)
    }

    /// The line as a JSON value.
    ///
    /// # Errors
    /// Text that is no JSON or not of that type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.text)
            .map_err(|error| self.error(&format!("column {}: {}", error.column(), strip_place(&error))))
    }

    /// What reports call this place: `file:12`.
    pub fn place(&self) -> String {
        format!("{}:{}", crate::report::name_of(&self.file.path), self.number)
    }
}

/// What a JSON error says without its place, which is said otherwise, and without control characters.
fn strip_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    Printable(text.get(..end).unwrap_or_default()).to_string()
}

/// Text of a file in quotes, fit for a message.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", Printable(text))
}

/// A table with the names of its columns in the first line.
pub struct Table<'f> {
    records: fn(&'f TextFile) -> Records<'f>,
    file: &'f TextFile,
    columns: HashMap<Cow<'f, str>, usize>,
    width: usize,
}

/// The lines of a table, each with its cells.
type Records<'f> = Box<dyn Iterator<Item = Result<(Line<'f>, Vec<Cow<'f, str>>)>> + 'f>;

/// A row of a table.
pub struct Row<'t, 'f> {
    table: &'t Table<'f>,
    /// Its line.
    pub line: Line<'f>,
    cells: Vec<Cow<'f, str>>,
}

impl<'f> Table<'f> {
    /// Reads the names of columns with tabs between them. Quotes mean nothing, as in GLUE.
    ///
    /// # Errors
    /// No line; a name twice; one of `needed` that is not there.
    pub fn open(file: &'f TextFile, needed: &[&str]) -> Result<Table<'f>> {
        Table::new(file, needed, |file| {
            let cells = |line: Line<'f>| Ok((line, line.text.split('\t').map(Cow::Borrowed).collect()));
            Box::new(file.lines().map(cells))
        })
    }

    /// Reads the names of columns with commas between them, where cells may be in quotes.
    ///
    /// # Errors
    /// As [`Table::open`]; a quote that does not end.
    pub fn with_commas(file: &'f TextFile, needed: &[&str]) -> Result<Table<'f>> {
        Table::new(file, needed, |file| Box::new(csv::records(file)))
    }

    fn new(
        file: &'f TextFile,
        needed: &[&str],
        records: fn(&'f TextFile) -> Records<'f>,
    ) -> Result<Table<'f>> {
        let (header, names) = records(file).next().ok_or_else(|| file.empty())??;
        let (mut columns, width) = (HashMap::new(), names.len());
        for (at, name) in names.into_iter().enumerate() {
            if columns.insert(name.clone(), at).is_some() {
                return Err(header.error(&format!("two columns {}", quoted(&name))));
            }
        }
        if let Some(name) = needed.iter().find(|name| !columns.contains_key(**name)) {
            let message = format!(
                "no column \"{name}\" among the {width} of the header, which must have {}",
                needed.join(", ")
            );
            return Err(header.error(&message));
        }
        Ok(Table { records, file, columns, width })
    }

    /// The names of the columns, in their order.
    pub fn columns(&self) -> Vec<String> {
        let mut named: Vec<(&usize, &Cow<'f, str>)> =
            self.columns.iter().map(|(name, at)| (at, name)).collect();
        named.sort_unstable();
        named.into_iter().map(|(_, name)| name.clone().into_owned()).collect()
    }

    /// Whether there is a column of that name.
    pub fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// The rows after the header.
    ///
    /// # Errors
    /// A row with fewer or more cells than the header.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row<'_, 'f>>> {
        (self.records)(self.file).skip(1).map(|record| {
            let (line, cells) = record?;
            if cells.len() == self.width {
                Ok(Row { table: self, line, cells })
            } else {
                Err(line.error(&format!("{} columns, the header has {}", cells.len(), self.width)))
            }
        })
    }
}

impl Row<'_, '_> {
    /// The cells, in the order of the columns.
    pub fn cells(&self) -> impl Iterator<Item = &str> {
        self.cells.iter().map(AsRef::as_ref)
    }

    /// The cell of a column, empty if there is no such column.
    pub fn get(&self, column: &str) -> &str {
        let at = self.table.columns.get(column);
        at.and_then(|at| self.cells.get(*at)).map_or("", |cell| cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8]) -> (tempfile::NamedTempFile, Result<TextFile>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let read = TextFile::read(file.path());
        (file, read)
    }

    fn error(result: Result<impl Sized>) -> String {
        let text = result.err().unwrap().to_string();
        text.split_once(": ").map(|(_, rest)| rest.to_owned()).unwrap()
    }

    #[test]
    fn lines_lose_their_ends_and_the_first_its_mark() {
        let (_keep, file) = file("\u{feff}a\r\nb\n\nc".as_bytes());
        let file = file.unwrap();
        let lines: Vec<(usize, &str)> = file.lines().map(|line| (line.number, line.text)).collect();
        assert_eq!(lines, [(1, "a"), (2, "b"), (3, ""), (4, "c")]);
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_line() {
        let [latin, zipped, pointer] =
            [&b"a\nb\n\xff"[..], b"\x1f\x8b\x08", b"version https://git-lfs.github.com/spec/v1\n"]
                .map(|bytes| error(file(bytes).1));
        assert_eq!(latin, "line 3: not UTF-8; `iconv -f ENCODING -t UTF-8` makes it so");
        assert!(zipped.contains("gunzip FILE") && pointer.contains("git lfs pull"), "{zipped} {pointer}");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(error(TextFile::read(folder.path())), "no file: --data names files");
    }

    #[test]
    fn json_errors_name_the_line() {
        let (_keep, read) = file(b"{\n\"a\": 1,\n}");
        let read = read.unwrap();
        assert_eq!(error(read.json::<serde_json::Value>()), "line 3: trailing comma");
        let line = read.lines().nth(1).unwrap();
        assert!(error(line.json::<HashMap<String, u8>>()).starts_with("line 2: column "));
        let deep = "[".repeat(100_000);
        let (_keep, read) = file(deep.as_bytes());
        assert_eq!(error(read.unwrap().json::<serde_json::Value>()), "line 1: recursion limit exceeded");
    }

    #[test]
    fn tables_have_the_columns_that_are_needed() {
        let (_keep, read) = file(b"index\tsentence1\tscore\n1\ta \"b\t2.5\n2\tc\n");
        let read = read.unwrap();
        let table = Table::open(&read, &["sentence1", "score"]).unwrap();
        let rows: Vec<Result<Row<'_, '_>>> = table.rows().collect();
        assert_eq!(rows[0].as_ref().ok().unwrap().get("sentence1"), "a \"b");
        assert_eq!(
            rows[1].as_ref().err().unwrap().to_string().rsplit_once(": line ").unwrap().1,
            "3: 2 columns, the header has 3"
        );
        let missing = error(Table::open(&read, &["sentence2"]));
        assert!(missing.starts_with("line 1: no column \"sentence2\""), "{missing}");
        let (_keep, twice) = file(b"a\ta\n");
        assert_eq!(error(Table::open(&twice.unwrap(), &[])), "line 1: two columns \"a\"");
        let (_keep, nothing) = file(b"");
        assert_eq!(error(Table::open(&nothing.unwrap(), &[])), "no examples in this file");
    }
}
