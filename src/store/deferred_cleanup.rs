//! Work that is left when a future is dropped before its end: an upload to abort, a temporary file to remove.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use tokio_util::task::TaskTracker;

/// How long the end of a program waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

static BESIDE: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Does it beside what comes next, as far as the runtime lives that long; what it leaves is hidden and harmless.
#[expect(clippy::disallowed_methods, reason = "a dropped future cannot wait for its own clean-up")]
pub(super) fn deferred_cleanup(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn(BESIDE.track_future(work)));
    }
}

/// Waits up to ten seconds for what dropped futures left to do: whoever ends a runtime after a cancel awaits this first.
pub async fn deferred_cleanups() {
    BESIDE.close();
    // What takes longer stays, as after a crash.
    let _late = tokio::time::timeout(PATIENCE, BESIDE.wait()).await;
    BESIDE.reopen();
}
