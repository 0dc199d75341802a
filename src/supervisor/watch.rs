//! The supervisor's process: takes a request, starts the program, watches until nothing is left to do.

mod ending;
mod linger;
mod signal;
mod stream;

use std::io;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, WaitStatus, set_child_subreaper, setsid, wait};

use self::ending::{Ending, Step};
use self::signal::Signals;
use self::stream::{Input as InputPipe, Output};
use super::capture::Capture;
use super::folder::{Claim, Folder, Identity};
use super::identity::ProcessId;
use super::link::{Heard, Link};
use super::outcome::{End, ExitRecord};
use super::request::{EndLevel, Life, Request};
use super::spawn::{Input, become_if_asked, spawn};
use super::wire::Kind;
use crate::base::boot::boot_id;
use crate::base::clock::{monotonic, now};
use crate::base::redact::Redactor;
use crate::base::secret::SecretText;

/// Supervises one program: the whole life of a process started as `runbook __supervise`.
///
/// Must be called before any thread exists.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = become_if_asked(std::env::args_os().skip(2)) {
        return code;
    }
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runbook: supervisor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise() -> io::Result<()> {
    // Fails only for a process that leads a session already, which is what is wanted.
    let _ = setsid();
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let signals = Signals::catch()?;
    let (link, input, request) = Link::accept()?;
    let folder = match &request.life {
        Life::Attempt { dir } => Some(Folder::new(dir)),
        Life::Engine | Life::Probe | Life::Daemon => None,
    };
    match folder.as_ref().map_or(Ok(Claim::Ours), |folder| claim(folder, &request)) {
        Ok(Claim::Ours) => {}
        Ok(Claim::Taken) => return not_started(link, None, &request, End::Refused),
        Err(error) => return not_started(link, None, &request, End::NotStarted { errno: error.raw_os_error() }),
    }
    let piped = if input.is_empty() { Input::Nothing } else { Input::Piped };
    let child = match spawn(&request, piped) {
        Ok(child) => child,
        Err(error) => {
            let end = End::NotStarted { errno: error.raw_os_error() };
            return not_started(link, folder.as_ref(), &request, end);
        }
    };
    if let Some(folder) = &folder {
        // Without it a resumed run only knows less about what a lost supervisor left behind.
        let _ = ProcessId::of(child.id()).and_then(|id| folder.record_child(id));
    }
    let mut watch = Watch::new(request, folder, link, signals);
    watch.open(child, input)?;
    watch.run()?;
    watch.finish()
}

/// Says that nothing was started; in the folder only when the attempt is ours.
fn not_started(link: Link, folder: Option<&Folder>, request: &Request, end: End) -> io::Result<()> {
    let record = ExitRecord::without_process(&request.program, end);
    let recorded = folder.map_or(Ok(()), |folder| folder.record_exit(&record));
    link.close(&[(Kind::Ended, &serde_json::to_vec(&record)?)]);
    recorded
}

fn claim(folder: &Folder, request: &Request) -> io::Result<Claim> {
    let supervisor = Some(ProcessId::own()?);
    folder.claim(&Identity { boot: boot_id()?, supervisor, program: request.program.clone() })
}

/// Everything a supervisor knows while its program runs.
struct Watch {
    request: Request,
    redactor: Redactor,
    folder: Option<Folder>,
    link: Link,
    signals: Signals,
    main: u32,
    status: Option<WaitStatus>,
    childless: bool,
    stdout: Output,
    stderr: Output,
    input: Option<InputPipe>,
    deadline: Option<Instant>,
    ending: Option<Ending>,
}

impl Watch {
    fn new(mut request: Request, folder: Option<Folder>, link: Link, signals: Signals) -> Self {
        let secrets = std::mem::take(&mut request.secrets);
        let errors = folder.as_ref().map(Folder::stderr).or_else(|| request.keep_stderr.take());
        let deadline = request.timeout_ms.and_then(|ms| monotonic().checked_add(Duration::from_millis(ms)));
        Self {
            redactor: Redactor::new(secrets.into_iter().map(SecretText::new)),
            stdout: Output::new(Capture::new(folder.as_ref().map(Folder::stdout)), Kind::OutLine),
            stderr: Output::new(Capture::new(errors), Kind::ErrLine),
            request,
            folder,
            link,
            signals,
            main: 0,
            status: None,
            childless: false,
            input: None,
            deadline,
            ending: None,
        }
    }

    fn open(&mut self, mut child: Child, input: Vec<u8>) -> io::Result<()> {
        self.main = child.id();
        self.stdout.open(child.stdout.take().map(Into::into))?;
        self.stderr.open(child.stderr.take().map(Into::into))?;
        self.input = child.stdin.take().map(|pipe| InputPipe::new(pipe.into(), input)).transpose()?;
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            self.reap();
            if self.is_over()? {
                return Ok(());
            }
            self.wait()?;
            self.stdout.read(&self.redactor, &mut self.link);
            self.stderr.read(&self.redactor, &mut self.link);
            if self.input.as_mut().is_some_and(InputPipe::write) {
                self.input = None;
            }
            self.link.flush();
            self.listen()?;
        }
    }

    fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == self.main => {
                    self.status = Some(status);
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => {
                    self.childless = false;
                    return;
                }
                Err(_) => {
                    self.childless = true;
                    return;
                }
            }
        }
    }

    fn is_over(&mut self) -> io::Result<bool> {
        if let Some(ending) = &mut self.ending {
            return Ok(match (&self.request.life, self.childless) {
                (Life::Daemon, _) if self.status.is_some() => true,
                (_, true) => true,
                (_, false) => ending.go_on(&self.request.life, self.main)? == Step::GivenUp,
            });
        }
        let Some(status) = self.status else { return Ok(false) };
        let leave = match self.request.life {
            Life::Daemon => true,
            Life::Attempt { .. } | Life::Engine => status.exit_status() == Some(0),
            Life::Probe => false,
        };
        if leave || self.childless {
            return Ok(true);
        }
        self.end(End::Exited, EndLevel::Terminate);
        Ok(false)
    }

    /// Starts to end the tree, or ends it harder. The first reason stays.
    fn end(&mut self, why: End, level: EndLevel) {
        let grace = Duration::from_millis(self.request.grace_ms);
        self.ending.get_or_insert_with(|| Ending::new(why, grace)).harden(level);
    }

    fn listen(&mut self) -> io::Result<()> {
        match self.link.hear() {
            Heard::Nothing => {}
            Heard::End(level) => self.end(End::Cancelled, level),
            Heard::Gone => match self.request.life {
                Life::Attempt { .. } | Life::Daemon => {}
                Life::Engine | Life::Probe => self.end(End::Orphaned, EndLevel::Terminate),
            },
        }
        if let Some(level) = self.signals.take()? {
            self.end(End::Cancelled, level);
        }
        if self.deadline.is_some_and(|deadline| monotonic() >= deadline) {
            self.deadline = None;
            let limit_ms = self.request.timeout_ms.unwrap_or_default();
            self.end(End::TimedOut { limit_ms }, EndLevel::Terminate);
        }
        Ok(())
    }

    /// Sleeps until something can be done.
    fn wait(&self) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(8);
        let link_events = if self.link.wants_to_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        fds.extend(self.link.fd().map(|fd| PollFd::from_borrowed_fd(fd, link_events)));
        let streams = [self.stdout.fd(), self.stderr.fd()];
        fds.extend(streams.into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(self.input.iter().map(|pipe| PollFd::from_borrowed_fd(pipe.fd(), PollFlags::OUT)));
        fds.extend(self.signals.fds().into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let next = [self.deadline, self.ending.as_ref().map(Ending::wake_at)].into_iter().flatten().min();
        let timeout = next.and_then(|at| {
            let left = at.saturating_duration_since(monotonic()) + Duration::from_millis(1);
            Timespec::try_from(left).ok()
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the output and the record, then tells the engine.
    fn finish(mut self) -> io::Result<()> {
        let pipes = [&mut self.stdout, &mut self.stderr].map(|stream| stream.last(&self.redactor, &mut self.link));
        let (stdout, stdout_cut) = self.stdout.finish(&self.redactor, &mut self.link);
        let (stderr, stderr_cut) = self.stderr.finish(&self.redactor, &mut self.link);
        let survivors = if self.childless {
            Vec::new()
        } else {
            super::tree::descendants(std::process::id())?.into_iter().map(|process| process.pid).collect()
        };
        let record = ExitRecord {
            program: self.request.program,
            end: self.ending.as_ref().map_or(End::Exited, Ending::why),
            exit_code: self.status.and_then(WaitStatus::exit_status),
            signal: self.status.and_then(WaitStatus::terminating_signal),
            stdout_cut,
            stderr_cut,
            confirmed: self.ending.is_none() || survivors.is_empty(),
            survivors,
            ended_at: now(),
        };
        let left_alone = record.end == End::Exited && self.ending.is_none();
        let recorded = self.folder.map_or(Ok(()), |folder| folder.record_exit(&record));
        let ended = serde_json::to_vec(&record)?;
        self.link.close(&[(Kind::Stdout, &stdout), (Kind::Stderr, &stderr), (Kind::Ended, &ended)]);
        recorded?;
        if left_alone || self.request.life == Life::Daemon {
            linger::linger(pipes.into_iter().flatten().collect(), self.signals)?;
        }
        Ok(())
    }
}
