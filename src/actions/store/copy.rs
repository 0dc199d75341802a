//! `store.copy`: objects inside a store or from one into another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::until_cancelled;
use super::by_hand::{folder, is_files, location};
use super::carry::{Proof, StoredObject, copy_object};
use super::crew::each;
use super::passing::Meter;
use super::store_failed;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ObjectFacts, ObjectKey, ParamFault, PlanContext, PutOptions, ReadStore, RunContext, Store, StoreError, StoreRef,
    Target,
};

/// Objects that are named in the outputs at most.
const NAMED: usize = 1_000;

/// Copies objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copy;

/// What is copied, or where to: `{ store, key }` for one object, `{ store, prefix }` for all below a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyPlace {
    /// The store of the inventory.
    pub store: StoreRef,
    /// One object.
    #[serde(default)]
    pub key: Option<String>,
    /// All objects whose keys begin so; what follows is kept.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// The arguments of `store.copy`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyParams {
    /// What is copied.
    pub from: CopyPlace,
    /// Where to: a `key` for one object, a `prefix` for many.
    pub to: CopyPlace,
    /// Replaces objects with other content; without it one such is an error before anything is copied.
    #[serde(default)]
    pub overwrite: bool,
    /// How each arrival is proven. Default `read_back`.
    #[serde(default)]
    pub proof: Proof,
    /// How many objects are copied at once. Default 4.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 64))]
    pub parallel: u32,
}

pub(super) fn four() -> u32 {
    4
}

/// The outputs of `store.copy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyOutput {
    /// How many objects lie at the target now.
    pub count: u64,
    /// Their sizes together.
    pub size_bytes: u64,
    /// The first thousand of them.
    pub objects: Vec<StoredObject>,
}

/// One object's way.
struct Pair {
    from: ObjectKey,
    to: ObjectKey,
    size_bytes: u64,
}

impl CopyPlace {
    fn fault(&self, at: &str) -> Option<ParamFault> {
        match (&self.key, &self.prefix) {
            (Some(key), None) if key.parse::<ObjectKey>().is_err() => Some(
                ParamFault::new(format!("{at}/key"), format!("`{key}` is not an object key"))
                    .help("parts joined by `/`, none empty, `.` or `..`"),
            ),
            (Some(_), None) | (None, Some(_)) => None,
            (Some(_), Some(_)) | (None, None) => {
                Some(ParamFault::new(at, "exactly one of `key` and `prefix` is wanted"))
            }
        }
    }

    fn text(&self) -> &str {
        self.key.as_deref().or(self.prefix.as_deref()).unwrap_or_default()
    }

    fn target(&self) -> Target {
        Target::Store { name: self.store.0.clone(), prefix: self.text().to_owned() }
    }
}

impl CopyParams {
    fn faults(&self) -> Vec<ParamFault> {
        let mut faults: Vec<ParamFault> =
            [self.from.fault("/from"), self.to.fault("/to")].into_iter().flatten().collect();
        if self.from.key.is_some() != self.to.key.is_some() {
            faults.push(ParamFault::new("/to", "a `key` is copied to a `key`, a `prefix` to a `prefix`"));
        }
        let (from, to) = (self.from.text(), self.to.text());
        let nested = self.from.prefix.is_some() && (from.starts_with(to) || to.starts_with(from));
        if self.from.store == self.to.store && (from == to || nested) {
            faults.push(ParamFault::new("/to", "the target lies in the source, or the source in the target"));
        }
        faults
    }

    async fn pairs(&self, store: &dyn ReadStore) -> Result<Vec<Pair>, ActionError> {
        let Some(prefix) = &self.from.prefix else {
            let from = super::body::key(self.from.text())?;
            let size_bytes = store.head(&from).await.map_err(store_failed)?.size_bytes;
            return Ok(vec![Pair { to: super::body::key(self.to.text())?, from, size_bytes }]);
        };
        let found = store.list(prefix).await.map_err(store_failed)?;
        if found.is_empty() {
            let fact = format!("no object of store `{}` begins with `{prefix}`", store.name());
            return Err(ActionError::fatal(fact).help("look at what is there with `store.list`"));
        }
        let pair = |facts: ObjectFacts| {
            let rest = facts.key.as_str().get(prefix.len()..).unwrap_or_default();
            let to = super::body::key(&format!("{}{rest}", self.to.text()))?;
            Ok(Pair { from: facts.key, to, size_bytes: facts.size_bytes })
        };
        found.into_iter().map(pair).collect()
    }

    /// Names targets that hold another content: by digest where both are recorded, else by size.
    async fn refuse_clashes(
        &self,
        from: &dyn ReadStore,
        to: &dyn ReadStore,
        pairs: &[Pair],
    ) -> Result<(), ActionError> {
        let clashes = each(self.parallel as usize, pairs, async |pair| match to.head(&pair.to).await {
            Ok(there) => {
                let recorded = from.head(&pair.from).await.map_err(store_failed)?.sha256();
                let other = recorded.zip(there.sha256()).is_some_and(|(one, two)| one != two);
                Ok((other || there.size_bytes != pair.size_bytes).then(|| format!("`{}`", pair.to)))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) if error.is_unborn() => Ok(None),
            Err(error) => Err(store_failed(error)),
        })
        .await;
        let clashes: Vec<String> = clashes.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        if clashes.is_empty() {
            return Ok(());
        }
        let fact = format!("{} objects exist with other content, among them {}", clashes.len(), clashes[0]);
        Err(ActionError::fatal(fact).help("nothing was copied; say `overwrite: true`, or choose another target"))
    }
}

impl Action for Copy {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.copy",
        summary: "Copies one object, or all under a prefix, inside a store or into another, proven by digest.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "Keep a dump under another name",
                with: "from: { store: primary, key: dumps/orders.dump }\nto: { store: primary, key: keep/orders.dump }",
            },
            Example {
                title: "All of a prefix",
                with: "from: { store: primary, prefix: dumps/ }\nto: { store: primary, prefix: copies/dumps/ }\nparallel: 8",
            },
        ],
    };
    type Params = CopyParams;
    type Output = CopyOutput;

    fn effects(&self, params: &CopyParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let faults = params.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let (class, access) = match params.overwrite {
            true => (EffectClass::Destroy, Access::Destroy),
            false => (EffectClass::Write, Access::Write),
        };
        Ok(Effects::of(class).target(Access::Read, params.from.target()).target(access, params.to.target()))
    }

    fn by_hand(&self, params: &CopyParams, cx: &PlanContext<'_>) -> Vec<String> {
        let place = |place: &CopyPlace| location(cx.inventory, place.store.as_str(), place.text());
        let (from, to) = (place(&params.from), place(&params.to));
        let both_files = is_files(cx.inventory, params.from.store.as_str())
            && is_files(cx.inventory, params.to.store.as_str())
            && params.from.key.is_some();
        if !both_files {
            return vec![remark(&format!("copy {from} to {to} with the stores' own tools"))];
        }
        let flag = if params.overwrite { "-f" } else { "-n" };
        vec![command_line(["install", "-d", folder(&to)]), command_line(["cp", flag, &from, &to])]
    }

    async fn check(&self, params: &CopyParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let (from, to) = (cx.store(params.from.store.as_str())?, cx.store(params.to.store.as_str())?);
        let pairs = match params.pairs(&*from).await {
            Ok(pairs) => pairs,
            Err(error) if cx.ahead => return Ok(Findings::default().pending(error.to_string())),
            Err(error) => return Ok(Findings::default().refuse(error.to_string(), "put it there first")),
        };
        if !params.overwrite && !cx.ahead {
            params.refuse_clashes(&*from, &*to, &pairs).await?;
        }
        Ok(Findings::default().pass(format!("{} objects to copy", pairs.len())))
    }

    async fn run(&self, params: &CopyParams, cx: &RunContext) -> Result<CopyOutput, ActionError> {
        let (from, to) = (cx.store(params.from.store.as_str())?, cx.store(params.to.store.as_str())?);
        until_cancelled(cx, copy_all(params, (&*from, &*to), cx)).await
    }
}

async fn copy_all(
    params: &CopyParams,
    (from, to): (&dyn Store, &dyn Store),
    cx: &RunContext,
) -> Result<CopyOutput, ActionError> {
    let pairs = params.pairs(from.as_read()).await?;
    if !params.overwrite {
        params.refuse_clashes(from.as_read(), to.as_read(), &pairs).await?;
    }
    let size_bytes = pairs.iter().map(|pair| pair.size_bytes).sum();
    let meter = Meter::new(cx, Some(size_bytes));
    let resume = cx.attempt.0 > 1;
    let copied = each(params.parallel as usize, &pairs, |pair| {
        let options = PutOptions { if_absent: !params.overwrite, resume, ..PutOptions::default() };
        copy_object((from, &pair.from), (to, &pair.to), (options, params.proof), &meter)
    })
    .await;
    let mut objects = copied.into_iter().collect::<Result<Vec<_>, _>>()?;
    let count = objects.len() as u64;
    let size_bytes = objects.iter().map(|object| object.size_bytes).sum();
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    objects.truncate(NAMED);
    Ok(CopyOutput { count, size_bytes, objects })
}
