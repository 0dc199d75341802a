//! Where a recovery ends and along which timeline is decided by [`crate::catalog::recovery`]; here its refusals become
//! errors of a step.

use crate::action::ActionError;
use crate::catalog::recovery::Refusal;
pub(crate) use crate::catalog::recovery::{Archive, Base, Goal};

impl From<Refusal> for ActionError {
    fn from(refusal: Refusal) -> Self {
        let error = Self::fatal(refusal.to_string());
        match refusal.help() {
            Some(help) => error.help(help),
            None => error,
        }
    }
}
