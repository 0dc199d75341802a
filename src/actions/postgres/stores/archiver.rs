//! How a server archives, in its own words. Reads, and changes nothing.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::action::{ActionError, DatabaseRef, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::connect::{Endpoint, Session};
use crate::actions::postgres::session::facts::ServerFacts;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::Timestamp;
use crate::language::inventory::Inventory;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};
use crate::wal::archiving_status::{Counters, Ready, ServerSide};

/// A session with a server that is asked about its archiving.
pub(crate) struct Archiver {
    session: Session,
    /// The entry's database, where the session had to be in another one.
    lost: Option<String>,
}

const MOMENT: &str = "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'";

const POSITION: &str = "SELECT \
 CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
      ELSE pg_current_wal_lsn() END, \
 CASE WHEN pg_is_in_recovery() THEN (SELECT lpad(upper(to_hex(timeline_id)), 8, '0') FROM pg_control_checkpoint()) \
      ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END, \
 count(*), coalesce(sum(size), 0), current_setting('data_directory') FROM pg_ls_waldir()";

impl Archiver {
    /// Opens a session with the server of a database; in another one where that is gone: its archiving is the server's.
    ///
    /// # Errors
    /// Fails when the inventory has no such database or nobody answers.
    pub(crate) async fn of(name: &str, inventory: &Inventory, secrets: &dyn Secrets) -> Result<Self, ActionError> {
        let cluster = Cluster::of(&DatabaseRef(name.to_owned()), inventory, &PathBuf::new())?;
        let mut session = MaintenanceDb::own(&cluster, secrets)?.open().await?;
        let inside = session.value("SELECT current_database()").await?;
        let lost = (inside != cluster.dbname).then_some(cluster.dbname);
        Ok(Self { session, lost })
    }

    /// Opens a session in one database of the server, and in no other.
    ///
    /// # Errors
    /// Fails as [`Archiver::of`], and when the server takes no session there.
    pub(crate) async fn inside(
        name: &str,
        dbname: &str,
        (inventory, secrets): (&Inventory, &dyn Secrets),
    ) -> Result<Self, ActionError> {
        let cluster = Cluster::of(&DatabaseRef(name.to_owned()), inventory, &PathBuf::new())?;
        let session = Endpoint::of(&cluster, Some(dbname), secrets)?.open().await?;
        Ok(Self { session, lost: None })
    }

    /// Asks how it archives. The role needs what `pg_monitor` may.
    ///
    /// # Errors
    /// Fails as the server does, or when an answer makes no sense.
    pub(crate) async fn ask(&mut self) -> Result<ServerSide, ActionError> {
        let facts = ServerFacts::of(&mut self.session).await?;
        let table = self.session.query(POSITION).await?;
        let told = |column: usize| table.at(0, column).unwrap_or_default();
        let none = |what: &str| ActionError::fatal(format!("the server told no {what}"));
        let bytes = u32::try_from(facts.wal_segment_bytes).ok();
        let segment_size = bytes.and_then(SegmentSize::new).ok_or_else(|| none("segment size"))?;
        let position: Lsn = told(0).parse().map_err(|_| none("position"))?;
        let timeline = u32::from_str_radix(told(1), 16).map(Timeline).map_err(|_| none("timeline"))?;
        let (wal_files, wal_bytes) = (told(2).parse().unwrap_or_default(), told(3).parse().unwrap_or_default());
        let (counters, now) = self.counters().await?;
        Ok(ServerSide {
            system_id: SystemId(facts.system_id),
            in_recovery: facts.in_recovery,
            archiving: facts.archiving,
            ready: self.ready().await?,
            room: None,
            segment_size,
            timeline,
            position,
            counters,
            wal_files,
            wal_bytes,
            now,
        })
    }

    async fn counters(&mut self) -> Result<(Counters, Timestamp), ActionError> {
        let at = |column: &str| format!("to_char({column} AT TIME ZONE 'UTC', {MOMENT})");
        let asked = format!(
            "SELECT archived_count, last_archived_wal, {}, failed_count, last_failed_wal, {}, {} FROM pg_stat_archiver",
            at("last_archived_time"),
            at("last_failed_time"),
            at("clock_timestamp()")
        );
        let table = self.session.query(&asked).await?;
        let text = |column: usize| table.at(0, column).map(ToOwned::to_owned);
        let number = |column: usize| text(column).and_then(|text| text.parse().ok()).unwrap_or_default();
        let moment = |column: usize| text(column).and_then(|text| text.parse::<Timestamp>().ok());
        let counters = Counters {
            archived: number(0),
            last_archived: text(1),
            last_archived_at: moment(2),
            failed: number(3),
            last_failed: text(4),
            last_failed_at: moment(5),
        };
        Ok((counters, moment(6).ok_or_else(|| ActionError::fatal("the server told no time"))?))
    }

    /// The file that the server logs into now; `None` where it keeps none itself, or does not tell.
    pub(crate) async fn log(&mut self) -> Option<PathBuf> {
        // Relative to the data directory (manual, "System Information Functions").
        let asked = "SELECT pg_current_logfile(), current_setting('data_directory')";
        let table = self.session.query(asked).await.ok()?;
        Some(PathBuf::from(table.at(0, 1)?).join(table.at(0, 0)?))
    }

    /// The files that wait, oldest first.
    async fn ready(&mut self) -> Result<Vec<Ready>, ActionError> {
        let asked = format!(
            "SELECT left(name, -6), to_char(modification AT TIME ZONE 'UTC', {MOMENT}) FROM pg_ls_archive_statusdir() \
             WHERE name LIKE '%.ready' ORDER BY modification, name"
        );
        let rows = self.session.query(&asked).await?.rows;
        let ready = rows.iter().filter_map(|row| {
            let [Some(name), Some(since)] = row.as_slice() else { return None };
            Some(Ready { name: name.parse().ok()?, since: since.parse().ok()? })
        });
        Ok(ready.collect())
    }

    /// Reads a segment of its `pg_wal`; `None` when it is not there. The role needs what `pg_read_server_files` may.
    ///
    /// # Errors
    /// Fails as the server does.
    pub(crate) async fn segment(&mut self, name: SegmentName) -> Result<Option<Vec<u8>>, ActionError> {
        // Not a length that fits every segment: the server reserves it, and refuses a gigabyte.
        let asked = format!(
            "SELECT encode(pg_read_binary_file('pg_wal/{name}', 0, file.size, true), 'base64') \
             FROM pg_stat_file('pg_wal/{name}', true) AS file"
        );
        let table = self.session.query(&asked).await?;
        let Some(text) = table.first() else { return Ok(None) };
        let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let bad = |error: base64::DecodeError| ActionError::fatal("the server told no segment").because(&error);
        STANDARD.decode(packed).map(Some).map_err(bad)
    }

    /// Finds the relation that a name means now: its identity, its file, and the database that the session is in.
    ///
    /// # Errors
    /// Fails as the server does; `None` when it has no such relation.
    pub(crate) async fn relation(&mut self, name: &str) -> Result<Option<Relation>, ActionError> {
        if let Some(dbname) = &self.lost {
            return Err(ActionError::fatal(format!("the server takes no session in database `{dbname}`")));
        }
        let quoted = name.replace('\'', "''");
        let asked = format!(
            "SELECT c.oid, pg_relation_filenode(c.oid), CASE WHEN c.relisshared THEN 0 ELSE d.oid END, \
             c.oid::regclass::text FROM pg_class AS c, pg_database AS d \
             WHERE d.datname = current_database() AND c.oid = to_regclass('{quoted}')::oid"
        );
        let table = self.session.query(&asked).await?;
        let number = |column: usize| table.at(0, column).and_then(|text| text.parse::<u32>().ok());
        let (Some(oid), Some(database)) = (number(0), number(2)) else { return Ok(None) };
        let name = table.at(0, 3).unwrap_or_default().to_owned();
        Ok(Some(Relation { oid, file: number(1), database, name }))
    }

    /// The names of the server's databases, not quoted.
    ///
    /// # Errors
    /// Fails as the server does.
    pub(crate) async fn databases(&mut self) -> Result<Vec<(u32, String)>, ActionError> {
        self.pairs("SELECT oid, datname FROM pg_database").await
    }

    /// The names of schemas of the session's database, not quoted, as far as they exist.
    ///
    /// # Errors
    /// Fails as the server does.
    pub(crate) async fn schemas(&mut self, oids: &[u32]) -> Result<Vec<(u32, String)>, ActionError> {
        let asked = format!("SELECT oid, nspname FROM pg_namespace WHERE oid = ANY ({})", list(oids));
        self.pairs(&asked).await
    }

    /// The names of relations of the session's database with their schemas, as SQL wants them, as far as they exist.
    ///
    /// # Errors
    /// Fails as the server does.
    pub(crate) async fn names(&mut self, oids: &[u32]) -> Result<Vec<(u32, String)>, ActionError> {
        let asked = format!(
            "SELECT c.oid, format('%I.%I', n.nspname, c.relname) FROM pg_class AS c \
             JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = ANY ({})",
            list(oids)
        );
        self.pairs(&asked).await
    }

    async fn pairs(&mut self, asked: &str) -> Result<Vec<(u32, String)>, ActionError> {
        let rows = self.session.query(asked).await?.rows;
        let named = rows.iter().filter_map(|row| match row.as_slice() {
            [Some(oid), Some(name)] => Some((oid.parse().ok()?, name.clone())),
            _ => None,
        });
        Ok(named.collect())
    }
}

fn list(oids: &[u32]) -> String {
    format!("'{{{}}}'::oid[]", oids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// A relation of a live database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    /// Its identity.
    pub(crate) oid: u32,
    /// The number of its file; `None` for what has none, such as a view.
    pub(crate) file: Option<u32>,
    /// Its database; zero for what all share.
    pub(crate) database: u32,
    /// Its name as SQL wants it.
    pub(crate) name: String,
}
