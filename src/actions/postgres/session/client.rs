//! PostgreSQL's client programs, connected to one server: `pg_dump`, `pg_restore`, `psql`.
//!
//! How they connect travels in their environment: a password is never an argument, and a database's name that looks
//! like a connection string is none. Nothing of our own environment reaches them, so no `PGSERVICE` leads elsewhere.
//!
//! Where this machine has none of a container's version, dumps use those of the container itself: what they write flows
//! through their standard output, what they read through their standard input.

use std::path::Path;
use std::time::Duration;

use super::origin::Origin;
use super::tls::Tls;
use crate::action::{ActionError, CommandSpec, Host, ReadHost, Secrets, Tie};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::program::failed;
use crate::actions::postgres::cluster::server::Programs;
use crate::language::inventory::SslMode;

/// How long a program may take to say its version.
const VERSION_WITHIN: Duration = Duration::from_secs(20);

/// Runs the words after the first two with one as its input and the other as its output.
const PIPED: &str = r#"from=$0; to=$1; shift; exec "$@" <"$from" >"$to""#;

/// The certificates that a machine trusts, where systems keep them: Debian and Alpine, Red Hat, SUSE, BSD and macOS.
const TRUSTED: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The programs of a server's version, and the server they connect to.
pub(crate) struct Client<'a> {
    cluster: &'a Cluster,
    tools: Tools,
    secrets: &'a dyn Secrets,
    /// The certificates that this machine trusts.
    trusted: &'static str,
}

/// Where the programs are.
enum Tools {
    /// On this machine.
    Here(Programs),
    /// In the server's container, where it listens on this port.
    Inside(ServerHost, String),
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
        let tools = Tools::Here(Programs::of(cluster, major, host)?);
        Ok(Self { cluster, tools, secrets, trusted: trusted(host) })
    }

    /// The programs for dumps of a server: those of its container, where it has one and this machine none of its version.
    ///
    /// # Errors
    /// Fails when there are none.
    pub(crate) async fn dumping(
        cluster: &'a Cluster,
        origin: &Origin,
        (host, secrets): (&dyn ReadHost, &'a dyn Secrets),
    ) -> Result<Self, ActionError> {
        let major = origin.major.to_string();
        if !cluster.is_contained() || Programs::installed(cluster, &major, host).is_some() {
            return Self::of(cluster, &major, (host, secrets));
        }
        match ServerHost::of(cluster, host).await {
            Ok(server_host) if server_host.is_open() => {
                let tools = Tools::Inside(server_host, origin.port.clone());
                Ok(Self { cluster, tools, secrets, trusted: TRUSTED[0] })
            }
            Ok(_) | Err(_) => Self::of(cluster, &major, (host, secrets)),
        }
    }

    /// A program that connects to one of the server's databases.
    ///
    /// # Errors
    /// Fails when the password's secret cannot be had.
    pub(crate) fn command(&self, program: &str, dbname: &str) -> Result<CommandSpec, ActionError> {
        let spec = connected(self.offline(program), (self.cluster, dbname), (self.trusted, self.secrets))?;
        Ok(match &self.tools {
            Tools::Here(_) => spec,
            Tools::Inside(_, port) => spec.env("PGHOST", "localhost").env("PGPORT", port.as_str()),
        })
    }

    /// A program that writes `to`, and reads `from` where it reads anything. Nothing more is added to it.
    pub(crate) fn writing(&self, spec: CommandSpec, from: Option<&Path>, to: &Path) -> CommandSpec {
        match &self.tools {
            Tools::Here(_) => {
                let spec = spec.arg(format!("--file={}", to.display()));
                from.into_iter().fold(spec, |spec, from| spec.arg(from.display().to_string()))
            }
            Tools::Inside(server_host, _) => {
                let spec = server_host.exec(spec);
                let from = from.unwrap_or(Path::new("/dev/null")).display().to_string();
                let words = ["-c".to_owned(), PIPED.to_owned(), from, to.display().to_string(), spec.program];
                CommandSpec { program: "sh".to_owned(), args: words.into_iter().chain(spec.args).collect(), ..spec }
            }
        }
    }

    /// Whether they can work on folders and files of this machine.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.tools, Tools::Here(_))
    }

    /// A program that connects to nothing.
    pub(crate) fn offline(&self, program: &str) -> CommandSpec {
        let path = match &self.tools {
            Tools::Here(programs) => programs.path(program),
            Tools::Inside(server_host, _) => {
                return CommandSpec::new(server_host.tool(program)).env("LC_MESSAGES", "C").env("LANG", "C.UTF-8");
            }
        };
        let mut spec = CommandSpec::new(path);
        spec.inherit_env = false;
        spec.dir = Some("/".into());
        spec.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_MESSAGES", "C").env("LANG", "C.UTF-8")
    }

    /// The version that a program says it has: `15.18`.
    ///
    /// # Errors
    /// Fails when it cannot be run.
    pub(crate) async fn version(&self, program: &str, host: &dyn ReadHost) -> Result<String, ActionError> {
        let spec = self.offline(program).arg("--version");
        let mut spec = match &self.tools {
            Tools::Here(_) => spec,
            Tools::Inside(server_host, _) => server_host.exec(spec),
        };
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

/// The file of the certificates that this machine trusts: libpq does not look for it by itself.
pub(crate) fn trusted(host: &dyn ReadHost) -> &'static str {
    let files = host.read_files();
    let is_there = |path: &&str| matches!(files.facts(Path::new(path)), Ok(Some(_)));
    TRUSTED.into_iter().find(is_there).unwrap_or(TRUSTED[0])
}

/// Tells a program by its environment how to connect to one of a server's databases; it trusts what the entry names, else
/// [`trusted`].
///
/// # Errors
/// Fails when the password's secret cannot be had.
pub(crate) fn connected(
    spec: CommandSpec,
    (cluster, dbname): (&Cluster, &str),
    (trusted, secrets): (&str, &dyn Secrets),
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
        let trusted = tls.root_cert().map_or_else(|| trusted.into(), |file| file.to_string_lossy().into_owned());
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
