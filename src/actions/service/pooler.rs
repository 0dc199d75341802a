//! A pgbouncer, by its admin console: stopping is `PAUSE`, starting is `RECONNECT` and `RESUME`.
//!
//! Clients stay connected and wait meanwhile. Only `psql` speaks to the console, as its manual says.
//!
//! The console holds back a database's clients as soon as it is told `PAUSE`, and goes on doing so when whoever told it
//! has left. So a paused database is stopped only when no connection to the server is left in its pools, and a pause that
//! does not come through is taken back.

use std::time::Duration;

use super::super::process::{failed, host_error};
use super::provider::{Order, ServiceState};
use crate::action::by_hand::command_line;
use crate::action::{ActionError, CommandOutput, CommandSpec, Host, ReadHost, Secrets, Tie};
use crate::base::units::Span;
use crate::language::inventory::Pgbouncer;

/// The program that speaks to the console.
pub(super) const PSQL: &str = "psql";
/// The console's own name among the databases.
const CONSOLE: &str = "pgbouncer";
/// How long a command may take that waits for nobody.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// What a pause waits for.
const WAITS: &str = "a pause waits for what runs; with session pooling, for every client to leave";

/// One pooler.
pub(super) struct Pooler<'a> {
    /// Its entry in the inventory.
    pub(super) entry: &'a Pgbouncer,
}

/// A database of the pooler.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pool {
    name: String,
    paused: bool,
    /// The connections to the server, idle ones included.
    servers: u64,
}

impl Pool {
    fn is_stopped(&self) -> bool {
        self.paused && self.servers == 0
    }
}

/// How many pools of a pooler are in a state.
fn count(pools: &[Pool], is_so: impl Fn(&Pool) -> bool) -> usize {
    pools.iter().filter(|pool| is_so(pool)).count()
}

impl Pooler<'_> {
    fn args(&self, statement: &str) -> Vec<String> {
        let entry = self.entry;
        let host = entry.socket.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |path| path.display().to_string());
        let port = if entry.port == 0 { Pgbouncer::PORT } else { entry.port };
        let user = if entry.user.is_empty() { CONSOLE } else { &entry.user };
        let mut args: Vec<String> = ["-X", "-w", "-A", "-F", "|", "-P", "footer=off"].map(str::to_owned).into();
        args.extend(["-h".to_owned(), host, "-p".to_owned(), port.to_string(), "-U".to_owned(), user.to_owned()]);
        args.extend(["-d".to_owned(), CONSOLE.to_owned(), "-c".to_owned(), statement.to_owned()]);
        args
    }

    fn spec(&self, statement: &str, secrets: &dyn Secrets) -> Result<CommandSpec, ActionError> {
        let mut spec = CommandSpec::new(PSQL).args(self.args(statement));
        if let Some(secret) = &self.entry.password {
            spec = spec.env("PGPASSWORD", secrets.get(secret)?.reveal());
        }
        spec.timeout = Some(ANSWERS_WITHIN);
        Ok(spec)
    }

    /// The statements of an order, for a person.
    pub(super) fn order_line(&self, order: Order) -> String {
        let each = |verb: &str| match self.entry.databases.as_slice() {
            [] => verb.to_owned(),
            names => names.iter().map(|name| told(verb, name)).collect::<Vec<_>>().join("; "),
        };
        let statement = match order {
            Order::Stop => each("PAUSE"),
            Order::Start => format!("{}; {}", each("RECONNECT"), each("RESUME")),
        };
        command_line(std::iter::once(PSQL.to_owned()).chain(self.args(&statement)))
    }

    /// The statement that asks what it does, for a person.
    pub(super) fn state_line(&self) -> String {
        command_line(std::iter::once(PSQL.to_owned()).chain(self.args("SHOW DATABASES")))
    }

    /// Asks which of its databases are paused, and whether anything of them still runs.
    pub(super) async fn state(&self, host: &dyn ReadHost, secrets: &dyn Secrets) -> Result<ServiceState, ActionError> {
        let pools = self.pools(host, secrets).await?;
        if pools.is_empty() {
            return Err(ActionError::fatal("the pooler has none of the databases that it is to pause")
                .help("name databases of its configuration under `pgbouncer: { databases: [...] }`"));
        }
        Ok(match (count(&pools, |pool| pool.paused), count(&pools, Pool::is_stopped)) {
            (0, _) => ServiceState::Running,
            (_, stopped) if stopped == pools.len() => ServiceState::Stopped,
            (_, _) => ServiceState::Changing,
        })
    }

    async fn pools(&self, host: &dyn ReadHost, secrets: &dyn Secrets) -> Result<Vec<Pool>, ActionError> {
        let databases = self.shown("SHOW DATABASES", host, secrets).await?;
        let pools = self.shown("SHOW POOLS", host, secrets).await?;
        let wanted = |pool: &Pool| self.entry.databases.is_empty() || self.entry.databases.contains(&pool.name);
        Ok(parse(&databases, &pools).into_iter().filter(wanted).collect())
    }

    async fn shown(&self, what: &str, host: &dyn ReadHost, secrets: &dyn Secrets) -> Result<String, ActionError> {
        let output = host.probe(self.spec(what, secrets)?).await.map_err(|error| host_error(&error))?;
        match output.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(refused(&output)),
        }
    }

    /// Pauses its databases within a time each, or has them connect anew and go on; those that are so already are left
    /// alone.
    ///
    /// # Errors
    /// Fails as the console does, and when a pause does not come through in time or is cancelled: then everything that
    /// was paused here goes on again.
    pub(super) async fn tell(
        &self,
        (order, within): (Order, Span),
        host: &dyn Host,
        secrets: &dyn Secrets,
    ) -> Result<(), ActionError> {
        let pools = self.pools(host.as_read(), secrets).await?;
        match order {
            Order::Stop => self.pause(&pools, within, (host, secrets)).await,
            Order::Start => {
                for pool in pools.iter().filter(|pool| pool.paused) {
                    for verb in ["RECONNECT", "RESUME"] {
                        let spec = self.spec(&told(verb, &pool.name), secrets)?;
                        let output = host.run(spec, Tie::Engine).await.map_err(|error| host_error(&error))?;
                        output.success().then_some(()).ok_or_else(|| refused(&output))?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn pause(
        &self,
        pools: &[Pool],
        within: Span,
        (host, secrets): (&dyn Host, &dyn Secrets),
    ) -> Result<(), ActionError> {
        let mut own: Vec<&Pool> = Vec::new();
        for pool in pools.iter().filter(|pool| !pool.is_stopped()) {
            if !pool.paused {
                own.push(pool);
            }
            let spec = CommandSpec { timeout: Some(within.0), ..self.spec(&told("PAUSE", &pool.name), secrets)? };
            let failed = match host.run(spec, Tie::Engine).await {
                Ok(output) if output.success() => continue,
                Ok(output) => refused(&output),
                Err(error) => host_error(&error),
            };
            return Err(self.take_back(&own, failed, (host, secrets)).await);
        }
        Ok(())
    }

    /// Lets databases go on whose pause is of no use any more; gives the error that made it so, with what became of them.
    async fn take_back(
        &self,
        own: &[&Pool],
        failed: ActionError,
        (host, secrets): (&dyn Host, &dyn Secrets),
    ) -> ActionError {
        let mut left = Vec::new();
        for statement in own.iter().map(|pool| told("RESUME", &pool.name)) {
            let goes_on = match self.spec(&statement, secrets) {
                // Outside the attempt, which may be cancelled: it takes back what the attempt did.
                Ok(spec) => host.start_daemon(spec).await.is_ok_and(|output| {
                    output.success() || output.tail(5).iter().any(|line| line.contains("is not paused"))
                }),
                Err(_) => false,
            };
            if !goes_on {
                left.push(statement);
            }
        }
        let before = failed.info().help.clone();
        let became = match (left.is_empty(), own.is_empty()) {
            (true, true) => format!("it was paused before; `RESUME` lets its clients go on; {WAITS}"),
            (true, false) => format!("its clients go on; {WAITS}"),
            (false, _) => format!("its clients may hang until the console is told `{}`; {WAITS}", left.join("; ")),
        };
        failed.help(before.into_iter().chain([became]).collect::<Vec<_>>().join("; "))
    }
}

fn told(verb: &str, name: &str) -> String {
    format!("{verb} \"{}\"", name.replace('"', "\"\""))
}

fn refused(output: &CommandOutput) -> ActionError {
    failed("the pooler's console", output)
        .help("give a `user` of its `admin_users`, and the `password` if it wants one")
}

/// Reads `SHOW DATABASES` and `SHOW POOLS`, whose columns differ from version to version.
fn parse(databases: &str, pools: &str) -> Vec<Pool> {
    let Some(shown) = Shown::of(databases) else { return Vec::new() };
    let (Some(name), Some(paused)) = (shown.column("name"), shown.column("paused")) else { return Vec::new() };
    let found = shown.rows.iter().filter_map(|row| {
        let name = (*row.get(name)?).to_owned();
        Some(Pool { servers: servers(pools, &name), paused: *row.get(paused)? == "1", name })
    });
    found.filter(|pool| pool.name != CONSOLE).collect()
}

/// Counts the connections that all pools of a database have to its server; each state has a column of its own.
fn servers(pools: &str, database: &str) -> u64 {
    let Some(shown) = Shown::of(pools) else { return 0 };
    let Some(own) = shown.column("database") else { return 0 };
    let rows = shown.rows.iter().filter(|row| row.get(own) == Some(&database));
    let count = |row: &Vec<&str>| -> u64 {
        let cells = shown.head.iter().zip(row).filter(|(head, _)| head.starts_with("sv_"));
        cells.filter_map(|(_, cell)| cell.parse::<u64>().ok()).sum()
    };
    rows.map(count).sum()
}

/// What the console shows.
struct Shown<'a> {
    head: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Shown<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut lines = text.lines().map(|line| line.split('|').collect());
        Some(Self { head: lines.next()?, rows: lines.collect() })
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.head.iter().position(|column| *column == name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pool, parse, told};

    #[test]
    fn the_databases_of_a_console_are_read_by_the_names_of_their_columns() {
        let databases =
            "name|host|port|database|paused|disabled\nmain|/tmp|5432|main|1|0\npgbouncer||6432|pgbouncer|0|0\n";
        let pools = "database|user|cl_active|sv_active|sv_idle|sv_used|maxwait|pool_mode\n\
            main|app|7|1|2|0|9|transaction\nmain|web|0|0|1|0|9|transaction\nother|app|1|5|0|0|0|session\n";
        let main = Pool { name: "main".to_owned(), paused: true, servers: 4 };
        assert_eq!(parse(databases, pools), std::slice::from_ref(&main));
        assert!(!main.is_stopped());
        assert!(parse(databases, "database|user|cl_active\n").iter().all(Pool::is_stopped), "no pool was made yet");
        assert!(parse("nothing\n", pools).is_empty());
        assert_eq!(told("PAUSE", "a\"b"), "PAUSE \"a\"\"b\"");
    }
}
