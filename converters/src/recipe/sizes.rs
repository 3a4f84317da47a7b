//! The configurations of the published models.

macro_rules! sizes {
    ($($(#[$doc:meta])* $size:ident $name:literal,)*) => {
        /// A size in which Microsoft published DeBERTa.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Size {
            $($(#[$doc])* $size,)*
        }

        impl Size {
            /// All sizes.
            pub const ALL: [Size; [$($name),*].len()] = [$(Size::$size),*];

            /// `base`, `v3-base`, …: what follows `microsoft/deberta-` in the name of the model, or `microsoft/`.
            pub fn name(self) -> &'static str {
                match self { $(Size::$size => $name,)* }
            }

            /// The text of its `config.json`.
            pub fn config_text(self) -> &'static str {
                match self { $(Size::$size => include_str!(concat!("sizes/", $name, ".json")),)* }
            }
        }
    };
}

sizes! {
    /// `microsoft/deberta-base`: 12 layers of 768.
    Base "base",
    /// `microsoft/deberta-large`: 24 layers of 1024.
    Large "large",
    /// `microsoft/deberta-xlarge`: 48 layers of 1024.
    Xlarge "xlarge",
    /// `microsoft/deberta-v2-xlarge`: 24 layers of 1536, and a convolution.
    V2Xlarge "v2-xlarge",
    /// `microsoft/deberta-v2-xxlarge`: 48 layers of 1536, and a convolution.
    V2Xxlarge "v2-xxlarge",
    /// `microsoft/deberta-v3-xsmall`: 12 layers of 384.
    V3Xsmall "v3-xsmall",
    /// `microsoft/deberta-v3-small`: 6 layers of 768.
    V3Small "v3-small",
    /// `microsoft/deberta-v3-base`: 12 layers of 768.
    V3Base "v3-base",
    /// `microsoft/deberta-v3-large`: 24 layers of 1024.
    V3Large "v3-large",
    /// `microsoft/mdeberta-v3-base`: v3-base with the words of a hundred languages.
    MdebertaV3Base "mdeberta-v3-base",
}

impl Size {
    /// The names of all sizes, for messages: `base, large, …`.
    pub fn names() -> String {
        Size::ALL.map(Size::name).join(", ")
    }

    /// The size of that name.
    pub fn from_name(name: &str) -> Option<Size> {
        Size::ALL.into_iter().find(|size| size.name() == name)
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
        let version_1 = [138_601_728, 405_163_008, 757_804_032];
        let version_2 = [884_593_152, 1_564_549_632];
        // As keras-hub counts its presets of them.
        let version_3 = [70_682_112, 141_304_320, 183_831_552, 434_012_160, 278_218_752];
        assert_eq!(counts.as_slice(), [&version_1[..], &version_2, &version_3].concat());
    }
}
