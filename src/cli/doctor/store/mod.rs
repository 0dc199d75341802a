//! `runbook doctor --store`: what the credentials at hand really can do, found out by doing it.
//!
//! Settings are read and never changed. What is written lies below `rb-probe/`, under a name nobody else has, and is
//! removed again as far as the credentials allow; nothing else is ever deleted.

mod finding;
mod probe;
mod surroundings;

use clap::ValueEnum;
use serde_json::json;

use super::super::screen::Face;
use super::super::site::Site;
use super::super::{Exit, Failure, document, wiring};
use crate::action::StoreError;
use finding::{Finding, Verdict};

/// What the credentials are for; decides what is missing and what is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Makes backups; can delete nothing
    Backup,
    /// Reads backups
    Restore,
    /// Deletes what retention lets go
    Expire,
    /// Does everything: the store of a single machine
    Any,
}

const UNREACHED: &str =
    "nothing else was tried: mount the disk, or look at the server, the way there, and the store's `url`";

/// Probes a store. Without a role that of a folder of this machine is [`Role::Any`]: its user can always delete, and no
/// policy could say otherwise.
pub(super) fn examine(site: &Site, name: &str, role: Option<Role>) -> Result<Vec<Finding>, Failure> {
    let entry = site.store_entry(name)?;
    let role = role.unwrap_or(if entry.url.starts_with("file://") { Role::Any } else { Role::Backup });
    let store = site.store(name)?;
    // A second way to the same place, on which nothing but CRC32C is spoken.
    let strict = crate::language::inventory::StoreEntry {
        checksums: crate::language::inventory::Checksums::Crc32c,
        ..entry.clone()
    };
    let strict = site.opening(name, &strict).open_existing().ok().filter(|_| entry.url.starts_with("s3://"));
    wiring::block_on(async {
        let mut findings = surroundings::look(site, name, entry);
        if let Err(error @ StoreError::Unavailable { .. }) = store.browse("").await {
            findings.push(Finding::new("reach", Verdict::Missing, error.to_string()).advise(UNREACHED));
            return findings;
        }
        findings.extend(surroundings::archiving(site, name).await);
        findings.extend(probe::Probe { store: &*store, strict: strict.as_deref(), role }.all().await);
        findings.extend(surroundings::settings(&*store, entry).await);
        findings
    })
}

/// Prints what was found.
pub(super) fn print(store: &str, findings: &[Finding], face: Face) -> Result<Exit, Failure> {
    let bad = |finding: &&Finding| matches!(finding.verdict, Verdict::Missing | Verdict::TooMuch);
    let exit = if findings.iter().any(|finding| bad(&finding)) { Exit::Refused } else { Exit::Success };
    if face == Face::Json {
        document::write_json(&json!({ "store": store, "sound": exit == Exit::Success, "findings": findings }))?;
        return Ok(exit);
    }
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or_default();
    for finding in findings {
        out!("{:8}  {:width$}  {}", finding.verdict.word(), finding.what, finding.fact);
        if let Some(advice) = &finding.advice {
            out!("{:8}  {:width$}  -> {advice}", "", "");
        }
    }
    Ok(exit)
}
