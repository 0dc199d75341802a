//! Loads a dump into an empty database with PostgreSQL's own programs. The first error ends it.

use std::collections::BTreeSet;

use super::super::dump::proof::{CLUSTER_COMPLETE, COMPLETE};
use super::arrival::Arrival;
use super::params::{RestoreDumpParams, RestoreMode};
use crate::action::{ActionError, CommandSpec, RunContext, Tie};
use crate::actions::postgres::cluster::name::conninfo;
use crate::actions::postgres::cluster::program;
use crate::actions::postgres::session::client::Client;
use crate::catalog::DumpFormat;

/// A dump on its way into a database.
pub(super) struct Load<'a> {
    /// The programs.
    pub(super) client: &'a Client<'a>,
    /// The step's arguments.
    pub(super) params: &'a RestoreDumpParams,
    /// The dump.
    pub(super) arrival: &'a Arrival,
    /// Tablespaces of the dump that the server lacks.
    pub(super) missing_tablespaces: &'a BTreeSet<String>,
}

impl Load<'_> {
    /// Has the dump listed before anything is touched: one that cannot be read shows now.
    ///
    /// # Errors
    /// Fails when `pg_restore` cannot list it, or SQL text breaks off.
    pub(super) async fn prove(&self, cx: &RunContext) -> Result<(), ActionError> {
        let dump = &self.arrival.dump;
        if self.arrival.format == DumpFormat::Plain {
            self.as_it_is()?;
            return complete(cx, self.arrival);
        }
        let spec = self.client.offline("pg_restore").args(["--list", "--file=/dev/null"]);
        let spec = spec.arg(dump.display().to_string());
        let output = cx.host.run(spec, Tie::Engine).await;
        let output = output.map_err(|error| program::failed("pg_restore", &error))?;
        if output.success() {
            return Ok(());
        }
        let error = ActionError::fatal("`pg_restore` cannot read the dump; nothing was changed");
        Err(error.process(output.exit_code, output.tail(20)).help("use another backup"))
    }

    /// Refuses what SQL text cannot keep: `psql` carries out all of it.
    fn as_it_is(&self) -> Result<(), ActionError> {
        let params = self.params;
        if !(params.is_partial() || params.clean || params.no_owner || params.no_privileges) {
            return Ok(());
        }
        let fact = "the dump is SQL text, which is loaded as it is: `schemas`, `tables`, `clean`, `no_owner` and \
                    `no_privileges` do nothing there";
        Err(ActionError::fatal(fact).help("leave them out, or use a dump of another format; nothing was changed"))
    }

    /// Loads it.
    ///
    /// # Errors
    /// Fails as the program does, with its last lines.
    pub(super) async fn run(&self, dbname: &str, cx: &RunContext) -> Result<(), ActionError> {
        let spec = match self.arrival.format {
            DumpFormat::Plain => self.psql(dbname)?,
            DumpFormat::Custom | DumpFormat::Directory | DumpFormat::Tar => self.pg_restore(dbname)?,
        };
        let program = spec.program.clone();
        let output = cx.host.run(spec, Tie::Engine).await;
        let output = output.map_err(|error| program::failed(&program, &error))?;
        if output.success() {
            return Ok(());
        }
        // The same dump fails in the same way again, unless the server itself went away.
        let tail = output.tail(20);
        let lost = tail
            .iter()
            .any(|line| line.contains("server closed the connection") || line.contains("connection to server"));
        let fact = format!("`{program}` could not load the dump");
        let error = if lost { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
        Err(error.process(output.exit_code, tail))
    }

    fn pg_restore(&self, dbname: &str) -> Result<CommandSpec, ActionError> {
        let params = self.params;
        let mut spec = self.client.command("pg_restore", dbname)?;
        spec = spec.args(["--exit-on-error".to_owned(), "--no-password".to_owned()]);
        spec = spec.arg(format!("--dbname={}", conninfo(dbname)));
        // Only what has a table of contents and can be read at any place is loaded from several sides at once.
        let parallel = matches!(self.arrival.format, DumpFormat::Custom | DumpFormat::Directory);
        match params.jobs.filter(|jobs| parallel && *jobs > 1) {
            Some(jobs) => spec = spec.arg(format!("--jobs={jobs}")),
            None if params.mode == RestoreMode::Into => spec = spec.arg("--single-transaction"),
            None => {}
        }
        let flags = [
            ("--no-owner", params.no_owner),
            ("--no-privileges", params.no_privileges),
            ("--clean", params.clean),
            ("--if-exists", params.if_exists),
            ("--no-tablespaces", !self.missing_tablespaces.is_empty()),
            // A name that fits nothing is an error, and no empty database.
            ("--strict-names", params.is_partial()),
        ];
        spec = spec.args(flags.into_iter().filter(|(_, wanted)| *wanted).map(|(flag, _)| flag));
        spec = spec.args(params.schemas.iter().map(|schema| format!("--schema={schema}")));
        spec = spec.args(params.tables.iter().map(|table| format!("--table={table}")));
        Ok(spec.arg(self.arrival.dump.display().to_string()))
    }

    fn psql(&self, dbname: &str) -> Result<CommandSpec, ActionError> {
        let spec = self.client.command("psql", dbname)?;
        let spec = spec.args(["--no-psqlrc", "--quiet", "--single-transaction", "--no-password"]);
        let spec = spec.args(["--set=ON_ERROR_STOP=1", "--output=/dev/null"]);
        Ok(spec.arg(format!("--file={}", self.arrival.dump.display())))
    }
}

/// Refuses SQL text without its closing line: it was cut off.
fn complete(cx: &RunContext, arrival: &Arrival) -> Result<(), ActionError> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = |mut file: std::fs::File| {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(4096)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(tail)
    };
    let file = cx.host.read_files().open(&arrival.dump);
    let file = file.map_err(|error| ActionError::retryable("the dump cannot be read").because(&error))?;
    let tail = read(file)
        .map_err(|error: std::io::Error| ActionError::retryable("the dump cannot be read").because(&error))?;
    let closing =
        |line: &str| line.strip_prefix("-- ").is_some_and(|words| [COMPLETE, CLUSTER_COMPLETE].contains(&words));
    match String::from_utf8_lossy(&tail).lines().any(closing) {
        true => Ok(()),
        false => Err(ActionError::fatal("the SQL text ends before the end of its dump; nothing was changed")
            .help("use another backup")),
    }
}
