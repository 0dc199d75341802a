//! Subscriptions of a restored copy: disabled in every database, so that nothing which is taken out of the copy,
//! or started from it later, draws changes from the publisher of the original.

use super::connect::{Endpoint, Session};
use super::integrity;
use crate::action::{ActionError, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;

/// Subscriptions of the session's own database, with the statements that disable one.
const SUBSCRIPTIONS: &str = "SELECT format('%I', subname) FROM pg_subscription \
 WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND subenabled ORDER BY 1";

const SUPERUSERS: &str = "SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin \
 ORDER BY rolname <> current_user, oid LIMIT 1";

/// Finds a superuser of a copy: who may look into a copy may look at all of it, whoever its own user is.
///
/// # Errors
/// Fails when the copy does not answer or has no superuser that may log in.
pub(crate) async fn superuser(copy: &Cluster, secrets: &dyn Secrets) -> Result<String, ActionError> {
    Endpoint::of(copy, Some("template1"), secrets)?.open().await?.value(SUPERUSERS).await
}

/// Disables every subscription of a copy. Gives the databases that hold users' data.
///
/// # Errors
/// Fails when the copy does not answer.
pub(crate) async fn disable(copy: &Cluster, secrets: &dyn Secrets) -> Result<Vec<String>, ActionError> {
    let mut session = Endpoint::of(copy, Some("template1"), secrets)?.open().await?;
    let databases = integrity::databases(&mut session).await?;
    for database in &databases {
        let mut session = Endpoint::of(copy, Some(database), secrets)?.open().await?;
        disable_in(&mut session).await?;
    }
    Ok(databases)
}

async fn disable_in(session: &mut Session) -> Result<(), ActionError> {
    let found = session.query(SUBSCRIPTIONS).await?;
    for name in found.rows.iter().filter_map(|row| row.first()?.as_deref()) {
        session.query(&format!("ALTER SUBSCRIPTION {name} DISABLE")).await?;
    }
    Ok(())
}
