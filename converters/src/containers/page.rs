//! The page of the documentation.

use std::fmt::Write as _;

use super::{CONTAINERS, Sign};

const INTRODUCTION: &str = "# What is not read, and what leads on

Models are found in more than the four formats that `deberta-convert` reads ([PyTorch](pytorch.md), [TensorFlow](keras.md),
[safetensors](safetensors.md), [ONNX](onnx.md)). What follows is told by its bytes, or else by its name or its folder; the error
names it and says what leads on, and `deberta-verify` lists it as not judged.

";

/// The page, in Markdown.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("| what | told by | what leads on |\n|---|---|---|\n");
    for container in CONTAINERS {
        let signs: Vec<String> = container.told_by.iter().map(sign).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| {} | {} | {} |",
            container.name,
            signs.join(", "),
            container.lead.replace('|', "\\|")
        );
    }
    page.push_str("\nThe table is `converters/src/containers/table.rs`; `UPDATE_DOCS=1` with the tests writes this page anew.\n");
    page
}

fn sign(sign: &Sign) -> String {
    match sign {
        Sign::Extension(extension) => format!("`.{extension}`"),
        Sign::Name(pattern) => format!("`{pattern}`"),
        Sign::Folder(folder) if folder.starts_with('.') => format!("a folder `*{folder}`"),
        Sign::Folder(folder) => format!("in a folder `{folder}`"),
        Sign::Bytes(0, bytes) => format!("starts with `{}`", bytes.escape_ascii()),
        Sign::Bytes(at, bytes) => format!("`{}` at byte {at}", bytes.escape_ascii()),
        Sign::LastBytes(bytes) => format!("ends with `{}`", bytes.escape_ascii()),
        Sign::Text(text) => format!("starts with `{text}`"),
        Sign::Markup(text) => format!("`<…` with `{text}`"),
    }
}
