//! Verbs for a live run: files renamed into its `control/` folder, taken in the order of their names.
//!
//! Delivery is at least once: a verb is put aside into `control/done/` when the engine asks for the next one,
//! so that a request taken by an engine that then died is found again by the one that resumes.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::durable;
use crate::action::BoxFuture;
use crate::base::{StepId, clock};
use crate::event::{Actor, CancelLevel, HumanAnswer, OperatorVerb};
use crate::port::{Control, ControlRequest};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(200);

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
        for path in self.waiting()? {
            if !self.taken.insert(path.clone()) {
                continue;
            }
            let verb = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
            match verb {
                Ok(verb) => {
                    let request = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    return Ok(Some(Verb::into_request(verb, request)));
                }
                Err(error) => tracing::warn!(file = %path.display(), %error, "a control file is not a verb"),
            }
        }
        Ok(None)
    }

    fn waiting(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !hidden && path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
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
    use crate::port::Control as _;

    fn cancel(reason: &str) -> Verb {
        let actor = Actor { name: "ada".to_owned(), from: "db1".to_owned() };
        Verb::Cancel { actor, level: CancelLevel::Graceful, reason: reason.to_owned() }
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
        assert_eq!(control.next().await, cancel("first").into_request(String::new()));
        assert_eq!(files(dir.path()), 2, "kept until the engine is done with it");
        assert_eq!(control.next().await, cancel("second").into_request(String::new()));
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
        assert_eq!(resumed.next().await, cancel("once").into_request(String::new()));
    }

    #[tokio::test]
    async fn what_is_not_a_verb_is_put_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(dir.path().join("0.json"), "{").expect("writes");
        std::fs::create_dir(dir.path().join("1.json")).expect("creates");
        send(dir.path(), &cancel("real")).expect("sends");
        let mut control = ControlDir::new(dir.path().to_owned());
        assert_eq!(control.next().await, cancel("real").into_request(String::new()));
        assert!(control.take().expect("looks").is_none());
        assert_eq!((files(dir.path()), files(&dir.path().join("done"))), (0, 2));
    }

    #[tokio::test]
    async fn a_verb_that_cannot_be_put_aside_is_delivered_once_and_blocks_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::File::create(dir.path().join("done")).expect("stands in the way");
        send(dir.path(), &cancel("first")).expect("sends");
        send(dir.path(), &cancel("second")).expect("sends");
        let mut control = ControlDir::new(dir.path().to_owned());
        assert_eq!(control.next().await, cancel("first").into_request(String::new()));
        assert_eq!(control.next().await, cancel("second").into_request(String::new()));
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
        assert_eq!(control.next().await, cancel("late").into_request(String::new()));
    }
}
