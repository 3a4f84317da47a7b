//! The textual escapes of pickle protocol 0.

use std::borrow::Cow;

/// What a string instruction pushes: text, or bytes that are not UTF-8.
#[derive(Debug, PartialEq)]
pub(crate) enum Text<'a> {
    /// Text.
    Str(Cow<'a, str>),
    /// Bytes, which Python 2 called a string too.
    Bytes(Cow<'a, [u8]>),
}

/// The string of a Python 2 string instruction, which is text if it is UTF-8.
pub(crate) fn python2(bytes: &[u8]) -> Text<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Text::Str(text.into()),
        Err(_) => Text::Bytes(bytes.into()),
    }
}

/// Undoes the escapes of a quoted `STRING`, as Python's `repr` of a byte string writes it. `None` if the quotes or
/// an escape are wrong.
pub(crate) fn quoted(line: &[u8]) -> Option<Text<'_>> {
    let (&open, rest) = line.split_first()?;
    let (&close, inner) = rest.split_last()?;
    if open != close || !matches!(open, b'\'' | b'"') {
        return None;
    }
    if !inner.contains(&b'\\') {
        return Some(python2(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            byte @ (b'\\' | b'\'' | b'"') => out.push(byte),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'x' => out.push(u8::try_from(hex([bytes.next()?, bytes.next()?])?).ok()?),
            _ => return None,
        }
    }
    Some(match String::from_utf8(out) {
        Ok(text) => Text::Str(text.into()),
        Err(error) => Text::Bytes(error.into_bytes().into()),
    })
}

/// Undoes the "raw-unicode-escape" encoding of a `UNICODE` line: Latin-1, and `\uXXXX` or `\UXXXXXXXX`. `None` if
/// an escape is wrong or stands for half a surrogate pair.
pub(crate) fn raw_unicode(line: &[u8]) -> Option<Cow<'_, str>> {
    if line.is_ascii() && !line.contains(&b'\\') {
        return std::str::from_utf8(line).ok().map(Cow::Borrowed);
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(char::from(byte));
            continue;
        }
        let digits = match rest.first() {
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => {
                out.push('\\');
                continue;
            }
        };
        let code = rest.get(1..=digits)?;
        out.push(char::from_u32(hex(code.iter().copied())?)?);
        rest = rest.get(digits + 1..)?;
    }
    Some(out.into())
}

fn hex(digits: impl IntoIterator<Item = u8>) -> Option<u32> {
    digits
        .into_iter()
        .try_fold(0u32, |value, digit| Some(value.checked_mul(16)? + char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_strings_as_python_writes_them() {
        assert_eq!(quoted(b"'abc'"), Some(Text::Str("abc".into())));
        assert_eq!(quoted(br#""it's\n\x41\\""#), Some(Text::Str("it's\nA\\".into())));
        assert_eq!(quoted(br"'\xff'"), Some(Text::Bytes(vec![255].into())));
        for wrong in [&b""[..], b"'", b"abc", b"'abc\"", br"'\'", br"'\x4'", br"'\q'"] {
            assert_eq!(quoted(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn unicode_lines_as_python_writes_them() {
        assert_eq!(raw_unicode(b"abc").as_deref(), Some("abc"));
        assert_eq!(raw_unicode(b"\xe9\\u20ac\\U0001f600\\x").as_deref(), Some("é€😀\\x"));
        for wrong in [&br"\u20a"[..], br"\ud800", br"\U00110000", br"\uzzzz"] {
            assert_eq!(raw_unicode(wrong), None, "{wrong:?}");
        }
    }
}
