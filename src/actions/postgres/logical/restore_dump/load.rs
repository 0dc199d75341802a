//! Loads a dump into an empty database with PostgreSQL's own programs. The first error ends it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read as _};

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
    /// Whether nothing brings the roles that the dump names into a server that has none of them.
    pub(super) without_roles: bool,
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
            complete(cx, self.arrival)?;
            return of_one_database(cx, self.arrival);
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
            ("--no-owner", params.no_owner || self.without_roles),
            ("--no-privileges", params.no_privileges || self.without_roles),
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

/// Refuses SQL text that goes to other databases than the one it is loaded into: what `pg_dumpall` writes, and `pg_dump
/// --create`. `psql` would leave the transaction and the new database at `\connect`, and write into the live ones.
fn of_one_database(cx: &RunContext, arrival: &Arrival) -> Result<(), ActionError> {
    let unread =
        |error: &(dyn std::error::Error + 'static)| ActionError::retryable("the dump cannot be read").because(error);
    let file = cx.host.read_files().open(&arrival.dump).map_err(|error| unread(&error))?;
    match goes_elsewhere(BufReader::with_capacity(1 << 18, file)).map_err(|error| unread(&error))? {
        false => Ok(()),
        true => Err(ActionError::fatal(
            "the SQL text makes databases itself, or goes to several, as `pg_dumpall` and `pg_dump --create` write it; nothing \
             was changed",
        )
        .help("load it into an empty server with `psql`, and dump the database from there")),
    }
}

/// Whether SQL text has a line that goes to another database, or is of a whole server. A line of rows begins with no such
/// word: in them each `\` is doubled.
fn goes_elsewhere(mut text: impl BufRead) -> io::Result<bool> {
    let server = format!("-- {CLUSTER_COMPLETE}");
    let goes = [&b"\\connect "[..], b"\\c ", server.as_bytes()];
    let mut begin = Vec::new();
    loop {
        begin.clear();
        // A line of rows may be longer than the memory should hold.
        if text.by_ref().take(80).read_until(b'\n', &mut begin)? == 0 {
            return Ok(false);
        }
        if goes.iter().any(|word| begin.starts_with(word)) {
            return Ok(true);
        }
        if begin.last() != Some(&b'\n') {
            text.skip_until(b'\n')?;
        }
    }
}

/// Refuses SQL text without its closing line: it was cut off.
fn complete(cx: &RunContext, arrival: &Arrival) -> Result<(), ActionError> {
    use std::io::{Seek as _, SeekFrom};
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

#[cfg(test)]
mod tests {
    use super::goes_elsewhere;

    #[test]
    fn text_that_goes_to_another_database_is_known_and_rows_that_name_the_command_are_not() {
        let goes = |text: &str| goes_elsewhere(text.as_bytes()).expect("text");
        assert!(goes("CREATE DATABASE shop;\n\\connect shop\nCREATE TABLE t (n int);\n"));
        assert!(goes("CREATE ROLE app;\n--\n-- PostgreSQL database cluster dump complete\n--\n"));
        assert!(!goes("COPY t FROM stdin;\n\\\\connect shop\n\\.\n-- PostgreSQL database dump complete\n"));
        assert!(!goes("\\restrict x\nSELECT '\n  \\connect shop';\n\\unrestrict x\n"));
    }
}
