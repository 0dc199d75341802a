//! Opens a server that waits in its recovery, for good, and ends that recovery as `postgres.recover` would have.

use super::advance;
use super::completion::Completion;
use super::recover::RecoverOutput;
use crate::action::{ActionError, InstanceHandle};
use crate::actions::postgres::restore::context::RecoveryContext;

/// Promotes an instance that `postgres.recover` left paused or as a standby: opens it on a new timeline, removes the
/// recovery's settings, proves archiving, makes slots anew.
///
/// # Errors
/// Fails when the instance does not wait in a recovery of this run, does not open, or archives nothing afterwards.
pub(crate) async fn promote(
    context: &RecoveryContext<'_>,
    instance: &InstanceHandle,
) -> Result<RecoverOutput, ActionError> {
    let (marker, _) = advance::waiting(context, instance)?;
    Completion { context, marker }.promote().await
}
