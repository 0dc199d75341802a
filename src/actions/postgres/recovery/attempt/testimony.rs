//! What the old data directory tells of the lost server: the WAL it flushed beyond the archive, and how far.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::rescue::{Tail, tail_of};
use super::Recovering;
use crate::action::{ActionError, HostError, ReadFiles};
use crate::actions::postgres::restore::flushed::Flushed;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::old::Old;
use crate::pgformat::WalFileName;

impl Recovering<'_> {
    /// The last position the lost server is known to have flushed.
    ///
    /// A folder that an unfinished recovery left is no witness of that server: of it counts only what its
    /// recovery knew. Else a second try would call a loss none. One that opened with all that was there is the lost server
    /// itself: it may have been written to for years, though nobody proved that it archives.
    pub(crate) fn witnessed(
        &self,
        files: &dyn ReadFiles,
        old: Option<&Old>,
        tail: &Tail,
    ) -> Result<Option<Flushed>, ActionError> {
        let Some(old) = old else { return Ok(None) };
        let unfinished = Marker::read(files, &old.dir)?;
        let served = |marker: &Marker| marker.has_opened() && marker.opened.is_some_and(|opened| !opened.is_short);
        let Some(unfinished) = unfinished.filter(|marker| !served(marker)) else { return Ok(tail.end) };
        let message = format!(
            "`{}` was left by the unfinished recovery of run `{}`, so it does not tell what the lost server had flushed",
            old.dir.display(),
            unfinished.run
        );
        self.context.cx.reporter.note(message, json!({ "run": unfinished.run }));
        Ok(unfinished.flushed())
    }

    /// Judges what the old data directory flushed beyond the archive. Changes nothing.
    pub(crate) async fn tail(&self, marker: &Marker, old: Option<&Old>) -> Result<Tail, ActionError> {
        if self.context.cluster.is_scratch() {
            return Ok(Tail::default());
        }
        let files = self.context.cx.host.read_files();
        let unreadable = |error: &HostError| ActionError::retryable("the old WAL cannot be read").because(error);
        let folder = match old {
            Some(old) => old.wal(&self.context.cx.about.run, files.as_ref()).map_err(|error| unreadable(&error))?,
            None => None,
        };
        let Some(folder) = folder else {
            let why = match old {
                Some(old) => format!("the old data directory `{}` holds no `pg_wal`", old.dir.display()),
                None => format!("there is no old data directory at `{}`", self.context.cluster.pgdata.display()),
            };
            let message = format!("{why}: what was committed after the newest archived WAL cannot be rescued");
            self.context.cx.reporter.note(message, serde_json::Value::Null);
            return Ok(Tail::default());
        };
        if let Some(other) = old.and_then(|old| old.of_another(marker.system_id, files.as_ref())) {
            let message = format!(
                "`{}` holds cluster {other}, not {} as the backup does: nothing of its WAL belongs to what is recovered",
                self.context.cluster.pgdata.display(),
                marker.system_id
            );
            self.context.cx.reporter.note(message, json!({ "cluster": other.to_string() }));
            return Ok(Tail::default());
        }
        let archived: BTreeSet<WalFileName> = self.context.wal_archive(marker).names().await?.into_keys().collect();
        let tail = tail_of((marker.system_id, marker.segment_size), archived, (files, folder)).await?;
        let mut tail = tail.map_err(|error| unreadable(&error))?;
        let unfinished =
            old.map(|old| Marker::read(self.context.cx.host.read_files().as_ref(), &old.dir)).transpose()?;
        tail.given_up = unfinished.flatten().and_then(|unfinished| unfinished.given_up);
        if let Some(torn) = &tail.torn {
            self.context.cx.reporter.note(torn.words(), json!({ "proven": torn.proven.to_string() }));
        }
        if !tail.unproven.is_empty() {
            let message = format!("{} old WAL files prove nothing and were left", tail.unproven.len());
            self.context.cx.reporter.note(message, json!({ "files": tail.unproven }));
        }
        Ok(tail)
    }
}
