//! Which backup of a stanza a goal is reached from, before anything is touched.

use std::sync::Arc;

use super::repository::{Repository, Shelved};
use super::stanza::{QUIET, Stanza};
use super::stanza_create::StanzaCreate;
use super::view::{self, Listed, StanzaStatus};
use crate::action::{Action as _, ActionError, CheckContext, ReadHost};
use crate::actions::postgres::restore::recovery_target::RecoveryTarget;
use crate::base::units::ByteSize;
use crate::catalog::Tablespace;
use crate::catalog::recovery::{BaseBackup, Way, choose};
use crate::catalog::wal_view;

/// A backup with the way from it.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// The backup.
    pub(super) listed: Listed,
    /// The same as a beginning.
    pub(super) begin: BaseBackup,
    /// The archive beside it.
    pub(super) shelved: Shelved,
    /// The way to the goal, as far as names tell.
    pub(super) way: Way,
}

impl Chosen {
    /// What lies outside the data directory of the backup.
    ///
    /// # Errors
    /// Fails when pgBackRest does not tell it.
    pub(super) async fn tablespaces(
        &self,
        stanza: &Stanza,
        host: &dyn ReadHost,
    ) -> Result<Vec<Tablespace>, ActionError> {
        let mut options = vec![format!("--set={}", self.listed.id), format!("--repo={}", self.shelved.repo)];
        options.extend([QUIET, "--output=json"].map(str::to_owned));
        view::tablespaces(&stanza.ask(host, stanza.words(("info", &options), &[])).await?)
    }

    /// The choice in words.
    pub(super) fn words(&self) -> String {
        let Self { listed, way, .. } = self;
        format!(
            "backup `{}` ({}, {}, ended {}) and at most {} WAL segments on timeline {} lead there",
            listed.id,
            listed.tier,
            ByteSize(listed.plain_bytes),
            listed.stopped_at,
            way.path.len(),
            way.followed
        )
    }
}

/// Finds the newest backup that leads to a goal, or judges the one that was named.
///
/// # Errors
/// Fails when the stanza is not in order, when no backup leads there, and when the repository gives no answer.
pub(super) async fn choice(
    stanza: &Stanza,
    standing: &StanzaStatus,
    (recovery_target, named): (&RecoveryTarget, Option<&str>),
    host: &Arc<dyn ReadHost>,
) -> Result<Chosen, ActionError> {
    sound(standing)?;
    if let Some(label) = named
        && !standing.backups.iter().any(|backup| backup.id == label)
    {
        let fact = format!("stanza `{}` has no backup `{label}`", standing.stanza);
        return Err(ActionError::fatal(fact).help("`pgbackrest.info` lists the backups there are"));
    }
    let current = standing.system_id();
    let mut refused = None;
    for shelved in backup_destinations(standing) {
        if named.is_none() && Some(shelved.system_id) != current {
            continue;
        }
        let mut begins = begins(standing, &shelved, named);
        if begins.is_empty() {
            continue;
        }
        let repository = Repository::new(stanza, shelved.clone(), Arc::clone(host), None);
        let viewed = wal_view(&repository, repository.prefix(), (shelved.system_id, shelved.size)).await;
        let archive = viewed.map_err(|error| crate::actions::postgres::stores::archive::broken(&error))?;
        // One that a person names is taken at his word: pages with a wrong checksum may be better than nothing.
        if named.is_some() {
            begins.iter_mut().for_each(|begin| begin.fault = None);
        }
        let (choices, passed_over) = choose(&archive, &begins, &recovery_target.goal, recovery_target.timeline);
        if let Some(choice) = choices.into_iter().next() {
            let listed = standing.backups.iter().find(|one| one.id == choice.backup.id && one.repo == shelved.repo);
            if let Some(listed) = listed.cloned() {
                return Ok(Chosen { listed, begin: choice.backup.clone(), shelved, way: choice.way });
            }
        }
        refused = refused.or_else(|| passed_over.into_iter().next());
    }
    Err(match refused {
        Some(passed) => {
            let error = ActionError::from(passed.why);
            let fact = format!("no backup of stanza `{}` leads there: `{}`: {error}", standing.stanza, passed.id);
            let help = error.info().help.clone();
            ActionError::fatal(fact).help(help.unwrap_or_else(|| "`pgbackrest.info` lists the backups".to_owned()))
        }
        None => ActionError::fatal(format!("stanza `{}` has no backup that can be restored", standing.stanza))
            .help("a backup of a stopped server has no place in the WAL; take one with `pgbackrest.backup`"),
    })
}

/// Refuses a stanza that is not in order.
///
/// # Errors
/// Fails with pgBackRest's own words.
pub(super) fn sound(standing: &StanzaStatus) -> Result<(), ActionError> {
    let fact = || format!("stanza `{}` of pgBackRest: {}", standing.stanza, standing.words());
    match standing.code {
        0 => Ok(()),
        1 | 3 => Err(ActionError::fatal(fact())
            .help("name the right stanza, or make it: `pgbackrest stanza-create` as the server's user")),
        2 => Err(ActionError::fatal(fact()).help("take a backup first (`pgbackrest.backup`)")),
        _ => Err(ActionError::retryable(fact()).help(
            "`pgbackrest info` tells which repository fails; `repo: NUMBER` under `pgbackrest` of the inventory reads another one alone",
        )),
    }
}

/// Says that a stanza is not there yet, where an earlier step of the same run makes it: then nothing can be judged before.
pub(super) fn to_be_made(standing: &StanzaStatus, cx: &CheckContext) -> Option<String> {
    let is_made = matches!(standing.code, 1 | 3) && cx.comes_after(StanzaCreate::SPEC.name);
    is_made.then(|| format!("stanza `{}` is not there yet: a step before this one makes it", standing.stanza))
}

impl StanzaStatus {
    /// What is wrong with the stanza, and what to do; `None` for one that is in order, with backups or without.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let error = sound(self).err().filter(|_| self.code != 2)?;
        let help = error.info().help.clone().map(|help| format!("; {help}")).unwrap_or_default();
        Some(format!("{}{help}", self.words()))
    }

    /// Its status, and of several repositories which are not in order.
    fn words(&self) -> String {
        let each = self.unsound().filter(|_| self.repositories.len() > 1);
        format!("{}{}", self.status, each.map(|each| format!(" ({each})")).unwrap_or_default())
    }
}

/// The archive that lies beside a backup.
///
/// # Errors
/// Fails when pgBackRest lists the backup no more.
pub(super) fn shelved_of(standing: &StanzaStatus, label: &str) -> Result<Shelved, ActionError> {
    let listed = standing.backups.iter().find(|backup| backup.id == label);
    listed.and_then(Shelved::beside).ok_or_else(|| {
        ActionError::fatal(format!("stanza `{}` lists backup `{label}` no more", standing.stanza))
            .help("its WAL cannot be found without it: look at `pgbackrest info`")
    })
}

/// The archives of a stanza that have backups, in the order of the repositories.
fn backup_destinations(standing: &StanzaStatus) -> Vec<Shelved> {
    let mut all: Vec<Shelved> = Vec::new();
    for shelved in standing.backups.iter().filter_map(Shelved::beside) {
        if !all.contains(&shelved) {
            all.push(shelved);
        }
    }
    all.sort_by_key(|shelved| shelved.repo);
    all
}

fn begins(standing: &StanzaStatus, shelved: &Shelved, named: Option<&str>) -> Vec<BaseBackup> {
    let lies_there = |one: &&Listed| one.repo == shelved.repo && one.archive_id.as_ref() == Some(&shelved.id);
    let wanted = |one: &&Listed| named.is_none_or(|label| label == one.id);
    standing.backups.iter().filter(lies_there).filter(wanted).filter_map(Listed::beginning).collect()
}
