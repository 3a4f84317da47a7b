//! Numbers as people read them.

/// A difference or another measure: two digits behind the point.
pub(super) fn measure(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    match x.is_finite() {
        true => format!("{x:.2e}"),
        false => infinite(x).to_owned(),
    }
}

/// A number of a tensor, so that it can be told from its neighbours.
pub(super) fn value(x: f32) -> String {
    if !x.is_finite() {
        return infinite(f64::from(x)).to_owned();
    }
    let size = x.abs();
    if size == 0.0 || (1e-4..1e7).contains(&size) { x.to_string() } else { format!("{x:e}") }
}

/// A share of the tolerance: percent, and how many times it from ten times on. What is beyond it never shows as 100 %.
pub(super) fn share(share: f64) -> String {
    if share.is_nan() {
        return "NaN".to_owned();
    }
    if share == 0.0 {
        return "0%".to_owned();
    }
    if share < 10.0 {
        return match (share * 100.0).ceil() {
            1.0 if share < 0.01 => "<1%".to_owned(),
            percent => format!("{percent:.0}%"),
        };
    }
    match share {
        _ if share.is_infinite() => "∞×".to_owned(),
        _ if share < 1e5 => format!("{share:.0}×"),
        _ => format!("{share:.0e}×"),
    }
}

/// `30% of the tolerance`, `465× the tolerance`
pub(super) fn of_tolerance(share_of: f64) -> String {
    let share = share(share_of);
    let of = if share.ends_with('×') { "" } else { "of " };
    format!("{share} {of}the tolerance")
}

/// Steps between numbers.
pub(super) fn steps(count: u64) -> String {
    if count < 10_000_000 { count.to_string() } else { measure(count as f64) }
}

/// Decibels.
pub(super) fn decibels(x: f64) -> String {
    if x.is_finite() { format!("{x:.1}") } else { infinite(x).to_owned() }
}

/// A count with its noun.
pub(super) fn count(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A count with commas between thousands.
pub(super) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn infinite(x: f64) -> &'static str {
    match (x.is_nan(), x > 0.0) {
        (true, _) => "NaN",
        (false, true) => "∞",
        (false, false) => "-∞",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_tolerance_shows() {
        let shown = [0.0, 0.001, 0.5, 1.0, 1.000_001, 9.99, 41.3, 2e6, f64::INFINITY].map(share);
        assert_eq!(shown, ["0%", "<1%", "50%", "100%", "101%", "999%", "41×", "2e6×", "∞×"]);
    }

    #[test]
    fn counts_have_groups() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((count(1, "file"), count(2, "file")), ("1 file".to_owned(), "2 files".to_owned()));
    }

    #[test]
    fn numbers_of_tensors_keep_their_digits() {
        assert_eq!([0.1, -2.5e-9, 3.0, 1e9].map(value), ["0.1", "-2.5e-9", "3", "1e9"]);
        assert_eq!(value(f32::NAN), "NaN");
    }
}
