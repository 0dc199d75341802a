//! The real binary at a terminal of its own: what stands there is read, and lines are typed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::cli::{Cli, Ran, until};

/// The program at a terminal; killed when it is dropped.
pub struct Terminal {
    /// `script`, which keeps the terminal.
    keeper: Child,
    out: PathBuf,
}

impl Cli {
    /// Starts the program at a terminal of its own.
    pub fn at_terminal(&self, args: &[&str]) -> Terminal {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let words: Vec<String> =
            std::iter::once(env!("CARGO_BIN_EXE_runbook")).chain(args.iter().copied()).map(quoted).collect();
        let out = self.dir().join("said").join(format!("terminal.{}", self.next_number()));
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-f", "-c", &format!("exec {}", words.join(" ")), "/dev/null"]);
        self.surround(&mut command);
        command.env("TERM", "xterm").env("SHELL", "/bin/sh").env("NO_COLOR", "1");
        command.stdin(Stdio::piped()).stdout(File::create(&out).expect("a file")).stderr(Stdio::null());
        Terminal { keeper: command.spawn().expect("`script` of util-linux is installed"), out }
    }
}

impl Terminal {
    /// What stands at the terminal.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap_or_default()).replace('\r', "")
    }

    /// Waits until words stand there.
    #[track_caller]
    pub fn shows(&self, words: &str) {
        let begin = std::time::Instant::now();
        until(&format!("`{words}` at the terminal"), || {
            let shown = self.seen().contains(words);
            assert!(shown || begin.elapsed().as_secs() < 55, "`{words}` is missing in:\n{}", self.seen());
            shown
        });
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) {
        let keys = self.keeper.stdin.as_mut().expect("a keyboard");
        writeln!(keys, "{line}").and_then(|()| keys.flush()).expect("the terminal is open");
    }

    /// Waits for the program's end; all it said stands in `out`.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        until("the program at the terminal ends", || self.keeper.try_wait().expect("a child").is_some());
        let status = self.keeper.wait().expect("a child");
        Ran { code: status.code(), out: self.seen(), err: String::new() }
    }

    /// Kills the program as a crash would, and takes its terminal away.
    pub fn kill(self) {
        assert!(self.program().is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok()), "it lives");
        self.wait();
    }

    fn program(&self) -> Option<Pid> {
        let id = self.keeper.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.keeper.try_wait() {
            // A program that loses its terminal goes on: it is ended first.
            if let Some(program) = self.program() {
                let _ = kill_process(program, Signal::KILL);
            }
            let _ = self.keeper.kill();
        }
        let _ = self.keeper.wait();
    }
}
