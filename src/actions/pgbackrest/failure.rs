//! What pgBackRest's exit codes mean, and what to do about each (its `error.yaml`).

use crate::action::{ActionError, CommandOutput, HostError};

/// How many of its last lines an error shows.
const TAIL_LINES: usize = 20;

/// Another backup, expiry or stanza command holds the lock.
const LOCKED: i32 = 50;

/// The failure of a call.
pub(super) fn of(command: &str, output: &CommandOutput) -> ActionError {
    let tail = output.tail(TAIL_LINES);
    let Some(code) = output.exit_code else {
        let signal = output.signal.unwrap_or_default();
        let error = ActionError::retryable(format!("`{command}` was killed by signal {signal}"));
        return error.process(None, tail).help("run the step again: a backup goes on with the files it has copied");
    };
    let words = words(&tail).unwrap_or_else(|| format!("it ended with {code}"));
    let fact = format!("`{command}` failed: {words}");
    let error = match code {
        LOCKED | 39 | 49 | 56 | 63 | 82 | 101..=103 => ActionError::retryable(fact),
        _ => ActionError::fatal(fact),
    };
    let error = error.process(Some(code), tail);
    match advice(code) {
        Some(advice) => error.help(advice),
        None => error,
    }
}

/// The last error among lines, with what it says on the lines below, without its code and its hints.
fn words(lines: &[String]) -> Option<String> {
    let at = lines.iter().rposition(|line| line.contains("ERROR: ["))?;
    let (_, first) = lines[at].split_once("ERROR: [")?.1.split_once("]: ")?;
    let more = lines[at + 1..].iter().take_while(|line| line.starts_with(' ') && !line.contains("HINT:"));
    let all: Vec<&str> = std::iter::once(first).chain(more.map(String::as_str)).map(str::trim).collect();
    Some(all.join(" "))
}

/// The failure of a program that could not be run.
pub(super) fn unrun(error: &HostError) -> ActionError {
    ActionError::fatal("`pgbackrest` cannot be run")
        .because(error)
        .help("install it (`apt-get install pgbackrest`) where the server's user finds it")
}

fn advice(code: i32) -> Option<&'static str> {
    Some(match code {
        27 | 29 | 30..=32 => "look at its configuration file: an option is wrong, or older than this pgBackRest",
        37 => {
            "the configuration has no such stanza, or it lacks `pg1-path`: compare `pgbackrest.stanza` of the database"
        }
        38 => "stop the server first (`postgres.stop`)",
        39 | 49 => "the host of the repository does not answer: look at `repo1-host` and its SSH or TLS",
        40 => "the folder holds files: move them away, or restore with `delta: true`",
        44 | 51 | 58 => {
            "the stanza is of another cluster: `pgbackrest stanza-upgrade` after an upgrade, else name the right stanza"
        }
        45 => "the archive has this WAL file with other content: two clusters archive into one stanza",
        50 => "another pgBackRest command holds the stanza's lock: let it end, or end it, and run the step again",
        55 | 73 => "a file is missing: has `pgbackrest stanza-create` been run, and is the configuration file there?",
        56 | 57 | 80 => "pgBackRest reaches no server: look at `pg1-port`, `pg1-socket-path` and `pg1-user`",
        41 | 42 | 47 | 53 | 60 | 61 | 64 | 74 => {
            "look at the rights of the repository, of the log folder and of the lock folder"
        }
        62 => "pgBackRest was stopped for this stanza: `pgbackrest start` lifts that",
        63 => "it was ended by a signal: run the step again, a backup goes on with the files it has copied",
        68 | 87 => "the server archives nothing to pgBackRest: set `archive_mode` and `archive_command`",
        69 | 70 | 76 | 78 => {
            "a link or a tablespace does not fit: look at `tablespace-map` and `link-map` in its configuration"
        }
        75 => "`pgbackrest.info` lists the backups there are",
        81 => "`pg1-path` in its configuration is no data directory of this stanza",
        82 => "WAL does not reach the repository: look at the server's log, it tells why `archive_command` fails",
        95 => "the repository is encrypted in another way: look at `repo1-cipher-type` and `repo1-cipher-pass`",
        101..=103 => "the repository gives no answer: look at its place and its credentials in the configuration",
        105 => "the repository refuses: look at its credentials in the configuration",
        106 => "the clock of this machine went back: set it right",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::action::CommandOutput;
    use crate::event::ErrorClass;

    fn failed(exit_code: Option<i32>, stderr: &str) -> CommandOutput {
        CommandOutput {
            exit_code,
            stderr: stderr.into(),
            signal: exit_code.is_none().then_some(9),
            ..CommandOutput::default()
        }
    }

    #[test]
    fn a_code_is_told_in_pgbackrests_words_with_what_to_do() {
        let error = of("pgbackrest backup", &failed(Some(50), "ERROR: [050]: unable to acquire lock on file 'x'\n"));
        assert_eq!(error.to_string(), "`pgbackrest backup` failed: unable to acquire lock on file 'x'");
        assert_eq!(error.info().class, ErrorClass::Retryable);
        assert!(error.info().help.as_deref().is_some_and(|help| help.contains("lock")));
        let more = "ERROR: [103]: unable to get 7:\n       repo1: [FormatError] unexpected eof\n       HINT: x\n";
        let error = of("pgbackrest archive-get", &failed(Some(103), more));
        let told = "`pgbackrest archive-get` failed: unable to get 7: repo1: [FormatError] unexpected eof";
        assert_eq!(error.to_string(), told);
        let error = of("pgbackrest restore", &failed(Some(75), "ERROR: [075]: backup set nope is not valid\n"));
        assert_eq!(error.info().class, ErrorClass::Fatal);
    }

    #[test]
    fn a_backup_that_was_killed_may_be_tried_again() {
        let error = of("pgbackrest backup", &failed(None, ""));
        assert_eq!(
            (error.info().class, error.to_string().as_str()),
            (ErrorClass::Retryable, "`pgbackrest backup` was killed by signal 9")
        );
    }
}
