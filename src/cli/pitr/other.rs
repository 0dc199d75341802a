//! What else leads there: snapshots of volumes and backups of pgBackRest, each with what restores it.

use serde::Serialize;
use serde_json::json;

use crate::actions::pgbackrest;
use crate::base::Timestamp;
use crate::catalog::KIND_POSTGRES_SNAPSHOT;
use crate::catalog::recovery::{Edge, Goal};
use crate::cli::recoverable::Recoverable;
use crate::cli::screen::Face;
use crate::cli::site::{Site, machine};
use crate::cli::{Exit, Failure, document, wiring};
use crate::language::inventory::PgBackRest;
use crate::pgformat::{SegmentName, Timeline};
use crate::report::mask_text;
use crate::wal::outlook::{Planned, plan};

/// A backup that is none of our base backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Its kind.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What restores it.
    pub how: String,
    /// What is known of its WAL.
    pub wal: String,
}

impl Other {
    /// One line for people.
    #[must_use]
    pub fn told(&self) -> String {
        let Self { kind, id, ended_at, how, wal } = self;
        mask_text(&format!("`{id}` ({kind}), ended {ended_at}; {wal}: {how}"))
    }
}

/// Finds the newest snapshot and the newest backup of pgBackRest that lead to a goal, newest first. One that cannot be
/// asked for is told and left out.
pub fn others(site: &Site, database: &str, (goal, timeline): (&Goal, Option<Timeline>)) -> Vec<Other> {
    let mut found: Vec<Other> = Vec::new();
    for asked in [snapshot(site, database, (goal, timeline)), stanza(site, database, goal)] {
        match asked {
            Ok(other) => found.extend(other),
            Err(why) => tell!("warning: not all backups of `{database}` are known: {}", mask_text(&why)),
        }
    }
    found.sort_by_key(|other| std::cmp::Reverse(other.ended_at));
    found
}

fn snapshot(site: &Site, database: &str, (goal, timeline): (&Goal, Option<Timeline>)) -> Result<Option<Other>, String> {
    if site.inventory.databases.get(database).is_none_or(|entry| entry.store.is_none()) {
        return Ok(None);
    }
    let recoverable = Recoverable::open(site, database).map_err(|failure| failure.message)?;
    let planned = wiring::block_on(async {
        let found = recoverable.look().await?.of_kind(KIND_POSTGRES_SNAPSHOT);
        // Which backup it is does not depend on whether the goal itself comes with it.
        plan(found, (goal, Edge::Included), timeline).await
    });
    let planned = planned.map_err(|failure| failure.message)?.map_err(|error| error.to_string())?;
    let Planned::Possible(plan) = planned else { return Ok(None) };
    let (id, replay) = (plan.backup.id.clone(), &plan.replay);
    Ok(Some(Other {
        kind: KIND_POSTGRES_SNAPSHOT.to_owned(),
        ended_at: plan.backup.ended_at,
        how: format!(
            "mount the snapshot, then a procedure like `examples/volume-restore.yaml`: `postgres.restore_snapshot` of \
             backup `{id}`, then `postgres.recover`"
        ),
        wal: format!("{} segments from `{}` to `{}` lead there", replay.segments, replay.first, replay.last),
        id,
    }))
}

fn stanza(site: &Site, database: &str, goal: &Goal) -> Result<Option<Other>, String> {
    if site.inventory.databases.get(database).is_none_or(|entry| entry.pgbackrest.is_none()) {
        return Ok(None);
    }
    let host = machine().map_err(|failure| failure.message)?;
    let standing = wiring::block_on(pgbackrest::look(database, &site.inventory, host.as_ref()));
    let standing = standing.map_err(|failure| failure.message)?.map_err(|error| error.to_string())?;
    let leads = |ended: Timestamp| match goal {
        Goal::Time(at) => ended <= *at,
        Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => true,
    };
    let sound = standing.backups.iter().filter(|backup| backup.fault.is_none() && leads(backup.stopped_at));
    let Some(backup) = sound.max_by_key(|backup| backup.stopped_at) else { return Ok(None) };
    let entry = site.inventory.databases.get(database).filter(|entry| entry.elsewhere().is_none());
    let end = entry.and_then(|entry| pgbackrest::behind(&standing, entry, host.read_files().as_ref()));
    let target = match goal {
        Goal::Newest => String::new(),
        Goal::Time(at) => format!(" -p recover_to={at}"),
        // Its shipped procedure takes no other target: the step does.
        Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => {
            let how = "`pgbackrest.restore` with that target in a runbook of your own".to_owned();
            return Ok(Some(other(backup, &standing, (how, end))));
        }
    };
    let environments = &site.inventory.environments;
    let protected = environments.get(&site.environment).is_some_and(|one| one.protected);
    let confirm = if protected { format!(" --confirm {}", site.environment) } else { String::new() };
    let how = format!(
        "runbook run full-db-loss-pgbackrest -p database={database} -p incident_at=now{target} -p backup={}{confirm}",
        backup.id
    );
    Ok(Some(other(backup, &standing, (how, end))))
}

fn other(
    backup: &pgbackrest::Listed,
    standing: &pgbackrest::StanzaStatus,
    (how, end): (String, Option<SegmentName>),
) -> Other {
    let wal = match end {
        Some(end) => {
            format!("the archive of stanza `{}` ends at `{end}`; commits since are not in it", standing.stanza)
        }
        None => format!("its WAL lies in the archive of stanza `{}`, where `dry-run` looks", standing.stanza),
    };
    Other { kind: PgBackRest::KIND.to_owned(), id: backup.id.clone(), ended_at: backup.stopped_at, how, wal }
}

/// Tells what leads there for a database that has no store of ours.
///
/// # Errors
/// Fails when nothing does (exit 4).
pub fn alone(database: &str, others: &[Other], face: Face) -> Result<Exit, Failure> {
    if face == Face::Json {
        document::write_json(&json!({ "database": database, "possible": !others.is_empty(), "others": others }))?;
        return Ok(if others.is_empty() { Exit::Refused } else { Exit::Success });
    }
    for other in others {
        out!("{}", other.told());
    }
    if others.is_empty() {
        let message = format!("pgBackRest has no sound backup of `{database}` that leads there");
        return Err(
            Failure::new(Exit::Refused, message).help("`pgbackrest.info` and `runbook backups list` show what it has")
        );
    }
    Ok(Exit::Success)
}
