//! One moment of a database: a read-only transaction on one snapshot.

use std::collections::BTreeMap;

use super::super::connect::Session;
use super::{FactsDepth, TableName, schema, table};
use crate::action::ActionError;
use crate::base::{Digest, Timestamp};
use crate::catalog::{ContentFacts, DatabaseFacts};
use crate::pgformat::Lsn;

/// Values as text mean the same in every session under these; nothing may end the transaction but its owner.
const SETTINGS: &str = "SET LOCAL search_path = pg_catalog; SET LOCAL datestyle = 'ISO, YMD'; \
 SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 3; SET LOCAL bytea_output = 'hex'; \
 SET LOCAL timezone = 'UTC'; SET LOCAL lc_monetary = 'C'; SET LOCAL xmloption = 'content'; \
 SET LOCAL row_security = off; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
 SET LOCAL idle_in_transaction_session_timeout = 0";

/// The database, its clock and its place in the WAL: of a standby, how far it has replayed; and the session's process.
const WHERE: &str = "SELECT current_database(), \
 to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
 CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, pg_backend_pid()";

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How often the tables are listed again because one of them was dropped before it was locked.
const LISTED_AGAIN: u32 = 5;

/// A moment of one database that facts are taken of. Dropping it ends the transaction with its session.
pub(crate) struct Content {
    session: Session,
    pid: String,
    dbname: String,
    taken_at: Timestamp,
    lsn: Option<Lsn>,
}

impl Content {
    /// Opens the moment that is now.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(crate) async fn open(mut session: Session) -> Result<Self, ActionError> {
        session.query(BEGIN).await?;
        session.query(SETTINGS).await?;
        Self::begun(session).await
    }

    /// Opens the moment that is now, and locks every table of it: none is emptied, rewritten or dropped while it lasts. A
    /// snapshot alone shows such a table empty afterwards (manual, "Caveats" of concurrency control).
    ///
    /// # Errors
    /// Fails as the server says, also for a role that may not read a table.
    pub(crate) async fn open_locked(mut session: Session) -> Result<Self, ActionError> {
        let mut tries = 0;
        loop {
            let names = table::lockable(&mut session).await?;
            session.query(BEGIN).await?;
            session.query(SETTINGS).await?;
            // Locks take no snapshot: what happened before the last of them is in it.
            match table::lock(&mut session, &names).await {
                Ok(()) => return Self::begun(session).await,
                Err(error) if tries == LISTED_AGAIN => return Err(error),
                Err(_) => session.query("ROLLBACK").await?,
            };
            tries += 1;
        }
    }

    async fn begun(mut session: Session) -> Result<Self, ActionError> {
        let found = session.query(WHERE).await?;
        let text = |column: usize| found.at(0, column).unwrap_or_default();
        let taken_at = text(1).parse();
        let taken_at =
            taken_at.map_err(|_| ActionError::fatal(format!("the server's time `{}` makes no sense", text(1))))?;
        let (dbname, lsn, pid) = (text(0).to_owned(), text(2).parse().ok(), text(3).to_owned());
        Ok(Self { session, pid, dbname, taken_at, lsn })
    }

    /// Ends a moment for whose locks somebody waits, from another session of its server: its own may still count. Tells
    /// whether there was somebody; else nothing is done.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(crate) async fn give_way(self, other: &mut Session) -> Result<bool, ActionError> {
        let ended = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid = {pid} AND EXISTS (SELECT FROM pg_locks h \
             JOIN pg_locks w ON (w.locktype, w.database, w.relation) = (h.locktype, h.database, h.relation) \
             WHERE h.locktype = 'relation' AND h.pid = {pid} AND h.granted AND NOT w.granted)",
            pid = self.pid
        );
        Ok(other.value(&ended).await? != "0")
    }

    /// Gives the moment a name that `pg_dump --snapshot` takes while this value lives.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(crate) async fn export(&mut self) -> Result<String, ActionError> {
        self.session.value("SELECT pg_export_snapshot()").await
    }

    /// Takes the facts of the database.
    ///
    /// # Errors
    /// Fails as the server says, also for a role that may not read a table.
    pub(crate) async fn facts(&mut self, depth: FactsDepth) -> Result<DatabaseFacts, ActionError> {
        if depth == FactsDepth::Off {
            return Ok(DatabaseFacts::default());
        }
        let names = self.tables().await?;
        let facts = self.facts_of(&names, depth).await?;
        let materialized_views = table::materialized_views(&mut self.session).await?;
        let large_objects = self.session.value("SELECT count(*) FROM pg_largeobject_metadata").await?.parse().ok();
        Ok(DatabaseFacts { schema: Some(self.schema().await?), materialized_views, large_objects, ..facts })
    }

    /// Takes the fingerprint of the schema alone.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(crate) async fn schema(&mut self) -> Result<Digest, ActionError> {
        schema::fingerprint(&mut self.session).await
    }

    /// Takes the facts of some tables only, without the schema.
    ///
    /// # Errors
    /// Fails as [`Content::facts`].
    pub(crate) async fn facts_of(
        &mut self,
        names: &[TableName],
        depth: FactsDepth,
    ) -> Result<DatabaseFacts, ActionError> {
        let mut tables = BTreeMap::new();
        for name in names {
            let facts = table::facts(&mut self.session, &name.quoted, depth).await?;
            tables.insert(name.quoted.clone(), facts);
        }
        Ok(DatabaseFacts { tables, ..DatabaseFacts::default() })
    }

    /// Takes the facts of those tables that nobody emptied, rewrote or dropped since the moment was opened: what it shows
    /// of the others is not what was there.
    ///
    /// # Errors
    /// Fails as [`Content::facts`].
    pub(crate) async fn facts_of_untouched(
        &mut self,
        names: &[TableName],
        depth: FactsDepth,
    ) -> Result<DatabaseFacts, ActionError> {
        let mut tables = BTreeMap::new();
        for name in names {
            if !table::is_untouched(&mut self.session, name).await? {
                continue;
            }
            let facts = table::facts(&mut self.session, &name.quoted, depth).await?;
            if table::is_untouched(&mut self.session, name).await? {
                tables.insert(name.quoted.clone(), facts);
            }
        }
        Ok(DatabaseFacts { tables, ..DatabaseFacts::default() })
    }

    /// Names the tables whose rows are content.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(crate) async fn tables(&mut self) -> Result<Vec<TableName>, ActionError> {
        table::names(&mut self.session).await
    }

    /// The session, inside the transaction.
    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// When the moment was opened, by the server's clock.
    pub(crate) fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// Facts of one or more databases at this moment, as a manifest keeps them.
    pub(crate) fn dated(&self, facts: DatabaseFacts) -> ContentFacts {
        let databases = BTreeMap::from([(self.dbname.clone(), facts)]);
        ContentFacts { taken_at: Some(self.taken_at), lsn: self.lsn, databases }
    }

    /// Ends the moment and gives the session back.
    ///
    /// # Errors
    /// Fails when the connection was lost.
    pub(crate) async fn close(mut self) -> Result<Session, ActionError> {
        self.session.query("ROLLBACK").await?;
        Ok(self.session)
    }
}
