//! Text that leaves the program, made safe for where it is shown: names come from hostile files.
//!
//! A terminal obeys control characters, a reader believes what characters without width and of other directions show, and
//! GitHub's runner obeys lines that begin with `::` and `##[` anywhere. Whatever is printed goes through here: texts of many
//! lines through [`lines`], programs' JSON through [`json`]; renderers put single names through [`one_line`] before.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Whether a character moves the cursor, turns the direction of text, or is invisible.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

/// One line, in which hidden characters are escaped and `##[` is broken.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if out.contains("##[") { out.replace("##[", "##\\[") } else { out }
}

/// Lines, in which hidden characters other than tabs are escaped, and no line is a command. Where there are `colors`, bold
/// ones and their end stay.
pub fn lines(text: &str, colors: bool) -> Cow<'_, str> {
    let is_command = |line: &str| line.trim_start().starts_with("::");
    let is_clean = |c: char| !is_hidden(c) || matches!(c, '\n' | '\t');
    if text.chars().all(is_clean) && !text.contains("##[") && !text.split('\n').any(is_command) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let mut rest = line;
        if is_command(line) {
            let (indent, command) = line.split_at(line.len() - line.trim_start().len());
            indent.chars().for_each(|c| escaped(c, &mut out));
            out.push('\\');
            rest = command;
        }
        while let Some(c) = rest.chars().next() {
            let color = Some(color(rest)).filter(|&length| colors && length > 0);
            let length = color.unwrap_or(c.len_utf8());
            let (this, after) = rest.split_at(length);
            if color.is_some() {
                out.push_str(this);
            } else {
                escaped(c, &mut out);
            }
            rest = after;
        }
    }
    Cow::Owned(if out.contains("##[") { out.replace("##[", "##\\[") } else { out })
}

fn escaped(c: char, out: &mut String) {
    if is_hidden(c) && c != '\t' { out.extend(c.escape_default()) } else { out.push(c) }
}

/// How long the colour is that a text begins with, as the programs write it: `ESC[1;31m`, `ESC[0m`. 0 if it is none.
fn color(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\x1b[") else { return 0 };
    let Some((codes, _)) = rest.split_once('m') else { return 0 };
    let is_color = codes == "0"
        || codes.strip_prefix("1;3").is_some_and(|code| matches!(code.as_bytes(), [b'0'..=b'7']));
    if is_color { 2 + codes.len() + 1 } else { 0 }
}

/// JSON, in which what is hidden inside texts is escaped as JSON does.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_clean = |c: char| !is_hidden(c) || c == '\n';
    if text.chars().all(is_clean) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_clean(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A String takes whatever is written to it.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(out)
}

/// Writes at most so many characters of a text, hidden ones other than `but` escaped, and … for more.
pub(crate) fn shortened(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    most: usize,
    but: Option<char>,
) -> fmt::Result {
    let mut chars = text.chars();
    for c in chars.by_ref().take(most) {
        if is_hidden(c) && Some(c) != but { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
    }
    if chars.next().is_some() { f.write_char('…') } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of parts that are hostile, made of a fixed sequence of numbers.
    fn hostile(seed: u64) -> String {
        const PARTS: [&str; 22] = [
            "\x1b",
            "[",
            "1;31m",
            "0m",
            "[2J",
            "\n",
            "\r",
            "\t",
            "::",
            ":",
            "add-mask::x",
            "##",
            "##[error]",
            "#",
            "\u{202e}",
            "\u{200b}",
            "\u{e0041}",
            " ",
            "a",
            "漢",
            "\u{85}",
            "\u{7f}",
        ];
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let count = next() % 24;
        (0..count).map(|_| PARTS[(next() % PARTS.len() as u64) as usize]).collect()
    }

    fn is_safe(text: &str) -> bool {
        let visible = |c: char| !is_hidden(c) || matches!(c, '\n' | '\t');
        text.chars().all(visible)
            && !text.contains("##[")
            && text.split(['\n', '\r']).all(|line| !line.trim_start().starts_with("::"))
    }

    #[test]
    fn nothing_that_a_terminal_or_a_runner_obeys_is_left() {
        for seed in 0..20_000 {
            let text = hostile(seed);
            let out = lines(&text, false);
            assert!(is_safe(&out), "{text:?} became {out:?}");
            assert_eq!(lines(&out, false), out, "{text:?}: twice");
            assert_eq!(out.split('\n').count(), text.split('\n').count());
            if is_safe(&text) {
                assert_eq!(out, text);
            }
            let colored = lines(&text, true);
            let without =
                ["\x1b[0m".to_owned()].into_iter().chain((0..8).map(|code| format!("\x1b[1;3{code}m")));
            assert!(is_hidden_free(
                &without.fold(colored.into_owned(), |text, color| text.replace(&color, ""))
            ));
            let line = one_line(&text);
            assert!(!line.chars().any(is_hidden) && !line.contains("##["), "{text:?} became {line:?}");
        }
    }

    fn is_hidden_free(text: &str) -> bool {
        text.chars().all(|c| !is_hidden(c) || matches!(c, '\n' | '\t'))
    }

    #[test]
    fn json_stays_what_it_says() {
        for seed in 0..5_000 {
            let text = hostile(seed);
            let written = serde_json::to_string_pretty(&[&text]).unwrap();
            let out = json(&written);
            assert!(!out.chars().any(|c| is_hidden(c) && c != '\n'), "{out:?}");
            assert_eq!(serde_json::from_str::<[String; 1]>(&out).unwrap(), [text]);
        }
    }

    #[test]
    fn colors_of_our_own_stay_where_there_are_any() {
        let text = "\x1b[1;31mFAIL\x1b[0m \x1b[8mhidden";
        assert_eq!(lines(text, true), "\x1b[1;31mFAIL\x1b[0m \\u{1b}[8mhidden");
        assert_eq!(lines(text, false), "\\u{1b}[1;31mFAIL\\u{1b}[0m \\u{1b}[8mhidden");
        assert_eq!(lines("a\n  ::add-mask::b\n##[x]", false), "a\n  \\::add-mask::b\n##\\[x]");
        assert_eq!(one_line("a\x1b[2Jb\nc\0\u{202e}d\u{85}"), "a\\u{1b}[2Jb\\nc\\u{0}\\u{202e}d\\u{85}");
        assert_eq!(one_line("ünï 漢字 ×"), "ünï 漢字 ×");
    }
}
