//! Waits for asynchronous work where a secret is wanted at once: on a thread and a small runtime of its own, so that
//! neither the engine's runtime nor any other is blocked or entered.

use std::time::Duration;

use super::miss::Miss;

/// No source may take longer, all its retries included.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a future to its end; `what` names who is asked.
pub(super) fn wait<F>(what: &str, future: F) -> Result<String, Miss>
where
    F: Future<Output = Result<String, Miss>> + Send,
{
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Miss::failed(format!("{what} cannot be asked")).because(&error))?;
        let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, future).await });
        ended.unwrap_or_else(|_| Err(Miss::failed(format!("{what} did not answer within {} s", LIMIT.as_secs()))))
    };
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Miss::failed(format!("{what} cannot be asked: its client failed"))))
}
