//! Actions as the engine holds them.

use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{
    Action, ActionError, ActionSpec, BoxFuture, CheckContext, Effects, Findings, Interrupted, PlanContext, Recovery,
    RunContext, by_hand,
};

/// An argument that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamFault {
    /// JSON pointer inside `with:`, for example `/target_time`; empty for the whole.
    pub path: String,
    /// What is wrong, a lower-case fragment.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

impl ParamFault {
    /// A fault at a path.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: None }
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// An [`Action`] behind JSON.
///
/// `with` is the rendered value with secrets revealed; at bind and in checks ahead it may hold
/// pending markers where the action takes a [`super::Late`] value.
pub trait ErasedAction: Send + Sync {
    /// The facts.
    fn spec(&self) -> &'static ActionSpec;
    /// The JSON schema of `with:`.
    fn params_schema(&self) -> Value;
    /// The JSON schema of the outputs.
    fn output_schema(&self) -> Value;
    /// See [`Action::effects`].
    fn effects(&self, with: &Value, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>>;
    /// See [`Action::by_hand`]; summary and arguments where there is no equivalent. Secrets show by name.
    fn by_hand(&self, with: &Value, cx: &PlanContext<'_>) -> Vec<String>;
    /// See [`Action::check`].
    fn check<'a>(&'a self, with: &Value, cx: &'a CheckContext) -> BoxFuture<'a, Result<Findings, ActionError>>;
    /// See [`Action::run`].
    fn run<'a>(&'a self, with: &Value, cx: &'a RunContext) -> BoxFuture<'a, Result<Value, ActionError>>;
    /// See [`Action::recover`].
    fn recover<'a>(
        &'a self,
        with: &Value,
        cut: &'a Interrupted,
        cx: &'a CheckContext,
    ) -> BoxFuture<'a, Result<Recovery<Value>, ActionError>>;
    /// See [`Action::reattach`].
    fn reattach<'a>(
        &'a self,
        with: &Value,
        cut: &'a Interrupted,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Value, ActionError>>;
    /// See [`Action::remove`].
    fn remove<'a>(
        &'a self,
        resource: &'a str,
        data: &'a Value,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<(), ActionError>>;
}

/// Makes an [`ErasedAction`] of an [`Action`].
pub struct Erased<A> {
    action: A,
    params_schema: OnceLock<Value>,
    output_schema: OnceLock<Value>,
}

impl<A: Action> Erased<A> {
    /// Wraps an action. Its schemas are made when they are first asked for, once for all its steps.
    pub fn new(action: A) -> Self {
        Self { action, params_schema: OnceLock::new(), output_schema: OnceLock::new() }
    }
}

fn schema_of<T: schemars::JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

fn params<A: Action>(with: &Value) -> Result<A::Params, ActionError> {
    serde_json::from_value(with.clone())
        .map_err(|error| ActionError::fatal(format!("the arguments of `{}` do not fit: {error}", A::SPEC.name)))
}

fn output<A: Action>(output: A::Output) -> Result<Value, ActionError> {
    serde_json::to_value(output)
        .map_err(|error| ActionError::unknown(format!("the output of `{}` cannot be kept: {error}", A::SPEC.name)))
}

impl<A: Action> ErasedAction for Erased<A> {
    fn spec(&self) -> &'static ActionSpec {
        &A::SPEC
    }

    fn params_schema(&self) -> Value {
        self.params_schema.get_or_init(schema_of::<A::Params>).clone()
    }

    fn output_schema(&self) -> Value {
        self.output_schema.get_or_init(schema_of::<A::Output>).clone()
    }

    fn effects(&self, with: &Value, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let params = params::<A>(with).map_err(|error| vec![ParamFault::new("", error.to_string())])?;
        self.action.effects(&params, cx)
    }

    fn by_hand(&self, with: &Value, cx: &PlanContext<'_>) -> Vec<String> {
        let with = by_hand::without_secrets(with);
        let lines = params::<A>(&with).map(|params| self.action.by_hand(&params, cx)).unwrap_or_default();
        if lines.is_empty() { by_hand::arguments(A::SPEC.summary, &with) } else { lines }
    }

    fn check<'a>(&'a self, with: &Value, cx: &'a CheckContext) -> BoxFuture<'a, Result<Findings, ActionError>> {
        let params = params::<A>(with);
        Box::pin(async move { self.action.check(&params?, cx).await })
    }

    fn run<'a>(&'a self, with: &Value, cx: &'a RunContext) -> BoxFuture<'a, Result<Value, ActionError>> {
        let params = params::<A>(with);
        Box::pin(async move { output::<A>(self.action.run(&params?, cx).await?) })
    }

    fn recover<'a>(
        &'a self,
        with: &Value,
        cut: &'a Interrupted,
        cx: &'a CheckContext,
    ) -> BoxFuture<'a, Result<Recovery<Value>, ActionError>> {
        let params = params::<A>(with);
        Box::pin(async move {
            Ok(match self.action.recover(&params?, cut, cx).await? {
                Recovery::Adopt(value) => Recovery::Adopt(output::<A>(value)?),
                Recovery::Rerun => Recovery::Rerun,
                Recovery::Failed(error) => Recovery::Failed(error),
                Recovery::Reattach => Recovery::Reattach,
                Recovery::Unwatched { why } => Recovery::Unwatched { why },
                Recovery::Ask { why } => Recovery::Ask { why },
            })
        })
    }

    fn reattach<'a>(
        &'a self,
        with: &Value,
        cut: &'a Interrupted,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Value, ActionError>> {
        let params = params::<A>(with);
        Box::pin(async move { output::<A>(self.action.reattach(&params?, cut, cx).await?) })
    }

    fn remove<'a>(
        &'a self,
        resource: &'a str,
        data: &'a Value,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<(), ActionError>> {
        Box::pin(async move { self.action.remove(resource, data, cx).await })
    }
}
