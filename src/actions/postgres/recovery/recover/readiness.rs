//! Whether a recovery can begin: everything that is found out before the first byte is touched.

use std::path::Path;

use super::super::emptied::Unlogged;
use super::super::forecast::RecoveryForecast;
use super::super::old_data::Replaced;
use super::super::{archive_access, crashed, moment, old_data, replay_plan, replica};
use super::{NOT_OURS, RecoverParams};
use crate::action::{ActionError, CheckContext, Findings, Late, ReadFiles, ReadHost};
use crate::actions::postgres::archiving;
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::{self, Owner};
use crate::actions::postgres::cluster::server::{self, Programs};
use crate::actions::postgres::cluster::{ha_manager, live};
use crate::actions::postgres::restore::marker::{self, Marker};
use crate::actions::postgres::stores::archive::{self, WalArchive};
use crate::actions::postgres::stores::target::Goal;
use crate::wal::Keys;

const ANOTHER: &str = "after `pg_upgrade` or `initdb` a cluster has a prefix of its own (`prefix` of the entry): recover from \
                       that, or bring the older state back beside it (`runbook restore DATABASE --side`), or into an entry of its own";

const UNRESCUABLE: &str = "let one of the stores of its WAL be written to (`read_only` of the store in the inventory); or bring the older state \
                           back beside it (`runbook restore DATABASE --side`); or, where nobody wants what it holds, move that folder away first";

/// A recovery that is to begin.
pub(super) struct Readiness<'a> {
    /// Our own program, which the server calls to fetch WAL.
    pub(super) program: &'a Path,
    /// What is asked for.
    pub(super) params: &'a RecoverParams,
    /// What may be looked at.
    pub(super) cx: &'a CheckContext,
}

impl Readiness<'_> {
    /// Judges it.
    ///
    /// # Errors
    /// Fails when a store or the machine gives no answer.
    pub(super) async fn judge(&self) -> Result<Findings, ActionError> {
        let Self { params, cx, .. } = *self;
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = moment::judged(params.target.goal().ok().as_ref(), cx, Findings::default());
        if findings.refused() {
            return Ok(findings);
        }
        if let Some((fact, help)) = self.unusable(&cluster, cx.host.as_ref()).await? {
            return Ok(findings.refuse(fact, help));
        }
        if let Some(fact) = ha_manager::in_charge(&cluster, cx.host.as_ref()).await? {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        if let Some(fact) = archive_access::refused(&cluster, cx).await? {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        // What waits has its data in its place: there is nothing to replace any more.
        if params.instance.is_none()
            && let Some(fact) = enclosed::replaced((&cluster, &[]), &cx.about, cx.host.read_files().as_ref())
        {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        match (&params.instance, cx.ahead) {
            (Some(_), true) => Ok(findings.pending("what waits is looked at when the step starts")),
            (Some(_), false) => {
                Ok(findings.pass("the program that fetches WAL is there, and nothing looks after the server"))
            }
            (None, true) => self.foresee(&cluster, findings).await,
            (None, false) => self.judge_staged(&cluster, findings).await,
        }
    }

    /// What can be told before anything is staged.
    async fn foresee(&self, cluster: &Cluster, findings: Findings) -> Result<Findings, ActionError> {
        let Self { params, cx, .. } = *self;
        let findings = findings.pending("the server is looked at when the step starts");
        let files = cx.host.read_files();
        if let Some(fact) = self.foreign(cluster, files.as_ref())? {
            return Ok(findings.refuse(fact, NOT_OURS));
        }
        let known = replica::known(cluster, cx).await;
        if let Some(fact) = replica::risen(cluster, known, cx.about.secrets.as_ref()).await {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        // A standby has what happened since a target as well: it helps only who wants the newest state.
        let faster = match params.target.goal() {
            Ok(Goal::Newest) => replica::faster(cluster, known, cx).await,
            Ok(Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_)) | Err(_) => None,
        };
        let findings = self.crashed(cluster, findings).await?;
        let findings = faster.into_iter().fold(findings, |all, fact| all.warn(fact.what, fact.help));
        let attached = replica::attached(cluster, cx.about.secrets.as_ref()).await;
        let findings = attached.into_iter().fold(findings, |all, fact| all.warn(fact.what, fact.help));
        let findings = self.emptied(cluster, findings).await;
        let place = (cluster, params.wal_location.as_ref());
        let findings = match old_data::replaced(place, params.target.time, cx).await? {
            None => findings,
            Some(Replaced::Own(words)) => findings.pass(words),
            // Whoever means it stops that server by hand: a procedure would take away what nothing here has a backup of.
            Some(Replaced::Another(words)) if !live::signs(cluster, files.as_ref()).await?.is_empty() => {
                return Ok(findings.refuse(
                    format!("{words}; and its server is running"),
                    format!("{ANOTHER}; if the running server is to go, stop it yourself first"),
                ));
            }
            Some(Replaced::Another(words)) => findings.warn(words, ANOTHER),
            Some(Replaced::Unrescuable(words)) => return Ok(findings.refuse(words, UNRESCUABLE)),
        };
        let recovery_target = params.recovery_target().map_err(|fault| ActionError::fatal(fault.message))?;
        let findings =
            RecoveryForecast::of(place, params.staged.as_ref(), cx).told(&recovery_target, cx, findings).await?;
        archiving::foretold((cluster, self.program), cx, findings).await
    }

    /// Says of a server that merely crashed that a start brings the newest state back. To an earlier one it does not help.
    async fn crashed(&self, cluster: &Cluster, findings: Findings) -> Result<Findings, ActionError> {
        let files = self.cx.host.read_files();
        let wants_newest = matches!(self.params.target.goal(), Ok(Goal::Newest));
        let Some(fact) = crashed::told(cluster, files.as_ref()).filter(|_| wants_newest) else { return Ok(findings) };
        // What runs has such data, too.
        let is_down = live::signs(cluster, files.as_ref()).await?.is_empty();
        Ok(if is_down { findings.warn(fact.what, fact.help) } else { findings })
    }

    /// Names the tables of the server that answers, if it does, which will be empty afterwards.
    async fn emptied(&self, cluster: &Cluster, findings: Findings) -> Findings {
        if cluster.is_scratch() {
            return findings;
        }
        let unlogged = Unlogged::of(cluster, self.cx.about.secrets.as_ref()).await.unwrap_or_default();
        match unlogged.told() {
            Some(told) => findings.warn(
                format!("tables will be empty, as every recovery leaves them: {told}"),
                "they are in no backup and no WAL: copy what is needed of them before, as with `pg_dump -t`",
            ),
            None => findings,
        }
    }

    /// Says that the run was handed what an earlier one had staged and did not swap in.
    fn foreign(&self, cluster: &Cluster, files: &dyn ReadFiles) -> Result<Option<String>, ActionError> {
        let run = &self.cx.about.run;
        let Some(handle) = self.params.staged.as_ref().and_then(Late::known) else { return Ok(None) };
        if handle.dir == cluster.staged(files, run) || self.params.unfinished(cluster, run, files)?.is_some() {
            return Ok(None);
        }
        let fact = format!("`{}` is not where this run stages database `{}`", handle.dir.display(), cluster.name);
        Ok(Some(fact))
    }

    /// Judges the server that is to be replaced, and what is staged for it.
    async fn judge_staged(&self, cluster: &Cluster, findings: Findings) -> Result<Findings, ActionError> {
        let cx = self.cx;
        let (files, mut findings) = (cx.host.read_files(), findings);
        let ours = self.params.unfinished(cluster, &cx.about.run, files.as_ref())?.is_some();
        let signs = live::signs(cluster, files.as_ref()).await?;
        if !signs.is_empty() && !ours {
            let words: Vec<String> = signs.iter().map(ToString::to_string).collect();
            let fact = format!("the server is alive: {}", words.join("; "));
            return Ok(findings.refuse(fact, "stop it first (`postgres.stop`)"));
        }
        if let Some(fact) = cluster.linked(files.as_ref()) {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        cluster.archive()?;
        if let Some(marker) = marker::staged(files.as_ref(), cluster, &cx.about.run)? {
            findings = self.judge_way(cluster, &marker, findings).await?;
            let staged = cluster.staged(files.as_ref(), &cx.about.run);
            if !cluster.is_contained() {
                let version = server::major(files.as_ref(), &staged)?;
                Programs::of(cluster, &version, cx.host.as_ref())?.verify(&version, cx.host.as_ref()).await?;
            }
            if let Some(fact) = cluster.lacks_configuration(files.as_ref(), &staged) {
                return Ok(findings.refuse(fact.what, fact.help));
            }
        }
        Ok(findings.pass("no server is alive, and the program that fetches WAL is there"))
    }

    /// Judges whether the archive leads from the staged backup to the target.
    async fn judge_way(&self, cluster: &Cluster, marker: &Marker, findings: Findings) -> Result<Findings, ActionError> {
        let Self { params, cx, .. } = *self;
        let (_, prefix) = cluster.archive()?;
        let (mut stores, mut findings) = (archive::opened(cluster, |name| cx.store(name))?, findings);
        if let Some(location) = &params.wal_location {
            let lying = cx.store(location.store.as_str())?;
            let own = stores.remove(0);
            stores.insert(0, location.beside(own, (prefix, lying), &cx.about)?);
            findings = findings.warn(
                location.caution(),
                "import it with `runbook backups import --write`: then each file is proven once, and by its digest ever after",
            );
        }
        let goal = params.recovery_target().map_err(|fault| ActionError::fatal(fault.message))?.goal;
        let (system_id, size) = (marker.system_id, marker.segment_size);
        let stores = stores.iter().map(|store| (store.as_ref(), Keys::none())).collect();
        let wal_archive = WalArchive { stores, prefix, system_id, size };
        wal_archive.view().await?.reachable(&goal, replay_plan::base(marker))?;
        Ok(findings)
    }

    /// Says why the server could not fetch WAL, and what to do. A container that does not run is asked before its data is
    /// touched.
    async fn unusable(&self, cluster: &Cluster, host: &dyn ReadHost) -> Result<Option<(String, String)>, ActionError> {
        let Some(server_host) = ServerHost::seen(cluster, host).await?.filter(ServerHost::is_open) else {
            return Ok(None);
        };
        let owner = Owner::of(cluster, host)?;
        if cluster.is_contained() {
            return server_host.barred((self.program, &owner), host).await;
        }
        if host.find_program(&self.program.to_string_lossy()).is_none() {
            let fact = format!("`{}` cannot be run, so the server could fetch no WAL", self.program.display());
            return Ok(Some((fact, "install runbook where the server's user can run it".to_owned())));
        }
        let help = "install runbook where the server's user can run it (`/usr/local/bin`, mode 0755)";
        Ok(owner::barred(self.program, &owner, host).await.map(|fact| (fact, help.to_owned())))
    }
}
