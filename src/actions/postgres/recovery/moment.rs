//! A target as a moment: whether it can have been, and whether it lies before what went wrong.

use crate::action::{CheckContext, Findings};
use crate::base::clock;
use crate::catalog::recovery::Goal;

/// Refuses a time that is still to come, and warns of one after the incident: what went wrong then is in the recovered data.
pub(crate) fn judged(goal: Option<&Goal>, cx: &CheckContext, findings: Findings) -> Findings {
    let incident_at = cx.about.incident_at;
    match goal {
        Some(Goal::Time(at)) if *at > clock::now() => {
            let fact = format!("the target {at} is still to come");
            findings.refuse(fact, "leave the target out to recover as far as the archive leads")
        }
        Some(Goal::Time(at)) if *at > incident_at => findings.warn(
            format!("the target {at} lies after the incident at {incident_at}"),
            "what went wrong at the incident is in the recovered data then: is one of the two mistyped?",
        ),
        Some(Goal::Time(_) | Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_)) | None => {
            findings
        }
    }
}
