//! SWAG: which ending follows from two sentences, of which the second is not finished?
//!
//! An ending is judged as in transformers' `run_swag.py`: `sent1` is the first text, `sent2` with the ending the second.
//! HellaSwag's names of the fields, `ctx_a`, `ctx_b` and `endings`, are read as well.

use std::path::PathBuf;

use deberta_converters::error::Result;
use serde_json::{Map, Value};

use super::{MOST, Question};
use crate::report::name_of;
use crate::task::data::{Line, Row, Table, TextFile, quoted, read_all};

/// A field of an example by its name in SWAG; nothing if it is not there, or empty.
type Field<'l> = dyn Fn(&str) -> Result<Option<String>> + 'l;

/// Reads files, of each as many examples as `limit` says. Those without a label are left out, and added to
/// `without_label`.
pub(super) fn read(
    files: &[PathBuf],
    limit: Option<usize>,
    without_label: &mut usize,
) -> Result<Vec<Question>> {
    read_all(files, limit, |file, limit| {
        let group = group(file);
        let mut labelled = |example: Result<Option<Question>>| {
            *without_label += usize::from(matches!(example, Ok(None)));
            example.transpose()
        };
        if file.looks_like_json() {
            let examples = file.texts().map(|line| {
                let object: Map<String, Value> = line.json()?;
                example(line, &group, &|name| of_object(line, &object, name))
            });
            return examples.filter_map(labelled).take(limit).collect();
        }
        let table = Table::with_commas(file, &["sent1", "sent2", "ending0", "ending1", "label"])?;
        let examples = table.rows().map(|row| {
            let row: Row<'_, '_> = row?;
            let cell = |name: &str| Some(row.get(name)).filter(|cell| !cell.is_empty()).map(str::to_owned);
            example(row.line, &group, &|name| Ok(cell(name)))
        });
        examples.filter_map(&mut labelled).take(limit).collect()
    })
}

/// The name of the file, up to its first point.
fn group(file: &TextFile) -> String {
    let name = name_of(file.path());
    name.split('.').next().unwrap_or_default().to_owned()
}

fn of_object(line: Line<'_>, object: &Map<String, Value>, name: &str) -> Result<Option<String>> {
    let number = || name.strip_prefix("ending")?.parse::<usize>().ok();
    let of_hellaswag = || match name {
        "sent1" => object.get("ctx_a"),
        "sent2" => object.get("ctx_b"),
        _ => object.get("endings")?.get(number()?),
    };
    match object.get(name).or_else(of_hellaswag) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) if name == "label" => Ok(Some(number.to_string())),
        Some(_) => Err(line.error(&format!("field \"{name}\": no text"))),
    }
}

fn example(line: Line<'_>, group: &str, field: &Field<'_>) -> Result<Option<Question>> {
    let first = field("sent1")?.ok_or_else(|| line.error("no field \"sent1\""))?;
    let start = field("sent2")?;
    let mut endings = Vec::new();
    for number in 0..=MOST {
        endings.push(field(&format!("ending{number}"))?);
    }
    let count = endings.iter().take_while(|ending| ending.is_some()).count();
    if endings.iter().skip(count).any(Option::is_some) || count < 2 {
        return Err(line.error(&format!("no field \"ending{count}\"")));
    }
    if count > MOST {
        return Err(line.error(&format!("more than {MOST} endings")));
    }
    let label = field("label")?.unwrap_or_default();
    if matches!(label.trim(), "" | "-1") {
        return Ok(None);
    }
    let answer = label.trim().parse().ok().filter(|&answer: &usize| answer < count);
    let wrong = || line.error(&format!("label {}, expected 0 to {}", quoted(&label), count - 1));
    let names: Vec<String> = endings.into_iter().flatten().collect();
    let second = |ending: &String| match &start {
        Some(start) => format!("{start} {ending}"),
        None => ending.clone(),
    };
    Ok(Some(Question {
        place: line.place(),
        group: group.to_owned(),
        first: first.into(),
        seconds: names.iter().map(second).collect(),
        answer: answer.ok_or_else(wrong)?,
        names,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(name: &str, text: &str) -> (Result<Vec<Question>>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let mut without_label = 0;
        (read(&[path], None, &mut without_label), without_label)
    }

    #[test]
    fn the_public_table_has_quotes_and_examples_without_label() {
        let text = ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n\
                    0,v,1,\"A, then\",\"He says \"\"yes\"\", and goes.\",He,gold,sits.,runs.,eats.,sings.,2\n\
                    1,v,2,B,She waits.,She,gold,a,b,,,1\n\
                    2,v,3,B,She waits.,She,gold,a,b,c,d,-1\n";
        let (questions, without_label) = read_text("val.csv", text);
        let questions = questions.unwrap();
        assert_eq!((questions.len(), without_label), (2, 1));
        assert_eq!(&*questions[0].first, "He says \"yes\", and goes.");
        assert_eq!(questions[0].seconds[2], "He eats.");
        assert_eq!((questions[0].answer, questions[0].group.as_str()), (2, "val"));
        assert_eq!(questions[1].names, ["a", "b"]);
    }

    #[test]
    fn lines_of_json_may_have_hellaswags_names() {
        let text =
            "{\"ctx_a\": \"A.\", \"ctx_b\": \"\", \"endings\": [\"x\", \"y\", \"z\"], \"label\": \"1\"}\n";
        let questions = read_text("a.jsonl", text).0.unwrap();
        assert_eq!(questions[0].seconds, ["x", "y", "z"]);
        assert_eq!(questions[0].answer, 1);
    }

    #[test]
    fn wrong_fields_are_named_with_their_line() {
        let error = |text: &str| read_text("a.jsonl", text).0.err().unwrap().to_string();
        for (text, expected) in [
            ("{\"sent2\": \"x\"}", "line 1: no field \"sent1\""),
            ("{\"sent1\": \"x\", \"ending0\": \"a\", \"label\": 0}", "line 1: no field \"ending1\""),
            ("{\"sent1\": 3}", "line 1: field \"sent1\": no text"),
            (
                "{\"sent1\": \"x\", \"ending0\": \"a\", \"ending1\": \"b\", \"label\": 2}",
                "line 1: label \"2\", expected 0 to 1",
            ),
        ] {
            assert!(error(text).ends_with(expected), "{}", error(text));
        }
    }
}
