//! What a host needs to know from its caller.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::action::Reporter;
use crate::base::redact::Redactor;

/// What is the same for all attempts of a run.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Our own executable, which becomes the supervisor of each program.
    pub supervisor: PathBuf,
    /// The search path for programs, as `PATH` holds it.
    pub search_path: String,
    /// Time between TERM and KILL.
    pub grace: Duration,
    /// Masks secrets in what probes write.
    pub redactor: Arc<Redactor>,
}

impl HostSettings {
    /// The usual grace of ten seconds and no secrets.
    #[must_use]
    pub fn new(supervisor: PathBuf, search_path: impl Into<String>) -> Self {
        let redactor = Arc::new(Redactor::default());
        Self { supervisor, search_path: search_path.into(), grace: Duration::from_secs(10), redactor }
    }
}

/// What ties a host to one attempt of a step.
#[derive(Clone)]
pub struct AttemptBinding {
    /// The attempt's own folder.
    pub dir: PathBuf,
    /// Ends the attempt's programs: TERM, and KILL after the grace.
    pub cancel: CancellationToken,
    /// Ends the attempt's programs at once.
    pub kill: CancellationToken,
    /// Takes the lines that programs write.
    pub reporter: Arc<dyn Reporter>,
    /// Masks secrets in what programs write.
    pub redactor: Arc<Redactor>,
}
