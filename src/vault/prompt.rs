//! Secrets typed by a person.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Asks a person.
pub trait Prompt: Send + Sync {
    /// Asks for the secret `name` and gives what was typed.
    ///
    /// # Errors
    /// Fails when nobody can be asked.
    fn ask(&self, name: &str) -> io::Result<String>;
}

/// Nobody is there to be asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn ask(&self, _: &str) -> io::Result<String> {
        Err(io::Error::new(io::ErrorKind::NotConnected, "there is no terminal to ask at"))
    }
}

/// Asks at the controlling terminal, without showing what is typed.
#[derive(Debug, Clone, Copy, Default)]
pub struct TerminalPrompt;

impl Prompt for TerminalPrompt {
    fn ask(&self, name: &str) -> io::Result<String> {
        let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        write!(terminal, "secret `{name}`: ")?;
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        let typed = read_line(&terminal);
        tcsetattr(&terminal, OptionalActions::Flush, &before)?;
        writeln!(terminal)?;
        typed
    }
}

fn read_line(terminal: &File) -> io::Result<String> {
    let mut line = String::new();
    if BufReader::new(terminal).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
