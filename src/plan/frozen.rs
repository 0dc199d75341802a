//! A plan in a file: frozen by `runbook plan -o FILE`, carried out by `runbook run FILE`.
//!
//! The file is JSON. Its first member after the format is the SHA-256 of its own text with 64 zeros in the
//! digest's place, so that a changed byte anywhere shows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::BoundPlan;
use crate::base::Digest;

/// The format of the file.
const FORMAT: u32 = 1;

/// A plan as a file keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    runbook_plan: u32,
    digest: Digest,
    /// The version of the program that made it.
    pub program: String,
    /// The folder that names of files are relative to.
    pub folder: String,
    /// What was given.
    pub given: Given,
    /// Parameters that are given only when it is carried out; the plan holds a stand-in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub open: BTreeSet<String>,
    /// The plan.
    pub plan: BoundPlan,
}

/// What was typed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Given {
    /// The runbook, a path or a name.
    pub runbook: String,
    /// The inventories asked for; those that were found by default are not listed.
    #[serde(default)]
    pub inventories: Vec<String>,
    /// Values of the parameters that were given.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    /// Variables that were given.
    #[serde(default)]
    pub vars: BTreeMap<String, Value>,
}

/// Why a text is not a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFileError {
    /// It is something else.
    #[error("it is not a plan of a runbook: {0}")]
    NotAPlan(String),
    /// A later version made it.
    #[error("it is a plan of format {0}, and this version reads format {FORMAT}")]
    Format(u32),
    /// It was changed after it was made.
    #[error("its digest does not fit its text: it was changed after it was made")]
    Altered,
}

impl PlanFile {
    /// Freezes a plan.
    #[must_use]
    pub fn new(plan: BoundPlan, given: Given, folder: String) -> Self {
        Self {
            runbook_plan: FORMAT,
            digest: Digest::default(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            folder,
            given,
            open: BTreeSet::new(),
            plan,
        }
    }

    /// The text of the file.
    ///
    /// # Errors
    /// Fails when a value has no JSON form, which no plan has.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let blank = Self { digest: Digest::default(), ..self.clone() };
        let text = serde_json::to_string_pretty(&blank)? + "\n";
        let digest = Digest::of(text.as_bytes()).to_string();
        Ok(text.replacen(&Digest::default().to_string(), &digest, 1))
    }

    /// Tells whether a text means to be a plan: a JSON mapping with the format's member.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().starts_with('{') && text.contains("\"runbook_plan\"")
    }

    /// Reads and verifies the text of a file.
    ///
    /// # Errors
    /// Fails when it is not a plan, or not the one that was written.
    pub fn read(text: &str) -> Result<Self, PlanFileError> {
        let not = |error: serde_json::Error| PlanFileError::NotAPlan(error.to_string());
        let value: Value = serde_json::from_str(text).map_err(not)?;
        match value.get("runbook_plan").and_then(Value::as_u64) {
            Some(1) => {}
            Some(other) => return Err(PlanFileError::Format(u32::try_from(other).unwrap_or(u32::MAX))),
            None => return Err(PlanFileError::NotAPlan("it has no `runbook_plan`".to_owned())),
        }
        let file: Self = serde_json::from_value(value).map_err(not)?;
        let blank = text.replacen(&file.digest.to_string(), &Digest::default().to_string(), 1);
        if Digest::of(blank.as_bytes()) != file.digest {
            return Err(PlanFileError::Altered);
        }
        Ok(file)
    }

    /// The digest of the file's text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::{Given, PlanFile, PlanFileError};
    use crate::plan::fixture::{plan, step};

    fn text() -> String {
        let file = PlanFile::new(plan(vec![step("a", "exec")]), Given::default(), "/".to_owned());
        file.to_text().expect("JSON")
    }

    #[test]
    fn what_was_written_is_read() {
        let text = text();
        assert!(PlanFile::is_meant(&text));
        let file = PlanFile::read(&text).expect("a plan");
        assert_eq!(file.to_text().expect("JSON"), text);
        assert_eq!(file.plan, plan(vec![step("a", "exec")]));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let text = text();
        for at in (0..text.len()).step_by(7).filter(|at| text.as_bytes()[*at].is_ascii_alphanumeric()) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert!(PlanFile::read(&String::from_utf8(bytes).expect("ASCII")).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let text = text().replacen("\"runbook_plan\": 1", "\"runbook_plan\": 2", 1);
        assert_eq!(PlanFile::read(&text), Err(PlanFileError::Format(2)));
        assert!(matches!(PlanFile::read("{}"), Err(PlanFileError::NotAPlan(_))));
    }
}
