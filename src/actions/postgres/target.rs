//! What the server is told of a recovery's goal. Where it leads is decided by [`crate::catalog::recovery`].

use super::settings::TARGETS;
use crate::action::ActionError;
use crate::catalog::recovery::{Goal, Refusal};
use crate::pgformat::Timeline;

impl Goal {
    /// The server's settings for this goal; every other target is emptied, so that one of an earlier
    /// restore cannot contradict. The goal comes after them: an empty target behind it counts as a second.
    pub(crate) fn settings(&self, timeline: Option<Timeline>) -> Vec<(String, String)> {
        let own = match self {
            Self::Newest => None,
            Self::Immediate => Some(("recovery_target", "immediate".to_owned())),
            Self::Time(at) => Some(("recovery_target_time", at.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string())),
            Self::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
            Self::Name(name) => Some(("recovery_target_name", name.clone())),
            Self::Xid(xid) => Some(("recovery_target_xid", xid.to_string())),
        };
        let others = TARGETS.iter().filter(|name| own.as_ref().is_none_or(|(own, _)| own != *name));
        let mut all: Vec<(String, String)> = others.map(|name| ((*name).to_owned(), String::new())).collect();
        all.extend(own.map(|(name, value)| (name.to_owned(), value)));
        all.push(("recovery_target_inclusive".to_owned(), "on".to_owned()));
        all.push(("recovery_target_action".to_owned(), "promote".to_owned()));
        let timeline = timeline.map_or_else(|| "latest".to_owned(), |timeline| timeline.0.to_string());
        all.push(("recovery_target_timeline".to_owned(), timeline));
        all
    }
}

impl From<Refusal> for ActionError {
    fn from(refusal: Refusal) -> Self {
        let error = Self::fatal(refusal.to_string());
        match refusal.help() {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests;
