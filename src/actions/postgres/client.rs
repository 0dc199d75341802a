//! PostgreSQL's client programs, connected to one server: `pg_dump`, `pg_restore`, `psql`.
//!
//! How they connect travels in their environment: a password is never an argument, and a database's name that looks
//! like a connection string is none. Nothing of our own environment reaches them, so no `PGSERVICE` leads elsewhere.

use std::time::Duration;

use super::layout::Cluster;
use super::server::Programs;
use super::tls::Tls;
use crate::action::{ActionError, CommandSpec, Host, HostError, ReadHost, Secrets, Tie};
use crate::language::inventory::SslMode;

/// How long a program may take to say its version.
const VERSION_WITHIN: Duration = Duration::from_secs(20);

/// The certificates that a Debian machine trusts.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The programs of a server's version, and the server they connect to.
pub(crate) struct Client<'a> {
    cluster: &'a Cluster,
    programs: Programs,
    secrets: &'a dyn Secrets,
}

impl<'a> Client<'a> {
    /// The programs for a server of this major version.
    ///
    /// # Errors
    /// Fails when there are none.
    pub(crate) fn of(
        cluster: &'a Cluster,
        major: &str,
        (host, secrets): (&dyn ReadHost, &'a dyn Secrets),
    ) -> Result<Self, ActionError> {
        let programs = Programs::of(cluster, major, host)?;
        Ok(Self { cluster, programs, secrets })
    }

    /// A program that connects to one of the server's databases.
    ///
    /// # Errors
    /// Fails when the password's secret cannot be had.
    pub(crate) fn command(&self, program: &str, dbname: &str) -> Result<CommandSpec, ActionError> {
        connected(self.offline(program), (self.cluster, dbname), self.secrets)
    }

    /// A program that connects to nothing.
    pub(crate) fn offline(&self, program: &str) -> CommandSpec {
        let mut spec = CommandSpec::new(self.programs.path(program));
        spec.inherit_env = false;
        spec.dir = Some("/".into());
        spec.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_MESSAGES", "C").env("LANG", "C.UTF-8")
    }

    /// The version that a program says it has: `15.18`.
    ///
    /// # Errors
    /// Fails when it cannot be run.
    pub(crate) async fn version(&self, program: &str, host: &dyn ReadHost) -> Result<String, ActionError> {
        let mut spec = self.offline(program).arg("--version");
        spec.timeout = Some(VERSION_WITHIN);
        let output = host.probe(spec).await.map_err(|error| failed(program, &error))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let number = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        number.map(str::to_owned).ok_or_else(|| {
            ActionError::fatal(format!("`{program} --version` says `{text}`"))
                .help("install the client package of the server's version, or set `bin` of the database")
        })
    }
}

/// Tells a program by its environment how to connect to one of a server's databases.
///
/// # Errors
/// Fails when the password's secret cannot be had.
pub(crate) fn connected(
    spec: CommandSpec,
    (cluster, dbname): (&Cluster, &str),
    secrets: &dyn Secrets,
) -> Result<CommandSpec, ActionError> {
    let mut spec = match &cluster.socket {
        Some(folder) => spec.env("PGHOST", folder.display().to_string()),
        None => match &cluster.entry.address {
            Some(address) => spec.env("PGHOST", address.as_str()),
            None => spec.env("PGHOST", "localhost").env("PGHOSTADDR", "127.0.0.1"),
        },
    };
    spec = spec.env("PGPORT", cluster.port.to_string()).env("PGUSER", &*cluster.user).env("PGDATABASE", dbname);
    spec = spec.env("PGAPPNAME", "runbook").env("PGCONNECT_TIMEOUT", "10");
    let tls = Tls::of(cluster);
    let sslmode = match tls.mode() {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyFull => "verify-full",
    };
    spec = spec.env("PGSSLMODE", sslmode);
    if tls.mode() == SslMode::VerifyFull {
        let trusted = tls.root_cert().map_or_else(|| TRUSTED.into(), |file| file.to_string_lossy().into_owned());
        spec = spec.env("PGSSLROOTCERT", trusted);
    }
    if let Some(secret) = cluster.entry.password.as_deref().filter(|_| !cluster.is_scratch()) {
        spec = spec.env("PGPASSWORD", secrets.get(secret)?.reveal());
    }
    Ok(spec)
}

/// Runs a program to its end; a failing exit code is an error.
///
/// # Errors
/// Retryable with the program's last lines.
pub(crate) async fn run(host: &dyn Host, spec: CommandSpec) -> Result<(), ActionError> {
    let program = spec.program.clone();
    let output = host.run(spec, Tie::Engine).await.map_err(|error| failed(&program, &error))?;
    if output.success() {
        return Ok(());
    }
    Err(ActionError::retryable(format!("`{program}` failed")).process(output.exit_code, output.tail(20)))
}

/// A program that was not seen to end by itself.
pub(crate) fn failed(program: &str, error: &HostError) -> ActionError {
    match error {
        HostError::Cancelled { .. } => ActionError::cancelled(format!("`{program}` was cancelled")).because(error),
        HostError::File { .. } | HostError::Spawn { .. } | HostError::Timeout { .. } | HostError::Lost { .. } => {
            ActionError::retryable(format!("`{program}` failed")).because(error)
        }
    }
}
