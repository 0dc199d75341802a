//! Work that is left when a future is dropped before its end: an upload to abort, a temporary file to remove.

use std::future::Future;

/// Does it beside what comes next, as far as the runtime lives that long; what it leaves is hidden and harmless.
#[expect(clippy::disallowed_methods, reason = "a dropped future cannot wait for its own clean-up")]
pub(super) fn farewell(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn(work));
    }
}
