//! `assert`: fails unless conditions hold.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::by_hand::{placeholder, remark};
use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency, Late,
    ParamFault, PlanContext, RunContext,
};

/// Judges conditions.
pub struct Assert;

/// The arguments of `assert`: `that` for one condition, `all` for several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The condition: an expression that gives true or false.
    #[serde(default)]
    that: Option<Late<bool>>,
    /// What is said when it does not hold.
    #[serde(default)]
    message: Option<Late<String>>,
    /// Several conditions; each is judged and each that fails is named.
    #[serde(default)]
    all: Vec<Condition>,
    /// What it means that one does not hold: `fail` (default) fails the step; `inconclusive` lets it succeed, but a drill has
    /// proved nothing then, whatever else it did.
    #[serde(default)]
    otherwise: Otherwise,
}

/// What a condition that does not hold means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// The step fails.
    #[default]
    Fail,
    /// The step succeeds, and says that what the run was for was not put to the test.
    Inconclusive,
}

/// One condition of several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The condition: an expression that gives true or false.
    that: Late<bool>,
    /// What is said when it does not hold.
    message: Late<String>,
}

/// What `assert` gives.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// How many conditions hold.
    pub held: u64,
    /// With `otherwise: inconclusive` why nothing was proved: a drill in which any step says so is inconclusive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<String>,
}

impl Params {
    fn conditions(&self) -> Vec<(&Late<bool>, &str)> {
        let one = self.that.iter().map(|that| (that, words(self.message.as_ref())));
        one.chain(self.all.iter().map(|condition| (&condition.that, words(Some(&condition.message))))).collect()
    }
}

fn words(message: Option<&Late<String>>) -> &str {
    message.and_then(Late::known).map_or("the condition does not hold", String::as_str)
}

impl Action for Assert {
    const SPEC: ActionSpec = ActionSpec {
        name: "assert",
        summary: "Fails unless conditions hold.",
        effect: EffectClass::None,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "one condition", with: "that: true\nmessage: the backup is too old" },
            Example {
                title: "a drill that finds nothing to do proves nothing",
                with: "that: true\nmessage: nothing was missing\notherwise: inconclusive\n",
            },
            Example {
                title: "several conditions",
                with: "all:\n  - { that: true, message: the backup is too old }\n  - { that: true, message: the disk is full }\n",
            },
        ],
    };
    type Params = Params;
    type Output = Output;

    fn effects(&self, params: &Params, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.that.is_none() && params.all.is_empty() {
            let fault = ParamFault::new("", "there is no condition");
            return Err(vec![fault.help("give `that:`, or a list under `all:`")]);
        }
        if params.that.is_none() && params.message.is_some() {
            return Err(vec![ParamFault::new("/message", "`message` belongs to `that`, which is missing")]);
        }
        Ok(Effects::of(EffectClass::None))
    }

    fn by_hand(&self, params: &Params, _: &PlanContext<'_>) -> Vec<String> {
        let words = |that: &Late<bool>| match that {
            Late::Known(true) => "holds".to_owned(),
            Late::Known(false) => "does not hold".to_owned(),
            Late::Pending(expression) => format!("must be true: {}", placeholder(expression)),
        };
        let line = |(that, message): (&Late<bool>, &str)| remark(&format!("{}, else: {message}", words(that)));
        params.conditions().into_iter().map(line).collect()
    }

    async fn check(&self, params: &Params, _: &CheckContext) -> Result<Findings, ActionError> {
        Ok(params.conditions().into_iter().fold(Findings::default(), |findings, (that, message)| match that {
            Late::Known(true) => findings,
            Late::Known(false) => match params.otherwise {
                Otherwise::Fail => findings.refuse(
                    message,
                    "the runbook demands it before it goes on: mend what is said here, or give another parameter",
                ),
                Otherwise::Inconclusive => findings.warn(message, "a drill proves nothing then"),
            },
            Late::Pending(expression) => findings.pending(format!("`{expression}` is not known yet")),
        }))
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<Output, ActionError> {
        let conditions = params.conditions();
        let mut broken = Vec::new();
        for (that, message) in &conditions {
            if !*that.get()? {
                broken.push(*message);
            }
        }
        match params.otherwise {
            Otherwise::Fail if !broken.is_empty() => Err(ActionError::fatal(broken.join("; "))),
            Otherwise::Fail | Otherwise::Inconclusive => {
                broken.iter().for_each(|why| cx.reporter.note((*why).to_owned(), serde_json::Value::Null));
                let unproven = broken.iter().map(|why| (*why).to_owned()).collect();
                Ok(Output { held: (conditions.len() - broken.len()) as u64, unproven })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::{Action as _, Assert, Params};
    use crate::action::{Mode, PlanContext};
    use crate::language::inventory::Inventory;

    fn effects(with: serde_json::Value) -> Result<(), Vec<String>> {
        let params: Params = serde_json::from_value(with).expect("arguments");
        let inventory = Inventory::default();
        let cx = PlanContext { inventory: &inventory, mode: Mode::Real, scratch: Path::new("/s"), host: "local" };
        Assert.effects(&params, &cx).map(drop).map_err(|faults| faults.into_iter().map(|fault| fault.message).collect())
    }

    #[test]
    fn a_condition_must_be_given() {
        assert_eq!(effects(json!({ "that": { "$late": "steps.a.ok" } })), Ok(()));
        assert_eq!(effects(json!({})), Err(vec!["there is no condition".to_owned()]));
        assert!(effects(json!({ "message": "m", "all": [{ "that": true, "message": "n" }] })).is_err());
    }

    #[test]
    fn every_condition_is_judged_with_its_own_words() {
        let with =
            json!({ "that": false, "all": [{ "that": true, "message": "a" }, { "that": false, "message": "b" }] });
        let params: Params = serde_json::from_value(with).expect("arguments");
        let broken: Vec<&str> =
            params.conditions().into_iter().filter(|(that, _)| that.known() == Some(&false)).map(|(_, m)| m).collect();
        assert_eq!(broken, ["the condition does not hold", "b"]);
    }
}
