//! Unlogged tables: no WAL has their rows, a base backup has only their empty beginnings, and each recovery empties them as it
//! ends (manual, "CREATE TABLE", `UNLOGGED`; `ResetUnloggedRelations` in `reinit.c`).

use std::time::Duration;

use crate::action::{ActionError, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::connect::{Endpoint, Session};
use crate::actions::postgres::session::integrity;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;

/// How long a server is asked: a recovery waits for nobody's answer to this.
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// As many are named of each database.
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname), count(*) OVER () \
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'm') ORDER BY 1 LIMIT 20";

/// The unlogged tables of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Unlogged {
    /// The first ones of each database: `shop: public.cache`.
    pub(crate) names: Vec<String>,
    /// How many there are.
    count: u64,
    /// Databases that were not looked at.
    untold: Vec<String>,
}

impl Unlogged {
    /// Looks for them in every database that holds users' data.
    ///
    /// # Errors
    /// Fails when the server gives no answer in time.
    pub(crate) async fn of(cluster: &Cluster, secrets: &dyn Secrets) -> Result<Self, ActionError> {
        let late = |_| ActionError::retryable("the server does not tell its unlogged tables in time");
        tokio::time::timeout(ASKED_WITHIN, Self::asked(cluster, secrets)).await.map_err(late)?
    }

    async fn asked(cluster: &Cluster, secrets: &dyn Secrets) -> Result<Self, ActionError> {
        let mut session = MaintenanceDb::common(cluster, secrets)?.open().await?;
        let databases = integrity::databases(&mut session).await?;
        drop(session);
        let mut all = Self::default();
        for dbname in databases {
            // One that takes no session keeps nobody from hearing of the others.
            match Endpoint::of(cluster, Some(&dbname), secrets)?.open().await {
                Ok(mut session) => all.add(&dbname, &mut session).await?,
                Err(_) => all.untold.push(dbname),
            }
        }
        Ok(all)
    }

    async fn add(&mut self, dbname: &str, session: &mut Session) -> Result<(), ActionError> {
        let found = session.query(TABLES).await?;
        self.count += found.at(0, 1).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let names = found.rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
        self.names.extend(names.map(|name| format!("{dbname}: {name}")));
        Ok(())
    }

    /// Which they are, in words; `None` where there is none.
    pub(crate) fn told(&self) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let more = self.count.saturating_sub(self.names.len() as u64);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let untold = match self.untold.is_empty() {
            true => String::new(),
            false => format!(" (not looked at: `{}`)", self.untold.join("`, `")),
        };
        Some(format!("{} unlogged: {}{more}{untold}", self.count, self.names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::Unlogged;

    #[test]
    fn what_is_not_named_is_counted() {
        assert_eq!(Unlogged::default().told(), None);
        let names = vec!["shop: public.cache".to_owned()];
        let all = Unlogged { names, count: 3, untold: vec!["closed".to_owned()] };
        let told = "3 unlogged: shop: public.cache and 2 more (not looked at: `closed`)";
        assert_eq!(all.told().as_deref(), Some(told));
    }
}
