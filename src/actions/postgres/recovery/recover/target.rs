//! Where a recovery is asked to end: the arguments that each step that recovers takes beside its own.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::{InstanceHandle, Late, ParamFault};
use crate::actions::postgres::restore::recovery_target::{Edge, Ending, RecoveryTarget};
use crate::base::Timestamp;
use crate::catalog::recovery::Goal;
use crate::pgformat::{Lsn, Timeline};

/// The target of a recovery: at most one; without one, all that is archived.
///
/// Flattened into the arguments of a step, which deny unknown fields for it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct TargetSpec {
    /// `latest` (default): the end of the archive. `immediate`: the end of the backup. `here`: opens an `instance` that waits.
    #[serde(default, rename = "target")]
    pub landmark: Option<Landmark>,
    /// A point in time with offset; the last commit not after it is the last one there is.
    #[serde(default, rename = "target_time")]
    #[schemars(with = "Option<String>")]
    pub time: Option<Timestamp>,
    /// A position.
    #[serde(default, rename = "target_lsn")]
    pub lsn: Option<String>,
    /// A restore point, made by `postgres.restore_point` or with `pg_create_restore_point`.
    #[serde(default, rename = "target_name")]
    pub name: Option<String>,
    /// A transaction; what counts is its commit.
    #[serde(default, rename = "target_xid")]
    pub xid: Option<u64>,
    /// With `false` replay ends just before the time, position or transaction. Default: with it.
    #[serde(default)]
    pub inclusive: Option<bool>,
    /// The timeline to follow; default: the one that was live at the target, the latest without target.
    #[serde(default)]
    pub timeline: Option<u32>,
}

/// Targets that need no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Landmark {
    /// The end of the archive.
    Latest,
    /// The end of the backup, as soon as the data is consistent.
    Immediate,
    /// Where the paused `instance` is: nothing more is replayed, it opens.
    Here,
}

impl TargetSpec {
    /// The one target, the end of the archive without any.
    pub(super) fn goal(&self) -> Result<Goal, ParamFault> {
        let mut goals = Vec::new();
        goals.extend(self.landmark.map(|landmark| match landmark {
            Landmark::Latest | Landmark::Here => Goal::Newest,
            Landmark::Immediate => Goal::Immediate,
        }));
        goals.extend(self.time.map(Goal::Time));
        if let Some(text) = &self.lsn {
            let lsn: Lsn = text.parse().map_err(|_| {
                ParamFault::new("/target_lsn", format!("`{text}` is no position; write for example `16/B374D848`"))
            })?;
            goals.push(Goal::Lsn(lsn));
        }
        goals.extend(self.name.clone().map(Goal::Name));
        goals.extend(self.xid.map(Goal::Xid));
        match goals.len() {
            0 => Ok(Goal::Newest),
            1 => Ok(goals.remove(0)),
            _ => Err(ParamFault::new("", "a recovery has at most one target")),
        }
    }

    /// Where a recovery with this ending is to end, and how; `waiting` is the instance that the step goes on with.
    ///
    /// # Errors
    /// Names the argument that makes no sense, alone or beside the others.
    pub(crate) fn recovery_target(
        &self,
        ending: Ending,
        waiting: Option<&Late<InstanceHandle>>,
    ) -> Result<RecoveryTarget, ParamFault> {
        let goal = self.goal()?;
        let bounded = matches!(goal, Goal::Time(_) | Goal::Lsn(_) | Goal::Xid(_));
        if self.inclusive.is_some() && !bounded {
            return Err(ParamFault::new("/inclusive", "only a time, a position or a transaction can be left out"));
        }
        if ending == Ending::Standby && goal != Goal::Newest {
            return Err(ParamFault::new("/action", "a standby follows the archive and stops at no target"));
        }
        if self.timeline == Some(0) {
            return Err(ParamFault::new("/timeline", "there is no timeline 0; leave `timeline` out, or name one"));
        }
        if self.landmark == Some(Landmark::Here) && (waiting.is_none() || ending != Ending::Promote) {
            return Err(ParamFault::new("/target", "`here` opens an `instance` that waits, and does nothing else"));
        }
        let edge = if self.inclusive == Some(false) { Edge::Excluded } else { Edge::Included };
        Ok(RecoveryTarget { goal, edge, ending, timeline: self.timeline.map(Timeline) })
    }
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use serde_json::json;

    use super::super::RecoverParams;
    use super::*;

    #[test]
    fn a_step_with_a_target_takes_its_fields_as_its_own_and_no_others() {
        let with = json!({ "database": "orders", "target_xid": 7501, "inclusive": false, "timeline": 2 });
        let params: RecoverParams = serde_json::from_value(with).expect("fitting arguments");
        assert_eq!(
            (params.target.xid, params.target.inclusive, params.target.timeline),
            (Some(7501), Some(false), Some(2))
        );
        let misspelt = json!({ "database": "orders", "target_tmie": "2026-01-28T14:30:00Z" });
        assert!(serde_json::from_value::<RecoverParams>(misspelt).is_err());
        let schema = schema_for!(RecoverParams).to_value();
        assert_eq!(schema["additionalProperties"], json!(false));
        for field in ["target", "target_time", "target_lsn", "target_name", "target_xid", "inclusive", "timeline"] {
            assert!(schema["properties"][field].is_object(), "{field}: {schema}");
        }
        assert_eq!(schema["required"], json!(["database"]));
    }

    #[test]
    fn a_target_says_one_place_and_bounds_only_what_has_an_edge() {
        let fault = |target: serde_json::Value| {
            let target: TargetSpec = serde_json::from_value(target).expect("a target");
            target.recovery_target(Ending::Promote, None).expect_err("a fault").path
        };
        assert_eq!(fault(json!({ "target_xid": 7, "target_lsn": "0/3000000" })), "");
        assert_eq!(fault(json!({ "target": "immediate", "inclusive": false })), "/inclusive");
        assert_eq!(fault(json!({ "target_lsn": "here" })), "/target_lsn");
        assert_eq!(fault(json!({ "timeline": 0 })), "/timeline");
        assert_eq!(fault(json!({ "target": "here" })), "/target");
    }
}
