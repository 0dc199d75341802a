//! The host capability: files and processes of one machine.
//!
//! [`ReadHost`] cannot change anything; [`Host`] can. File methods are blocking: call them from
//! `tokio::task::spawn_blocking` when they move more than a few kilobytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::BoxFuture;
use crate::base::Timestamp;
use crate::base::secret::SecretText;

/// What an operating system said no to.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file operation failed.
    #[error("cannot {operation} `{}`", path.display())]
    File {
        /// What was tried: `read`, `rename` …
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`")]
    Spawn {
        /// The program.
        program: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program ran longer than allowed and was ended.
    #[error("`{program}` ran longer than {}", crate::base::units::Span(*limit))]
    Timeout {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// The attempt was cancelled; the process tree is gone if `confirmed`.
    #[error("`{program}` was ended by a cancel")]
    Cancelled {
        /// The program.
        program: String,
        /// Whether every process is known to be gone.
        confirmed: bool,
    },
    /// The process that watches the program was lost: it is not known how the program ended.
    #[error("the end of `{program}` was not seen")]
    Lost {
        /// The program.
        program: String,
    },
}

/// What kind of file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link (never followed).
    Symlink,
    /// A socket, pipe or device.
    Other,
}

/// What `lstat` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// The kind.
    pub kind: FileKind,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The device the file lies on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: std::ffi::OsString,
    /// The facts of the entry itself.
    pub facts: FileFacts,
}

/// Space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes an unprivileged user may still write.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

/// Reading of files. Blocking.
pub trait ReadFiles: Send + Sync {
    /// Tells what `path` is, without following a link; `None` when nothing is there.
    fn facts(&self, path: &Path) -> Result<Option<FileFacts>, HostError>;
    /// Reads a whole file of at most `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, HostError>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> Result<std::fs::File, HostError>;
    /// Lists a folder, sorted by name.
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, HostError>;
    /// Reads where a link points.
    fn read_link(&self, path: &Path) -> Result<PathBuf, HostError>;
    /// Resolves links of the longest existing part of `path`.
    fn canonical(&self, path: &Path) -> Result<PathBuf, HostError>;
    /// Tells when `path` was last written, of a link itself; `None` where the host does not tell.
    fn modified_at(&self, path: &Path) -> Result<Option<Timestamp>, HostError> {
        let _ = path;
        Ok(None)
    }
    /// Tells the space of the file system that holds `path` or its nearest existing parent.
    fn space(&self, path: &Path) -> Result<Space, HostError>;
}

/// What the name of a temporary file of [`Files::replace`] begins with: one that is found later was left by a program
/// that was killed.
pub const REPLACING: &str = ".runbook-";

/// Changing of files. Blocking. Nothing here follows a link at the last component.
pub trait Files: ReadFiles {
    /// Creates a folder and its missing parents, the last one with `mode`.
    fn create_dir(&self, path: &Path, mode: u32) -> Result<(), HostError>;
    /// Creates a file that must not exist.
    fn create(&self, path: &Path, mode: u32) -> Result<std::fs::File, HostError>;
    /// Makes a named pipe that only its owner may use.
    fn make_pipe(&self, path: &Path) -> Result<(), HostError> {
        let source = std::io::Error::from(std::io::ErrorKind::Unsupported);
        Err(HostError::File { operation: "make the pipe", path: path.to_owned(), source })
    }
    /// Opens an existing file for appending.
    fn append(&self, path: &Path) -> Result<std::fs::File, HostError>;
    /// Opens an existing file for reading and writing.
    fn update(&self, path: &Path) -> Result<std::fs::File, HostError> {
        let source = std::io::Error::from(std::io::ErrorKind::Unsupported);
        Err(HostError::File { operation: "open for writing", path: path.to_owned(), source })
    }
    /// Replaces a file's content: temporary file beside it, whose name begins with [`REPLACING`], sync, rename, sync of
    /// the folder. Of a file that is there the owner stays, where we may set it.
    fn replace(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), HostError>;
    /// The same for a user and a group: the content is never there as somebody else's, also when the program is killed.
    fn replace_for(&self, path: &Path, content: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), HostError>;
    /// Renames; the target must not exist unless it is a file or an empty folder.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), HostError>;
    /// Makes a symbolic link.
    fn symlink(&self, target: &Path, link: &Path) -> Result<(), HostError>;
    /// Gives a file a second name.
    fn hard_link(&self, file: &Path, name: &Path) -> Result<(), HostError> {
        let _ = file;
        let source = std::io::Error::from(std::io::ErrorKind::Unsupported);
        Err(HostError::File { operation: "link", path: name.to_owned(), source })
    }
    /// Sets when something was last written, of a link itself.
    fn set_modified(&self, path: &Path, at: Timestamp) -> Result<(), HostError> {
        let _ = at;
        let source = std::io::Error::from(std::io::ErrorKind::Unsupported);
        Err(HostError::File { operation: "set the time of", path: path.to_owned(), source })
    }
    /// Removes one file or link.
    fn remove_file(&self, path: &Path) -> Result<(), HostError>;
    /// Removes a folder with all it holds; links are removed, never followed.
    fn remove_tree(&self, path: &Path) -> Result<(), HostError>;
    /// Sets permission bits.
    fn chmod(&self, path: &Path, mode: u32) -> Result<(), HostError>;
    /// Sets the owner, of a link itself.
    fn chown(&self, path: &Path, uid: u32, gid: u32) -> Result<(), HostError>;
    /// Makes a file or the names of a folder durable.
    fn sync(&self, path: &Path) -> Result<(), HostError>;
}

/// A program to run. Debug and errors never show the environment's values.
#[derive(Clone)]
pub struct CommandSpec {
    /// The program, a path or a name looked up in the search path.
    pub program: String,
    /// Its arguments; seen by everybody on the machine, so never secret.
    pub args: Vec<String>,
    /// Variables added to the environment; may be secret.
    pub env: BTreeMap<String, SecretText>,
    /// Whether the engine's own environment is passed on.
    pub inherit_env: bool,
    /// The working folder.
    pub dir: Option<PathBuf>,
    /// The user to run as; needs root unless it is the own one.
    pub user: Option<String>,
    /// What the program reads on standard input; empty by default.
    pub stdin: Vec<u8>,
    /// Ends the program after this long.
    pub timeout: Option<Duration>,
}

impl CommandSpec {
    /// A program without arguments, with the engine's environment.
    #[must_use]
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            inherit_env: true,
            dir: None,
            user: None,
            stdin: Vec::new(),
            timeout: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), SecretText::new(value.into()));
        self
    }
}

impl std::fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandSpec")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// How a program's life is tied to the engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// Dies with the engine: its whole tree is ended when the engine is gone.
    Engine,
    /// Outlives the engine; a resumed run finds and adopts it. Needs an attempt folder.
    Attempt,
}

/// How a program ended, with the capped and redacted output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandOutput {
    /// The exit code; `None` when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// First and last part of standard output; see `stdout_cut`.
    pub stdout: Vec<u8>,
    /// Bytes left out between the two parts.
    pub stdout_cut: u64,
    /// First and last part of standard error.
    pub stderr: Vec<u8>,
    /// Bytes left out between the two parts.
    pub stderr_cut: u64,
    /// Processes of the tree still alive after a successful end: left alone and recorded.
    pub survivors: Vec<u32>,
}

impl CommandOutput {
    /// Whether the program ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// What stands between the two parts of a stream of which `bytes` were left out.
    #[must_use]
    pub fn left_out(bytes: u64) -> String {
        format!("\n[{bytes} bytes left out]\n")
    }

    /// Standard output as it was written: all of it, or its first and its last part.
    #[must_use]
    pub fn stdout_parts(&self) -> Vec<&[u8]> {
        let mark = Self::left_out(self.stdout_cut).into_bytes();
        let at = self.stdout.windows(mark.len()).position(|window| window == mark);
        match at.filter(|_| self.stdout_cut > 0) {
            Some(at) => vec![&self.stdout[..at], &self.stdout[at + mark.len()..]],
            None => vec![&self.stdout],
        }
    }

    /// The last `lines` lines of standard error, else of standard output.
    #[must_use]
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let bytes = if self.stderr.iter().all(u8::is_ascii_whitespace) { &self.stdout } else { &self.stderr };
        let text = String::from_utf8_lossy(bytes);
        let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
    }
}

/// What became of a program tied to an attempt whose engine died.
#[derive(Debug)]
pub enum Fate {
    /// It was never started, and now never will be.
    NeverStarted,
    /// It still runs; [`Host::adopt`] waits for it.
    Running,
    /// It ended; output and errors as [`Host::run`] would have given them.
    Ended(Result<CommandOutput, HostError>),
    /// Its watcher is gone, and something of it still runs: it must not be started beside that.
    Unwatched {
        /// What runs, for people.
        why: String,
    },
    /// It is not known how far it came.
    Lost {
        /// Why, for people.
        why: String,
    },
}

/// The reading half of a machine.
pub trait ReadHost: Send + Sync {
    /// The host's name in the inventory.
    fn name(&self) -> &str;
    /// Its files.
    fn read_files(&self) -> Arc<dyn ReadFiles>;
    /// Finds a program in the search path; an absolute path is checked to be executable.
    fn find_program(&self, name: &str) -> Option<PathBuf>;
    /// Runs a program that its caller knows to change nothing, such as `postgres --version`.
    fn probe(&self, spec: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>>;
    /// Gives the user and group numbers of a user name.
    fn user(&self, name: &str) -> Result<Option<(u32, u32)>, HostError>;
    /// The effective user number of the engine on this host.
    fn effective_uid(&self) -> u32;
    /// Tells what became of the program that was run with [`Tie::Attempt`] in the attempt's folder `dir`.
    /// A program without a trace can never start after this answer.
    fn fate(&self, dir: &Path) -> Result<Fate, HostError> {
        Ok(Fate::Lost { why: format!("host `{}` keeps no record of `{}`", self.name(), dir.display()) })
    }
}

/// A machine that may be changed, bound to one attempt: output becomes progress, a cancel ends the tree.
pub trait Host: ReadHost {
    /// Its files.
    fn files(&self) -> Arc<dyn Files>;
    /// Runs a program to its end under a supervisor. A failing exit code is not an error here.
    fn run(&self, spec: CommandSpec, tie: Tie) -> BoxFuture<'_, Result<CommandOutput, HostError>>;
    /// Starts a daemon outside the attempt's tree: neither cancel nor failure ends it. Returns when the
    /// starting program has ended.
    fn start_daemon(&self, spec: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>>;
    /// Waits for a program that outlived its engine, as [`ReadHost::fate`] told. A cancel ends its tree.
    fn adopt(&self, dir: &Path) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        let program = dir.display().to_string();
        Box::pin(async move { Err(HostError::Lost { program }) })
    }
    /// Gives the reading half.
    fn as_read(&self) -> &dyn ReadHost;
}
