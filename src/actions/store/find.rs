//! `store.find`: one object by its name, age or size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::by_hand::{folder, is_files, location};
use super::glob::Glob;
use super::store_failed;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ObjectFacts, ParamFault, PlanContext, ReadStore, RunContext, StoreRef, Target,
};
use crate::base::units::{ByteSize, Span};
use crate::base::{Timestamp, clock};

/// Finds an object.
#[derive(Debug, Clone, Copy, Default)]
pub struct Find;

/// The arguments of `store.find`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// What the keys begin with. Default: everything.
    #[serde(default)]
    pub prefix: String,
    /// A pattern for the name: `*.dump` is held against its last part, one with a `/` against the whole key.
    #[serde(default)]
    pub name: Option<Glob>,
    /// Which of several. Default `newest`.
    #[serde(default)]
    pub which: Which,
    /// Only objects written longer ago than this.
    #[serde(default)]
    pub older_than: Option<Span>,
    /// Only objects written less long ago than this.
    #[serde(default)]
    pub younger_than: Option<Span>,
    /// Only objects at least so large.
    #[serde(default)]
    pub min_size: Option<ByteSize>,
    /// Finding nothing is no error; the outputs are null then.
    #[serde(default)]
    pub allow_none: bool,
}

/// Which of several objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one written last.
    #[default]
    Newest,
    /// The one written first.
    Oldest,
    /// The one with the most bytes.
    Largest,
}

/// The outputs of `store.find`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundObject {
    /// Its key.
    pub key: Option<String>,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// When it was last written, by the store's clock.
    #[schemars(with = "Option<String>")]
    pub modified_at: Option<Timestamp>,
    /// SHA-256 of its bytes, where it was stored with it.
    pub sha256: Option<crate::base::Digest>,
    /// How many objects fit.
    pub count: u64,
}

impl FindParams {
    fn fits(&self, facts: &ObjectFacts, now: Timestamp) -> bool {
        let age = clock::between(facts.modified_at, now);
        self.name.as_ref().is_none_or(|name| name.fits(facts.key.as_str()))
            && self.older_than.is_none_or(|limit| age > limit.0)
            && self.younger_than.is_none_or(|limit| age < limit.0)
            && self.min_size.is_none_or(|least| facts.size_bytes >= least.0)
    }

    async fn find(&self, store: &dyn ReadStore) -> Result<(Option<ObjectFacts>, u64), ActionError> {
        let (all, now) = (store.list(&self.prefix).await.map_err(store_failed)?, clock::now());
        let seen = all.len();
        let fitting: Vec<ObjectFacts> = all.into_iter().filter(|facts| self.fits(facts, now)).collect();
        let count = fitting.len() as u64;
        let rank = |facts: &ObjectFacts| match self.which {
            Which::Newest => facts.modified_at.as_nanosecond(),
            Which::Oldest => -facts.modified_at.as_nanosecond(),
            Which::Largest => i128::from(facts.size_bytes),
        };
        // Of two that rank the same, the one with the later name: dated names sort by their dates.
        let chosen = fitting.into_iter().max_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.key.cmp(&b.key)));
        if chosen.is_none() && !self.allow_none {
            let fact = format!("none of {seen} objects under `{}` in store `{}` fits", self.prefix, store.name());
            return Err(
                ActionError::fatal(fact).help("look at what is there with `store.list`, or say `allow_none: true`")
            );
        }
        Ok((chosen, count))
    }
}

impl Action for Find {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.find",
        summary: "Finds the newest, oldest or largest object that fits; none is an error.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "The newest dump", with: "{ store: primary, prefix: dumps/, name: '*.dump' }" },
            Example {
                title: "The largest of today that is not empty",
                with: "{ store: primary, prefix: dumps/, which: largest, younger_than: 1d, min_size: 1MiB }",
            },
        ],
    };
    type Params = FindParams;
    type Output = FoundObject;

    fn effects(&self, params: &FindParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let target = Target::Store { name: params.store.0.clone(), prefix: params.prefix.clone() };
        Ok(Effects::of(EffectClass::Read).target(Access::Read, target))
    }

    fn by_hand(&self, params: &FindParams, cx: &PlanContext<'_>) -> Vec<String> {
        let from = location(cx.inventory, params.store.as_str(), &params.prefix);
        let wanted = match params.which {
            Which::Newest => "the newest that fits",
            Which::Oldest => "the oldest that fits",
            Which::Largest => "the largest that fits",
        };
        let list = match is_files(cx.inventory, params.store.as_str()) {
            true => command_line(["ls", "-lRt", folder(&from)]),
            false => remark(&format!("list what begins with {from} with the store's own tool")),
        };
        vec![list, remark(&format!("{wanted}; its key: ‹write it down›"))]
    }

    async fn check(&self, params: &FindParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(params.store.as_str())?;
        match params.find(&*store).await {
            Ok((Some(facts), count)) => Ok(Findings::default().pass(format!("`{}`, one of {count}", facts.key))),
            Ok((None, _)) => Ok(Findings::default().pass("nothing fits, which is allowed")),
            Err(error) if cx.ahead => Ok(Findings::default().pending(error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn run(&self, params: &FindParams, cx: &RunContext) -> Result<FoundObject, ActionError> {
        let store = cx.store(params.store.as_str())?;
        let (chosen, count) = params.find(store.as_read()).await?;
        let sha256 = match &chosen {
            Some(facts) => store.head(&facts.key).await.map_err(store_failed)?.sha256(),
            None => None,
        };
        Ok(FoundObject {
            key: chosen.as_ref().map(|facts| facts.key.to_string()),
            size_bytes: chosen.as_ref().map(|facts| facts.size_bytes),
            modified_at: chosen.map(|facts| facts.modified_at),
            sha256,
            count,
        })
    }
}
