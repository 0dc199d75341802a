//! What recoveries have left beside the data of a database: named with its size, and with what removes it where that is
//! safe.
//!
//! What a failed try has staged is worthless once its run has ended. Data from before a recovery may go when a recovery
//! has gone well since, and never while the data directory itself is unfinished: it may be all there is.

use std::path::PathBuf;

use serde::Serialize;

use super::recovery;
use super::site::machine;
use crate::action::by_hand::command_line;
use crate::actions::postgres::restore::leftover::{Left, Leftover, is_unfinished, leftovers};
use crate::base::RunId;
use crate::base::units::ByteSize;
use crate::journal::{RunOrder, RunStatus, RunSummary, Runs};
use crate::language::inventory::Inventory;
use crate::plan::lock_of_database;

/// What holds less has no line of its own.
const SMALL_BYTES: u64 = 1 << 20;

/// A folder that is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remains {
    /// Where it lies.
    pub path: PathBuf,
    /// The run that left it.
    pub run: RunId,
    /// How much it holds.
    pub size_bytes: u64,
    /// Whether it holds more than that, perhaps: measuring it would have taken too long.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
    /// What it is.
    pub what: &'static str,
    /// Whether the run that left it is not known here, and may still be at work: another machine's, another user's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// What removes it; absent where it must stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<String>,
}

impl Remains {
    /// One line for people.
    pub fn told(&self) -> String {
        let Self { path, size_bytes, what, remove, run, unknown, .. } = self;
        let least = if self.at_least { "at least " } else { "" };
        let fact = format!("{least}{} in `{}`: {what}", ByteSize(*size_bytes), path.display());
        match remove {
            Some(remove) => format!("{fact}; {remove}"),
            None if *unknown => format!("{fact}; it stays until somebody knows that run {run} is over"),
            None => format!("{fact}; it stays until a recovery has gone well"),
        }
    }
}

/// The lines for people: what is small and may go has one together.
pub fn lines(all: &[Remains]) -> Vec<String> {
    let is_small = |one: &&Remains| one.remove.is_some() && !one.at_least && one.size_bytes < SMALL_BYTES;
    let (small, large): (Vec<&Remains>, Vec<&Remains>) = all.iter().partition(is_small);
    let mut lines: Vec<String> = large.into_iter().map(Remains::told).collect();
    match small.as_slice() {
        [] => {}
        [one] => lines.push(one.told()),
        several => {
            let paths: Vec<String> = several.iter().map(|one| one.path.display().to_string()).collect();
            let remove = command_line(["rm", "-rf", "--"].into_iter().chain(paths.iter().map(String::as_str)));
            let bytes = ByteSize(several.iter().map(|one| one.size_bytes).sum());
            lines.push(format!("{bytes} in {} small folders that recoveries have left; {remove}", several.len()));
        }
    }
    lines
}

/// What is left beside the data of a database on this machine; nothing where that cannot be looked at. What a run that
/// has not ended works with is not left.
pub fn of(database: &str, inventory: &Inventory, runs: Option<&Runs>) -> Vec<Remains> {
    let Some(entry) = inventory.databases.get(database).filter(|entry| !entry.is_managed() && !entry.scratch) else {
        return Vec::new();
    };
    let (Ok(host), Some(runs)) = (machine(), runs) else { return Vec::new() };
    let files = host.read_files();
    let found = leftovers(database, inventory, files.as_ref()).unwrap_or_default();
    if found.is_empty() {
        return Vec::new();
    }
    let lock = lock_of_database(entry);
    let went_well = recovery::newest_that_went_well(runs, &lock).filter(|_| !is_unfinished(&entry.pgdata, &*files));
    let order = runs.order();
    let judged = found.into_iter().filter_map(|one| judge(one, (runs, &order), went_well.as_ref()));
    judged.collect()
}

fn judge(left: Leftover, (runs, order): (&Runs, &RunOrder), went_well: Option<&RunId>) -> Option<Remains> {
    let has_ended = match RunSummary::of(&runs.dir(&left.run)).status {
        RunStatus::Finished { .. } => true,
        // Its history was removed, or lies elsewhere: nobody can tell whether it goes on.
        RunStatus::NeverStarted | RunStatus::Unread { .. } | RunStatus::Damaged { .. } => false,
        RunStatus::Live | RunStatus::Suspended | RunStatus::Interrupted => return None,
    };
    let is_later = went_well.is_some_and(|run| order.is_later(run, &left.run));
    let is_replaced = is_later || went_well == Some(&left.run);
    let (what, may_go) = match left.what {
        Left::Own if !has_ended => ("what a recovery had staged that is not known here", false),
        Left::Own => ("what a recovery that has ended had staged", has_ended),
        Left::OldTry => ("a recovery that did not come to its end, put aside by a later one", is_replaced),
        Left::Abandoned => {
            ("what a recovery had opened, put aside: what was committed then may lie only there", is_later)
        }
        Left::Old => ("the data from before a recovery", is_replaced),
    };
    let path = left.path.display().to_string();
    let remove = may_go.then(|| command_line(["rm", "-rf", "--", &path]));
    let unknown = left.what == Left::Own && !has_ended;
    let Leftover { path, run, size_bytes, at_least, .. } = left;
    Some(Remains { path, run, size_bytes, at_least, what, unknown, remove })
}

#[cfg(test)]
mod tests {
    use super::{Remains, lines};

    #[test]
    fn what_is_small_and_may_go_has_one_line_together() {
        let left = |name: &str, size_bytes: u64, remove: bool| Remains {
            path: format!("/srv/pg.runbook-{name}").into(),
            run: "20260128-143002-3fa9c1".parse().expect("an id"),
            size_bytes,
            at_least: false,
            what: "what a recovery that has ended had staged",
            unknown: false,
            remove: remove.then(|| format!("rm -rf -- /srv/pg.runbook-{name}")),
        };
        let all = [left("a", 0, true), left("b", 24, true), left("c", 5 << 30, true), left("d", 24, false)];
        let told = lines(&all);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].starts_with("5.0 GiB in `/srv/pg.runbook-c`")
                && told[1].ends_with("until a recovery has gone well")
        );
        assert_eq!(
            told[2],
            "24 B in 2 small folders that recoveries have left; rm -rf -- /srv/pg.runbook-a /srv/pg.runbook-b"
        );
        assert_eq!(lines(&all[..1]), [all[0].told()]);
    }
}
