//! A pgbouncer, by its admin console: stopping is `PAUSE`, starting is `RECONNECT` and `RESUME`.
//!
//! Clients stay connected and wait meanwhile. Only `psql` speaks to the console, as its manual says.

use std::time::Duration;

use super::super::process::{failed, host_error};
use super::provider::{Order, ServiceState};
use crate::action::by_hand::command_line;
use crate::action::{ActionError, CommandOutput, CommandSpec, Host, ReadHost, Secrets, Tie};
use crate::language::inventory::Pgbouncer;

/// The program that speaks to the console.
pub(super) const PSQL: &str = "psql";
/// The console's own name among the databases.
const CONSOLE: &str = "pgbouncer";
/// How long a command may take: a pause waits for what runs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// One pooler.
pub(super) struct Pooler<'a> {
    /// Its entry in the inventory.
    pub(super) entry: &'a Pgbouncer,
}

/// A database of the pooler.
struct Pool {
    name: String,
    paused: bool,
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

    /// Asks which of its databases are paused.
    pub(super) async fn state(&self, host: &dyn ReadHost, secrets: &dyn Secrets) -> Result<ServiceState, ActionError> {
        let pools = self.pools(host, secrets).await?;
        let paused = pools.iter().filter(|pool| pool.paused).count();
        match (paused, pools.len()) {
            (_, 0) => Err(ActionError::fatal("the pooler has none of the databases that it is to pause")
                .help("name databases of its configuration under `pgbouncer: { databases: [...] }`")),
            (0, _) => Ok(ServiceState::Running),
            (paused, all) if paused == all => Ok(ServiceState::Stopped),
            (_, _) => Ok(ServiceState::Changing),
        }
    }

    async fn pools(&self, host: &dyn ReadHost, secrets: &dyn Secrets) -> Result<Vec<Pool>, ActionError> {
        let output = host.probe(self.spec("SHOW DATABASES", secrets)?).await.map_err(|error| host_error(&error))?;
        if !output.success() {
            return Err(refused(&output));
        }
        let wanted = |pool: &Pool| self.entry.databases.is_empty() || self.entry.databases.contains(&pool.name);
        Ok(parse(&String::from_utf8_lossy(&output.stdout)).into_iter().filter(wanted).collect())
    }

    /// Pauses its databases, or has them connect anew and go on; those that are so already are left alone.
    pub(super) async fn tell(&self, order: Order, host: &dyn Host, secrets: &dyn Secrets) -> Result<(), ActionError> {
        let verbs: &[&str] = match order {
            Order::Stop => &["PAUSE"],
            Order::Start => &["RECONNECT", "RESUME"],
        };
        for pool in self.pools(host.as_read(), secrets).await? {
            if pool.paused == (order == Order::Stop) {
                continue;
            }
            for verb in verbs {
                let spec = self.spec(&told(verb, &pool.name), secrets)?;
                let output = host.run(spec, Tie::Engine).await.map_err(|error| {
                    host_error(&error)
                        .help("a pause waits for what runs; with session pooling, for every client to leave")
                })?;
                if !output.success() {
                    return Err(refused(&output));
                }
            }
        }
        Ok(())
    }
}

fn told(verb: &str, name: &str) -> String {
    format!("{verb} \"{}\"", name.replace('"', "\"\""))
}

fn refused(output: &CommandOutput) -> ActionError {
    failed("the pooler's console", output)
        .help("give a `user` of its `admin_users`, and the `password` if it wants one")
}

/// Reads `SHOW DATABASES`, whose columns differ from version to version.
fn parse(shown: &str) -> Vec<Pool> {
    let mut lines = shown.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split('|').collect();
    let column = |name: &str| head.iter().position(|column| *column == name);
    let (Some(name), Some(paused)) = (column("name"), column("paused")) else { return Vec::new() };
    let pools = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split('|').collect();
        Some(Pool { name: (*fields.get(name)?).to_owned(), paused: *fields.get(paused)? == "1" })
    });
    pools.filter(|pool| pool.name != CONSOLE).collect()
}

#[cfg(test)]
mod tests {
    use super::{parse, told};

    #[test]
    fn the_databases_of_a_console_are_read_by_the_names_of_their_columns() {
        let shown = "name|host|port|database|paused|disabled\nmain|/tmp|5432|main|1|0\npgbouncer||6432|pgbouncer|0|0\n";
        let pools = parse(shown);
        assert_eq!(pools.iter().map(|pool| (pool.name.as_str(), pool.paused)).collect::<Vec<_>>(), [("main", true)]);
        assert!(parse("nothing\n").is_empty());
        assert_eq!(told("PAUSE", "a\"b"), "PAUSE \"a\"\"b\"");
    }
}
