//! `wal push`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::{End, PUSH_FAILED, pgdata, runtime};
use crate::base::clock::monotonic;
use crate::pgformat::{ArchiverNotes, WalFileName, is_number_taken};
use crate::wal::acks::{Acks, Freshness};
use crate::wal::backlog::Backlog;
use crate::wal::last_failure;
use crate::wal::missing_copies::MissingCopies;
use crate::wal::push_batch::{BatchFile, PushBatch, batch, noted};
use crate::wal::spool::Spool;
use crate::wal::target_store::{Arrival, Kept, TargetStores};
use crate::wal::{Config, Identity, Pushed, WalError};

/// How long the server may wait for what other segments owe.
const COPYING: Duration = Duration::from_secs(10);

pub(super) fn push(config: &Config, path: &Path) -> Result<End, (u8, WalError)> {
    config.for_writing().map_err(failed)?;
    let pgdata = pgdata(config);
    let identity = Identity::of(config, &pgdata).map_err(failed)?;
    let path = pgdata.join(path);
    let ended = store((config, &pgdata), identity, &path);
    keep((config, &pgdata), identity, &path, &ended);
    let alarm = alarm(&identity, &path);
    match (ended, alarm) {
        (Ok(End { code, line, log }), Some(alarm)) => {
            let line = line.map_or_else(|| alarm.clone(), |line| format!("{line}; {alarm}"));
            Ok(End { code, line: Some(line), log })
        }
        (Err(error), Some(alarm)) => Ok(End { code: PUSH_FAILED, line: Some(format!("{error}; {alarm}")), log: None }),
        (ended, None) => ended.map_err(failed),
    }
}

/// Keeps what a failure said for whoever asks how archiving stands.
fn keep((config, pgdata): (&Config, &Path), identity: Identity, path: &Path, ended: &Result<End, WalError>) {
    let name = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
    let (Some(name), Ok(Some(spool))) = (name, Spool::open(config, pgdata, identity.system_id)) else { return };
    let failed = match ended {
        Ok(End { code: 0, .. }) => None,
        Ok(End { line, .. }) => Some(line.clone().unwrap_or_default()),
        Err(error) => Some(error.to_string()),
    };
    // Of several each is named; of one its address is.
    let only = config.stores().next().filter(|_| config.stores().count() == 1);
    let failed = failed.map(|why| only.map_or_else(|| why.clone(), |entry| format!("`{}`: {why}", entry.url)));
    last_failure::note(&spool, name, failed.as_deref());
}

fn failed(error: WalError) -> (u8, WalError) {
    (PUSH_FAILED, error)
}

fn store((config, pgdata): (&Config, &Path), identity: Identity, path: &Path) -> Result<End, WalError> {
    let name: WalFileName = path.file_name().and_then(OsStr::to_str).unwrap_or_default().parse()?;
    if matches!(name, WalFileName::History(_)) && std::fs::read(path).is_ok_and(|content| is_number_taken(&content)) {
        // A standby with `archive_mode = always` asks for it without end otherwise.
        let line = format!(
            "`{name}` only keeps the number of a timeline whose history file is lost: there is nothing to store"
        );
        return Ok(End { code: 0, line: Some(line), log: None });
    }
    let spool = Spool::open(config, pgdata, identity.system_id);
    let acks = match &spool {
        Ok(Some(spool)) => Acks::open(spool).map(Some),
        Ok(None) | Err(_) => Ok(None),
    };
    let trouble = spool.as_ref().err().or(acks.as_ref().err());
    let trouble =
        trouble.map(|error| format!("the spool cannot be used, so nothing is pushed ahead or noted: {error}"));
    let (spool, acks) = (spool.ok().flatten(), acks.ok().flatten());
    let noted = acks.as_ref().and_then(|acks| Some((acks, noted(acks, name, path)?)));
    let has_folder = config.stores().any(|entry| entry.url.starts_with("file://"));
    if noted.is_some_and(|(_, freshness)| freshness == Freshness::Fresh) && !has_folder {
        return Ok(End { code: 0, line: None, log: None });
    }
    let target_stores = TargetStores::open(config, identity)?;
    let runtime = runtime()?;
    if let Some((acks, freshness)) = noted {
        match runtime.block_on(target_stores.keep(name, freshness, spool.as_ref())) {
            Kept::There => {
                runtime.shutdown_background();
                return Ok(End { code: 0, line: None, log: None });
            }
            // What else was noted there is no better.
            Kept::Lost => acks.keep(&BTreeSet::new()),
            Kept::Untold => {}
        }
    }
    let (began, within) = (monotonic(), config.timeout());
    let work = PushBatch { target_stores: &target_stores, spool: spool.as_ref(), acks: acks.as_ref(), within };
    let own = BatchFile { name, path: path.to_owned() };
    let batch = batch(acks.as_ref(), &own, config.ahead());
    let stored = runtime.block_on(async {
        let arrival = work.push(own, batch).await?;
        if spool.is_none() && !arrival.lagging.is_empty() {
            return Err(unnoted(&target_stores, (name, &arrival), trouble.as_deref().unwrap_or_default()));
        }
        let copying = COPYING.min(within.saturating_sub(began.elapsed()));
        Ok::<_, WalError>(words((&target_stores, spool.as_ref()), (name, &arrival), copying).await)
    });
    // What is still under way is all or nothing wherever it goes.
    runtime.shutdown_background();
    let (code, words) = match stored {
        Ok(words) => (0, words),
        Err(error) => (PUSH_FAILED, vec![error.to_string()]),
    };
    let words: Vec<String> = words.into_iter().chain(trouble).collect();
    Ok(End { code, line: (!words.is_empty()).then(|| words.join("; ")), log: None })
}

/// Without a spool nobody would know later what a store lacks: then all of them must have it.
fn unnoted(target_stores: &TargetStores, (name, arrival): (WalFileName, &Arrival), trouble: &str) -> WalError {
    let (wanted, lacking) = (target_stores.all.len(), arrival.lagging.len());
    let why = format!("{}; that cannot be noted: {trouble}", target_stores.in_words(&arrival.lagging));
    WalError::TooFew { name, safe: wanted.saturating_sub(lacking), wanted, why }
}

/// What is worth saying of a success.
async fn words(
    (target_stores, spool): (&TargetStores, Option<&Spool>),
    (name, arrival): (WalFileName, &Arrival),
    copying: Duration,
) -> Vec<String> {
    let mut words = Vec::new();
    if !arrival.lagging.is_empty() {
        words.push(format!("`{name}` is safe, but not in every store: {}", target_stores.in_words(&arrival.lagging)));
    } else if arrival.pushed == Pushed::WasThere {
        words.push(format!("`{name}` was in the archive already, with the same content"));
    }
    if let Some(spool) = spool.filter(|_| target_stores.all.len() > 1) {
        let missing_copies = MissingCopies::of(spool);
        // What is not copied now is copied with a later push.
        words.extend(
            tokio::time::timeout(copying, missing_copies.pay(target_stores, arrival)).await.unwrap_or_default(),
        );
    }
    words
}

/// Says when what waits threatens to fill the disk.
fn alarm(identity: &Identity, path: &Path) -> Option<String> {
    let pg_wal = path.parent().filter(|folder| folder.join(ArchiverNotes::FOLDER).is_dir())?;
    Backlog::of(pg_wal, identity.segment_size?).ok()?.alarm()
}
