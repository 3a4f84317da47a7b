//! What inputs exercise of a configuration: what no input reads, no comparison of outputs can judge.
//!
//! ```text
//! mod                      the features of a configuration, and how much of each was exercised
//!   seen                     what is seen of them in the inputs of a run
//! ```

use std::collections::BTreeSet;

use deberta_reference::{DebertaConfig, Head, Inputs};
use serde::{Deserialize, Serialize};

mod seen;

use seen::Seen;

/// What the inputs of some runs exercise of a configuration. Positions of padding do not count: what they compute is a
/// convention, and judged apart.
///
/// ```
/// use deberta_golden::coverage::{Coverage, Exercised, Feature};
/// use deberta_reference::{DebertaConfig, Head, Inputs};
/// use ndarray::arr2;
///
/// let config = DebertaConfig::from_json(r#"{"relative_attention": true, "pos_att_type": ["c2p"]}"#)?;
/// let inputs = Inputs::from_ids(arr2(&[[1, 2, 3]]));
/// let coverage = Coverage::of(&config, Head::Base, [&inputs]);
/// let of = |feature| coverage.features().into_iter().find(|covered| covered.feature == feature);
/// assert_eq!(of(Feature::Attention).map(|covered| covered.exercised), Some(Exercised::Yes));
/// assert_eq!(of(Feature::Padding).map(|covered| covered.exercised), Some(Exercised::No));
/// assert_eq!(of(Feature::RelativePositions).map(|covered| covered.seen), Some(5));
/// # Ok::<(), deberta_reference::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Coverage<'c> {
    config: &'c DebertaConfig,
    seen: Seen,
}

/// How much of a feature was exercised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The feature.
    pub feature: Feature,
    /// Whether it was.
    pub exercised: Exercised,
    /// How many of its parts were: rows of a table, types, layers.
    pub seen: usize,
    /// How many there are, if they can be counted.
    pub of: Option<usize>,
    /// What that means, for people.
    pub detail: String,
}

/// Features of a configuration, and of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Some query has keys to choose from.
    Attention,
    /// Rows of the relative position table.
    RelativePositions,
    /// Rows of the absolute position table.
    AbsolutePositions,
    /// Rows of the token type table.
    TokenTypes,
    /// A text as long as the kernel of the convolution.
    Convolution,
    /// Texts with padding.
    Padding,
    /// Several sequences at once.
    Batch,
    /// Rows of the word table. No golden reads all of them.
    Vocabulary,
    /// Tokens of the longest text.
    Lengths,
    /// Masks [b, n, n].
    PairMasks,
    /// Runs with labels.
    Losses,
    /// Layers of which something was recorded.
    Layers,
    /// Published values.
    PublishedValues,
}

/// Whether a feature was exercised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exercised {
    /// All of it.
    Yes,
    /// Not all of it.
    Partly,
    /// Nothing of it.
    No,
}

/// As many positions are looked at, however many a configuration has.
const MOST_POSITIONS: usize = 1 << 16;

impl<'c> Coverage<'c> {
    /// What nothing exercises yet.
    pub fn new(config: &'c DebertaConfig) -> Coverage<'c> {
        Coverage { config, seen: Seen::default() }
    }

    /// What a class with this head exercises when it is given these inputs.
    pub fn of<'i>(
        config: &'c DebertaConfig,
        head: Head,
        inputs: impl IntoIterator<Item = &'i Inputs>,
    ) -> Coverage<'c> {
        let mut coverage = Coverage::new(config);
        inputs.into_iter().for_each(|inputs| coverage.add(head, inputs));
        coverage
    }

    /// Adds a run.
    pub fn add(&mut self, head: Head, inputs: &Inputs) {
        self.seen.add(inputs, head, self.config.uses_positions(head));
    }

    /// Adds the names of what was recorded: `activations.…`, `outputs.…`.
    pub fn add_points<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.seen.add_points(names);
    }

    /// Adds published values, as many as there are.
    pub fn add_published(&mut self, count: usize) {
        self.seen.published += count;
    }

    /// Every feature that the configuration has, those that are asked for first.
    pub fn features(&self) -> Vec<Covered> {
        let Coverage { config, seen } = self;
        let mut features = vec![Covered::whether(
            Feature::Attention,
            seen.most_keys > 1,
            match seen.most_keys {
                0 | 1 => "no query has two keys: attention has nothing to choose".to_owned(),
                keys => format!("a query has up to {keys} keys"),
            },
        )];
        features.extend(self.relative_positions());
        if seen.positions_used {
            let rows = count_below(&seen.positions, config.max_position_embeddings);
            let detail = "rows of position_embeddings";
            features.push(Covered::counted(
                Feature::AbsolutePositions,
                rows,
                config.max_position_embeddings,
                detail,
            ));
        }
        if config.type_vocab_size > 0 {
            let rows = count_below(&seen.token_types, config.type_vocab_size);
            let detail = "rows of token_type_embeddings";
            features.push(Covered::counted(Feature::TokenTypes, rows, config.type_vocab_size, detail));
        }
        if let Some(convolution) = config.convolution {
            let (longest, kernel) = (seen.longest, convolution.kernel);
            let detail = format!("texts of up to {longest} tokens, a kernel of {kernel}");
            features.push(Covered::whether(Feature::Convolution, longest >= kernel, detail));
        }
        let sides = seen.sides();
        let detail = if sides.is_empty() { "none".to_owned() } else { sides.join(", ") };
        features.push(Covered::whether(Feature::Padding, !sides.is_empty(), detail));
        let detail = format!("up to {} at once", seen.sequences);
        features.push(Covered::whether(Feature::Batch, seen.sequences > 1, detail));
        features.extend(self.for_information());
        features
    }

    /// The relative position table, if a position term reads it. Of its rows those count that texts can need which are as long
    /// as the table of absolute positions.
    fn relative_positions(&self) -> Option<Covered> {
        let Coverage { config, seen } = self;
        if !config.c2p() && !config.p2c() {
            return None;
        }
        let distances = config.distances();
        let rows = |of: &mut dyn Iterator<Item = isize>| -> BTreeSet<usize> {
            let both = of.flat_map(|distance| {
                // Content-to-position terms read the row of i - j, position-to-content terms that of j - i.
                let terms = [(config.c2p(), distance), (config.p2c(), -distance)];
                terms.into_iter().filter(|(there, _)| *there).map(|(_, distance)| distances.row(distance))
            });
            both.collect()
        };
        let most = config.max_position_embeddings.clamp(1, MOST_POSITIONS) as isize;
        let (read, all) = (rows(&mut seen.distances.iter().copied()), rows(&mut (1 - most..most)));
        let farthest = seen.distances.iter().map(|distance| distance.unsigned_abs()).max().unwrap_or(0);
        let buckets = config.position_buckets.map(|buckets| format!(", position_buckets {buckets}"));
        let detail = format!(
            "rows of the relative table, for distances up to {farthest}; max_relative_positions is {}{}",
            config.max_relative(),
            buckets.unwrap_or_default()
        );
        let covered =
            Covered::counted(Feature::RelativePositions, read.len(), all.union(&read).count(), detail);
        // The distance from a token to itself says nothing about distances.
        Some(if farthest == 0 { Covered { exercised: Exercised::No, ..covered } } else { covered })
    }

    /// What a reader may want to know, and nobody asks for.
    fn for_information(&self) -> Vec<Covered> {
        let Coverage { config, seen } = self;
        let layers = config.num_hidden_layers;
        let recorded = seen.layers.iter().filter(|&&layer| layer < layers).count();
        let lengths = format!("texts of {} to {} tokens", seen.shortest.unwrap_or(0), seen.longest);
        let (ids, positions) = (count_below(&seen.ids, config.vocab_size), config.max_position_embeddings);
        let number = |feature, seen, detail: &str| Covered {
            feature,
            exercised: if seen > 0 { Exercised::Yes } else { Exercised::No },
            seen,
            of: None,
            detail: detail.to_owned(),
        };
        vec![
            Covered::counted(Feature::Vocabulary, ids, config.vocab_size, "rows of word_embeddings"),
            Covered::counted(Feature::Lengths, seen.longest, positions, lengths),
            Covered::counted(Feature::Layers, recorded, layers, "layers of which something was recorded"),
            number(Feature::PairMasks, seen.pair_masks, "runs with a mask of pairs"),
            number(Feature::Losses, seen.losses, "runs with labels"),
            number(Feature::PublishedValues, seen.published, "published values"),
        ]
    }
}

impl Covered {
    fn whether(feature: Feature, exercised: bool, detail: impl Into<String>) -> Covered {
        let exercised_as = if exercised { Exercised::Yes } else { Exercised::No };
        let seen = usize::from(exercised);
        Covered { feature, exercised: exercised_as, seen, of: None, detail: detail.into() }
    }

    fn counted(feature: Feature, seen: usize, of: usize, detail: impl Into<String>) -> Covered {
        let exercised = match seen {
            0 if of > 0 => Exercised::No,
            seen if seen >= of => Exercised::Yes,
            _ => Exercised::Partly,
        };
        Covered { feature, exercised, seen, of: Some(of), detail: detail.into() }
    }

    /// Whether a golden should exercise all of it, and does not.
    pub fn is_lacking(&self) -> bool {
        self.feature.is_asked() && self.exercised != Exercised::Yes
    }

    /// `33 of 79`, if it is counted.
    pub fn ratio(&self) -> Option<String> {
        self.of.map(|of| format!("{} of {of}", self.seen))
    }
}

impl Feature {
    /// Whether a golden should exercise it: of the rest, no golden can have all, or no model need have it.
    pub fn is_asked(self) -> bool {
        match self {
            Feature::Attention
            | Feature::RelativePositions
            | Feature::AbsolutePositions
            | Feature::TokenTypes
            | Feature::Convolution
            | Feature::Padding
            | Feature::Batch => true,
            Feature::Vocabulary
            | Feature::Lengths
            | Feature::PairMasks
            | Feature::Losses
            | Feature::Layers
            | Feature::PublishedValues => false,
        }
    }

    /// What reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Attention => "attention",
            Feature::RelativePositions => "relative positions",
            Feature::AbsolutePositions => "absolute positions",
            Feature::TokenTypes => "token types",
            Feature::Convolution => "convolution",
            Feature::Padding => "padding",
            Feature::Batch => "batch",
            Feature::Vocabulary => "vocabulary",
            Feature::Lengths => "lengths",
            Feature::PairMasks => "masks of pairs",
            Feature::Losses => "losses",
            Feature::Layers => "layers",
            Feature::PublishedValues => "published values",
        }
    }
}

impl Exercised {
    /// The word for a table.
    pub fn word(self) -> &'static str {
        match self {
            Exercised::Yes => "yes",
            Exercised::Partly => "partly",
            Exercised::No => "no",
        }
    }
}

/// How many of the numbers are rows of a table of `rows`.
fn count_below(numbers: &BTreeSet<i64>, rows: usize) -> usize {
    numbers.iter().filter(|&&number| usize::try_from(number).is_ok_and(|number| number < rows)).count()
}

/// What the goldens of a model do not exercise, in one line. Nothing if they exercise all that is asked.
pub(crate) fn lacking(features: &[Covered]) -> Option<String> {
    let lacking = |exercised| {
        let of =
            features.iter().filter(move |covered| covered.is_lacking() && covered.exercised == exercised);
        of.map(|covered| {
            let said = match covered.ratio() {
                Some(ratio) => format!("{ratio} {}", covered.detail),
                None => covered.detail.clone(),
            };
            format!("{} ({said})", covered.feature.name())
        })
    };
    let not: Vec<String> = lacking(Exercised::No).collect();
    let partly: Vec<String> = lacking(Exercised::Partly).collect();
    let parts = [("not exercised", not), ("exercised in part", partly)].into_iter();
    let said: Vec<String> =
        parts.filter(|(_, of)| !of.is_empty()).map(|(how, of)| format!("{how}: {}", of.join(", "))).collect();
    (!said.is_empty()).then(|| format!("coverage of the goldens: {}", said.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, arr2};

    const VERSION_1: &str = r#"{"relative_attention": true, "pos_att_type": "c2p|p2c", "vocab_size": 9,
        "max_position_embeddings": 16, "max_relative_positions": 4, "type_vocab_size": 2}"#;

    fn covered(config: &str, inputs: &[&Inputs], feature: Feature) -> Covered {
        let config = DebertaConfig::from_json(config).unwrap();
        let features = Coverage::of(&config, Head::Base, inputs.iter().copied()).features();
        features.into_iter().find(|covered| covered.feature == feature).unwrap()
    }

    fn text(n: usize) -> Inputs {
        Inputs::from_ids(Array2::from_elem((1, n), 1))
    }

    #[test]
    fn single_tokens_exercise_no_attention() {
        let single = covered(VERSION_1, &[&text(1)], Feature::Attention);
        assert_eq!(single.exercised, Exercised::No);
        assert_eq!(covered(VERSION_1, &[&text(1)], Feature::RelativePositions).exercised, Exercised::No);
        assert_eq!(covered(VERSION_1, &[&text(1), &text(2)], Feature::Attention).exercised, Exercised::Yes);
        // A padded batch of single tokens has no more to choose from.
        let mask = Some(arr2(&[[1.0, 0.0], [0.0, 1.0]]).into_dyn());
        let padded = Inputs { attention_mask: mask, ..Inputs::from_ids(arr2(&[[1, 0], [0, 1]])) };
        assert_eq!(covered(VERSION_1, &[&padded], Feature::Attention).exercised, Exercised::No);
        let padding = covered(VERSION_1, &[&padded], Feature::Padding);
        assert_eq!((padding.exercised, padding.detail.as_str()), (Exercised::Yes, "right, left"));
    }

    #[test]
    fn rows_of_the_relative_table_are_counted_of_those_that_a_text_can_need() {
        let rows = |config: &str, n| {
            let covered = covered(config, &[&text(n)], Feature::RelativePositions);
            (covered.exercised, covered.seen, covered.of)
        };
        assert_eq!(rows(VERSION_1, 3), (Exercised::Partly, 5, Some(8)));
        assert_eq!(rows(VERSION_1, 5), (Exercised::Yes, 8, Some(8)));
        // As long as the table of absolute positions, which is the largest distance here: row 0 is beyond all texts.
        let whole = VERSION_1.replace("\"max_relative_positions\": 4", "\"max_relative_positions\": -1");
        assert_eq!(rows(&whole, 16), (Exercised::Yes, 31, Some(31)));
        assert_eq!(rows(&whole, 17), (Exercised::Yes, 32, Some(32)));
        let buckets = VERSION_1
            .replace("{\"rel", "{\"model_type\": \"deberta-v2\", \"position_buckets\": 4, \"rel")
            .replace("\"max_relative_positions\": 4", "\"max_relative_positions\": 8");
        assert_eq!(rows(&buckets, 3).0, Exercised::Partly);
        assert_eq!(rows(&buckets, 16).0, Exercised::Yes);
    }

    #[test]
    fn what_padding_reads_does_not_count() {
        let mask = Some(arr2(&[[1.0, 1.0, 0.0]]).into_dyn());
        let token_type_ids = Some(arr2(&[[0, 0, 1]]));
        let inputs = Inputs { attention_mask: mask, token_type_ids, ..Inputs::from_ids(arr2(&[[3, 4, 5]])) };
        let seen = |feature| covered(VERSION_1, &[&inputs], feature).seen;
        assert_eq!((seen(Feature::Vocabulary), seen(Feature::TokenTypes)), (2, 1));
        assert_eq!((seen(Feature::RelativePositions), seen(Feature::Lengths)), (3, 2));
    }

    #[test]
    fn a_mask_of_pairs_says_which_distances_are_read() {
        // Every token attends to itself and to those before it.
        let causal = Array2::from_shape_fn((3, 3), |(i, j)| if j <= i { 1.0 } else { 0.0 });
        let mask = causal.insert_axis(ndarray::Axis(0)).into_dyn();
        let inputs = Inputs { attention_mask: Some(mask), ..text(3) };
        let config = VERSION_1.replace("c2p|p2c", "c2p");
        assert_eq!(covered(&config, &[&inputs], Feature::RelativePositions).seen, 3);
        assert_eq!(covered(&config, &[&inputs], Feature::PairMasks).seen, 1);
        assert_eq!(covered(VERSION_1, &[&inputs], Feature::RelativePositions).seen, 5);
    }

    #[test]
    fn what_lacks_is_said_in_one_line() {
        let config = DebertaConfig::from_json(VERSION_1).unwrap();
        let said = lacking(&Coverage::of(&config, Head::Base, [&text(3)]).features()).unwrap();
        assert_eq!(
            said,
            "coverage of the goldens: not exercised: padding (none), batch (up to 1 at once); exercised in part: \
             relative positions (5 of 8 rows of the relative table, for distances up to 2; max_relative_positions \
             is 4), absolute positions (3 of 16 rows of position_embeddings), token types (1 of 2 rows of \
             token_type_embeddings)"
        );
        let mut mask = Array2::ones((2, 16));
        mask[[1, 15]] = 0.0;
        let types = Array2::from_shape_fn((2, 16), |(_, at)| i64::from(at > 8));
        let all = Inputs {
            attention_mask: Some(mask.into_dyn()),
            token_type_ids: Some(types),
            ..Inputs::from_ids(Array2::from_elem((2, 16), 1))
        };
        assert_eq!(lacking(&Coverage::of(&config, Head::Base, [&all]).features()), None);
    }
}
