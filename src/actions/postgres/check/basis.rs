//! What the content of a restored database is held against, and whether that is comparable at all.
//!
//! Facts belong to a moment. Those of a dump are its own snapshot's; those of a base backup hold at the end of the
//! backup, where `immediate` ends. After a replay to any other moment they differ on every database that lives, so
//! anything else is "not comparable": an error, never a check that passed or failed.

use crate::action::{ActionError, BackupHandle, ReadFiles, ReadStore};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::recovery::proof;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::content::FactsDepth;
use crate::actions::postgres::stores::archive;
use crate::catalog::attest::{Verdict, proofs};
use crate::catalog::{self, Backup, ContentFacts, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP};
use crate::pgformat::{Lsn, Timeline};

/// What content is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Basis {
    /// Facts that were kept.
    Known(ContentFacts),
    /// Nothing yet that tells as much: this restore is the first to the end of the backup at which so much is looked at,
    /// and its facts are to be kept. What is known less deeply is compared all the same.
    First(Option<ContentFacts>),
}

/// The restored cluster and where it came from.
pub(super) struct Origin<'a> {
    /// The restored cluster.
    pub(super) cluster: &'a Cluster,
    /// The store of the backup, with the proofs that count.
    pub(super) store: &'a dyn ReadStore,
    /// The machine's files.
    pub(super) files: &'a dyn ReadFiles,
}

impl Origin<'_> {
    /// Opens the very backup that was restored.
    ///
    /// # Errors
    /// Fails for a backup of another database, and when the store has it no more.
    pub(super) async fn backup(&self, handle: &BackupHandle) -> Result<Backup, ActionError> {
        if handle.database != self.cluster.name {
            let fact =
                format!("backup `{}` is of database `{}`, not of `{}`", handle.id, handle.database, self.cluster.name);
            return Err(ActionError::fatal(fact).help("give the backup that was restored"));
        }
        let prefix = self.cluster.entry.prefix.as_deref().unwrap_or(&self.cluster.name);
        catalog::open(self.store, prefix, handle).await.map_err(|error| archive::broken(&error))
    }

    /// Finds what the content of the restored cluster must be, as deep as it is wanted.
    ///
    /// # Errors
    /// Fails when nothing is comparable, and says why.
    pub(super) async fn basis(
        &self,
        (backup, wanted): (&Backup, FactsDepth),
        session: &mut Session,
    ) -> Result<Basis, ActionError> {
        let manifest = &backup.manifest;
        if let Some(facts) = &manifest.facts {
            return match wanted.is_in(facts) {
                true => Ok(Basis::Known(facts.clone())),
                false => Err(shallow(&manifest.id)),
            };
        }
        match manifest.kind.as_str() {
            KIND_POSTGRES_BASE => {}
            KIND_POSTGRES_DUMP => return Err(incomparable(&format!("dump `{}` was taken without facts", manifest.id))),
            kind => return Err(incomparable(&format!("a `{kind}` has no facts of tables"))),
        }
        let end = manifest.cluster().map_err(|error| archive::broken(&error))?.stop_lsn;
        let reached = self.reached(session).await?;
        if reached != end {
            let fact = format!("the backup ends at {end}, this server was recovered to {reached}");
            return Err(incomparable(&fact));
        }
        let kept = proofs(self.store, &backup.place()).await.map_err(|error| archive::broken(&error))?;
        let passed = kept.into_iter().rev().map(|signed| signed.proof);
        let known: Vec<ContentFacts> = passed
            .filter(|proof| proof.manifest == backup.digest && proof.verdict == Verdict::Passed)
            .filter_map(|proof| proof.facts)
            .collect();
        let deep = known.iter().find(|facts| wanted.is_in(facts)).cloned();
        Ok(deep.map_or_else(|| Basis::First(known.into_iter().next()), Basis::Known))
    }

    /// Where the recovery of the server ended, or stands.
    async fn reached(&self, session: &mut Session) -> Result<Lsn, ActionError> {
        // Not the timeline of the last checkpoint: that may be the one before.
        let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END, \
                   CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END";
        let found = session.query(sql).await?;
        if let Some(lsn) = found.first() {
            return lsn
                .parse()
                .map_err(|_| ActionError::fatal(format!("the server's position `{lsn}` makes no sense")));
        }
        let timeline = found.at(0, 1).and_then(|text| u32::from_str_radix(text, 16).ok()).map(Timeline);
        let timeline = timeline.ok_or_else(|| ActionError::fatal("the server does not tell its timeline"))?;
        proof::fork(self.cluster, timeline, self.files)
    }
}

/// A dump's moment is over: what was not looked at then is never known.
fn shallow(id: &str) -> ActionError {
    ActionError::fatal(format!("facts are not comparable: backup `{id}` has counts of its tables, and no hashes"))
        .help("ask for `facts: counts`; take the next one with `facts: hashes`")
}

fn incomparable(why: &str) -> ActionError {
    ActionError::fatal(format!("facts are not comparable: {why}")).help(
        "facts hold for a restored dump, and for a base backup recovered with `target: immediate`; \
         elsewhere prove with `rows`, `sql` and `newest`",
    )
}
