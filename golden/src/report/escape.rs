//! Text from files and people, made safe for where it is shown: names of tensors come from hostile files.

pub(super) use deberta_converters::printable::one_line as plain;

/// For the text and the attributes of HTML and XML.
pub(super) fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// For Markdown, also in a cell of a table: nothing in it is markup, mentions a person or refers to an issue.
pub(super) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            // A comment ends what would be a mention or a reference.
            '@' | '#' => out.extend([c.to_string().as_str(), "<!-- -->"]),
            '&' | '<' | '>' | '"' | '\'' | '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '!' | '|'
            | '~' | ':' => {
                out.push_str(&format!("&#{};", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// For the message of a command of GitHub's runner. Line breaks stay.
pub(super) fn command_message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// For a property of a command of GitHub's runner.
pub(super) fn command_property(text: &str) -> String {
    command_message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_or_turns_text_is_left() {
        assert_eq!(plain("a\x1b[2Jb\nc\0\u{202e}d\u{85}"), "a\\u{1b}[2Jb\\nc\\u{0}\\u{202e}d\\u{85}");
        assert_eq!(plain("##[add-mask]x ###[y"), "##\\[add-mask]x ###\\[y");
        assert_eq!(plain("ünï 漢字 ×"), "ünï 漢字 ×");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(markup("<b a='1'>&\"\u{1}"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;\\u{1}");
        assert_eq!(markdown("a|b `c` @d #1"), "a&#124;b &#96;c&#96; @<!-- -->d #<!-- -->1");
    }

    #[test]
    fn commands_of_the_runner_have_one_line() {
        assert_eq!(command_message("50 %\r\n::x"), "50 %25%0D%0A::x");
        assert_eq!(command_property("a:b,c%"), "a%3Ab%2Cc%25");
    }
}
