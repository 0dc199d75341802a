//! What the server's own WAL adds to the archive of a stanza, looked at before a restore: where another program archives
//! meanwhile, the archive ends long before the server, and nothing leads from the one to the other.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::choice::Chosen;
use super::repository::Repository;
use super::stanza::Stanza;
use super::view::StanzaStatus;
use crate::action::{ActionError, CheckContext, Findings, ReadFiles, ReadHost};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::recovery::rescue::{Tail, tail_of};
use crate::actions::postgres::recovery::unclosed;
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::restore::recovery_target::RecoveryTarget;
use crate::actions::postgres::stores::archive::broken;
use crate::catalog::recovery::{Archive, Goal, Refusal};
use crate::catalog::wal_view;
use crate::pgformat::{SegmentName, SegmentSize, WalFileName};

/// A restore that was chosen, and what is looked at for it.
pub(super) struct Remainder<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) stanza: &'a Stanza,
    pub(super) chosen: &'a Chosen,
    pub(super) recovery_target: &'a RecoveryTarget,
    pub(super) cx: &'a CheckContext,
}

impl Remainder<'_> {
    /// Judges whether the archive and the server's own WAL together lead as far as the restore is to go. A hole refuses the
    /// newest state; whether another target lies before it is known only when the WAL is read.
    ///
    /// # Errors
    /// Fails when the repository or the server's WAL cannot be read.
    pub(super) async fn judge(&self, findings: Findings) -> Result<Findings, ActionError> {
        if self.cluster.is_scratch() {
            return Ok(match self.chosen.way.whole() {
                Ok(()) => findings,
                Err(hole) => findings.warn(hole.to_string(), "a drill has no other WAL than the archive's"),
            });
        }
        let (archive, is_counted) = self.together().await?;
        let base = self.chosen.begin.base;
        let way = match archive.way(&self.recovery_target.goal, base, self.recovery_target.timeline) {
            Ok(way) => way,
            // What the archive alone leads to was found before: the restore itself judges what the old WAL changes of that.
            Err(_) => return Ok(findings),
        };
        let Err(hole) = way.whole() else { return Ok(findings) };
        // What was archived, and recycled, between the two looks is there the second time.
        let (again, _) = self.together().await?;
        let again = again.way(&self.recovery_target.goal, base, self.recovery_target.timeline);
        let is_still =
            matches!(again.map(|way| way.whole()), Ok(Err(same)) if unclosed::first(&same) == unclosed::first(&hole));
        let fact = match self.ends() {
            Some(end) => format!(
                "{hole}: the archive of stanza `{}` ends at `{end}`, and commits since are not in it",
                self.stanza.name
            ),
            None => hole.to_string(),
        };
        let is_asked = self.recovery_target.goal == Goal::Newest && self.cx.ahead;
        Ok(match is_asked && is_counted && is_still && unclosed::is_certain(&hole, self.cx) {
            true => findings.refuse(fact, self.ways_out(&hole)),
            false => findings.warn(
                fact,
                "a target behind the hole is refused before anything of the data is touched; one before it is reached",
            ),
        })
    }

    /// The archive with what the server has beyond it; and whether what it has is known.
    async fn together(&self) -> Result<(Archive, bool), ActionError> {
        let (shelved, host): (_, Arc<dyn ReadHost>) = (&self.chosen.shelved, Arc::clone(&self.cx.host));
        let repository = Repository::new(self.stanza, shelved.clone(), host, None);
        let viewed = wal_view(&repository, repository.prefix(), (shelved.system_id, shelved.size)).await;
        let mut archive = viewed.map_err(|error| broken(&error))?;
        let Some(tail) = self.tail(&archive).await? else {
            let old = Old::find(self.cluster, &self.cx.about.run, self.cx.host.read_files().as_ref());
            return Ok((archive, matches!(old, Ok(None))));
        };
        archive.aside.extend(tail.segments());
        archive.branches.extend(tail.branches.clone());
        Ok((archive, true))
    }

    async fn tail(&self, archive: &Archive) -> Result<Option<Tail>, ActionError> {
        let (files, run) = (self.cx.host.read_files(), &self.cx.about.run);
        let unread = |error| ActionError::retryable("the server's own WAL cannot be read").because(&error);
        let Some(old) = Old::find(self.cluster, run, files.as_ref()).map_err(unread)? else { return Ok(None) };
        let (system_id, size) = (self.chosen.shelved.system_id, self.chosen.shelved.size);
        let is_own = old.control(files.as_ref()).is_some_and(|control| control.system_id == system_id);
        let folder = old.wal(run, files.as_ref()).map_err(unread)?.filter(|_| is_own);
        let Some(folder) = folder else { return Ok(None) };
        let segments = archive.segments.keys().copied().map(WalFileName::Segment);
        let archived: BTreeSet<WalFileName> =
            segments.chain(archive.branches.keys().copied().map(WalFileName::History)).collect();
        tail_of((system_id, size), archived, (files, folder)).await?.map(Some).map_err(unread)
    }

    /// The last segment that the archive leads to.
    fn ends(&self) -> Option<SegmentName> {
        self.chosen.way.reach.last
    }

    fn ways_out(&self, hole: &Refusal) -> String {
        let entry = &self.cluster.entry;
        let own = match entry.store {
            Some(_) => format!("recover from the store's own backups: `runbook restore {}`; or ", self.cluster.name),
            None => String::new(),
        };
        let missing = match unclosed::first(hole) {
            Some(first) => {
                format!("bring `{first}` and what follows into the repository (`pgbackrest archive-push FILE`)")
            }
            None => "bring the WAL into the repository".to_owned(),
        };
        format!(
            "{own}{missing}; or give up what was committed since: `-p recover_to=TIME`, a time before the last commit in the archive"
        )
    }
}

/// Says where the archive of a stanza ends, where the server's own WAL does not begin there: by names alone, which is enough
/// for a plan.
pub(super) fn behind(standing: &StanzaStatus, pgdata: &Path, files: &dyn ReadFiles) -> Option<SegmentName> {
    let end: SegmentName = standing.archives.last()?.newest.as_deref()?.parse().ok()?;
    let size =
        standing.backups.iter().rev().find_map(super::view::Listed::segment_size).unwrap_or(SegmentSize::DEFAULT);
    let listed = files.list(&pgdata.join("pg_wal")).ok()?;
    let own: BTreeSet<SegmentName> = listed.iter().filter_map(|entry| entry.name.to_str()?.parse().ok()).collect();
    let is_later = |name: &SegmentName| name.timeline() == end.timeline() && *name > end;
    (own.iter().any(is_later) && !own.contains(&end.next(size))).then_some(end)
}
