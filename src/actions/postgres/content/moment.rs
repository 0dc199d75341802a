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

/// The database, its clock and its place in the WAL: of a standby, how far it has replayed.
const WHERE: &str = "SELECT current_database(), \
 to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
 CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END";

/// A moment of one database that facts are taken of. Dropping it ends the transaction with its session.
pub(crate) struct Content {
    session: Session,
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
        session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        session.query(SETTINGS).await?;
        let found = session.query(WHERE).await?;
        let text = |column: usize| found.at(0, column).unwrap_or_default();
        let taken_at = text(1).parse();
        let taken_at =
            taken_at.map_err(|_| ActionError::fatal(format!("the server's time `{}` makes no sense", text(1))))?;
        let (dbname, lsn) = (text(0).to_owned(), text(2).parse().ok());
        Ok(Self { session, dbname, taken_at, lsn })
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
