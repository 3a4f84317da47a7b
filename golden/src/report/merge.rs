//! The one report that the reports of the shards of a policy are merged into.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use deberta_converters::error::{Error, Kind, Result};

use super::json::Gate;
use super::{PRODUCER, PolicyShard, Report, Rules};

/// The reports of all shards of a policy as one.
#[derive(Debug)]
pub struct Merged {
    /// The policy.
    pub policy: String,
    /// What failed.
    pub rules: Rules,
    /// One entry for every model, in the order of the policy, and one for the shards without a report.
    pub reports: Vec<Report>,
}

/// Merges the JSON reports of the shards of a policy. Shards that have none become an entry that is undecided.
///
/// # Errors
/// A file that cannot be read or is no report of a shard; two reports of one shard; reports of different policies,
/// rules, numbers of shards, or versions of this program; a report that has not the models of its shard.
pub fn merge(paths: &[PathBuf]) -> Result<Merged> {
    let mut shards: BTreeMap<usize, (&PathBuf, Gate<'static>)> = BTreeMap::new();
    let mut first: Option<(&PathBuf, PolicyShard)> = None;
    for path in paths {
        let wrong = |why: String| Error::new(Kind::Request, why).in_file(path);
        let gate = Gate::read(path)?;
        let Some(shard) = gate.shard.filter(PolicyShard::is_valid) else {
            return Err(wrong("not the report of a shard: --shard makes one".to_owned()));
        };
        if gate.producer != PRODUCER {
            return Err(wrong(format!(
                "made by {}, this is {PRODUCER}: merge by the same version",
                gate.producer
            )));
        }
        if gate.models.len() != shard.len() {
            let (found, expected, all) = (gate.models.len(), shard.len(), shard.models);
            return Err(wrong(format!("{found} models, {shard} has {expected} of the policy's {all}"))
                .wanting(expected, found));
        }
        let (other, of_other) = *first.get_or_insert((path, shard));
        let known = shards.get(&of_other.index).map(|(_, gate)| gate);
        let same = known.is_none_or(|known| (&known.policy, known.rules) == (&gate.policy, gate.rules));
        if !same || (of_other.count, of_other.models) != (shard.count, shard.models) {
            let why = format!(
                "not of the same run as {}: another policy, rules, or number of shards",
                other.display()
            );
            return Err(wrong(why));
        }
        if let Some((earlier, _)) = shards.get(&shard.index) {
            return Err(wrong(format!("{shard} has another report: {}", earlier.display())));
        }
        shards.insert(shard.index, (path, gate));
    }
    let Some((_, PolicyShard { count, models, .. })) = first else {
        return Err(Error::new(Kind::Request, "no report was given"));
    };
    let there: BTreeSet<usize> = shards.keys().copied().collect();
    let (mut policy, mut rules, mut reports) = (String::new(), Rules::DEFAULT, Vec::new());
    for (index, (_, gate)) in shards {
        (policy, rules) = (gate.policy.into_owned(), gate.rules);
        reports.extend(PolicyShard { index, count, models }.places().zip(gate.models.into_owned()));
    }
    reports.sort_by_key(|(at, _)| *at);
    let mut reports: Vec<Report> = reports.into_iter().map(|(_, report)| report).collect();
    // Outcomes are computed again from points and findings: `outcome` in a file may say anything.
    reports.iter_mut().for_each(|report| rules.judge(report));
    if let Some(first) = (1..=count.min(models)).find(|index| !there.contains(index)) {
        let (lacking, models) = (count.min(models) - there.len(), models - reports.len());
        let why = format!(
            "{lacking} of {count} shards have no report, shard {first} among them: {models} models were not verified. Their \
             runs failed, or their files were not given"
        );
        reports.push(Report::failed("shards without a report", &Error::new(Kind::Request, why)));
    }
    let folder = Path::new(&policy).parent().unwrap_or(Path::new(""));
    reports.iter_mut().for_each(|report| report.place = folder.join(&report.model));
    Ok(Merged { policy, rules, reports })
}
