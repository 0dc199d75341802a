//! The command lines of `pg_dump` and `pg_dumpall`.

use std::path::Path;

use super::params::DumpParams;
use crate::action::{ActionError, CommandSpec};
use crate::actions::postgres::session::client::Client;
use crate::actions::postgres::session::origin::Origin;
use crate::catalog::DumpFormat;

/// How long `pg_dump` may wait for the lock on a table. Ours is there before: what it waits for then waits for us.
const LOCKED_WITHIN_MS: u32 = 10_000;

/// Whether the session that holds the snapshot holds the tables, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tables {
    /// It locks them all.
    Held,
    /// Only `pg_dump` locks what it dumps.
    Free,
}

/// `pg_dump` of one database, at the moment of a snapshot that another session holds.
pub(super) fn dump(
    client: &Client<'_>,
    params: &DumpParams,
    (dbname, snapshot, tables): (&str, &str, Tables),
) -> Result<impl FnOnce(&Path) -> CommandSpec, ActionError> {
    let format = match params.format {
        DumpFormat::Custom => "custom",
        DumpFormat::Directory => "directory",
        DumpFormat::Plain => "plain",
        DumpFormat::Tar => "tar",
    };
    let mut spec = client.command("pg_dump", dbname)?;
    spec = spec.args(["--no-password".to_owned(), "--no-sync".to_owned(), format!("--format={format}")]);
    spec = spec.arg(format!("--snapshot={snapshot}")).args(params.filters());
    if tables == Tables::Held {
        spec = spec.arg(format!("--lock-wait-timeout={LOCKED_WITHIN_MS}"));
    }
    if !(params.schemas.is_empty() && params.tables.is_empty()) {
        // Else a pattern that fits nothing is no error as long as another one fits something.
        spec = spec.arg("--strict-names");
    }
    if matches!(params.format, DumpFormat::Custom | DumpFormat::Directory) {
        spec = spec.arg(format!("--compress={}", params.program_level()));
    }
    if let Some(jobs) = params.jobs.filter(|_| params.format == DumpFormat::Directory) {
        spec = spec.arg(format!("--jobs={jobs}"));
    }
    Ok(move |to: &Path| client.writing(spec, None, to))
}

/// `pg_dumpall` of what belongs to the server: roles, their settings and memberships, tablespaces.
pub(super) fn globals(
    client: &Client<'_>,
    (dbname, origin): (&str, &Origin),
) -> Result<impl FnOnce(&Path) -> CommandSpec, ActionError> {
    let mut spec = client.command("pg_dumpall", dbname)?;
    spec = spec.args(["--globals-only", "--no-password", "--no-sync"]);
    if !origin.superuser {
        spec = spec.arg("--no-role-passwords");
    }
    Ok(move |to: &Path| client.writing(spec, None, to))
}
