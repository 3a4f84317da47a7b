//! The configurations of the published models.

/// A size in which Microsoft published DeBERTa v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// `microsoft/deberta-base`: 12 layers of 768.
    Base,
    /// `microsoft/deberta-large`: 24 layers of 1024.
    Large,
    /// `microsoft/deberta-xlarge`: 48 layers of 1024.
    Xlarge,
}

impl Size {
    /// All sizes.
    pub const ALL: [Size; 3] = [Size::Base, Size::Large, Size::Xlarge];

    /// `base`, `large` or `xlarge`.
    pub fn name(self) -> &'static str {
        match self {
            Size::Base => "base",
            Size::Large => "large",
            Size::Xlarge => "xlarge",
        }
    }

    /// The size of that name.
    pub fn from_name(name: &str) -> Option<Size> {
        Size::ALL.into_iter().find(|size| size.name() == name)
    }

    /// The text of its `config.json`.
    pub fn config_text(self) -> &'static str {
        match self {
            Size::Base => include_str!("sizes/base.json"),
            Size::Large => include_str!("sizes/large.json"),
            Size::Xlarge => include_str!("sizes/xlarge.json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_reference::{DebertaConfig, Head, params};

    #[test]
    fn sizes_have_as_many_parameters_as_their_layers_and_tables_make() {
        let counts = Size::ALL.map(|size| {
            let config = DebertaConfig::from_json(size.config_text()).unwrap();
            let params = params(&config, Head::Base).into_iter().filter(|param| param.required);
            params.map(|param| param.shape.iter().product::<usize>()).sum::<usize>()
        });
        assert_eq!(counts, [138_601_728, 405_163_008, 757_804_032]);
    }
}
