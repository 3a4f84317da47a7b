//! docs/equations.md says which function computes each equation, and the function is there.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod tables;

use std::collections::BTreeSet;

use tables::{code, read, rows};

/// The bodies of everything at the start of a line of `source` that is `impl`, `mod` or `trait` of `name`.
fn bodies<'s>(source: &'s str, name: &str) -> Vec<&'s str> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        // `impl<M: TFLoss> Name<M> {`: what is in angle brackets is not what it is of.
        let mut depth = 0;
        let head = line.split('{').next().unwrap_or("").replace(
            |c: char| {
                depth += i32::from(c == '<') - i32::from(c == '>');
                depth > 0 || c == '>'
            },
            " ",
        );
        let words: Vec<&str> = head.split_whitespace().collect();
        let is_of = words.contains(&name) && ["impl", "mod", "trait"].iter().any(|kind| words.contains(kind));
        if is_of && !line.starts_with([' ', '/']) {
            let end = source[at..].find("\n}\n").map_or(source.len(), |end| at + end);
            found.push(&source[at..end]);
        }
        at += line.len();
    }
    found
}

/// Whether `source` defines the function `path`: `name`, or `Type::name`, or `module::name`.
fn defines(source: &str, path: &str) -> bool {
    let defined = |text: &str, name: &str| {
        text.lines().any(|line| {
            let rest = line.split_once("fn ").map(|(before, rest)| (before.trim(), rest));
            rest.is_some_and(|(before, rest)| {
                ["", "pub", "pub(crate)"].contains(&before)
                    && rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', '<']))
            })
        })
    };
    match path.rsplit_once("::") {
        Some((place, name)) => bodies(source, place).iter().any(|body| defined(body, name)),
        None => source.lines().any(|line| !line.starts_with(' ') && defined(line, path)),
    }
}

#[test]
fn the_functions_of_the_equations_exist() {
    let text = read("docs/equations.md");
    let rows = rows(&text);
    assert!(rows.len() > 40, "{} equations", rows.len());
    let mut files = BTreeSet::new();
    for cells in rows {
        let [equation, place, original] = cells[..] else { panic!("not three cells: {cells:?}") };
        assert!(!equation.is_empty() && !original.is_empty(), "an empty cell: {cells:?}");
        let link = place.split_once("](../reference/src/").and_then(|(name, rest)| {
            let (file, _) = rest.split_once(')')?;
            (name.trim_start_matches('[') == file).then_some(file)
        });
        let file = link.unwrap_or_else(|| panic!("{equation}: no link to a file of reference/src: {place}"));
        let source = read(&format!("reference/src/{file}"));
        let functions = code(place);
        assert!(!functions.is_empty(), "{equation}: no function");
        for function in functions {
            assert!(defines(&source, function), "{equation}: no function {function} in {file}");
        }
        files.insert(file.to_owned());
    }
    for file in [
        "attention.rs",
        "projections.rs",
        "relative.rs",
        "embeddings.rs",
        "encoder.rs",
        "heads.rs",
        "losses.rs",
        "mask_decoder.rs",
        "replaced_tokens.rs",
        "convolution.rs",
    ] {
        assert!(files.contains(file), "no equation of {file}");
    }
}

#[test]
fn functions_are_looked_for_where_they_are_said_to_be() {
    let source = "impl A {\n    fn a(&self) {}\n}\n\nimpl<T: B> C<T> for D {\n    pub fn c<F>() {}\n}\n\npub(crate) fn e() {}\n";
    for path in ["A::a", "D::c", "C::c", "e"] {
        assert!(defines(source, path), "{path}");
    }
    for path in ["A::c", "B::c", "D::a", "a", "A::e", "T::c", "d", "E"] {
        assert!(!defines(source, path), "{path}");
    }
}
