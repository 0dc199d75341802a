//! Opens a server that waits in its recovery, for good, and ends that recovery as `postgres.recover` would have.

use super::advance;
use super::landing::Landing;
use super::recover::RecoverOutput;
use crate::action::{ActionError, InstanceHandle};
use crate::actions::postgres::restore::hands::Hands;

/// Promotes an instance that `postgres.recover` left paused or as a standby: opens it on a new timeline, removes the
/// recovery's settings, proves archiving, makes slots anew.
///
/// # Errors
/// Fails when the instance does not wait in a recovery of this run, does not open, or archives nothing afterwards.
pub(crate) async fn promote(hands: &Hands<'_>, instance: &InstanceHandle) -> Result<RecoverOutput, ActionError> {
    let (marker, _) = advance::waiting(hands, instance)?;
    Landing { hands, marker }.promote().await
}
