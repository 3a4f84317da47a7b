//! The hypothesis that a label makes: `This example is {}.`

/// A text with a place for the label, as Python's `str.format` has it: `{}`, and `{{` or `}}` for braces of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    before: String,
    after: String,
}

impl Template {
    /// That of transformers' pipeline.
    pub(super) const USUAL: &str = "This example is {}.";

    /// Reads a template.
    ///
    /// # Errors
    /// Not one place for the label; a brace that stands alone.
    pub(super) fn parse(text: &str) -> Result<Template, String> {
        let (mut parts, mut rest) = (vec![String::new()], text);
        while let Some(at) = rest.find(['{', '}']) {
            let (plain, braces) = rest.split_at(at);
            let part = parts.last_mut().ok_or("no text")?;
            part.push_str(plain);
            let Some((braces, after)) = braces.split_at_checked(2) else {
                return Err(format!("{text:?}: {braces} stands alone"));
            };
            match braces {
                "{{" => part.push('{'),
                "}}" => part.push('}'),
                "{}" => parts.push(String::new()),
                _ => {
                    return Err(format!(
                        "{text:?}: expected {{}} for the label, or {{{{ and }}}} for braces"
                    ));
                }
            }
            rest = after;
        }
        match <[String; 2]>::try_from(parts) {
            Ok([before, after]) => Ok(Template { before, after: after + rest }),
            Err(parts) => {
                let count = parts.len() - 1;
                Err(format!("{text:?}: {count} places {{}} for the label, one is needed"))
            }
        }
    }

    /// The hypothesis for a label.
    pub(super) fn with(&self, label: &str) -> String {
        let Template { before, after } = self;
        format!("{before}{label}{after}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_stands_where_the_braces_are() {
        let with = |text: &str| Template::parse(text).unwrap().with("sport");
        assert_eq!(with(Template::USUAL), "This example is sport.");
        assert_eq!(with("{}"), "sport");
        assert_eq!(with("{{{}}} é"), "{sport} é");
    }

    #[test]
    fn one_label_has_one_place() {
        let error = |text: &str| Template::parse(text).unwrap_err();
        assert!(error("This is it.").contains("0 places {}"), "{}", error("This is it."));
        assert!(error("{} or {}").contains("2 places {}"));
        assert!(error("{label}").contains("expected {}"));
        assert!(error("{é}").contains("stands alone") || error("{é}").contains("expected {}"));
        assert!(error("{").contains("stands alone"));
    }
}
