//! Whose WAL lies where a server is to archive: under the prefix of another cluster it would archive nothing, since each push is
//! refused there (facts 2.10.10).

use std::sync::Arc;

use crate::action::ReadStore;
use crate::catalog;
use crate::pgformat::SystemId;

/// What leads on: what lies under the old prefix stays there, for restores to before.
const OWN_PREFIX: &str = "give the database a `prefix` of its own in the inventory, as after every `pg_upgrade` or `initdb`; then \
                          `runbook run setup-archiving -p database=DATABASE`, then a base backup";

/// Says which store holds the WAL of another cluster under the prefix, with advice. One that gives no answer says nothing.
pub(crate) async fn other(stores: &[Arc<dyn ReadStore>], prefix: &str, server: SystemId) -> Option<(String, String)> {
    for store in stores {
        let Ok(Some(theirs)) = catalog::wal_owner(store.as_ref(), prefix).await else { continue };
        if theirs == server {
            continue;
        }
        let fact = format!(
            "prefix `{prefix}` in store `{}` holds the WAL of cluster {theirs}, and this server is {server}",
            store.name()
        );
        return Some((fact, OWN_PREFIX.to_owned()));
    }
    None
}
