//! What a search for a backup would find, told before anything is chosen.

use std::sync::Arc;

use super::candidates::{Candidates, Found, PASSED_OVER};
use super::find::FindParams;
use super::leads::{self, Led, Sight};
use super::place::Place;
use super::raw::{self, RawLocation};
use crate::action::{ActionError, CheckContext, Findings, ReadStore};
use crate::actions::postgres::recovery::replay_plan::hole;
use crate::actions::postgres::stores::readable::{RETRIEVE_FIRST, Reading};
use crate::actions::store::catalog_failed;
use crate::base::clock;
use crate::base::units::human_duration;
use crate::catalog::{CatalogError, Query};

/// A store that is written to before the step starts cannot be judged yet.
pub(in crate::actions) const STILL_TO_COME: &str =
    "a step before this one writes to that store; it is looked at again when the step starts";

/// Tells what would be chosen as things are now, and foretells it to the checks of later steps.
///
/// # Errors
/// Fails when the arguments make no sense and when a store gives no answer.
pub(super) async fn told(params: &FindParams, cx: &CheckContext) -> Result<Findings, ActionError> {
    let place = params.place(&cx.about.inventory).map_err(|fault| ActionError::fatal(fault.message))?;
    let query = match params.query(&place, &cx.about)? {
        Ok(query) => query,
        Err(expression) => return Ok(Findings::default().pending(format!("`{expression}` is not known yet"))),
    };
    let store = cx.store(&place.store)?;
    if let Some(location) = &params.location {
        return judge_raw(&*store, location, &query).await;
    }
    let mut stores = vec![Arc::clone(&store)];
    for name in place.wal_stores(&cx.about.inventory) {
        stores.push(cx.store(name)?);
    }
    if leads::is_asked(params) && !cx.ahead {
        return Ok(Findings::default().pass("the backup that leads there is looked for when the step runs"));
    }
    let lying = leads::location(params).map(|location| cx.store(location.store.as_str())).transpose()?;
    let among = Candidates::of(params, &place, &cx.about, |name| cx.store(name)).await?;
    let copies = among.copies.clone();
    let sight = Sight { about: &cx.about, stores: stores.clone(), copies, lying, files: cx.host.read_files() };
    let led = match leads::narrowed(params, sight, (&among.list, query)).await? {
        Ok(led) => led,
        Err((fact, _)) if cx.may_still_change(&place.store) => {
            return Ok(Findings::default().warn(fact, STILL_TO_COME));
        }
        Err((fact, help)) => return Ok(Findings::default().refuse(fact, help)),
    };
    match among.find(&led.query).await {
        Ok(found) => {
            // A step before this one may make another, unless it is this one that is wanted.
            if params.id.is_some() || !cx.may_still_change(&place.store) {
                cx.foreseen.tell("backup", &found.backup.handle());
            }
            judge((found, led), (&stores, &place), cx).await
        }
        Err(error @ (CatalogError::NoBackup(_) | CatalogError::Damaged { .. })) => {
            Ok(match cx.may_still_change(&place.store) {
                true => Findings::default().warn(error.to_string(), STILL_TO_COME),
                false => Findings::default().refuse(error.to_string(), help(&error)),
            })
        }
        Err(error) => Err(catalog_failed(error)),
    }
}

/// Judges what would be chosen.
async fn judge(
    (found, led): (Found, Led),
    (stores, place): (&[Arc<dyn ReadStore>], &Place),
    cx: &CheckContext,
) -> Result<Findings, ActionError> {
    let Found { backup, store, elsewhere, newer } = found;
    let age = human_duration(clock::between(backup.manifest.stopped_at, clock::now()));
    let mut findings = Findings::default().pass(format!("backup `{}` ended {age} ago", backup.manifest.id));
    if backup.attested.is_damaged() {
        let (id, store) = (&backup.manifest.id, &backup.store);
        findings = findings.warn(
            format!("backup `{id}` was found damaged in store `{store}` when it was last read"),
            format!("choose another backup; `runbook backups verify {id}` reads it again, should it have been mended"),
        );
    }
    for passed in led.passed_over {
        findings = findings.pass(format!("a newer one does not lead there: {passed}"));
    }
    if let Some(elsewhere) = elsewhere {
        findings = findings.pass(elsewhere);
    }
    if let Some(newer) = newer {
        findings = findings.warn(newer, PASSED_OVER);
    }
    let reading = Reading { store: &*store, backup: &backup, about: &cx.about };
    if let Some(archived) = reading.archived().await? {
        findings = findings.warn(archived.fact, RETRIEVE_FIRST).waiting(archived.wait);
    }
    if backup.manifest.postgres.is_none() {
        return Ok(findings);
    }
    Ok(match hole(stores, &place.prefix, &backup.manifest).await? {
        None => findings,
        Some(segment) => findings.warn(
            format!("the archive has a hole after it: `{segment}` is missing, though later segments exist"),
            "a recovery gets past it only if the old `pg_wal` still holds the segment; \
             else recover to a target before it, or from a later backup",
        ),
    })
}

/// Says what would be taken of another program's backups.
async fn judge_raw(store: &dyn ReadStore, location: &RawLocation, query: &Query) -> Result<Findings, ActionError> {
    let findings = Findings::default();
    let Some(found) = raw::choose(store, location, query).await? else {
        let fact = format!("nothing below `{}/` in `{}` is such a backup", location.prefix, location.store.as_str());
        return Ok(findings.refuse(fact, "`runbook backups import STORE PREFIX` says what lies there, and why not"));
    };
    let age = human_duration(clock::between(raw::ended_by(&found), clock::now()));
    let findings = findings.pass(format!("`{}` ended at least {age} ago", found.place()));
    let help = "`runbook backups import` takes it into the catalog, where it can be verified and proven";
    Ok(findings.warn(format!("`{}` is unproven: no manifest, no verification", found.place()), help))
}

fn help(error: &CatalogError) -> &'static str {
    if matches!(error, CatalogError::Damaged { .. }) {
        return "bring its objects back, or choose another backup (`full-db-loss` takes `-p backup=ID`)";
    }
    "only a backup with a valid manifest and all its objects counts; `runbook backups list` shows them all"
}
