//! One process of `ssh` and the requests that go through it.

use std::io::{self, Read as _, Seek as _};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssh_sftp_client::fs::Fs;
use openssh_sftp_client::{Error, Sftp, SftpOptions};
use tokio::process::{Child, Command};

use super::fault::unconnected;
use super::watch::{Syncing, Watch};
use crate::action::StoreError;
use crate::language::inventory::{SftpPlace, SshAccess};

/// Longer than `ssh` itself takes to give up on a host that does not answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long `ssh` may take to say why it ends.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Bytes on their way to the server that it has not acknowledged.
const UNACKNOWLEDGED_BYTES: NonZeroUsize = NonZeroUsize::new(4 << 20).expect("not zero");

/// A connection. Dropped, `ssh` ends.
pub(super) struct Session {
    sftp: Sftp,
    child: Mutex<Child>,
    broken: AtomicBool,
    watch: Arc<Watch>,
}

impl Session {
    /// Starts `ssh` and greets the server.
    pub(super) async fn connect(store: &str, place: &SftpPlace, access: &SshAccess) -> Result<Self, StoreError> {
        let (mut child, mut said) = spawn(place, access).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Refused {
                store: store.to_owned(),
                what: "the program `ssh` is missing: install `openssh-client` (Debian), `openssh` or `openssh-clients`"
                    .to_owned(),
            },
            _ => unconnected(store, &place.host, "`ssh` cannot be started", error),
        })?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unconnected(store, &place.host, "", io::Error::other("`ssh` has no pipes")));
        };
        let options = SftpOptions::new().tokio_compat_file_write_limit(UNACKNOWLEDGED_BYTES);
        let watch = Watch::new();
        let (to, from) = watch.over(stdin, stdout);
        let greeted = tokio::time::timeout(PATIENCE, Sftp::new(to, from, options)).await;
        let error = match greeted {
            Ok(Ok(sftp)) => return Ok(Self { sftp, child: Mutex::new(child), broken: AtomicBool::new(false), watch }),
            Ok(Err(error)) => io::Error::other(error.to_string()),
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "the server did not answer within a minute"),
        };
        // The pipe ends before `ssh` does: its reason is on its way.
        let _ = tokio::time::timeout(LAST_WORDS, child.wait()).await;
        let mut text = String::new();
        let read = said.rewind().and_then(|()| said.read_to_string(&mut text));
        Err(unconnected(store, &place.host, if read.is_ok() { &text } else { "" }, error))
    }

    /// The requests that files are made and read with.
    pub(super) fn sftp(&self) -> &Sftp {
        &self.sftp
    }

    /// The requests about names.
    pub(super) fn fs(&self) -> Fs {
        self.sftp.fs()
    }

    /// Says that a request found no server: nobody shall use this connection again.
    pub(super) fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Gives the server the time that a sync may take, for as long as what is returned lives.
    pub(super) fn syncing(&self) -> Syncing {
        self.watch.syncing()
    }

    /// How long the server had kept an answer when the connection was ended for that; `None` where it was not.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.watch.silence()
    }

    /// Whether requests can still be answered.
    pub(super) fn lives(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        !self.broken.load(Ordering::Relaxed) && matches!(child.try_wait(), Ok(None))
    }

    /// Checks that the server can do what a durable write takes.
    pub(super) fn writes(&self, store: &str) -> Result<(), StoreError> {
        let offers = [("fsync", self.sftp.support_fsync()), ("posix-rename", self.sftp.support_posix_rename())];
        match offers.into_iter().find(|(_, offered)| !offered) {
            None => Ok(()),
            Some((name, _)) => Err(StoreError::Refused {
                store: store.to_owned(),
                what: format!("the server does not offer `{name}@openssh.com`, so nothing can be stored durably there"),
            }),
        }
    }

    /// Gives a file the name that must be free.
    pub(super) async fn link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let mut fs = self.fs();
        fs.hard_link(from, to).await?;
        fs.remove_file(from).await
    }
}

/// Starts `ssh` with what it writes to standard error in a file, so that it never waits for a reader.
#[expect(clippy::disallowed_methods, reason = "`ssh` is the transport of this store and ends with its connection")]
fn spawn(place: &SftpPlace, access: &SshAccess) -> io::Result<(Child, std::fs::File)> {
    let said = tempfile::tempfile()?;
    let mut command = Command::new("ssh");
    command.args(arguments(place, access));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said.try_clone()?);
    // A signal to the terminal's group is the engine's to judge: an upload ends when its step does.
    command.process_group(0).kill_on_drop(true);
    Ok((command.spawn()?, said))
}

fn arguments(place: &SftpPlace, access: &SshAccess) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    if let Some(config) = &access.config {
        arguments.extend(["-F".to_owned(), text(config)]);
    }
    let mut options: Vec<String> = [
        "BatchMode=yes",
        "ConnectTimeout=20",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "ControlMaster=no",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "RequestTTY=no",
        "LogLevel=ERROR",
    ]
    .map(str::to_owned)
    .into();
    if let Some(known) = &access.known_hosts {
        options.push(format!("UserKnownHostsFile=\"{}\"", known.display()));
        options.push("GlobalKnownHostsFile=/dev/null".to_owned());
        options.push("StrictHostKeyChecking=yes".to_owned());
    }
    if let Some(identity) = &access.identity {
        options.push("IdentitiesOnly=yes".to_owned());
        arguments.extend(["-i".to_owned(), text(identity)]);
    }
    arguments.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
    if let Some(port) = place.port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    if let Some(user) = &place.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    arguments.extend(["-s", "--", &place.host, "sftp"].map(str::to_owned));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_never_asks_and_takes_a_host_for_nothing_else() {
        let place = SftpPlace { user: Some("me".into()), host: "host".into(), port: Some(2222), path: "/srv".into() };
        let access = SshAccess { known_hosts: Some("/a b/known".into()), ..SshAccess::default() };
        let line = arguments(&place, &access).join(" ");
        assert!(line.contains("-o BatchMode=yes") && line.contains("-o StrictHostKeyChecking=yes"), "{line}");
        assert!(line.contains("-o UserKnownHostsFile=\"/a b/known\""), "{line}");
        assert!(line.ends_with("-p 2222 -l me -s -- host sftp"), "{line}");
        let line = arguments(&SftpPlace { user: None, port: None, ..place }, &SshAccess::default()).join(" ");
        assert!(!line.contains("StrictHostKeyChecking") && !line.contains(" -l ") && !line.contains(" -F "), "{line}");
    }
}
