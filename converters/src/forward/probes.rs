//! Which activations become outputs.

/// A pattern of activation names: `*` stands for any text, also for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern with this text.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.to_owned())
    }

    /// Whether the whole name fits the pattern.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(place) => rest = rest.get(place + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).matches(name);
        assert!(matches("*", "encoder.layer.0"));
        assert!(matches("*.probs", "encoder.layer.0.attention.self.probs"));
        assert!(matches("encoder.layer.1*", "encoder.layer.11"));
        assert!(matches("a*b*c", "abc") && matches("a*b*c", "a1b2b3c"));
        assert!(matches("pooler", "pooler") && !matches("pooler", "pooler.dense"));
        assert!(!matches("a*b*c", "acb") && !matches("*.probs", "probs") && !matches("ab*ba", "aba"));
    }
}
