//! The command line of push and fetch, and the exit codes.

mod fetch;
mod push;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::initial::initialize;
use super::{Config, WalError};
use crate::base::clock;

const USAGE: &str = "usage: runbook wal push --config FILE %p | runbook wal fetch --config FILE %f %p | \
                     runbook wal init --config FILE";
/// The archive's name in messages: here it has none of the inventory's.
pub(super) const STORE: &str = "archive";
const PUSH_FAILED: u8 = 1;
const ABSENT: u8 = 1;
const FETCH_FAILED: u8 = 126;

/// Which contract the exit code must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Push,
    Fetch,
    Init,
}

impl Verb {
    /// The code of whatever goes wrong in a way nobody thought of.
    fn failure(self) -> u8 {
        match self {
            Self::Push | Self::Init => PUSH_FAILED,
            Self::Fetch => FETCH_FAILED,
        }
    }
}

/// How a command ended: the code, and one line for people.
struct End {
    code: u8,
    line: Option<String>,
    log: Option<PathBuf>,
}

/// Runs `runbook wal …` with the arguments after `wal`. Never panics.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let verb = match args.first().and_then(|verb| verb.to_str()) {
        Some("push") => Verb::Push,
        Some("init") => Verb::Init,
        // Mistyped in a restore_command, any code below 126 would read as "the WAL ends here".
        Some(_) | None => Verb::Fetch,
    };
    ExitCode::from(guarded(verb, || run(args)))
}

/// Runs `work` so that even a panic gives the verb's own code and one line.
fn guarded(verb: Verb, work: impl FnOnce() -> End) -> u8 {
    std::panic::set_hook(Box::new(|_| {}));
    let end = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        End { code: verb.failure(), line: Some(format!("a bug in runbook: {text}")), log: None }
    });
    drop(std::panic::take_hook());
    if let Some(line) = end.line {
        say(&line, end.log.as_deref());
    }
    end.code
}

/// Writes one line to standard error and to the log. Neither may fail the command.
fn say(line: &str, log: Option<&Path>) {
    let line = line.replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "runbook wal: {line}");
    if let Some(path) = log {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{} {line}\n", clock::now()).as_bytes()));
    }
}

fn run(args: &[OsString]) -> End {
    let words: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let known = |word: Option<&&OsStr>, text: &str| word.is_some_and(|word| *word == text);
    if !known(words.get(1), "--config") {
        return usage(words.first().copied());
    }
    match (words.first().and_then(|verb| verb.to_str()), &words[2..]) {
        (Some("push"), [config, path]) => finish(Verb::Push, config, |config| push::push(config, Path::new(path))),
        (Some("fetch"), [config, name, path]) => {
            finish(Verb::Fetch, config, |settings| fetch::fetch((settings, Path::new(config)), name, Path::new(path)))
        }
        // Started by a fetch, for nobody to type.
        (Some("prefetch"), [config]) => finish(Verb::Fetch, config, fetch::ahead),
        // Started by a recovery before it starts the server.
        (Some("prefetch"), [config, before]) => {
            finish(Verb::Fetch, config, |settings| fetch::before((settings, Path::new(config)), before))
        }
        (Some("init"), [config]) => finish(Verb::Init, config, init),
        (verb, _) => usage(verb.map(OsStr::new)),
    }
}

fn usage(verb: Option<&OsStr>) -> End {
    let code = if verb.is_some_and(|verb| verb == "push" || verb == "init") { PUSH_FAILED } else { FETCH_FAILED };
    End { code, line: Some(USAGE.to_owned()), log: None }
}

fn finish(verb: Verb, path: &OsStr, work: impl FnOnce(&Config) -> Result<End, (u8, WalError)>) -> End {
    let config = match Config::load(Path::new(path)) {
        Ok(config) => config,
        Err(error) => return End { code: verb.failure(), line: Some(error.to_string()), log: None },
    };
    let mut end = work(&config).unwrap_or_else(|(code, error)| End { code, line: Some(error.to_string()), log: None });
    end.log = config.log;
    end
}

/// The folder the server's relative paths start from.
fn pgdata(config: &Config) -> PathBuf {
    config.pgdata.clone().unwrap_or_else(|| PathBuf::from("."))
}

fn runtime() -> Result<tokio::runtime::Runtime, WalError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|source| WalError::File { operation: "start a runtime in", path: PathBuf::from("."), source })
}

fn init(config: &Config) -> Result<End, (u8, WalError)> {
    let work = || -> Result<End, WalError> {
        let line = initialize(config, &pgdata(config), &runtime()?)?;
        Ok(End { code: 0, line: Some(line), log: None })
    };
    work().map_err(|error| (PUSH_FAILED, error))
}

#[cfg(test)]
mod tests {
    use super::{End, Verb, guarded, run};

    #[test]
    fn a_panic_is_1_for_push_and_126_for_fetch() {
        assert_eq!(guarded(Verb::Push, || panic!("boom")), 1);
        assert_eq!(guarded(Verb::Fetch, || panic!("boom {}", 1)), 126);
        assert_eq!(guarded(Verb::Fetch, || End { code: 0, line: None, log: None }), 0);
    }

    #[test]
    fn wrong_usage_is_1_for_push_and_126_for_everything_else() {
        let code = |words: &[&str]| run(&words.iter().map(Into::into).collect::<Vec<_>>()).code;
        assert_eq!(code(&["push"]), 1);
        assert_eq!(code(&["push", "--config"]), 1);
        assert_eq!(code(&["push", "--config", "/nowhere/x", "pg_wal/0"]), 1);
        assert_eq!(code(&["fetch"]), 126);
        assert_eq!(code(&["fetch", "--config", "/nowhere/x", "a", "b"]), 126);
        assert_eq!(code(&["fech", "--config", "x", "a", "b"]), 126);
        assert_eq!(code(&[]), 126);
    }
}
