//! The family of a configuration decides defaults and names, and nothing else: what computes asks named behaviours.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a family may be named. Everything else asks the configuration: `config.has_in_proj()`, `config.convolution`, ….
const ALLOWED: [&str; 4] = [
    "reference/src/family.rs",
    "reference/src/head.rs",
    "reference/src/config/",
    "golden/src/trace/class.rs",
];

#[test]
fn families_are_named_where_defaults_and_names_are_decided() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut naming, mut allowed) = (Vec::new(), ALLOWED.to_vec());
    for crate_name in ["reference", "converters", "golden"] {
        sources(&root.join(crate_name).join("src"), &mut |path, text| {
            let path = path.strip_prefix(&root).unwrap().to_str().unwrap();
            // Tests come last in a file, and name what they like.
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let named = code.filter(|line| line.contains("Family::")).count();
            let known = ALLOWED.iter().find(|allowed| path.starts_with(**allowed));
            match known {
                _ if named == 0 => {}
                Some(known) => allowed.retain(|other| other != known),
                None => naming.push(format!("{path}: {named} lines")),
            }
        });
    }
    assert_eq!((naming, allowed), (Vec::new(), Vec::new()), "named elsewhere; allowed, but not named");
}

fn sources(folder: &Path, each: &mut impl FnMut(&Path, &str)) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
