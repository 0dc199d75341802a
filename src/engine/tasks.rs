//! The one home of spawning: what runs beside the loop, each task with the step it belongs to.

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// Running tasks. All are aborted when this is dropped.
pub(super) struct Tasks<T> {
    set: JoinSet<T>,
    owners: Vec<(Id, usize, AbortHandle)>,
}

/// How a task ended.
#[derive(Debug)]
pub(super) enum TaskEnd<T> {
    /// It gave a value.
    Done(T),
    /// It panicked, with this message.
    Panicked(String),
    /// It was aborted.
    Aborted,
}

impl<T: Send + 'static> Tasks<T> {
    pub(super) fn new() -> Self {
        Self { set: JoinSet::new(), owners: Vec::new() }
    }

    /// Starts a task that belongs to the step at position `owner`.
    #[expect(clippy::disallowed_methods, reason = "the one home of spawning")]
    pub(super) fn start(&mut self, owner: usize, task: impl Future<Output = T> + Send + 'static) {
        let handle = self.set.spawn(task);
        self.owners.push((handle.id(), owner, handle));
    }

    /// Aborts the task of a step. Only for tasks that change nothing.
    pub(super) fn abort(&mut self, owner: usize) {
        for (_, _, handle) in self.owners.iter().filter(|(_, known, _)| *known == owner) {
            handle.abort();
        }
    }

    /// Waits for the next end; pends for ever while nothing runs. Cancel-safe.
    pub(super) async fn next(&mut self) -> (usize, TaskEnd<T>) {
        match self.set.join_next_with_id().await {
            Some(end) => self.settle(end),
            None => std::future::pending().await,
        }
    }

    /// Gives an end that is there already.
    pub(super) fn try_next(&mut self) -> Option<(usize, TaskEnd<T>)> {
        let end = self.set.try_join_next_with_id()?;
        Some(self.settle(end))
    }

    fn settle(&mut self, end: Result<(Id, T), JoinError>) -> (usize, TaskEnd<T>) {
        let (id, end) = match end {
            Ok((id, value)) => (id, TaskEnd::Done(value)),
            Err(error) => (error.id(), ended_badly(error)),
        };
        let at = self.owners.iter().position(|(known, ..)| *known == id);
        let owner = at.map_or(usize::MAX, |at| self.owners.swap_remove(at).1);
        (owner, end)
    }
}

fn ended_badly<T>(error: JoinError) -> TaskEnd<T> {
    match error.try_into_panic() {
        Ok(payload) => TaskEnd::Panicked(panic_text(&payload)),
        Err(_) => TaskEnd::Aborted,
    }
}

fn panic_text(payload: &Box<dyn std::any::Any + Send>) -> String {
    let text = payload.downcast_ref::<&'static str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
