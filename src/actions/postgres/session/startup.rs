//! Waits for a server that was started.

use std::time::Duration;

use super::maintenance_db::MaintenanceDb;
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::server::Server;
use crate::base::clock;
use crate::base::units::Span;
use crate::event::{ErrorClass, Progress};

/// Waits until the server takes sessions. Tells whether it is in recovery.
///
/// # Errors
/// Fails with its last words when it ends, or is not seen to live at all; with a retryable error when it lives and takes none
/// within `within`; when it refuses the login, and when it is cancelled.
pub(crate) async fn answers(server: &Server<'_>, within: Duration, cx: &RunContext) -> Result<bool, ActionError> {
    let files = cx.host.read_files();
    let maintenance_db = MaintenanceDb::own(server.cluster, cx.about.secrets.as_ref())?;
    let begun = clock::monotonic();
    let appears = server.cluster.service_manager().appears_within();
    let mut seen = false;
    loop {
        let tried = async { maintenance_db.open().await?.value("SELECT pg_is_in_recovery()").await };
        match tried.await {
            Ok(recovers) => return Ok(recovers == "t"),
            Err(error) if error.info().class != ErrorClass::Retryable => return Err(error),
            Err(_) => {}
        }
        let alive = !live::processes(&server.cluster.pgdata, files.as_ref()).is_empty();
        let patience = if seen { Duration::ZERO } else { appears.min(within) };
        if !alive && begun.elapsed() > patience {
            let fact = if seen { "the server ended while it started" } else { "the server did not start" };
            return Err(ActionError::fatal(fact).process(None, server.last_words(cx.host.as_read()).await));
        }
        seen |= alive;
        if begun.elapsed() > within {
            let fact = format!("the server does not take sessions after {}", Span(within));
            return Err(ActionError::retryable(fact).process(None, server.log_tail(files.as_ref())).help(
                "it goes on starting: recovery after a crash takes its time; raise `within` and run the step again",
            ));
        }
        cx.reporter.progress(Progress::Doing { text: "waiting until the server takes sessions".to_owned() });
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = cx.cancel.cancelled() => return Err(ActionError::cancelled("cancelled while the server started; it goes on")),
        }
    }
}
