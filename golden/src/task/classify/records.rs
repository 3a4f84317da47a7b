//! The rows of a file: tables with commas or tabs, lines of JSON, lists in JSON, Parquet.

use std::borrow::Cow;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::slice;

use deberta_converters::error::{Error, Printable, Result};
use deberta_converters::opening::open;
use serde_json::{Map, Value};

use super::super::data::{Table, TextFile, read_all};
use super::columns::{Choice, Chosen};
use crate::report::name_of;

/// The rows that have a label.
#[derive(Debug, Default)]
pub(in crate::task) struct Found {
    pub(in crate::task) records: Vec<Record>,
    /// How many have none.
    pub(in crate::task) without_label: usize,
}

/// A row.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::task) struct Record {
    /// What reports call it: `file:12`.
    pub(in crate::task) place: String,
    pub(in crate::task) text: String,
    /// The second text, which may be empty.
    pub(in crate::task) pair: Option<String>,
    pub(in crate::task) label: String,
}

/// What stands for no label: nothing, what pandas writes for nothing, and -1 of a hidden test set.
const NO_LABEL: [&str; 8] = ["", "-", "-1", "nan", "none", "null", "na", "<na>"];

/// The cells of a row: the text of each, nothing where there is none.
pub(super) type Cells<'c> = Vec<Option<Cow<'c, str>>>;

/// Whether a file is read by the names of its columns alone, whatever the task: Parquet, a table with commas, a list in JSON.
///
/// # Errors
/// A file that cannot be read.
fn by_columns(path: &Path) -> Result<bool> {
    const BEGINNING: u64 = 1 << 16;
    match &*extension(path) {
        "parquet" => return Ok(true),
        "csv" | "json" => {}
        _ => return Ok(false),
    }
    let mut beginning = Vec::new();
    let read = open(path)?.take(BEGINNING).read_to_end(&mut beginning);
    read.map_err(|error| Error::io(path, "read", error))?;
    let beginning = String::from_utf8_lossy(&beginning);
    let beginning = beginning.trim_start_matches('\u{feff}').trim_start();
    let has_tabs = beginning.lines().next().is_some_and(|line| line.contains('\t'));
    Ok(beginning.starts_with('[') || (extension(path) == "csv" && !beginning.starts_with('{') && !has_tabs))
}

/// The end of a file's name, in small letters.
fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// The examples of files, of each as many as `limit` says: of rows, where a file is read by its columns, else what `of_file` makes
/// of it, as [`read_all`] calls it. Returns also how many rows have no label.
///
/// # Errors
/// Those of [`read`] and [`read_all`]; what the two functions report.
pub(in crate::task) fn examples<E>(
    files: &[PathBuf],
    columns: &Choice,
    limit: Option<usize>,
    of_row: impl Fn(&Path, Record) -> Result<E>,
    mut of_file: impl FnMut(&TextFile, usize) -> Result<Vec<E>>,
) -> Result<(Vec<E>, usize)> {
    let (mut examples, mut without_label) = (Vec::new(), 0);
    for path in files {
        if by_columns(path)? {
            let found = read(path, columns, limit.unwrap_or(usize::MAX))?;
            without_label += found.without_label;
            for record in found.records {
                examples.push(of_row(path, record)?);
            }
        } else {
            examples.extend(read_all(slice::from_ref(path), limit, &mut of_file)?);
        }
    }
    Ok((examples, without_label))
}

/// Reads at most `limit` rows with a label.
///
/// # Errors
/// A file that cannot be read; no row; a column that is not there; a text that is not.
pub(in crate::task) fn read(path: &Path, columns: &Choice, limit: usize) -> Result<Found> {
    let extension = extension(path);
    if extension == "parquet" {
        return parquet(path, columns, limit);
    }
    let file = TextFile::read(path)?;
    let found = if file.is_json_list() {
        of_list(&file, columns, limit)
    } else if file.looks_like_json() {
        of_lines(&file, columns, limit)
    } else {
        let commas = extension == "csv" || (extension != "tsv" && !has_tabs(&file));
        let table = if commas { Table::with_commas(&file, &[])? } else { Table::open(&file, &[])? };
        of_table(&file, &table, columns, limit)
    }?;
    if found.records.is_empty() && found.without_label == 0 { Err(file.empty()) } else { Ok(found) }
}

fn has_tabs(file: &TextFile) -> bool {
    file.texts().next().is_some_and(|line| line.text.contains('\t'))
}

fn of_table(file: &TextFile, table: &Table<'_>, columns: &Choice, limit: usize) -> Result<Found> {
    let chosen = columns.among(&table.columns()).map_err(|why| file.at(1, &why))?;
    let mut found = Found::default();
    for row in table.rows() {
        if found.is_full(limit) {
            break;
        }
        let row = row?;
        let cells = row.cells().map(|cell| Some(Cow::Borrowed(cell))).collect();
        found.add(row.line.place(), cells, chosen).map_err(|why| row.line.error(&why))?;
    }
    Ok(found)
}

fn of_lines(file: &TextFile, columns: &Choice, limit: usize) -> Result<Found> {
    let (mut found, mut names) = (Found::default(), None);
    for line in file.texts() {
        if found.is_full(limit) {
            break;
        }
        let text = without_nan(line.text);
        let object: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| line.error(&format!("not an object: {error}")))?;
        found.add_object(line.place(), &object, columns, &mut names).map_err(|why| line.error(&why))?;
    }
    Ok(found)
}

fn of_list(file: &TextFile, columns: &Choice, limit: usize) -> Result<Found> {
    let text = without_nan(file.text());
    let objects: Vec<Map<String, Value>> = serde_json::from_str(&text).map_err(|error| {
        let line = error.line().max(1);
        file.at(line, &format!("not a list of objects: {error}"))
    })?;
    let (mut found, mut names) = (Found::default(), None);
    for (at, object) in objects.iter().enumerate() {
        if found.is_full(limit) {
            break;
        }
        let place = format!("{}[{at}]", name_of(file.path()));
        found
            .add_object(place, object, columns, &mut names)
            .map_err(|why| Error::malformed(format!("entry {at}: {why}")).in_file(file.path()))?;
    }
    Ok(found)
}

#[cfg(feature = "parquet")]
use super::parquet::read as parquet;

#[cfg(not(feature = "parquet"))]
fn parquet(path: &Path, _columns: &Choice, _limit: usize) -> Result<Found> {
    let message = "Parquet: this program was built without it (the feature `parquet`, which pip's package has); write the \
                   table as CSV or JSON, or build it with the feature";
    Err(Error::unsupported(message).in_file(path))
}

impl Found {
    /// Adds an object; `names` are the keys of the first one and which of them are chosen.
    fn add_object(
        &mut self,
        place: String,
        object: &Map<String, Value>,
        columns: &Choice,
        names: &mut Option<(Vec<String>, Chosen)>,
    ) -> std::result::Result<(), String> {
        let (names, chosen) = match names {
            Some(known) => &*known,
            None => {
                let keys: Vec<String> = object.keys().cloned().collect();
                let chosen = columns.among(&keys)?;
                &*names.insert((keys, chosen))
            }
        };
        for name in [Some(chosen.text), chosen.pair, Some(chosen.label)].into_iter().flatten() {
            let name = names.get(name).map(String::as_str).unwrap_or_default();
            if matches!(object.get(name), Some(Value::Array(_) | Value::Object(_))) {
                let name = Printable(name);
                return Err(format!(
                    "\"{name}\" has several values: expected one, in an object for each row, as \
                     df.to_json(orient=\"records\") of pandas writes"
                ));
            }
        }
        let cells =
            names.iter().map(|name| object.get(name).map_or(Ok(None), cell)).collect::<Result<_, _>>()?;
        self.add(place, cells, *chosen)
    }

    /// Whether there are as many rows as are wanted.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.records.len() >= limit
    }

    /// Adds a row.
    pub(super) fn add(
        &mut self,
        place: String,
        cells: Cells<'_>,
        chosen: Chosen,
    ) -> std::result::Result<(), String> {
        let of = |at: usize| cells.get(at).and_then(|cell| cell.as_deref());
        let label = of(chosen.label).unwrap_or_default().trim();
        if NO_LABEL.contains(&label.to_ascii_lowercase().as_str()) {
            self.without_label += 1;
            return Ok(());
        }
        let text = of(chosen.text).ok_or("no text")?.to_owned();
        let pair = chosen.pair.map(|at| of(at).unwrap_or_default().to_owned());
        self.records.push(Record { place, text, pair, label: whole(label).to_owned() });
        Ok(())
    }
}

/// The text of a JSON value.
fn cell(value: &Value) -> std::result::Result<Option<Cow<'_, str>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Cow::Borrowed(text))),
        Value::Bool(_) | Value::Number(_) => Ok(Some(Cow::Owned(value.to_string()))),
        // It may be of a column that nobody asks for.
        Value::Array(_) | Value::Object(_) => Ok(None),
    }
}

/// A number as it is written without the fraction that pandas gives to columns where one is missing: `1.0` is `1`.
fn whole(label: &str) -> &str {
    let digits = label.strip_suffix(".0");
    digits.filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).unwrap_or(label)
}

/// JSON with null for the NaN that Python writes, which JSON does not have.
fn without_nan(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len() + 16);
    let (mut rest, mut inside) = (text, false);
    while let Some(first) = rest.chars().next() {
        let (length, replaced) = match first {
            '\\' if inside => (1 + rest.chars().nth(1).map_or(0, char::len_utf8), None),
            'N' if !inside && rest.starts_with("NaN") => (3, Some("null")),
            '"' => {
                inside = !inside;
                (1, None)
            }
            other => (other.len_utf8(), None),
        };
        let (taken, after) = rest.split_at(length);
        written.push_str(replaced.unwrap_or(taken));
        rest = after;
    }
    Cow::Owned(written)
}

#[cfg(test)]
mod tests {
    use super::super::Columns;
    use super::*;

    fn found(name: &str, text: &str) -> std::result::Result<Found, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path, &Choice::Named(Columns::default()), usize::MAX).map_err(|error| error.to_string())
    }

    fn record(place: &str, text: &str, pair: Option<&str>, label: &str) -> Record {
        let [place, text, label] = [place, text, label].map(str::to_owned);
        Record { place, text, pair: pair.map(str::to_owned), label }
    }

    #[test]
    fn tables_have_commas_or_tabs() {
        let csv = found("a.csv", "id,text,label\n1,\"a, \"\"b\"\"\",pos\n2,,neg\n").unwrap();
        assert_eq!(
            csv.records,
            [record("a.csv:2", "a, \"b\"", None, "pos"), record("a.csv:3", "", None, "neg")]
        );
        let tsv = found("a.tsv", "premise\thypothesis\tlabel\na\t\t1.0\nb\tc\tNaN\n").unwrap();
        assert_eq!(tsv.records, [record("a.tsv:2", "a", Some(""), "1")]);
        assert_eq!(tsv.without_label, 1);
        assert!(found("a.csv", "tweet,label\nx,y\n").unwrap_err().contains("which column has the text?"));
        assert!(found("a.csv", "text,label\n").unwrap_err().contains("no examples"));
    }

    #[test]
    fn json_is_lines_or_a_list() {
        let lines = "{\"text\": \"NaN \\\" NaN\", \"label\": 1}\n{\"text\": \"b\", \"label\": NaN}\n\
                     {\"text\": \"c\", \"label\": null, \"more\": [1]}\n{\"label\": true, \"text\": \"d\"}\n";
        let read = found("a.jsonl", lines).unwrap();
        assert_eq!(
            read.records,
            [record("a.jsonl:1", "NaN \" NaN", None, "1"), record("a.jsonl:4", "d", None, "true")]
        );
        assert_eq!(read.without_label, 2);
        let list = "[\n {\"sentence1\": \"a\", \"sentence2\": null, \"label\": \"x\"},\n {\"sentence1\": \"b\", \
                    \"sentence2\": \"c\", \"label\": 0}\n]";
        let read = found("a.json", list).unwrap();
        assert_eq!(
            read.records,
            [record("a.json[0]", "a", Some(""), "x"), record("a.json[1]", "b", Some("c"), "0")]
        );
        for several in [r#"{"text": ["a", "b"], "label": ["x", "y"]}"#, r#"{"text": "a", "label": {"0": 1}}"#]
        {
            let error = found("a.json", several).unwrap_err();
            assert!(error.contains("has several values") && error.contains("orient=\"records\""), "{error}");
        }
        assert!(found("a.json", "[1]").unwrap_err().contains("line 1: not a list of objects"));
        assert!(
            found("a.json", "[{\"text\": null, \"label\": 1}]").unwrap_err().contains("entry 0: no text")
        );
    }
}
