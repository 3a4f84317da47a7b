//! What may be the cause of a divergence, and what undoes it.

use crate::fault::{Change, Setting};
use crate::judge::difference::coordinates;
use crate::report::Diagnosis;

/// What may be the cause of a divergence.
#[derive(Clone, Debug)]
pub(crate) struct Hypothesis {
    pub(super) kind: &'static str,
    pub(super) cause: String,
    pub(super) evidence: String,
    pub(super) repair: String,
    /// What undoes it; empty if that cannot be known.
    pub(super) changes: Vec<Change>,
    /// What undoes it in more places.
    pub(super) wider: Vec<(String, Vec<Change>)>,
    /// Whether the changes compute what the golden's code does, and undo nothing that is wrong with the model.
    pub(super) assumed: bool,
    /// Other causes whose changes compute the same from the golden's inputs: then none of them is proved.
    pub(super) alike: Vec<Hypothesis>,
    /// Whether agreement after the changes may prove it.
    pub(super) proves: bool,
    /// How many numbers of the changes were computed from the golden's.
    pub(super) fitted: usize,
    /// How many more hypotheses it was chosen from.
    pub(super) chosen_from: usize,
    /// Whether the golden shows the numbers of the parameter themselves.
    pub(super) shown: bool,
}

impl Hypothesis {
    pub(super) fn new(kind: &'static str, cause: impl Into<String>, repair: impl Into<String>) -> Hypothesis {
        let (cause, repair) = (cause.into(), repair.into());
        let (evidence, changes, wider) = (String::new(), Vec::new(), Vec::new());
        Hypothesis {
            kind,
            cause,
            evidence,
            repair,
            changes,
            wider,
            assumed: false,
            alike: Vec::new(),
            proves: true,
            fitted: 0,
            chosen_from: 0,
            shown: false,
        }
    }

    /// A number of a parameter of a shape is off. `at` is its place, counted row by row, `by` what must be added to it.
    pub(super) fn changed_number(name: &str, at: usize, shape: &[usize], by: f64) -> Hypothesis {
        let place = coordinates(at, shape).iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let cause = format!("{name}[{place}] is off by {:.3e}", -by);
        let change = Change::Add(name.to_owned(), vec![(at, by as f32)]);
        let repair = format!("restore {name} from the original model");
        Hypothesis::new("changed-weight", cause, repair).undone_by([change]).fitting(1)
    }

    pub(super) fn because(self, evidence: impl Into<String>) -> Hypothesis {
        Hypothesis { evidence: evidence.into(), ..self }
    }

    pub(super) fn undone_by(self, changes: impl IntoIterator<Item = Change>) -> Hypothesis {
        Hypothesis { changes: changes.into_iter().collect(), ..self }
    }

    /// So many numbers of the changes were computed from the golden's.
    pub(super) fn fitting(self, fitted: usize) -> Hypothesis {
        Hypothesis { fitted, ..self }
    }

    /// It is the likeliest of so many that were not tested.
    pub(super) fn of_many(self, chosen_from: usize) -> Hypothesis {
        Hypothesis { chosen_from, ..self }
    }

    /// Whether the changes say what is wrong, and not only where: not if most numbers of a parameter were fitted.
    pub(super) fn says_what(self, proves: bool) -> Hypothesis {
        Hypothesis { proves, ..self }
    }

    /// The changes are numbers that the golden shows. Whether that proves something is another matter.
    pub(super) fn shown_by(self, proves: bool) -> Hypothesis {
        Hypothesis { shown: true, proves, ..self }
    }

    /// The changes make the model compute what the golden's code does.
    pub(super) fn assuming(self, changes: Vec<Change>) -> Hypothesis {
        Hypothesis { changes, assumed: true, ..self }
    }

    pub(super) fn wider(mut self, where_else: impl Into<String>, changes: Vec<Change>) -> Hypothesis {
        self.wider.push((where_else.into(), changes));
        self
    }

    /// Whether it says all that another one does: that the numbers of one parameter are wrong, and perhaps why.
    pub(super) fn says_as_much(&self, other: &Hypothesis) -> bool {
        let of = |hypothesis: &Hypothesis| match hypothesis.changes.as_slice() {
            [Change::Add(name, _) | Change::Replace(name, _)] => Some(name.clone()),
            _ => None,
        };
        self.kind == other.kind && of(self).is_some_and(|name| of(other) == Some(name))
    }

    /// Other values of the same line of the configuration that compute the same from the golden's inputs: that the line is
    /// wrong is proved all the same.
    pub(super) fn other_values(&self) -> Option<String> {
        let value = |hypothesis: &Hypothesis| match hypothesis.changes.as_slice() {
            [Change::Config(eps @ Setting::Eps(_))] => Some(eps.line()),
            _ => None,
        };
        let values: Vec<String> = self.alike.iter().map(value).collect::<Option<_>>()?;
        (!values.is_empty()).then(|| value(self).map(|_| values.join(" or ")))?
    }

    pub(super) fn diagnosis(&self, found: &str, confirmed: bool) -> Diagnosis {
        let join = if self.evidence.is_empty() || found.is_empty() { "" } else { "; " };
        Diagnosis {
            kind: self.kind.to_owned(),
            cause: self.cause.clone(),
            evidence: format!("{}{join}{found}", self.evidence),
            repair: self.repair.clone(),
            confirmed,
        }
    }
}
