//! Whether the stores of a backup answer, before anything is read for it.

use std::error::Error as _;
use std::io::ErrorKind;

use super::create::CreateParams;
use crate::action::{ActionError, CheckContext, Findings, StoreError};
use crate::transfer::Packing;

/// Refuses when fewer stores can be used than the backup needs. What fails beyond that is told.
pub(super) async fn judge(
    params: &CreateParams,
    cx: &CheckContext,
    mut findings: Findings,
) -> Result<Findings, ActionError> {
    let mut failed = Vec::new();
    for store in &params.stores {
        match usable(store.as_str(), params.prefix(), cx).await? {
            Ok(fact) => findings = findings.pass(fact),
            Err(why) => failed.push(why),
        }
    }
    let enough = params.stores.len() - failed.len() >= params.at_least.unwrap_or(params.stores.len());
    for (fact, help) in failed {
        findings = match enough {
            true => findings.warn(fact, help),
            false => findings.refuse(fact, help),
        };
    }
    Ok(findings)
}

/// What is in the way, and what to do about it.
type Obstacle = (String, &'static str);

async fn usable(name: &str, prefix: &str, cx: &CheckContext) -> Result<Result<String, Obstacle>, ActionError> {
    let entry = cx.about.inventory.stores.get(name);
    if let Some(Err(error)) = entry.map(|entry| Packing::of(entry, cx.about.secrets.as_ref())) {
        let why = error.source().map_or_else(String::new, |source| format!(": {source}"));
        let fact = format!("nothing can be packed for store `{name}`: {error}{why}");
        return Ok(Err((fact, "look at the store's `compression` and `encryption`, and at the secrets they name")));
    }
    Ok(match cx.store(name)?.browse(&format!("{prefix}/")).await {
        Ok(_) => Ok(format!("store `{name}` answers")),
        Err(StoreError::Unavailable { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(format!("store `{name}` is empty: the first backup begins it"))
        }
        Err(error) => Err((error.to_string(), "`runbook doctor --store NAME` tries what the store allows")),
    })
}
