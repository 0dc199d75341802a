//! Actions that do what a scenario says and keep a record of every effect, which survives the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runbook::action::{
    Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Findings, Idempotency, Interrupted, Late,
    ParamFault, PlanContext, Recovery, Registry, RunContext,
};
use runbook::base::secret::SecretText;
use runbook::base::{Attempt, StepId};
use runbook::event::Progress;
use runbook::port::Clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::clock::ManualClock;

/// What one attempt does. Its effect happens first, where it has one.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Succeed,
    /// Takes this long after its effect.
    Take(Duration),
    Retryable,
    Fatal,
    Unknown,
    Exit(i32),
    Panic,
    /// Runs until it is told to end.
    Hang,
    /// Runs on when it is told to end.
    Ignore,
    /// Registers a resource, then succeeds.
    Register(&'static str),
    /// Says something worth keeping, then succeeds.
    Note(&'static str),
    /// Shows progress, then is silent for this long.
    Silent(Duration),
    /// Fails before any effect.
    Refuse,
    /// Gives the secret it was given as its output.
    Leak,
}

/// What happened in the world; survives every engine.
#[derive(Clone)]
pub struct World {
    shared: Arc<Mutex<Shared>>,
    pub clock: ManualClock,
}

#[derive(Default)]
struct Shared {
    acts: BTreeMap<String, Vec<Act>>,
    effects: BTreeMap<String, Vec<u32>>,
    done: BTreeMap<(String, u32), Option<Result<Value, ActionError>>>,
    order: Vec<String>,
    removed: Vec<String>,
    running: usize,
    most_running: usize,
}

impl World {
    pub fn new(clock: ManualClock) -> Self {
        Self { shared: Arc::default(), clock }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn script(&self, step: &str, acts: Vec<Act>) {
        self.lock().acts.insert(step.to_owned(), acts);
    }

    /// How often the step's effect happened.
    pub fn effects(&self, step: &str) -> usize {
        self.lock().effects.get(step).map_or(0, Vec::len)
    }

    /// The attempts in which the step's effect happened, in the order it did.
    pub fn attempts(&self, step: &str) -> Vec<u32> {
        self.lock().effects.get(step).cloned().unwrap_or_default()
    }

    /// Effects in the order they happened.
    pub fn order(&self) -> Vec<String> {
        self.lock().order.clone()
    }

    pub fn removed(&self) -> Vec<String> {
        self.lock().removed.clone()
    }

    pub fn most_running(&self) -> usize {
        self.lock().most_running
    }

    fn act(&self, step: &StepId, attempt: Attempt) -> Act {
        let shared = self.lock();
        let Some(acts) = shared.acts.get(step.as_str()) else { return Act::Succeed };
        let at = usize::try_from(attempt.0).unwrap_or(1).saturating_sub(1);
        acts.get(at).or_else(|| acts.last()).cloned().unwrap_or(Act::Succeed)
    }

    fn effect(&self, step: &StepId, attempt: Attempt) {
        let mut shared = self.lock();
        shared.effects.entry(step.to_string()).or_default().push(attempt.0);
        shared.order.push(step.to_string());
        shared.done.insert((step.to_string(), attempt.0), None);
    }

    async fn run(&self, cx: &RunContext, params: &Params) -> Result<Output, ActionError> {
        let act = self.act(&cx.step, cx.attempt);
        if act == Act::Refuse {
            return Err(ActionError::retryable("refused before any effect"));
        }
        self.effect(&cx.step, cx.attempt);
        let running = Running::count(self);
        let result = self.play(act, cx, params).await;
        drop(running);
        let kept = result.as_ref().map(|output| json!(output)).map_err(Clone::clone);
        self.lock().done.insert((cx.step.to_string(), cx.attempt.0), Some(kept));
        result
    }

    async fn play(&self, act: Act, cx: &RunContext, params: &Params) -> Result<Output, ActionError> {
        match act {
            Act::Succeed | Act::Refuse => {}
            Act::Take(time) => self.clock.sleep(time).await,
            Act::Retryable => return Err(ActionError::retryable("it did not answer")),
            Act::Fatal => return Err(ActionError::fatal("it cannot be")),
            Act::Unknown => return Err(ActionError::unknown("the answer was lost")),
            Act::Exit(code) => return Err(ActionError::retryable("it ended").process(Some(code), Vec::new())),
            Act::Panic => panic!("a bug of the action"),
            Act::Hang => {
                cx.cancel.cancelled().await;
                return Err(ActionError::cancelled("it was told to end"));
            }
            Act::Ignore => std::future::pending().await,
            Act::Register(resource) => cx.reporter.register(resource.to_owned(), json!({ "of": cx.step })).await?,
            Act::Note(text) => cx.reporter.note(text.to_owned(), Value::Null),
            Act::Silent(time) => {
                cx.reporter.progress(Progress::Doing { text: "working".to_owned() });
                self.clock.sleep(time).await;
            }
            Act::Leak => {
                let secret = params.secret.as_ref().map(|secret| secret.reveal().to_owned());
                return Ok(Output { attempt: cx.attempt.0, value: json!(secret) });
            }
        }
        let value = params.value.as_ref().and_then(|value| value.known().cloned()).unwrap_or(Value::Null);
        Ok(Output { attempt: cx.attempt.0, value })
    }
}

/// Counts what runs at the same time, also when it is dropped half-way.
struct Running<'a>(&'a World);

impl<'a> Running<'a> {
    fn count(world: &'a World) -> Self {
        let mut shared = world.lock();
        shared.running += 1;
        shared.most_running = shared.most_running.max(shared.running);
        Self(world)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    #[serde(default)]
    value: Option<Late<Value>>,
    #[serde(default)]
    secret: Option<SecretText>,
    #[serde(default)]
    public: Option<String>,
    /// The check refuses with these words.
    #[serde(default)]
    refuse: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Output {
    attempt: u32,
    value: Value,
}

const fn spec(name: &'static str, idempotency: Idempotency, effect: EffectClass) -> ActionSpec {
    ActionSpec {
        name,
        summary: "Does what the scenario says.",
        effect,
        idempotency,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[],
    }
}

macro_rules! fake {
    ($type:ident, $spec:expr, { $($recovery:tt)* }) => {
        pub struct $type(World);

        impl Action for $type {
            const SPEC: ActionSpec = $spec;
            type Params = Params;
            type Output = Output;

            fn effects(&self, _: &Params, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
                Ok(Effects::of(Self::SPEC.effect))
            }
            async fn check(&self, params: &Params, _: &CheckContext) -> Result<Findings, ActionError> {
                Ok(match (&params.refuse, &params.public) {
                    (Some(why), _) => Findings::default().refuse(why.clone(), "change it"),
                    (None, Some(text)) => Findings::default().pass(text.clone()),
                    (None, None) => Findings::default().pass("in order"),
                })
            }
            async fn run(&self, params: &Params, cx: &RunContext) -> Result<Output, ActionError> {
                self.0.run(cx, params).await
            }
            async fn remove(&self, resource: &str, _: &Value, _: &RunContext) -> Result<(), ActionError> {
                if resource == "stuck" {
                    return Err(ActionError::fatal("it cannot be removed"));
                }
                self.0.lock().removed.push(resource.to_owned());
                Ok(())
            }
            $($recovery)*
        }
    };
}

fake!(Once, spec("fake.once", Idempotency::NotIdempotent, EffectClass::Write), {});
fake!(Again, spec("fake.again", Idempotency::Idempotent, EffectClass::Write), {});
fake!(Read, spec("fake.read", Idempotency::Idempotent, EffectClass::Read), {});
// Like `exec`: what it began goes on without the engine and leaves a record.
fake!(Kept, spec("fake.kept", Idempotency::NotIdempotent, EffectClass::Write), {
    async fn recover(&self, _: &Params, cut: &Interrupted, _: &CheckContext) -> Result<Recovery<Output>, ActionError> {
        let record = self.0.lock().done.get(&(cut.step.to_string(), cut.attempt.0)).cloned();
        Ok(match record {
            None => Recovery::Rerun,
            Some(None) => Recovery::Reattach,
            Some(Some(Ok(value))) => Recovery::Adopt(serde_json::from_value(value).expect("the record is an output")),
            Some(Some(Err(error))) => Recovery::Failed(error),
        })
    }
    async fn reattach(&self, params: &Params, cut: &Interrupted, cx: &RunContext) -> Result<Output, ActionError> {
        assert_eq!(cut.attempt, cx.attempt);
        let act = self.0.act(&cx.step, cx.attempt);
        let result = self.0.play(act, cx, params).await;
        let kept = result.as_ref().map(|output| json!(output)).map_err(Clone::clone);
        self.0.lock().done.insert((cx.step.to_string(), cx.attempt.0), Some(kept));
        result
    }
});

/// Stands for `shell`, which removes leases: its script is the name of what is gone, `hang` never comes back.
pub struct Script(World);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptParams {
    script: String,
}

impl Action for Script {
    const SPEC: ActionSpec = spec("shell", Idempotency::NotIdempotent, EffectClass::Write);
    type Params = ScriptParams;
    type Output = Output;

    fn effects(&self, _: &ScriptParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        Ok(Effects::of(EffectClass::Write))
    }
    async fn run(&self, params: &ScriptParams, cx: &RunContext) -> Result<Output, ActionError> {
        if params.script == "hang" {
            std::future::pending::<()>().await;
        }
        self.0.lock().removed.push(params.script.clone());
        Ok(Output { attempt: cx.attempt.0, value: Value::Null })
    }
}

pub fn registry(world: &World) -> Registry {
    Registry::default()
        .with(Once(world.clone()))
        .with(Again(world.clone()))
        .with(Read(world.clone()))
        .with(Kept(world.clone()))
        .with(Script(world.clone()))
        .with(runbook::actions::approval::Approval)
        .with(runbook::actions::manual::Manual)
}
