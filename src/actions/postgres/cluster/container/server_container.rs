//! The container that is a server's: its user, and programs run inside.

use std::path::Path;

use super::facts::{Container, State};
use super::inquiry::asked;
use super::project::Project;
use crate::action::{ActionError, CommandSpec, Host, HostError, ReadHost};
use crate::language::inventory::Compose;

/// Tells user and group of the server: images that begin as root become `postgres`.
const USER: &str = r#"if [ "$(id -u)" = 0 ]; then id -u postgres && id -g postgres; else id -u && id -g; fi"#;

/// A container that is a server's, with what the inventory says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerContainer {
    pub(super) compose: Compose,
    pub(super) container: Container,
}

impl ServerContainer {
    /// Gives a data directory that is root's, or not there, to the server's user: from then on it tells who that is.
    pub(super) async fn give(&self, pgdata: &Path, host: &dyn Host) -> Result<(), ActionError> {
        let files = host.files();
        let unseen = |error: HostError| {
            ActionError::retryable(format!("`{}` cannot be given to the server's user", pgdata.display()))
                .because(&error)
        };
        let owned = files.facts(pgdata).map_err(unseen)?;
        if owned.as_ref().is_some_and(|facts| facts.uid != 0) || host.effective_uid() != 0 {
            return Ok(());
        }
        let (uid, gid) = self.user(host.as_read()).await?;
        if owned.is_none() {
            files.create_dir(pgdata, 0o700).map_err(unseen)?;
        }
        files.chown(pgdata, uid, gid).map_err(unseen)
    }

    /// The user that the server is inside: the container's own, and where that is root, `postgres`.
    async fn user(&self, host: &dyn ReadHost) -> Result<(u32, u32), ActionError> {
        let spec = Project(&self.compose).command(
            &["run", "--rm", "-T", "--no-deps", "--entrypoint", "sh"],
            &["-c".to_owned(), USER.to_owned()],
            host,
        );
        let told = asked(spec, host).await?;
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(uid), Some(gid)) if uid != 0 => Ok((uid, gid)),
            _ => Err(ActionError::fatal(format!(
                "the image of service `{}` does not tell its server's user",
                self.compose.service
            ))
            .help("give the volume's folder to that user's number (`chown`)")),
        }
    }

    /// In the container where it runs, else in one of the same service that lives as long as the program.
    pub(super) fn command(&self, (uid, gid): (u32, u32), spec: CommandSpec, host: &dyn ReadHost) -> CommandSpec {
        let user = format!("{uid}:{gid}");
        let dir = spec.dir.as_ref().map_or_else(|| "/".to_owned(), |dir| dir.to_string_lossy().into_owned());
        let wrapped = match self.container.state {
            State::Runs => CommandSpec::new("docker")
                .args(["exec", "-u", &user, "-w", &dir, &self.container.id, &spec.program])
                .args(spec.args),
            State::Stands => {
                let before = ["run", "--rm", "-T", "--no-deps", "--entrypoint", &spec.program, "-u", &user, "-w", &dir];
                Project(&self.compose).command(&before, &spec.args, host)
            }
        };
        CommandSpec { timeout: spec.timeout, ..wrapped }
    }

    pub(super) fn lines(&self, own: &Path) -> String {
        let Compose { file, service, .. } = &self.compose;
        format!(
            "mount one that its C library can run: add to service `{service}` of `{}` under `volumes:` the lines `- {}:{}:ro` and \
             `- {}:/etc/runbook`, and where its image has no certificates `- /etc/ssl/certs:/etc/ssl/certs:ro`; make that folder, then \
             `docker compose up -d {service}` (docs/servers.md)",
            file.display(),
            own.display(),
            self.compose.program().display(),
            self.compose.wal_folder().display(),
        )
    }
}
