//! Copies of the erasure ledger, and which of them holds everything.
//!
//! A store has one object for each line and never replaces one. Two machines that went on by themselves leave two chains
//! there; a chain with every line of another one outdoes it. So two ledgers are joined by going on from one of them with
//! what only the other has, and nothing needs to be deleted.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncReadExt as _;

use super::{ActionError, ErasureContent, ErasureLine, ObjectFacts, ReadStore, SHIPPED, SealedErasure, whole_part};
use crate::base::Digest;
use crate::base::seal::seal;

/// No line is longer.
const LONGEST_LINE: u64 = 64 << 10;
/// How many lines are fetched at once.
const AT_ONCE: usize = 16;

/// Two ledgers each hold what the other lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the erasure ledger of the state folder and the one that was shipped differ from line {line} on")]
pub struct ErasureFork {
    /// The first line that differs.
    pub line: u64,
}

impl ErasureFork {
    /// What leads out.
    pub const HELP: &'static str =
        "`runbook backups erase-ledger merge` goes on from the one here with what only the other has";
}

/// Reads the chains that were shipped, each as the bytes of a ledger. Mostly there is one.
///
/// # Errors
/// Retryable when the store gives no answer.
pub async fn shipped_chains(store: &dyn ReadStore) -> Result<Vec<Vec<u8>>, ActionError> {
    let failed = &|error: &(dyn std::error::Error + 'static)| {
        let fact = format!("the erasure ledger that was shipped to store `{}` cannot be read", store.name());
        ActionError::retryable(fact).because(error).help(
            "bring the store back; if it is gone for good, take it out of `audit.ship`: then the ledger of the state folder counts \
             alone, and who was added on another machine is not in it",
        )
    };
    let mut listed = store.list(SHIPPED).await.map_err(|error| failed(&error))?;
    listed.sort_by(|one, other| one.key.as_str().cmp(other.key.as_str()));
    let read = |facts: ObjectFacts| async move {
        let (mut line, body) = (Vec::new(), store.get(&facts.key).await.map_err(|error| failed(&error))?);
        body.take(LONGEST_LINE).read_to_end(&mut line).await.map_err(|error| failed(&error))?;
        Ok::<_, ActionError>(line)
    };
    // Each is a request of its own, and there is one for everybody who was ever forgotten.
    let lines: Vec<Vec<u8>> = stream::iter(listed.into_iter().map(read)).buffered(AT_ONCE).try_collect().await?;
    Ok(chains(&lines))
}

/// Puts lines together that stand in the order of their numbers. Where one follows no other, all are one chain, which then
/// does not hold.
fn chains(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let nothing = Digest::of(b"").to_string();
    let mut before: Vec<Option<usize>> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let Ok(sealed) = serde_json::from_slice::<SealedErasure>(line) else { return vec![lines.concat()] };
        let prev = sealed.line.prev.to_string();
        match (known.get(&prev), prev == nothing) {
            (Some(one), _) => before.push(Some(*one)),
            (None, true) => before.push(None),
            (None, false) => return vec![lines.concat()],
        }
        known.insert(sealed.hash.to_string(), at);
    }
    let inner: BTreeSet<usize> = before.iter().flatten().copied().collect();
    let chain = |tip: usize| {
        let mut path: Vec<usize> = std::iter::successors(Some(tip), |at| before[*at]).collect();
        path.reverse();
        path.into_iter().flat_map(|at| lines[at].iter().copied()).collect()
    };
    (0..lines.len()).filter(|at| !inner.contains(at)).map(chain).collect()
}

/// The bytes of a ledger that count, the last line with its newline.
#[must_use]
pub fn closed_part(bytes: &[u8]) -> Vec<u8> {
    let (whole, open) = whole_part(bytes);
    let newline: &[u8] = if open { b"\n" } else { b"" };
    [whole, newline].concat()
}

/// Tells whether a ledger has every line of another one.
#[must_use]
pub fn holds_all(ledger: &[u8], other: &[u8]) -> bool {
    if ledger.starts_with(other) {
        return true;
    }
    let (own, theirs) = (ErasureContent::scan(ledger), ErasureContent::scan(other));
    own.problems.is_empty() && theirs.problems.is_empty() && lacking(&own, &theirs).is_empty()
}

/// Gives the ledger that holds everything; an empty one when there is none at all.
///
/// # Errors
/// Fails when each lacks something.
pub fn whole_of(ledgers: &[Vec<u8>]) -> Result<Vec<u8>, ErasureFork> {
    let Some(first) = ledgers.first() else { return Ok(Vec::new()) };
    let whole = ledgers.iter().find(|one| ledgers.iter().all(|other| holds_all(one, other)));
    whole.cloned().ok_or_else(|| {
        let other = ledgers.iter().find(|other| !first.starts_with(other)).unwrap_or(first);
        let same = first.iter().zip(other).take_while(|(a, b)| a == b).filter(|(a, _)| **a == b'\n').count();
        ErasureFork { line: 1 + same as u64 }
    })
}

/// Goes on from a ledger with what only others have, by time: who asked for it and when stays.
///
/// # Errors
/// Fails when one does not hold.
pub fn joined(ledger: &[u8], others: &[Vec<u8>]) -> Result<Vec<u8>, ActionError> {
    let mut all = ledger.to_vec();
    let mut content = ErasureContent::scan(ledger);
    let mut more: Vec<ErasureLine> = Vec::new();
    for other in others {
        let theirs = ErasureContent::scan(other);
        if let Some((line, what)) = content.problems.first().or(theirs.problems.first()) {
            return Err(ActionError::fatal(format!("line {line} of the erasure ledger does not hold: {what}"))
                .help("bring back the copy that was shipped or exported; nothing was joined"));
        }
        let new: Vec<ErasureLine> = lacking(&content, &theirs).into_iter().cloned().collect();
        more.extend(new.into_iter().filter(|line| !more.iter().any(|one| is_same(one, line))).collect::<Vec<_>>());
    }
    // What was said here after such a line counts on, though that line comes behind it now: it is said again.
    let is_outdone = |own: &&ErasureLine| more.iter().any(|line| line.at < own.at && line.forget.is_about(&own.forget));
    let again: Vec<ErasureLine> = content.lines.iter().filter(is_outdone).cloned().collect();
    more.extend(again);
    more.sort_by_key(|line| line.at);
    for line in more {
        let line = ErasureLine { n: content.lines.len() as u64 + 1, prev: content.head, ..line };
        let text = serde_json::to_vec(&line)
            .map_err(|error| ActionError::fatal("a line of the erasure ledger cannot be written").because(&error))?;
        all.extend(seal(text).0);
        content = ErasureContent::scan(&all);
    }
    Ok(all)
}

/// The lines of another ledger that one lacks.
fn lacking<'a>(own: &ErasureContent, other: &'a ErasureContent) -> Vec<&'a ErasureLine> {
    other.lines.iter().filter(|line| !own.lines.iter().any(|one| is_same(one, line))).collect()
}

fn is_same(one: &ErasureLine, other: &ErasureLine) -> bool {
    one.at == other.at && one.by == other.by && one.forget == other.forget
}

#[cfg(test)]
mod tests {
    use super::{ErasureFork, chains, holds_all, joined, whole_of};
    use crate::action::{ErasureContent, ErasureLine, Forget, Treatment, Word};
    use crate::base::seal::seal;

    /// A ledger with a line for each subject.
    fn ledger(subjects: &[&str]) -> Vec<u8> {
        let mut all = Vec::new();
        for subject in subjects {
            let content = ErasureContent::scan(&all);
            let name = |text: &str| text.to_owned();
            let forget = Forget {
                subject: name(subject),
                key_id: name("k"),
                database: name("orders"),
                dbname: None,
                table: name("users"),
                column: name("email"),
                word: Word::Forget,
                treatment: Treatment::Delete,
                reason: None,
            };
            let at = "2026-01-28T14:30:02Z".parse().expect("a time");
            let n = content.lines.len() as u64 + 1;
            let line = ErasureLine { format: 1, n, at, prev: content.head, by: name("ann"), forget };
            all.extend(seal(serde_json::to_vec(&line).expect("writes")).0);
        }
        all
    }

    #[test]
    fn the_ledger_that_continues_another_one_counts_and_two_that_differ_are_refused_until_they_are_joined() {
        let (short, long, other) = (ledger(&["a"]), ledger(&["a", "b"]), ledger(&["a", "c", "d"]));
        for both in [[short.clone(), long.clone()], [long.clone(), short], [long.clone(), Vec::new()]] {
            assert_eq!(whole_of(&both).expect("one continues the other"), long);
        }
        assert_eq!(whole_of(&[long.clone(), other.clone()]), Err(ErasureFork { line: 2 }));
        let both = joined(&long, std::slice::from_ref(&other)).expect("holds");
        let content = ErasureContent::scan(&both);
        assert!(content.problems.is_empty() && both.starts_with(&long), "{:?}", content.problems);
        let subjects: Vec<&str> = content.lines.iter().map(|line| line.forget.subject.as_str()).collect();
        assert_eq!(subjects, ["a", "b", "c", "d"]);
        assert_eq!(whole_of(&[long, other, both.clone()]), Ok(both));
    }

    #[test]
    fn the_chains_of_a_store_are_told_apart_and_what_follows_nothing_does_not_hold() {
        let (one, other) = (ledger(&["a", "b"]), ledger(&["a", "c"]));
        let line = |ledger: &[u8], at: usize| ledger.split_inclusive(|b| *b == b'\n').nth(at).unwrap_or(b"").to_vec();
        let found = chains(&[line(&one, 0), line(&one, 1), line(&other, 1)]);
        assert_eq!(found, [one.clone(), other]);
        let torn = chains(&[line(&one, 1)]);
        assert!(torn.len() == 1 && !ErasureContent::scan(&torn[0]).problems.is_empty());
        assert!(!holds_all(&one, &torn[0]));
    }
}
