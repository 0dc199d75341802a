//! Starts the program inside its supervisor.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::EARLY_PATH;
use super::request::{Request, RunAs};

/// The second argument of the early path that becomes another user.
const BECOME: &str = "become";
/// The exit code of a program that could not be started after the user was changed, as shells give it.
const NOT_STARTED: u8 = 127;

/// Whether the program gets something on its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// It reads from the null device.
    Nothing,
    /// It reads from a pipe.
    Piped,
}

/// Starts the program in its own process group.
pub(super) fn spawn(request: &Request, input: Input) -> io::Result<Child> {
    let mut command = match &request.run_as {
        None => new_command(&request.program),
        Some(user) => through_become(user, &request.program),
    };
    command.args(&request.args).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(match input {
        Input::Nothing => Stdio::null(),
        Input::Piped => Stdio::piped(),
    });
    match (&request.dir, &request.run_as) {
        (Some(dir), _) => drop(command.current_dir(dir)),
        // The engine's own folder may be closed to another user.
        (None, Some(_)) => drop(command.current_dir("/")),
        (None, None) => {}
    }
    if !request.inherit_env {
        command.env_clear().env("PATH", &request.search_path);
    }
    if let Some(user) = &request.run_as {
        command.env("USER", &user.name).env("LOGNAME", &user.name).env("HOME", &user.home);
    }
    command.envs(&request.env).spawn()
}

#[expect(clippy::disallowed_methods, reason = "the supervisor is the one home of starting programs")]
fn new_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// The standard library drops every supplementary group of a child that changes its user, and a server
/// may need them (a key readable by `ssl-cert`). So the child is first our own binary, which has one
/// thread, sets groups and user and becomes the program.
fn through_become(user: &RunAs, program: &str) -> Command {
    let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
    let mut command = new_command("/proc/self/exe");
    command.args([EARLY_PATH, BECOME, &user.uid.to_string(), &user.gid.to_string(), &groups.join(","), program]);
    command
}

/// Tells whether this process was started to become another user, and does so.
pub(super) fn become_if_asked(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if args.next()? != BECOME {
        return None;
    }
    let Err(error) = become_program(args);
    eprintln!("runbook: {error}");
    Some(ExitCode::from(NOT_STARTED))
}

fn become_program(mut args: impl Iterator<Item = OsString>) -> Result<std::convert::Infallible, io::Error> {
    let mut text = || args.next().and_then(|arg| arg.into_string().ok()).ok_or(io::ErrorKind::InvalidInput);
    let (uid, gid, groups) = (number(&text()?)?, number(&text()?)?, text()?);
    let program = text()?;
    let groups = groups.split(',').filter(|group| !group.is_empty()).map(number).collect::<io::Result<Vec<_>>>()?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&groups.into_iter().map(Gid::from_raw).collect::<Vec<_>>())?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    let source = new_command(&program).args(args).exec();
    Err(io::Error::new(source.kind(), format!("cannot start `{program}`: {source}")))
}

fn number(text: &str) -> io::Result<u32> {
    text.parse().map_err(|_| io::ErrorKind::InvalidInput.into())
}
