//! Sessions with a server as a whole, in whichever of its databases one can sit.
//!
//! What is asked of a server must not hang on the database that its entry names: replay makes databases, drops them and
//! ends the sessions in them (manual, "Handling Query Conflicts"), and somebody may have dropped it. `postgres` and
//! `template1` are in every cluster that nobody took them out of.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::connect::{Endpoint, Refusal, Session};
use crate::action::{ActionError, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::base::clock;
use crate::event::ErrorClass;

/// The databases that `initdb` makes and that take sessions.
const EVERYWHERE: [&str; 2] = ["postgres", "template1"];

/// The databases of a server that a session may be in, the best first.
pub(crate) struct MaintenanceDb {
    endpoints: Vec<Endpoint>,
}

/// Why none of them takes a session.
pub(crate) struct Unavailable {
    /// What the first one that was asked for by name refuses; `None` of a silent server.
    refuses: Option<Refusal>,
    /// Its words.
    pub(crate) error: ActionError,
}

impl Unavailable {
    /// Whether the server may take a session when it has replayed more: it comes up, or a database is not there yet.
    pub(crate) fn may_pass(&self) -> bool {
        self.error.info().class == ErrorClass::Retryable || self.is_without_database()
    }

    /// Whether the server answers, and what it lacks is a database.
    pub(crate) fn is_without_database(&self) -> bool {
        self.refuses == Some(Refusal::Database)
    }
}

impl MaintenanceDb {
    /// The databases that any server has first, then that of the entry: what waits there is in nobody's way.
    ///
    /// # Errors
    /// Fails when the password's secret cannot be had.
    pub(crate) fn common(cluster: &Cluster, secrets: &dyn Secrets) -> Result<Self, ActionError> {
        let others = EVERYWHERE.into_iter().filter(|name| *name != cluster.dbname);
        Self::through(cluster, others.chain([cluster.dbname.as_str()]), secrets)
    }

    /// The entry's database first: its role may be allowed into no other.
    ///
    /// # Errors
    /// Fails as [`MaintenanceDb::common`].
    pub(crate) fn own(cluster: &Cluster, secrets: &dyn Secrets) -> Result<Self, ActionError> {
        Self::through(cluster, own_first(cluster), secrets)
    }

    /// The same of another server of the cluster, at a host and port.
    ///
    /// # Errors
    /// Fails as [`MaintenanceDb::common`].
    pub(crate) fn at(cluster: &Cluster, place: (&str, u16), secrets: &dyn Secrets) -> Result<Self, ActionError> {
        let endpoints = own_first(cluster).map(|name| Endpoint::at(cluster, place, name, secrets));
        Ok(Self { endpoints: endpoints.collect::<Result<Vec<_>, _>>()? })
    }

    fn through<'a>(
        cluster: &Cluster,
        names: impl Iterator<Item = &'a str>,
        secrets: &dyn Secrets,
    ) -> Result<Self, ActionError> {
        let endpoints = names.map(|name| Endpoint::of(cluster, Some(name), secrets)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { endpoints })
    }

    /// Opens a session in the first database that takes one.
    ///
    /// # Errors
    /// Retryable when nobody answers or the server is starting, fatal when all of them refuse.
    pub(crate) async fn open(&self) -> Result<Session, ActionError> {
        self.enter().await.map_err(|shut| shut.error)
    }

    /// The same, and asks a server that is full or restarts again for a while.
    ///
    /// # Errors
    /// Fails as [`MaintenanceDb::open`] does in the end, and when it is cancelled.
    pub(crate) async fn open_within(
        &self,
        within: Duration,
        cancel: &CancellationToken,
    ) -> Result<Session, ActionError> {
        let begun = clock::monotonic();
        loop {
            match self.open().await {
                Err(error) if error.info().class == ErrorClass::Retryable && begun.elapsed() < within => {}
                opened => return opened,
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = cancel.cancelled() => {
                    return Err(ActionError::cancelled("cancelled while the server was asked for a session"));
                }
            }
        }
    }

    /// The same; of none it tells whether waiting helps.
    ///
    /// # Errors
    /// Fails as [`MaintenanceDb::open`]. A database that is missing outweighs a login that is refused elsewhere.
    pub(crate) async fn enter(&self) -> Result<Session, Unavailable> {
        let mut shut: Option<Unavailable> = None;
        for door in &self.endpoints {
            let (refuses, error) = match door.ask().await {
                Ok(session) => return Ok(session),
                Err(refused) => refused,
            };
            let now = Unavailable { refuses, error };
            // A server that is silent or full is that behind every door.
            if refuses.is_none() {
                return Err(now);
            }
            if shut.as_ref().is_none_or(|first| !first.is_without_database()) {
                shut = Some(now);
            }
        }
        let none = || Unavailable { refuses: None, error: ActionError::fatal("no database was asked for a session") };
        Err(shut.unwrap_or_else(none))
    }
}

fn own_first(cluster: &Cluster) -> impl Iterator<Item = &str> {
    std::iter::once(cluster.dbname.as_str()).chain(EVERYWHERE.into_iter().filter(move |name| *name != cluster.dbname))
}
