//! Verbs for a live run: files renamed into its `control/` folder, taken in the order of their names.
//!
//! Delivery is at least once: a verb is put aside into `control/done/` when the engine asks for the next one,
//! so that a request taken by an engine that then died is found again by the one that resumes.
//!
//! Whoever may write the folder may ask. A name in a request is a claim; the account that owns the file is a fact,
//! and is put beside it.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::durable;
use crate::action::BoxFuture;
use crate::base::{StepId, clock};
use crate::event::{Actor, CancelLevel, HumanAnswer, OperatorVerb};
use crate::port::{Control, ControlRequest};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// No verb is larger: a comment and some inputs.
const LARGEST_BYTES: u64 = 1 << 20;

/// A verb as its file holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// End the run.
    Cancel {
        /// Who asks.
        actor: Actor,
        /// How hard.
        level: CancelLevel,
        /// Why.
        reason: String,
    },
    /// Act on the run or on one of its steps.
    Act {
        /// Who asks.
        actor: Actor,
        /// What is to be done.
        act: OperatorVerb,
        /// To which step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Answer what a step asks.
    Answer {
        /// The step.
        step: StepId,
        /// The answer; its `request` is given by the file's name.
        answer: Box<HumanAnswer>,
    },
}

impl Verb {
    /// The request that this verb makes, under the name of its file.
    #[must_use]
    pub fn into_request(self, request: String) -> ControlRequest {
        match self {
            Self::Cancel { actor, level, reason } => ControlRequest::Cancel { actor, level, reason },
            Self::Act { actor, act, step, reason } => ControlRequest::Act { request, actor, verb: act, step, reason },
            Self::Answer { step, answer } => {
                ControlRequest::Answer { step, answer: Box::new(HumanAnswer { request, ..*answer }) }
            }
        }
    }

    /// Says beside who asks from where whose file it was. What was written by hand may hold anything: of names no
    /// sign reaches a terminal that is more than text.
    fn owned_by(mut self, uid: u32) -> Self {
        let actor = match &mut self {
            Self::Cancel { actor, .. } | Self::Act { actor, .. } => actor,
            Self::Answer { answer, .. } => &mut answer.by,
        };
        *actor = Actor { from: format!("{}, uid {uid}", actor.from), ..actor.clone() }.as_text();
        self
    }
}

/// Reads a verb. A link is not followed, nothing is waited for, and no more is read than a verb can be.
fn read(path: &Path) -> io::Result<Verb> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() || facts.len() > LARGEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file of the size of a verb"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_BYTES).read_to_end(&mut bytes)?;
    let verb: Verb = serde_json::from_slice(&bytes)?;
    Ok(verb.owned_by(facts.uid()))
}

/// Puts a verb into a run's control folder, durably, and gives the request's name. The run's engine takes it within
/// a moment.
///
/// # Errors
/// Fails when the folder cannot be written.
pub fn send(control: &Path, verb: &Verb) -> io::Result<String> {
    let name = request_name();
    let staged = control.join(format!(".{name}"));
    let mut file = durable::create_file(&staged)?;
    file.write_all(&serde_json::to_vec(verb)?)?;
    file.sync_all()?;
    std::fs::rename(&staged, control.join(format!("{name}.json")))?;
    durable::sync_dir(control)?;
    Ok(name)
}

/// Gives a new request a name: requests sort by the time they were made.
#[must_use]
pub fn request_name() -> String {
    format!("{}-{}", clock::now().strftime("%Y%m%d-%H%M%S-%9f"), std::process::id())
}

/// Names what waits in a run's control folder, oldest first: the name of each request, and its verb. A live engine takes a
/// verb within a moment; what it has taken may lie there a moment longer. What is no verb is left out, as the engine does.
///
/// # Errors
/// Fails when the folder cannot be read; one that is not there holds nothing.
pub fn waiting(control: &Path) -> io::Result<Vec<(String, Verb)>> {
    let paths = match files(control) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    Ok(paths.iter().filter_map(|path| Some((request_of(path), read(path).ok()?))).collect())
}

/// The files of verbs in a control folder, in the order in which they are taken.
fn files(control: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(control)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The name of the request that a file makes.
fn request_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Watches a run's control folder.
#[derive(Debug)]
pub struct ControlDir {
    dir: PathBuf,
    /// Delivered or refused, and still to be put aside: never delivered a second time by this watcher.
    taken: BTreeSet<PathBuf>,
    /// Not before then is an empty folder looked at again, however often the engine asks.
    due: Option<Instant>,
}

impl ControlDir {
    /// Watches `dir`, the run's `control/` folder.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, taken: BTreeSet::new(), due: None }
    }

    /// Takes the oldest verb, if there is one, and puts aside what was taken before. One bad file blocks no other.
    fn take(&mut self) -> io::Result<Option<ControlRequest>> {
        self.put_aside();
        for path in files(&self.dir)? {
            if !self.taken.insert(path.clone()) {
                continue;
            }
            match read(&path) {
                Ok(verb) => {
                    return Ok(Some(Verb::into_request(verb, request_of(&path))));
                }
                Err(error) => tracing::warn!(file = %path.display(), %error, "a control file is not a verb"),
            }
        }
        Ok(None)
    }

    /// Moves what was taken to `done/`. What cannot be moved stays taken; a later call tries again.
    fn put_aside(&mut self) {
        let done = self.dir.join("done");
        self.taken.retain(|path| {
            let target = done.join(path.file_name().unwrap_or_default());
            let moved = durable::ensure_dir(&done).and_then(|()| std::fs::rename(path, target));
            moved.is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
    }
}

impl Control for ControlDir {
    fn next(&mut self) -> BoxFuture<'_, ControlRequest> {
        Box::pin(async move {
            loop {
                if let Some(due) = self.due {
                    tokio::time::sleep_until(due.into()).await;
                }
                self.due = None;
                match self.take() {
                    Ok(Some(request)) => return request,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(dir = %self.dir.display(), %error, "the control folder cannot be read")
                    }
                }
                self.due = Some(clock::monotonic() + EVERY);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ControlDir, Verb, send};
    use crate::event::{Actor, CancelLevel};
    use crate::port::{Control as _, ControlRequest};

    fn cancel(reason: &str) -> Verb {
        let actor = Actor { name: "ada".to_owned(), from: "db1".to_owned() };
        Verb::Cancel { actor, level: CancelLevel::Graceful, reason: reason.to_owned() }
    }

    /// The request as it arrives: from a file of this account.
    fn asked(reason: &str) -> ControlRequest {
        cancel(reason).owned_by(rustix::process::geteuid().as_raw()).into_request(String::new())
    }

    fn files(dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).expect("lists");
        entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_file())).count()
    }

    #[tokio::test]
    async fn verbs_arrive_in_order_and_are_put_aside_once_the_next_is_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        send(dir.path(), &cancel("first")).expect("sends");
        send(dir.path(), &cancel("second")).expect("sends");
        let mut control = ControlDir::new(dir.path().to_owned());
        assert_eq!(control.next().await, asked("first"));
        assert_eq!(files(dir.path()), 2, "kept until the engine is done with it");
        assert_eq!(control.next().await, asked("second"));
        assert_eq!((files(dir.path()), files(&dir.path().join("done"))), (1, 1));
    }

    #[tokio::test]
    async fn a_verb_taken_by_an_engine_that_died_is_found_again() {
        let dir = tempfile::tempdir().expect("a folder");
        send(dir.path(), &cancel("once")).expect("sends");
        let mut died = ControlDir::new(dir.path().to_owned());
        died.next().await;
        drop(died);
        let mut resumed = ControlDir::new(dir.path().to_owned());
        assert_eq!(resumed.next().await, asked("once"));
    }

    #[tokio::test]
    async fn what_is_not_a_verb_is_put_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(dir.path().join("0.json"), "{").expect("writes");
        std::fs::create_dir(dir.path().join("1.json")).expect("creates");
        send(dir.path(), &cancel("real")).expect("sends");
        let mut control = ControlDir::new(dir.path().to_owned());
        assert_eq!(control.next().await, asked("real"));
        assert!(control.take().expect("looks").is_none());
        assert_eq!((files(dir.path()), files(&dir.path().join("done"))), (0, 2));
    }

    #[tokio::test]
    async fn what_only_looks_like_a_file_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let elsewhere = tempfile::tempdir().expect("a folder");
        send(elsewhere.path(), &cancel("foreign")).expect("sends");
        let foreign = std::fs::read_dir(elsewhere.path()).expect("lists").next().expect("one").expect("an entry");
        std::os::unix::fs::symlink(foreign.path(), dir.path().join("0.json")).expect("links");
        let pipe = dir.path().join("1.json");
        rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("makes");
        let large = std::fs::File::create(dir.path().join("2.json")).expect("creates");
        large.set_len(1 << 40).expect("a size");
        send(dir.path(), &cancel("real")).expect("sends");
        let mut control = ControlDir::new(dir.path().to_owned());
        assert_eq!(control.next().await, asked("real"));
    }

    #[tokio::test]
    async fn whose_file_a_request_was_is_told_whatever_it_claims() {
        let dir = tempfile::tempdir().expect("a folder");
        send(dir.path(), &cancel("mine")).expect("sends");
        let ControlRequest::Cancel { actor, .. } = ControlDir::new(dir.path().to_owned()).next().await else {
            panic!("a cancel was sent")
        };
        assert_eq!(actor.from, format!("db1, uid {}", rustix::process::geteuid().as_raw()));
    }

    #[tokio::test]
    async fn a_name_holds_nothing_that_a_terminal_obeys() {
        let dir = tempfile::tempdir().expect("a folder");
        let actor = Actor { name: "a\u{1b}[2Jda\n".to_owned(), from: "d\u{7}b1".to_owned() };
        let verb = Verb::Cancel { actor, level: CancelLevel::Graceful, reason: String::new() };
        send(dir.path(), &verb).expect("sends");
        let ControlRequest::Cancel { actor, .. } = ControlDir::new(dir.path().to_owned()).next().await else {
            panic!("a cancel was sent")
        };
        assert!(!format!("{}{}", actor.name, actor.from).contains(char::is_control), "{actor:?}");
    }

    #[tokio::test]
    async fn a_verb_that_cannot_be_put_aside_is_delivered_once_and_blocks_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::File::create(dir.path().join("done")).expect("stands in the way");
        send(dir.path(), &cancel("first")).expect("sends");
        send(dir.path(), &cancel("second")).expect("sends");
        let mut control = ControlDir::new(dir.path().to_owned());
        assert_eq!(control.next().await, asked("first"));
        assert_eq!(control.next().await, asked("second"));
        assert!(control.take().expect("looks").is_none());
    }

    #[tokio::test]
    async fn an_engine_that_asks_often_looks_seldom_and_misses_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut control = ControlDir::new(dir.path().to_owned());
        for _ in 0..100 {
            tokio::select! {
                biased;
                request = control.next() => panic!("nothing was sent: {request:?}"),
                () = std::future::ready(()) => {}
            }
        }
        let first_look = control.due.expect("it has looked once");
        assert!(first_look.elapsed() < super::EVERY, "and only once");
        send(dir.path(), &cancel("late")).expect("sends");
        assert_eq!(control.next().await, asked("late"));
    }
}
