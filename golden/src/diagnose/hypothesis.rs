//! What may be the cause of a divergence, and what undoes it.

use crate::fault::Change;
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
    /// Whether agreement after the changes proves it. Not if they were computed from as few numbers as they change.
    pub(super) proves: bool,
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
        }
    }

    /// A number of a matrix is off. `by` is what must be added to it, `width` the length of a row.
    pub(super) fn changed_number(name: &str, [row, column]: [usize; 2], width: usize, by: f64) -> Hypothesis {
        let cause = format!("{name}[{row}, {column}] is off by {:.3e}", -by);
        let change = Change::Add(name.to_owned(), vec![(row * width + column, by as f32)]);
        let repair = format!("restore {name} from the original model");
        Hypothesis::new("changed-weight", cause, repair).undone_by([change])
    }

    pub(super) fn because(self, evidence: impl Into<String>) -> Hypothesis {
        Hypothesis { evidence: evidence.into(), ..self }
    }

    pub(super) fn undone_by(self, changes: impl IntoIterator<Item = Change>) -> Hypothesis {
        Hypothesis { changes: changes.into_iter().collect(), ..self }
    }

    /// The changes make the model compute what the golden's code does.
    pub(super) fn assuming(self, changes: Vec<Change>) -> Hypothesis {
        Hypothesis { changes, assumed: true, ..self }
    }

    pub(super) fn wider(mut self, where_else: impl Into<String>, changes: Vec<Change>) -> Hypothesis {
        self.wider.push((where_else.into(), changes));
        self
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
