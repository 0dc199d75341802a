//! Lint: what is legal and yet worth a word. One function per rule, one entry in [`RULES`].

mod reach;
mod script;
mod unused;

use super::build::Material;
use super::read::Reads;
use crate::base::diagnostic::Diagnostics;
use crate::language::runbook::Runbook;

/// What a rule looks at.
pub struct Subject<'a> {
    /// The file.
    pub runbook: &'a Runbook,
    /// What surrounds it.
    pub material: &'a Material<'a>,
    /// What its templates read.
    pub reads: &'a Reads,
}

/// A rule.
type Rule = fn(&Subject<'_>) -> Diagnostics;

/// Every rule.
const RULES: &[Rule] = &[unused::params, unused::vars, unused::pass_env, script::hazards, reach::servers];

/// Runs every rule.
#[must_use]
pub fn check(runbook: &Runbook, material: &Material<'_>, reads: &Reads) -> Diagnostics {
    let subject = Subject { runbook, material, reads };
    RULES.iter().flat_map(|rule| rule(&subject)).collect()
}
