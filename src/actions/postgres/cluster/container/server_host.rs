//! Where a server lives: on this machine, or in a container with its own paths, programs and users.

use std::path::{Path, PathBuf};

use super::super::layout::Cluster;
use super::super::owner::Owner;
use super::super::program::failed;
use super::super::server::version_of;
use super::super::settings::shell_word;
use super::facts::State;
use super::inquiry::{ANSWERS_WITHIN, agrees, inspected};
use super::project::{MAKE, Project, RENEW};
use super::server_container::ServerContainer;
use crate::action::{ActionError, CommandSpec, Host, ReadHost, Tie};
use crate::language::inventory::{Compose, Via};

/// Where a server lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerHost {
    /// On this machine.
    Here,
    /// In a container.
    Container(Box<ServerContainer>),
}

impl ServerHost {
    /// Looks where the server of a cluster lives; `None` when its container is not there. A throw-away server lives here.
    ///
    /// # Errors
    /// Fails when docker does not answer, and when the container's data lies elsewhere than the inventory says.
    pub(crate) async fn seen(cluster: &Cluster, host: &dyn ReadHost) -> Result<Option<Self>, ActionError> {
        let Via::Compose(compose) = &cluster.via else { return Ok(Some(Self::Here)) };
        let Some(container) = inspected(compose, host).await? else { return Ok(None) };
        agrees(cluster, &container, host.read_files().as_ref())?;
        Ok(Some(Self::Container(Box::new(ServerContainer { compose: compose.clone(), container }))))
    }

    /// Looks where the server of a cluster lives.
    ///
    /// # Errors
    /// Fails when its container is not there, and as [`ServerHost::seen`] does.
    pub(crate) async fn of(cluster: &Cluster, host: &dyn ReadHost) -> Result<Self, ActionError> {
        Self::seen(cluster, host).await?.ok_or_else(|| missing(cluster))
    }

    /// Looks where the server of a cluster lives. A container that is gone is made anew, with its volumes, and not
    /// started; a data directory that is nobody's yet is given to the server's user.
    ///
    /// # Errors
    /// Fails when docker cannot make it, and as [`ServerHost::seen`] does.
    pub(crate) async fn made(cluster: &Cluster, host: &dyn Host) -> Result<Self, ActionError> {
        let mut seen = Self::seen(cluster, host.as_read()).await?;
        if let (None, Via::Compose(compose)) = (&seen, &cluster.via) {
            make(compose, &MAKE, host).await?;
            seen = Self::seen(cluster, host.as_read()).await?;
        }
        let server_host = seen.ok_or_else(|| missing(cluster))?;
        if let Self::Container(server_container) = &server_host {
            server_container.give(&cluster.pgdata, host).await?;
        }
        Ok(server_host)
    }

    /// Has the container that is not running be what the compose file says by now, and does not start it: programs were
    /// tried for a recovery in such a one.
    ///
    /// # Errors
    /// Fails when docker cannot make it, and when its data would lie elsewhere than the recovered one.
    pub(crate) async fn renew(cluster: &Cluster, host: &dyn Host) -> Result<(), ActionError> {
        let Via::Compose(compose) = &cluster.via else { return Ok(()) };
        make(compose, &RENEW, host).await?;
        Self::of(cluster, host.as_read()).await.map(drop)
    }

    /// Runs programs in a container of their own: the server may end at any time.
    pub(crate) fn apart(self) -> Self {
        match self {
            Self::Here => Self::Here,
            Self::Container(mut server_container) => {
                server_container.container.state = State::Stands;
                Self::Container(server_container)
            }
        }
    }

    /// Whether programs can be run where the server runs now, without making anything.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Here => true,
            Self::Container(server_container) => server_container.container.state == State::Runs,
        }
    }

    /// Our own program, as the server calls it.
    pub(crate) fn program(&self, own: &Path) -> PathBuf {
        match self {
            Self::Here => own.to_owned(),
            Self::Container(server_container) => server_container.compose.program(),
        }
    }

    /// What the server calls a path of this machine.
    ///
    /// # Errors
    /// Fails when it has no such path.
    pub(crate) fn path(&self, outside: &Path) -> Result<PathBuf, ActionError> {
        match self {
            Self::Here => Ok(outside.to_owned()),
            Self::Container(server_container) => server_container.container.inside(outside).ok_or_else(|| {
                let fact = format!(
                    "the container of service `{}` does not have `{}`",
                    server_container.compose.service,
                    outside.display()
                );
                ActionError::fatal(fact)
                    .help(format!("mount it there, and `docker compose up -d {}`", server_container.compose.service))
            }),
        }
    }

    /// Where a path of the server's lies on this machine; `None` for what only its image has.
    pub(crate) fn outside(&self, inside: &Path) -> Option<PathBuf> {
        match self {
            Self::Here => Some(inside.to_owned()),
            Self::Container(server_container) => server_container.container.outside(inside),
        }
    }

    /// Where the server can keep what need not outlive a recovery: `beside` its data directory, in a container under that
    /// name in the mounted folder; `None` where that is not mounted.
    pub(crate) fn spool(&self, beside: &Path) -> Option<PathBuf> {
        match self {
            Self::Here => Some(beside.to_owned()),
            Self::Container(server_container) => {
                let place = server_container.compose.wal_folder().join(beside.file_name()?);
                server_container.container.inside(&place).map(|_| place)
            }
        }
    }

    /// A program as the server's user runs it; its name, its folder and its arguments are as the server has them.
    pub(crate) fn command(&self, owner: &Owner, spec: CommandSpec, host: &dyn ReadHost) -> CommandSpec {
        match self {
            Self::Here => CommandSpec { user: owner.become_user.clone(), ..spec },
            Self::Container(server_container) => server_container.command((owner.uid, owner.gid), spec, host),
        }
    }

    /// One of PostgreSQL's programs, as the container has it: beside its server, where that is named by its path.
    pub(crate) fn tool(&self, program: &str) -> String {
        let Self::Container(server_container) = self else { return program.to_owned() };
        let folder = server_container.container.server.first().map(Path::new).filter(|server| server.is_absolute());
        let path = folder.and_then(Path::parent).map(|folder| folder.join(program));
        path.map_or_else(|| program.to_owned(), |path| path.to_string_lossy().into_owned())
    }

    /// A program inside the running container, with the variables of its environment alone that are said here; their
    /// values are no arguments. On this machine as it is.
    pub(crate) fn exec(&self, spec: CommandSpec) -> CommandSpec {
        let Self::Container(server_container) = self else { return spec };
        let names = spec.env.keys().flat_map(|name| ["-e".to_owned(), name.clone()]);
        let args = ["exec".to_owned(), "-i".to_owned()].into_iter().chain(names);
        let args = args.chain([server_container.container.id.clone(), spec.program]).chain(spec.args).collect();
        CommandSpec { program: "docker".to_owned(), args, ..spec }
    }

    /// The server's own command line in a data directory, as a shell takes it. Its later words are yet to come.
    pub(crate) fn server(&self, pgdata: &Path) -> Option<String> {
        match self {
            Self::Here => None,
            Self::Container(server_container) => {
                let words: Vec<String> =
                    server_container.container.server.iter().map(|word| shell_word(word)).collect();
                let inside = server_container.container.inside(pgdata)?.to_string_lossy().into_owned();
                let place = shell_word(&inside);
                Some(format!("{} -D {place} -c data_directory={place}", words.join(" ")))
            }
        }
    }

    /// Refuses a server of another major version than the data; one of this machine is not looked at here.
    ///
    /// # Errors
    /// Fails when it is of another version, and when it does not tell.
    pub(crate) async fn verify(&self, major: &str, owner: &Owner, host: &dyn ReadHost) -> Result<(), ActionError> {
        let Self::Container(server_container) = self else { return Ok(()) };
        let program = server_container.container.server.first().map_or("postgres", String::as_str);
        let spec = CommandSpec { timeout: Some(ANSWERS_WITHIN), ..CommandSpec::new(program).arg("--version") };
        let told = host.probe(self.command(owner, spec, host)).await.map_err(|error| failed("docker", &error))?;
        if !told.success() {
            let fact =
                format!("`{program}` cannot be run in the container of service `{}`", server_container.compose.service);
            return Err(ActionError::retryable(fact).process(told.exit_code, told.tail(5)));
        }
        let text = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        match version_of(&text) == Some(major) {
            true => Ok(()),
            false => Err(ActionError::fatal(format!(
                "the container's server is `{text}`, but the data is of version {major}"
            ))
            .help(format!("set the image of service `{}` to that version", server_container.compose.service))),
        }
    }

    /// What a compose file lacks that does not mount our program and its folder.
    pub(crate) fn lines(&self, own: &Path) -> String {
        match self {
            Self::Here => String::new(),
            Self::Container(server_container) => server_container.lines(own),
        }
    }

    /// Says when the server could not run our program, and what to write into the compose file.
    ///
    /// # Errors
    /// Fails when docker does not answer.
    pub(crate) async fn barred(
        &self,
        (own, owner): (&Path, &Owner),
        host: &dyn ReadHost,
    ) -> Result<Option<(String, String)>, ActionError> {
        let Self::Container(server_container) = self else { return Ok(None) };
        let program = server_container.compose.program().to_string_lossy().into_owned();
        let spec = CommandSpec { timeout: Some(ANSWERS_WITHIN), ..CommandSpec::new(&program).arg("--version") };
        let tried = host.probe(self.command(owner, spec, host)).await.map_err(|error| failed("docker", &error))?;
        if tried.success() {
            return Ok(None);
        }
        let service = &server_container.compose.service;
        let said = tried.tail(1).pop().map_or_else(String::new, |line| format!(": {}", line.trim()));
        let fact = format!(
            "the server's user {} cannot run `{program}` in the container of service `{service}`{said}",
            owner.uid
        );
        Ok(Some((fact, server_container.lines(own))))
    }
}

async fn make(compose: &Compose, words: &[&str], host: &dyn Host) -> Result<(), ActionError> {
    let spec = Project(compose).command(words, &[], host.as_read());
    let program = spec.program.clone();
    let output = host.run(spec, Tie::Engine).await.map_err(|error| failed(&program, &error))?;
    if output.success() {
        return Ok(());
    }
    let fact = format!("the container of service `{}` cannot be made", compose.service);
    Err(ActionError::retryable(fact).process(output.exit_code, output.tail(5)))
}

fn missing(cluster: &Cluster) -> ActionError {
    let (name, command) = match &cluster.via {
        Via::Compose(compose) => (compose.service.as_str(), Project(compose).by_hand(&MAKE)),
        Via::PgCtl(_) | Via::Systemd(_) | Via::PgCtlcluster(_) | Via::Managed(_) => {
            (cluster.name.as_str(), String::new())
        }
    };
    ActionError::fatal(format!("service `{name}` has no container")).help(format!("make it: `{command}`"))
}
