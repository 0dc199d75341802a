//! Removes a throw-away instance: its own server is stopped, its own folders are deleted.

use std::path::{Path, PathBuf};

use super::layout::{Cluster, Ground};
use super::live;
use super::server::Server;
use crate::action::{ActionError, DatabaseRef, RunContext};

/// Registers a throw-away cluster with the folders it will have, before any of them is made.
///
/// # Errors
/// Fails when the engine is gone.
pub(crate) async fn register(cluster: &Cluster, folders: &[PathBuf], cx: &RunContext) -> Result<(), ActionError> {
    let mut data = serde_json::json!({ "database": cluster.name, "dirs": folders });
    let mut resource = format!("postgres:{}", cluster.name);
    if let Some(label) = &cluster.side {
        data["side"] = serde_json::json!(label);
        resource = format!("{resource}/{label}");
    }
    cx.reporter.register(resource, data).await
}

/// Removes what a run registered for a scratch database. Gone already is success.
///
/// # Errors
/// Fails when the database is not a scratch one, when a folder lies outside the run's scratch place,
/// or when the server does not end.
pub(crate) async fn remove(data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
    let name = data.get("database").and_then(serde_json::Value::as_str).unwrap_or_default();
    let cluster = Cluster::of(&DatabaseRef(name.to_owned()), &cx.about.inventory, &cx.about.scratch)?;
    let cluster = match data.get("side").and_then(serde_json::Value::as_str) {
        Some(label) => cluster.side_named(label, &cx.about.scratch)?,
        None => cluster,
    };
    let Ground::Scratch(root) = cluster.ground.clone() else {
        return Err(ActionError::fatal(format!("database `{name}` is no scratch database, nothing is removed")));
    };
    let files = cx.host.files();
    if !live::signs(&cluster, files.as_ref()).await?.is_empty() {
        Server::of(&cluster, cx.host.as_read())?.stop(cx.host.as_ref()).await?;
    }
    let listed = data.get("dirs").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let mut folders: Vec<PathBuf> = listed.iter().filter_map(|dir| dir.as_str().map(PathBuf::from)).collect();
    folders.push(root);
    for folder in folders {
        if !inside(&folder, &cx.about.scratch) {
            let fact = format!("`{}` lies outside the run's scratch place and is not removed", folder.display());
            return Err(ActionError::fatal(fact));
        }
        let there = files.facts(&folder).map_err(|error| stuck(&folder).because(&error))?;
        if there.is_some() {
            files.remove_tree(&folder).map_err(|error| stuck(&folder).because(&error))?;
        }
    }
    Ok(())
}

fn inside(path: &Path, scratch: &Path) -> bool {
    path != scratch
        && path.starts_with(scratch)
        && path.components().all(|part| !matches!(part, std::path::Component::ParentDir))
}

fn stuck(folder: &Path) -> ActionError {
    ActionError::retryable(format!("`{}` cannot be removed", folder.display()))
}
