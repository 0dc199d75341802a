//! An application's smoke test, told the instance and nothing else of ours.

use super::params::Smoke;
use crate::action::{ActionError, CommandSpec, HostError, RunContext, Tie};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::program;
use crate::actions::postgres::session::client;

/// Lines of its output that are told.
const TOLD: usize = 10;

/// Runs it; gives how it ended, and whether that is a success.
///
/// Its sessions may only read: `PGOPTIONS` says so to every one that does not set another.
///
/// # Errors
/// Fails when it was cancelled, or is not there.
pub(super) async fn run(
    smoke: &Smoke,
    (cluster, dbname): (&Cluster, &str),
    cx: &RunContext,
) -> Result<(bool, String, Vec<String>), ActionError> {
    let (program, args) = smoke.command.split_first().ok_or_else(|| ActionError::fatal("no program is named"))?;
    let mut spec = CommandSpec::new(program.clone()).args(args);
    spec.timeout = smoke.timeout.map(|limit| limit.0);
    for (name, value) in &smoke.env {
        spec = spec.env(name, value);
    }
    spec = spec.env("PGOPTIONS", "-c default_transaction_read_only=on");
    let trusted = client::trusted(cx.host.as_read());
    let spec = client::connected(spec, (cluster, dbname), (trusted, cx.about.secrets.as_ref()))?;
    match cx.host.run(spec, Tie::Engine).await {
        Ok(output) if output.success() => Ok((true, "exit 0".to_owned(), Vec::new())),
        Ok(output) => {
            let code = output.exit_code.map_or_else(|| "a signal".to_owned(), |code| format!("exit {code}"));
            Ok((false, code, output.tail(TOLD)))
        }
        Err(error @ HostError::Timeout { .. }) => Ok((false, error.to_string(), Vec::new())),
        Err(error) => Err(program::failed(program, &error)),
    }
}
