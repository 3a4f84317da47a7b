//! What it takes to call a cause confirmed: the one place of the rule that `docs/diagnosis.md` writes down.

/// What speaks for a cause whose undoing made numbers agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The numbers of the first point that differed, and agree now.
    pub(super) explained: usize,
    /// The numbers that were computed from the golden's to make it agree.
    pub(super) fitted: usize,
    /// The hypotheses that were tested up to this one.
    pub(super) tested: usize,
}

/// How many numbers must agree beyond those that were fitted, for one hypothesis, and for every doubling of how many were
/// tested.
const EACH: usize = 3;

impl Evidence {
    /// Of one hypothesis, for which nothing was fitted.
    pub(crate) fn of(explained: usize) -> Evidence {
        Evidence { explained, fitted: 0, tested: 1 }
    }

    /// Whether the numbers explained are so many more than the numbers fitted and the hypotheses tested that they cannot agree
    /// by chance.
    pub(crate) fn suffices(self) -> bool {
        let left = self.explained.saturating_sub(self.fitted);
        let doublings = usize::try_from(self.tested.max(1).next_power_of_two().ilog2()).unwrap_or(0);
        left >= self.fitted && left >= EACH * (1 + doublings)
    }

    /// Why it does not suffice.
    pub(super) fn lack(self) -> String {
        let Evidence { explained, fitted, tested } = self;
        let of =
            |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
        let fitted = match fitted {
            0 => String::new(),
            fitted => format!(" and {} fitted", of(fitted, "number", "numbers")),
        };
        format!(
            "but it explains {} alone, which is too few for {} tested{fitted}",
            of(explained, "number", "numbers"),
            of(tested, "hypothesis", "hypotheses")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suffices(explained: usize, fitted: usize, tested: usize) -> bool {
        Evidence { explained, fitted, tested }.suffices()
    }

    #[test]
    fn numbers_explained_must_far_outnumber_what_was_fitted_and_tested() {
        // One logit, after two hundred hypotheses; and the first hypothesis, by three numbers.
        assert!(!suffices(1, 0, 200) && !suffices(1, 0, 1) && suffices(3, 0, 1));
        assert!(!suffices(26, 0, 200) && suffices(27, 0, 200));
        // γ and β of 24 channels from two rows, three, and four.
        assert!(!suffices(48, 48, 1) && !suffices(72, 48, 1) && suffices(96, 48, 1));
        // A bias from two rows, in which every difference is seen twice.
        assert!(suffices(48, 24, 1) && !suffices(24, 24, 1));
    }

    #[test]
    fn what_is_lacking_is_said() {
        let lack = |explained, fitted, tested| Evidence { explained, fitted, tested }.lack();
        assert_eq!(
            lack(1, 0, 200),
            "but it explains 1 number alone, which is too few for 200 hypotheses tested"
        );
        assert_eq!(
            lack(48, 48, 1),
            "but it explains 48 numbers alone, which is too few for 1 hypothesis tested and 48 numbers fitted"
        );
    }
}
