//! The whole erasure ledger: what the state folder has, and what was shipped.
//!
//! A restore often runs on another machine than the one that kept the ledger, so neither place is believed alone: one
//! must continue the other. A ledger that is nowhere is no empty one: then nothing would be forgotten, in silence.

use tokio::io::AsyncReadExt as _;

use crate::action::{ActionError, ErasureContent, ReadStore, SHIPPED, Surroundings, whole_part};

/// No line is longer.
const LONGEST_LINE: u64 = 64 << 10;

/// Reads the ledger of a run's surroundings and, where runs are shipped, what the store has of it.
///
/// # Errors
/// Retryable when the store gives no answer; fatal when there is no ledger, when the two differ, or when a line does
/// not hold.
pub(super) async fn read(about: &Surroundings, shipped: Option<&dyn ReadStore>) -> Result<ErasureContent, ActionError> {
    let here = about.erasures.bytes()?;
    let there = match shipped {
        Some(store) => lines(store).await?,
        None => Vec::new(),
    };
    let content = ErasureContent::scan(&joined(&here, &there)?);
    match content.problems.first() {
        None => Ok(content),
        Some((line, what)) => {
            Err(ActionError::fatal(format!("line {line} of the erasure ledger does not hold: {what}"))
                .help("bring back the copy that was shipped or exported; nothing was erased"))
        }
    }
}

/// Gives the longer of two ledgers of which one continues the other.
fn joined(here: &[u8], there: &[u8]) -> Result<Vec<u8>, ActionError> {
    let (whole, open) = whole_part(here);
    let mut here = whole.to_vec();
    if open {
        here.push(b'\n');
    }
    let (short, long) = if here.len() < there.len() { (&here[..], there) } else { (there, &here[..]) };
    if long.is_empty() {
        return Err(ActionError::fatal("there is no erasure ledger, neither in the state folder nor in the store of `audit.ship`")
            .help("put the exported one into the state folder as `erasure.jsonl`, or set `audit.ship`; while nobody had to be forgotten, leave `erasure` out of the database"));
    }
    if !long.starts_with(short) {
        let line = 1 + long.iter().zip(short).take_while(|(a, b)| a == b).filter(|(a, _)| **a == b'\n').count();
        let fact =
            format!("the erasure ledger of the state folder and the one that was shipped differ from line {line} on");
        return Err(ActionError::fatal(fact).help(
            "find out which one is right (`runbook backups erase-ledger list`), and bring it back; nothing was erased",
        ));
    }
    Ok(long.to_vec())
}

/// The lines that were shipped, in order.
async fn lines(store: &dyn ReadStore) -> Result<Vec<u8>, ActionError> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        let fact = format!("the erasure ledger that was shipped to store `{}` cannot be read", store.name());
        ActionError::retryable(fact).because(error).help(
            "bring the store back; if it is gone for good, take it out of `audit.ship`: then the ledger of the state folder counts \
             alone, and who was added on another machine is not in it",
        )
    };
    let mut listed = store.list(SHIPPED).await.map_err(|error| failed(&error))?;
    listed.sort_by(|one, other| one.key.as_str().cmp(other.key.as_str()));
    let mut all = Vec::new();
    for facts in listed {
        let body = store.get(&facts.key).await.map_err(|error| failed(&error))?;
        body.take(LONGEST_LINE).read_to_end(&mut all).await.map_err(|error| failed(&error))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn the_longer_ledger_counts_when_it_continues_the_shorter_one() {
        let (short, long) = (&b"a\n"[..], &b"a\nb\n"[..]);
        for (here, there) in [(short, long), (long, short), (long, b""), (b"", long)] {
            assert_eq!(joined(here, there).expect("one continues the other"), long);
        }
    }

    #[test]
    fn ledgers_that_differ_or_are_nowhere_are_refused() {
        let error = joined(b"a\nb\n", b"a\nc\nd\n").expect_err("they differ").to_string();
        assert!(error.contains("from line 2 on"), "{error}");
        assert!(joined(b"", b"").expect_err("none").to_string().contains("there is no erasure ledger"));
    }
}
