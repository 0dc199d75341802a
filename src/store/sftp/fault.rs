//! Sorts what `ssh` and the server say into absent, passing and lasting failures, with what to do next.

use std::io;
use std::time::Duration;

use openssh_sftp_client::Error;
use openssh_sftp_client::error::SftpErrorKind;

use crate::action::StoreError;
use crate::base::units::Span;

/// What an answer amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server says there is no such file.
    Absent,
    /// The server refuses for good.
    Refused,
    /// The server gives no reason: a full disk, a name that is taken.
    Unsaid,
    /// There is no server any more.
    Lost,
}

/// Sorts a failure.
pub(super) fn verdict(error: &Error) -> Verdict {
    match error {
        Error::SftpError(kind, _) => match kind {
            SftpErrorKind::NoSuchFile => Verdict::Absent,
            SftpErrorKind::PermDenied | SftpErrorKind::OpUnsupported => Verdict::Refused,
            _ => Verdict::Unsaid,
        },
        Error::UnsupportedExtension(_) => Verdict::Refused,
        _ => Verdict::Lost,
    }
}

/// Makes a store's error of an answer to `what`.
pub(super) fn fault(store: &str, what: &str, error: Error) -> StoreError {
    let why = match &error {
        Error::SftpError(_, message) => message.get().0.to_owned(),
        Error::UnsupportedExtension(name) => format!("the server does not offer `{name}@openssh.com`"),
        other => other.to_string(),
    };
    match verdict(&error) {
        Verdict::Absent => unavailable(store, format!("{what}: {why}"), io::ErrorKind::NotFound),
        Verdict::Refused => StoreError::Refused { store: store.to_owned(), what: format!("{what}: {why}") },
        Verdict::Unsaid => {
            let what = format!("{what}: the server says only `{why}`; is its disk full?");
            unavailable(store, what, io::ErrorKind::Other)
        }
        Verdict::Lost => {
            let what = format!("{what}: the connection broke: {why}");
            unavailable(store, what, io::ErrorKind::ConnectionReset)
        }
    }
}

/// Makes a store's error of a server that kept the answer to `what`.
pub(super) fn silent(store: &str, what: &str, silence: Duration) -> StoreError {
    let silence = Span(silence);
    let what =
        format!("{what}: the connection stands, and the server has answered nothing for {silence}; does its disk?");
    unavailable(store, what, io::ErrorKind::TimedOut)
}

fn unavailable(store: &str, what: String, kind: io::ErrorKind) -> StoreError {
    StoreError::Unavailable { store: store.to_owned(), source: io::Error::new(kind, what.clone()), what }
}

/// What `ssh` says when it cannot connect, and what to do about it.
const ADVICE: &[(&str, Lasts, &str)] = &[
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        Lasts::Yes,
        "the host shows another key than the known one: find out why before you change `known_hosts`",
    ),
    (
        "Host key verification failed",
        Lasts::Yes,
        "the host's key is not known: compare it, then add it with `ssh-keyscan HOST >>~/.ssh/known_hosts`, or give `ssh: { known_hosts: FILE }`",
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        Lasts::Yes,
        "the key's file may be read by others, so `ssh` ignores it: `chmod 600` it",
    ),
    (
        "Load key",
        Lasts::Yes,
        "the key's file is no private key, or it has a passphrase, which nobody can type here: `ssh-add` it to an agent whose \
         `SSH_AUTH_SOCK` is in runbook's environment, or give a key without one",
    ),
    (
        "Permission denied (",
        Lasts::Yes,
        "the server does not accept the key: give `ssh: { identity: FILE }`, and try `ssh -o BatchMode=yes HOST true`; a key \
         with a passphrase works only through an agent (`ssh-add`) whose `SSH_AUTH_SOCK` is in runbook's environment",
    ),
    ("Too many authentication failures", Lasts::Yes, "name the one key with `ssh: { identity: FILE }`"),
    (
        "subsystem request failed",
        Lasts::Yes,
        "the server offers no SFTP: it needs `Subsystem sftp internal-sftp` in its `sshd_config`",
    ),
    ("Bad configuration option", Lasts::Yes, "the configuration of `ssh` is not sound"),
    ("Can't open user config file", Lasts::Yes, "`ssh: { config: FILE }` names a file that cannot be read"),
    ("Could not resolve hostname", Lasts::No, "is the name right, and does this machine reach a name server?"),
    ("Connection refused", Lasts::No, "does `sshd` run there, and is the port right?"),
    ("Connection timed out", Lasts::No, "is the machine up, and does a firewall let this one through?"),
    ("No route to host", Lasts::No, "is the machine up, and does a firewall let this one through?"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    Yes,
    No,
}

/// Makes a store's error of what `ssh` wrote before it ended.
pub(super) fn unconnected(store: &str, host: &str, said: &str, error: io::Error) -> StoreError {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let known = ADVICE.iter().find(|(words, _, _)| said.contains(words));
    let why = match known {
        Some((words, _, _)) => lines.iter().find(|line| line.contains(words)).copied().unwrap_or(words).to_owned(),
        None if lines.is_empty() => error.to_string(),
        None => lines[lines.len().saturating_sub(3)..].join("; "),
    };
    let why = why.trim_matches(|c| matches!(c, '@' | ' ' | '.' | '!')).to_owned();
    let what = format!("cannot connect to `{host}`: {why}");
    match known {
        Some((_, Lasts::Yes, advice)) => {
            StoreError::Refused { store: store.to_owned(), what: format!("{what}; {advice}") }
        }
        Some((_, Lasts::No, advice)) => {
            StoreError::Unavailable { store: store.to_owned(), what: format!("{what}; {advice}"), source: error }
        }
        None => StoreError::Unavailable { store: store.to_owned(), what, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_comes_with_what_to_do() {
        let lost = || io::Error::other("the pipe ended");
        for (said, lasting, words) in [
            ("Host key verification failed.\r\n", true, "ssh-keyscan"),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                true,
                "find out why",
            ),
            ("me@host: Permission denied (publickey).", true, "identity"),
            ("subsystem request failed on channel 0", true, "sshd_config"),
            ("ssh: connect to host x port 22: Connection refused", false, "does `sshd` run"),
            ("something new", false, "something new"),
            ("", false, "the pipe ended"),
        ] {
            let error = unconnected("s", "host", said, lost());
            assert_eq!(matches!(error, StoreError::Refused { .. }), lasting, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
