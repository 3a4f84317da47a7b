//! Comma-separated values, as RFC 4180 has them: cells in quotes may have commas, ends of lines, and quotes written twice.

use std::borrow::Cow;

use deberta_converters::error::Result;

use super::data::{Line, TextFile};

/// The records of a file, each with its first line. Blank lines between records are left out.
pub(super) fn records(file: &TextFile) -> impl Iterator<Item = Result<(Line<'_>, Vec<Cow<'_, str>>)>> {
    let mut lines = file.lines();
    std::iter::from_fn(move || {
        let first = lines.by_ref().find(|line| !line.text.trim().is_empty())?;
        Some(record(first, &mut lines).map(|cells| (first, cells)))
    })
}

fn record<'f>(first: Line<'f>, more: &mut impl Iterator<Item = Line<'f>>) -> Result<Vec<Cow<'f, str>>> {
    let (mut cells, mut rest) = (Vec::new(), first.text);
    loop {
        let Some(inside) = rest.strip_prefix('"') else {
            let Some((cell, after)) = rest.split_once(',') else {
                cells.push(Cow::Borrowed(rest));
                return Ok(cells);
            };
            cells.push(Cow::Borrowed(cell));
            rest = after;
            continue;
        };
        let mut cell = String::new();
        rest = inside;
        loop {
            let Some((text, after)) = rest.split_once('"') else {
                cell.push_str(rest);
                cell.push('\n');
                rest = more.next().ok_or_else(|| first.error("a quote that does not end"))?.text;
                continue;
            };
            cell.push_str(text);
            let Some(after_two) = after.strip_prefix('"') else {
                rest = after;
                break;
            };
            cell.push('"');
            rest = after_two;
        }
        cells.push(Cow::Owned(cell));
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(cells),
            None => return Err(first.error("text between a quote and the next comma")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<std::result::Result<(usize, Vec<String>), String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let file = TextFile::read(file.path()).unwrap();
        let records = records(&file).map(|record| match record {
            Ok((line, cells)) => Ok((line.number, cells.into_iter().map(Cow::into_owned).collect())),
            Err(error) => Err(error.to_string().rsplit_once(": line ").unwrap().1.to_owned()),
        });
        records.collect()
    }

    #[test]
    fn quotes_hold_commas_quotes_and_ends_of_lines() {
        let cells = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            read("a,\"b, \"\"c\"\"\",\n\n\"x\r\ny\",z \"q\",\"\"\n"),
            [Ok((1, cells(&["a", "b, \"c\"", ""]))), Ok((3, cells(&["x\ny", "z \"q\"", ""])))]
        );
    }

    #[test]
    fn quotes_that_do_not_end_are_refused() {
        assert_eq!(
            read("a\n\"b\nc"),
            [Ok((1, vec!["a".to_owned()])), Err("2: a quote that does not end".into())]
        );
        assert_eq!(read("\"a\"b,c"), [Err("1: text between a quote and the next comma".into())]);
    }
}
