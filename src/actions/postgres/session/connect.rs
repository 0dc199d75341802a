//! Sessions with a server, over its socket or TCP, with TLS when `sslmode` asks for it.
//!
//! A session drives its own connection while it waits for an answer: nothing runs in the background,
//! and dropping it ends it. Values travel as text, so every type can be read.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio_postgres::config::SslMode as PgSslMode;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

use super::copy_out::{CopyOut, Records};
use super::tls::Tls;
use crate::action::{ActionError, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::base::secret::SecretText;
use crate::language::inventory::SslMode;
use crate::pgformat::Major;

/// What drives a connection; somebody must poll it while an answer is awaited.
pub(crate) type Driver = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// How a silent connection is asked whether the other end is still there (tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptAlive {
    /// How long it may be silent before.
    pub(crate) idle: Duration,
    /// How long passes between two questions.
    pub(crate) interval: Duration,
    /// How many may stay without an answer.
    pub(crate) probes: u32,
}

/// A machine that has vanished is found out within two minutes, and a firewall sees no idle connection. A time limit on
/// reading would not do: before a backup's first byte the server is silent while its checkpoint is spread.
pub(crate) const KEPT_ALIVE: KeptAlive =
    KeptAlive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes: 6 };

/// What a server that is there refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The login: a role, a password, an address. That says nothing against the data.
    Login,
    /// The session, for another reason: its files may be damaged.
    Session,
    /// The session in this database: it is gone, invalid since a `DROP DATABASE` that broke off, or closed to sessions.
    /// The server answers.
    Database,
}

impl Refusal {
    /// What an answer refuses (SQLSTATE); `None` of silence, and of a server that takes no sessions for the moment.
    fn of(error: &Error) -> Option<Self> {
        let Some(code) = error.code() else { return is_unmet(error).then_some(Self::Login) };
        if is_about_database(code) {
            return Some(Self::Database);
        }
        match (is_passing(code), code.code().starts_with("28")) {
            (true, _) => None,
            (false, true) => Some(Self::Login),
            (false, false) => Some(Self::Session),
        }
    }
}

const LOGIN: &str = "set `user` and `password` of the database, or allow runbook's user in `pg_hba.conf`";

/// Whether a server asks for what is not there: no password, or a method that the driver does not know. The driver tells that
/// without a code, as it tells silence.
fn is_unmet(error: &Error) -> bool {
    let lacks_password = std::error::Error::source(error).is_some_and(|why| why.to_string() == "password missing");
    lacks_password || error.to_string().starts_with("authentication error")
}

/// Whether a server may take a session soon.
fn is_passing(code: &SqlState) -> bool {
    [SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN, SqlState::TOO_MANY_CONNECTIONS].contains(code)
}

/// Whether a statement failed by what its machine or its session lacked, which says nothing of the data: classes 53 (no room, no
/// memory) and 57 (cancelled, a time limit, a crash; but no dropped database) of the manual's error codes, and a lock that somebody else held.
fn is_of_the_moment(code: &SqlState) -> bool {
    let class = code.code().get(..2);
    let of_others =
        [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE]
            .contains(code);
    (matches!(class, Some("53" | "57")) && *code != SqlState::DATABASE_DROPPED) || of_others
}

/// Whether a server has not, or lets nobody into, the one database that was named (`InitPostgres` in `postinit.c`).
fn is_about_database(code: &SqlState) -> bool {
    [SqlState::INVALID_CATALOG_NAME, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, SqlState::DATABASE_DROPPED]
        .contains(code)
}

/// Whether replay ended a session or its statement to go on (manual, "Handling Query Conflicts").
fn is_overrun(code: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::DATABASE_DROPPED].contains(code)
}

/// Everything needed to open a session.
#[derive(Clone)]
pub(crate) struct Endpoint {
    config: Config,
    tls: Tls,
    shown: String,
}

impl Endpoint {
    /// The endpoint of a cluster, for one of its databases.
    ///
    /// # Errors
    /// Fails when the password's secret cannot be had.
    pub(crate) fn of(cluster: &Cluster, dbname: Option<&str>, secrets: &dyn Secrets) -> Result<Self, ActionError> {
        let dbname = dbname.unwrap_or(&cluster.dbname);
        let mut config = Config::new();
        config.user(&cluster.user).dbname(dbname).port(cluster.port).application_name("runbook");
        config.connect_timeout(Duration::from_secs(10));
        let shown = match &cluster.socket {
            Some(folder) => {
                config.host_path(folder);
                format!("{}/.s.PGSQL.{}", folder.display(), cluster.port)
            }
            None => match &cluster.entry.address {
                Some(address) => {
                    config.host(address);
                    format!("{address}:{}", cluster.port)
                }
                None => {
                    config.host("localhost").hostaddr(IpAddr::V4(Ipv4Addr::LOCALHOST));
                    format!("localhost:{}", cluster.port)
                }
            },
        };
        let shown = format!("database `{dbname}` at `{shown}`");
        Self::finished(cluster, config, (Tls::of(cluster), shown), secrets)
    }

    /// The endpoint of another server of the same cluster, at a host and port, for one of its databases.
    ///
    /// # Errors
    /// Fails when the password's secret cannot be had.
    pub(crate) fn at(
        cluster: &Cluster,
        (host, port): (&str, u16),
        dbname: &str,
        secrets: &dyn Secrets,
    ) -> Result<Self, ActionError> {
        let mut config = Config::new();
        config.user(&cluster.user).dbname(dbname).host(host).port(port).application_name("runbook");
        config.connect_timeout(Duration::from_secs(3));
        let shown = format!("database `{dbname}` at `{host}:{port}`");
        Self::finished(cluster, config, (Tls::over_tcp(cluster), shown), secrets)
    }

    fn finished(
        cluster: &Cluster,
        mut config: Config,
        (tls, shown): (Tls, String),
        secrets: &dyn Secrets,
    ) -> Result<Self, ActionError> {
        if let Some(secret) = cluster.entry.password.as_deref().filter(|_| !cluster.is_scratch()) {
            let password: SecretText = secrets.get(secret)?;
            config.password(password.reveal());
        }
        let KeptAlive { idle, interval, probes } = KEPT_ALIVE;
        config.keepalives_idle(idle).keepalives_interval(interval).keepalives_retries(probes);
        config.ssl_mode(match tls.mode() {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require | SslMode::VerifyFull => PgSslMode::Require,
        });
        Ok(Self { config, tls, shown })
    }

    /// Where it connects to, and as whom.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// How it wants TLS.
    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The database and its place, for messages.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Opens a session.
    ///
    /// # Errors
    /// Retryable when nobody answers or the server is starting, fatal when it refuses.
    pub(crate) async fn open(&self) -> Result<Session, ActionError> {
        self.ask().await.map_err(|(_, error)| error)
    }

    /// Opens a session; of one that it does not get it tells what the server refuses.
    ///
    /// # Errors
    /// Fails as [`Endpoint::open`] does.
    pub(crate) async fn ask(&self) -> Result<Session, (Option<Refusal>, ActionError)> {
        let connected = match self.tls.mode() {
            SslMode::Disable => {
                self.config.connect(NoTls).await.map(|(client, driver)| (client, Box::pin(driver) as Driver))
            }
            SslMode::Prefer | SslMode::Require | SslMode::VerifyFull => {
                let maker = self.tls.connector().map_err(|error| (None, error))?;
                self.config.connect(maker).await.map(|(client, driver)| (client, Box::pin(driver) as Driver))
            }
        };
        let (client, driver) = connected.map_err(|error| (Refusal::of(&error), refused(&self.shown, &error)))?;
        Ok(Session { client, driver: Some(driver), shown: self.shown.clone() })
    }
}

/// Rows of an answer, every value as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Table {
    /// The columns' names.
    pub(crate) columns: Vec<String>,
    /// The rows; `None` is NULL.
    pub(crate) rows: Vec<Vec<Option<String>>>,
    /// Rows changed, as the last statement said.
    pub(crate) affected: u64,
}

impl Table {
    /// The first column of the first row.
    pub(crate) fn first(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }

    /// The value at a row and column; `None` for NULL and for what is not there.
    pub(crate) fn at(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.get(column)?.as_deref()
    }
}

/// An open session.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) driver: Option<Driver>,
    pub(crate) shown: String,
}

impl Session {
    /// Runs one or more statements and gives the rows of the last one that has any.
    ///
    /// # Errors
    /// Fails as the server says; a lost connection is retryable.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Table, ActionError> {
        let Self { client, driver, shown } = self;
        let messages = drive(driver, client.simple_query(sql)).await.map_err(|error| refused(shown, &error))?;
        Ok(table(messages))
    }

    /// Commits a transaction; `what` is committed, in words.
    ///
    /// # Errors
    /// Of unknown outcome when the session ends meanwhile: it may have been committed. What the server refuses with an ERROR it has
    /// rolled back; such an error is as that of [`Session::query`].
    pub(crate) async fn commit(&mut self, what: &str) -> Result<(), ActionError> {
        let Self { client, driver, shown } = self;
        let Err(error) = drive(driver, client.simple_query("COMMIT")).await else { return Ok(()) };
        // FATAL and PANIC end the session, perhaps behind the commit's own record; a pooler's words are none of the server's.
        let is_rolled_back = error.as_db_error().and_then(|said| said.parsed_severity()) == Some(Severity::Error);
        Err(match is_rolled_back {
            true => refused(shown, &error),
            false => ActionError::unknown(format!("the connection broke while {what} being committed")).because(&error),
        })
    }

    /// Runs statements on a server that replays WAL: what replay ended is worth another session.
    ///
    /// # Errors
    /// Fails as [`Session::query`]; retryable also where replay was in the way.
    pub(crate) async fn look(&mut self, sql: &str) -> Result<Table, ActionError> {
        let Self { client, driver, shown } = self;
        let looked = drive(driver, client.simple_query(sql)).await.map_err(|error| match error.code() {
            Some(code) if is_overrun(code) => {
                ActionError::retryable(format!("replay ended the session with {shown}")).because(&error)
            }
            Some(_) | None => refused(shown, &error),
        });
        looked.map(table)
    }

    /// Gives the one value a statement answers with.
    ///
    /// # Errors
    /// Fails when it answers with none.
    pub(crate) async fn value(&mut self, sql: &str) -> Result<String, ActionError> {
        let table = self.query(sql).await?;
        let none = || ActionError::fatal(format!("`{sql}` gave no value"));
        table.first().map(ToOwned::to_owned).ok_or_else(none)
    }

    /// Gives the server's major version.
    ///
    /// # Errors
    /// Fails when the server tells none.
    pub(crate) async fn major(&mut self) -> Result<Major, ActionError> {
        let number = self.value("SELECT current_setting('server_version_num')").await?;
        let number = number.parse().map_err(|_| ActionError::fatal("the server told no version"))?;
        Ok(Major::of_number(number))
    }

    /// Gives what a `COPY … TO STDOUT` writes. The stream takes the session with it.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(crate) async fn copy_out(mut self, sql: &str) -> Result<CopyOut, ActionError> {
        let Self { client, driver, shown } = &mut self;
        let stream = drive(driver, client.copy_out(sql)).await.map_err(|error| refused(shown, &error))?;
        let Self { client, driver, .. } = self;
        let (current, records) = (Bytes::new(), Records::default());
        Ok(CopyOut { stream: Box::pin(stream), driver, client, current, records })
    }

    /// Prepares one statement and gives its columns' types; refuses several statements in one text.
    ///
    /// # Errors
    /// Fails as the server says.
    pub(crate) async fn types(&mut self, sql: &str) -> Result<Vec<Type>, ActionError> {
        let Self { client, driver, shown } = self;
        let statement = drive(driver, client.prepare(sql)).await.map_err(|error| refused(shown, &error))?;
        Ok(statement.columns().iter().map(|column| column.type_().clone()).collect())
    }
}

/// Waits for an answer while the connection is driven.
async fn drive<T, F>(driver: &mut Option<Driver>, answer: F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    tokio::pin!(answer);
    if let Some(running) = driver {
        tokio::select! {
            biased;
            answered = &mut answer => return answered,
            ended = running => {
                *driver = None;
                ended?;
            }
        }
    }
    answer.await
}

fn table(messages: Vec<SimpleQueryMessage>) -> Table {
    let mut table = Table::default();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                table.columns = columns.iter().map(|column| column.name().to_owned()).collect();
                table.rows.clear();
            }
            SimpleQueryMessage::Row(row) => {
                table.rows.push((0..row.len()).map(|index| row.get(index).map(ToOwned::to_owned)).collect());
            }
            SimpleQueryMessage::CommandComplete(count) => table.affected = count,
            _ => {}
        }
    }
    table
}

/// What a server's refusal, or its silence, means for a step.
pub(crate) fn refused(shown: &str, error: &Error) -> ActionError {
    let Some(code) = error.code() else {
        if is_unmet(error) {
            return ActionError::fatal(format!("{shown} asks for a login that is not there"))
                .because(error)
                .help(LOGIN);
        }
        return ActionError::retryable(format!("the connection to {shown} is lost, or it does not answer"))
            .because(error);
    };
    if is_passing(code) {
        return ActionError::retryable(format!("{shown} takes no sessions now")).because(error);
    }
    if is_of_the_moment(code) {
        return ActionError::retryable(format!("{shown} could not carry a statement out")).because(error);
    }
    let fact = ActionError::fatal(format!("{shown} refuses")).because(error);
    if code.code().starts_with("28") {
        return fact.help(LOGIN);
    }
    fact
}
