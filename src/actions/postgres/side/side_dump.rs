//! A side instance of a dump: an empty server of the dump's version, isolated like every other, and the dump in it.

use crate::action::{Action as _, ActionError, BackupHandle, CheckContext, DatabaseRef, Findings, Late, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::logical::restore_dump::{
    self, RestoreDump, RestoreDumpOutput, RestoreDumpParams, RestoreMode, Roles,
};
use crate::actions::postgres::logical::scratch_server;

/// Makes the server and restores the dump into it.
///
/// # Errors
/// Fails when the server cannot be made, or the dump is damaged or cannot be loaded.
pub(crate) async fn load(
    side: &Cluster,
    handle: &BackupHandle,
    cx: &RunContext,
) -> Result<RestoreDumpOutput, ActionError> {
    let major = restore_dump::major_of(side, handle, cx).await?;
    scratch_server::ensure(side, &major, cx).await?;
    let params = params(side, handle, Late::Known(side.instance()));
    RestoreDump.run(&params, cx).await
}

/// Judges ahead whether the dump can be read and fits.
///
/// # Errors
/// Fails when the store gives no answer.
pub(crate) async fn judge(
    side: &Cluster,
    handle: &BackupHandle,
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let params = params(side, handle, Late::Pending("the side instance".to_owned()));
    let mut findings = findings;
    findings.0.extend(RestoreDump.check(&params, cx).await?.0);
    Ok(findings)
}

fn params(side: &Cluster, handle: &BackupHandle, instance: Late<crate::action::InstanceHandle>) -> RestoreDumpParams {
    RestoreDumpParams {
        database: DatabaseRef(side.name.clone()),
        instance: Some(instance),
        backup: Late::Known(handle.clone()),
        target_time: None,
        dbname: None,
        mode: RestoreMode::Swap,
        roles: Roles::CreateMissing,
        jobs: None,
        no_owner: false,
        no_privileges: false,
        schemas: Vec::new(),
        tables: Vec::new(),
        clean: false,
        if_exists: false,
    }
}
