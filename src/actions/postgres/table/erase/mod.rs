//! `postgres.erase`: who must be forgotten is erased again from a database that came back from a backup.
//!
//! The [`ledger`] says whom, as keyed hashes; [`wanted`] gathers its lines by table, [`brought`] knows which of them a
//! restore brought back, [`prepared`] what nobody sees yet, [`table`] finds and changes the rows, [`work`] makes one transaction of it. Deleting twice finds nothing the second time.

mod around;
mod brought;
pub(crate) mod ledger;
mod prepared;
mod table;
mod wanted;
mod work;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::wanted::{Group, Keys, Scope, gathered};
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, ErasureContent, Example,
    Findings, Idempotency, InstanceHandle, Late, ParamFault, PlanContext, RunContext, SHIPPED, Secrets, Surroundings,
    Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::commit::{Commit, ROLLED_BACK};
use crate::actions::postgres::session::connect::Endpoint;
use crate::actions::postgres::table::names;
use crate::base::{Digest, Timestamp, clock};

/// Erases who must be forgotten.
#[derive(Debug, Clone, Copy, Default)]
pub struct Erase;

/// The arguments of `postgres.erase`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseParams {
    /// The database of the inventory. Without `erasure` in its entry nothing is done.
    pub database: DatabaseRef,
    /// The instance. Default: the database's own server.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The name of the side instance that `instance` is (`copy` unless its step says another): then the database itself is
    /// neither touched nor locked.
    #[serde(default)]
    pub side: Option<String>,
    /// Only this database within the server. Default: every one that the ledger names.
    #[serde(default)]
    pub dbname: Option<String>,
    /// Only these tables, those that were brought back; of the database's own `dbname` where none is said. Default: every
    /// one that the ledger names. Written as for `postgres.restore_table`; a partition is a part of what the ledger names, too.
    #[serde(default, deserialize_with = "names::of_list")]
    pub tables: Vec<String>,
    /// The moment of the data, with offset. A line that is older was carried out before that moment: whoever stands in the
    /// data all the same came back afterwards, and their rows stay and are told. Default: every line counts, however old.
    #[serde(default)]
    pub as_of: Option<Late<String>>,
}

/// The outputs of `postgres.erase`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EraseOutput {
    /// Each line of the ledger about this database.
    pub lines: Vec<ErasedLine>,
    /// Rows that were deleted.
    pub deleted: u64,
    /// Rows that stayed and tell nothing any more.
    pub anonymised: u64,
    /// Rows that stayed because the data is newer than the line: somebody came back after they were forgotten.
    #[serde(default)]
    pub back: u64,
    /// Rows that are gone from the named tables, from all where none is named; those included that foreign keys let follow.
    #[serde(default)]
    pub removed: u64,
    /// Tables of the ledger that this state of the database does not have, each with the lines that name it.
    #[serde(default)]
    pub absent: Vec<String>,
    /// How many lines the whole ledger had.
    pub ledger_lines: u64,
    /// The hash of its last line: says which ledger it was. Null where the inventory names no keys.
    pub ledger_head: Option<Digest>,
}

/// What became of one line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErasedLine {
    /// Its number.
    pub line: u64,
    /// The database within the server.
    pub dbname: String,
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// Whether the rows stayed, without what identified them.
    pub kept: bool,
    /// How many rows there were.
    pub rows: u64,
    /// How many rows stayed because the data is newer than the line.
    #[serde(default)]
    pub back: u64,
}

/// What is to be done, and by which ledger.
struct Task {
    content: ErasureContent,
    groups: Vec<Group>,
}

impl Action for Erase {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.erase",
        summary: "Replays the erasure ledger in a restored database: who was forgotten before is forgotten again.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "In the database itself, after a restore", with: "{ database: orders }" },
            Example {
                title: "In what was just recovered, before anybody uses it",
                with: "{ database: orders, instance: '{{ steps.recover.instance }}' }",
            },
            Example {
                title: "In a copy beside it, before anything leaves it",
                with: "{ database: orders, instance: '{{ steps.copy.instance }}', side: copy }",
            },
            Example { title: "In one database of the server", with: "{ database: orders, dbname: shop }" },
            Example {
                title: "In a table that was brought back as it was then",
                with: "{ database: orders, tables: [users], as_of: '2026-01-28T14:30:00Z' }",
            },
        ],
    };
    type Params = EraseParams;
    type Output = EraseOutput;

    fn effects(&self, params: &EraseParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        if let Some(Err(what)) = params.as_of.as_ref().and_then(Late::known).map(|text| time(text)) {
            return Err(vec![ParamFault::new("/as_of", what)]);
        }
        if params.side.is_some() && params.instance.is_none() {
            let fault = ParamFault::new("/side", "a side instance is named, and `instance` is not given");
            return Err(vec![fault.help("give the handle that `postgres.side_instance` gave")]);
        }
        if cluster.entry.erasure.is_none() {
            let own = params.side.is_none().then_some((Access::Read, Target::Database { name: cluster.name }));
            return Ok(own
                .into_iter()
                .fold(Effects::of(EffectClass::Read), |effects, (access, target)| effects.target(access, target)));
        }
        let effects = match &params.side {
            None => Effects::of(EffectClass::Destroy).target(Access::Destroy, Target::Database { name: cluster.name }),
            Some(label) => {
                let fault = |error: ActionError| vec![ParamFault::new("/side", error.to_string())];
                let side = cluster.side_named(label, cx.scratch).map_err(fault)?;
                let path = side.pgdata.parent().unwrap_or(&side.pgdata).to_owned();
                Effects::of(EffectClass::Write).target(Access::Write, Target::Path { host: cx.host.to_owned(), path })
            }
        };
        Ok(match &cx.inventory.audit.ship {
            Some(store) => {
                let prefix = SHIPPED.trim_end_matches('/').to_owned();
                effects.target(Access::Read, Target::Store { name: store.clone(), prefix })
            }
            None => effects,
        })
    }

    fn by_hand(&self, params: &EraseParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        if cluster.entry.erasure.is_none() {
            return Vec::new();
        }
        let dbname = params.dbname.as_ref().unwrap_or(&cluster.dbname);
        let statement = "DELETE FROM ‹table› WHERE encode(hmac(‹column›::text, :'key', 'sha256'), 'hex') = '‹subject›'";
        vec![
            remark("each line of the ledger names a table, a column and a subject; `pgcrypto` must be there"),
            crate::action::by_hand::command_line([
                "runbook",
                "backups",
                "erase-ledger",
                "list",
                "--database",
                &cluster.name,
            ]),
            by_hand::sql(&cluster, dbname, statement),
        ]
    }

    async fn check(&self, params: &EraseParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let shipped = cx.about.inventory.audit.ship.as_ref().map(|store| cx.store(store)).transpose()?;
        let shipped = shipped.as_deref();
        let Some(task) = Task::of((&cluster, params), &cx.about, shipped).await? else {
            return Ok(Findings::default().pass(unasked(&cluster.name)));
        };
        let findings = Findings::default().pass(task.told(&cluster.name));
        if params.instance.is_some() || cluster.is_scratch() {
            return Ok(findings.pending("the rows are counted when the step starts"));
        }
        match task.counted((&cluster, params), cx, findings.clone()).await {
            // A step before this one may bring the server or the table back.
            Err(error) if cx.ahead => {
                let again = || "it is looked at again when the step starts".to_owned();
                let help = error.info().help.clone().unwrap_or_else(again);
                Ok(findings.warn(format!("as things are now: {}", told(&error)), help))
            }
            counted => counted,
        }
    }

    async fn run(&self, params: &EraseParams, cx: &RunContext) -> Result<EraseOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let shipped = cx.about.inventory.audit.ship.as_ref().map(|store| cx.store(store)).transpose()?;
        let shipped = shipped.as_deref().map(|store| store.as_read());
        let Some(task) = Task::of((&cluster, params), &cx.about, shipped).await? else {
            cx.reporter.note(unasked(&cluster.name), serde_json::Value::Null);
            return Ok(EraseOutput::default());
        };
        let cluster = match &params.instance {
            Some(instance) => cluster.serving(instance.get()?, &cx.about.scratch)?,
            None => cluster,
        };
        if cluster.side != params.side {
            let named = |side: &Option<String>| side.as_ref().map_or("none".to_owned(), |name| format!("`{name}`"));
            let (is, said) = (named(&cluster.side), named(&params.side));
            return Err(ActionError::fatal(format!("the instance is the side instance {is}, and `side` says {said}"))
                .help("what is written to must be known before the run: name it in `side`"));
        }
        let (ledger_lines, ledger_head) = (task.content.lines.len() as u64, Some(task.content.head));
        let mut output = EraseOutput { ledger_lines, ledger_head, ..EraseOutput::default() };
        let commit = Commit::default();
        let work = async {
            task.refuse_prepared((&cluster, params), cx.about.secrets.as_ref()).await?;
            for (dbname, groups) in task.by_database() {
                let mut session = Endpoint::of(&cluster, Some(dbname), cx.about.secrets.as_ref())?.open().await?;
                let done = work::erase(&mut session, groups, &params.tables, &commit).await?;
                for line in &done.lines {
                    cx.reporter.note(line.told(), json!(line));
                    if let Some(told) = line.told_back() {
                        cx.reporter.note(told, json!(line));
                    }
                }
                for told in &done.absent {
                    cx.reporter.note(format!("{told}; {RENAMED}"), json!({ "dbname": dbname }));
                }
                output.absent.extend(done.absent);
                for note in done.notes {
                    cx.reporter.note(note, json!({ "dbname": dbname }));
                }
                output.removed += done.removed;
                output.add(done.lines);
            }
            output.removed = output.removed.max(output.deleted);
            cx.reporter.note(task.told(&cluster.name), json!({ "head": ledger_head, "lines": ledger_lines }));
            Ok(output)
        };
        tokio::select! {
            done = work => done,
            () = cx.cancel.cancelled() => Err(commit.cancelled("the erasure was", ROLLED_BACK)),
        }
    }
}

impl Task {
    /// Reads the ledger for a database; `None` when its entry does not ask for it.
    async fn of(
        (cluster, params): (&Cluster, &EraseParams),
        about: &Surroundings,
        shipped: Option<&dyn crate::action::ReadStore>,
    ) -> Result<Option<Self>, ActionError> {
        let Some(settings) = &cluster.entry.erasure else { return Ok(None) };
        let content = ledger::read(about.erasures.as_ref(), shipped).await?;
        let keys = Keys::of(&settings.keys, about.secrets.as_ref())?;
        // What comes late is not known before the step starts; then every line is looked at.
        let as_of = params.as_of.as_ref().and_then(Late::known).map(|text| time(text)).transpose();
        let as_of = as_of.map_err(ActionError::fatal)?;
        // Named tables are those of one database.
        let own = (!params.tables.is_empty()).then_some(cluster.dbname.as_str());
        // Whose clock runs behind writes lines that look older than they are: they are carried out once more.
        let as_of = as_of.map(|as_of| clock::before(as_of, settings.clock_tolerance()));
        let scope =
            Scope { cluster, dbname: params.dbname.as_deref().or(own), is_of_some: !params.tables.is_empty(), as_of };
        let groups = gathered(&content, &scope, &keys)?;
        Ok(Some(Self { content, groups }))
    }

    /// The groups of each database within the server.
    fn by_database(&self) -> impl Iterator<Item = (&str, &[Group])> {
        self.groups
            .chunk_by(|one, other| one.dbname == other.dbname)
            .filter_map(|groups| groups.first().map(|first| (first.dbname.as_str(), groups)))
    }

    /// Refuses where prepared transactions may bring back whoever must be forgotten. What a restore put into named tables is
    /// committed, and in a side instance or a drill nobody commits anything.
    async fn refuse_prepared(
        &self,
        (cluster, params): (&Cluster, &EraseParams),
        secrets: &dyn Secrets,
    ) -> Result<(), ActionError> {
        if params.side.is_some() || cluster.is_scratch() || !params.tables.is_empty() {
            return Ok(());
        }
        for (dbname, groups) in self.by_database() {
            prepared::refuse(&mut Endpoint::of(cluster, Some(dbname), secrets)?.open().await?, groups).await?;
        }
        Ok(())
    }

    /// Adds how many rows there are now.
    async fn counted(
        &self,
        (cluster, params): (&Cluster, &EraseParams),
        cx: &CheckContext,
        mut findings: Findings,
    ) -> Result<Findings, ActionError> {
        self.refuse_prepared((cluster, params), cx.about.secrets.as_ref()).await?;
        for (dbname, groups) in self.by_database() {
            let mut session = Endpoint::of(cluster, Some(dbname), cx.about.secrets.as_ref())?.open().await?;
            let counted = work::count(&mut session, groups, &params.tables).await?;
            for line in counted.lines.iter().filter(|line| line.rows > 0) {
                findings = findings.pass(format!("{}, to be erased", line.told()));
            }
            for told in counted.lines.iter().filter_map(ErasedLine::told_back) {
                findings = findings.warn(told, BACK);
            }
            for told in counted.absent {
                findings = findings.warn(told, RENAMED);
            }
            for note in counted.notes {
                findings = findings.warn(note, "erasing follows the foreign key; change it where that is not wanted");
            }
        }
        Ok(findings)
    }

    fn told(&self, database: &str) -> String {
        let lines: usize = self.groups.iter().map(|group| group.lines().len()).sum();
        let (all, head) = (self.content.lines.len(), self.content.head.short());
        format!("{lines} of {all} lines of the erasure ledger, up to {head}, are about database `{database}`")
    }
}

/// What is said where an entry asks for nothing.
fn unasked(database: &str) -> String {
    format!("database `{database}` has no `erasure`: nothing is erased")
}

/// What to do about a table that is not there.
const RENAMED: &str = "if it had another name then, erase from that one by hand";

/// What to do about somebody who came back.
const BACK: &str =
    "`runbook backups erase-ledger lift` says for good that they came back; `add` once more has them forgotten";

/// Reads a time, which must say its offset.
fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("`{text}` is not a time with an offset, such as `2026-01-28T14:30:00Z`"))
}

/// An error on one line, with what caused it.
fn told(error: &ActionError) -> String {
    let info = error.info();
    std::iter::once(&info.message).chain(&info.causes).cloned().collect::<Vec<_>>().join(": ")
}

impl ErasedLine {
    fn told(&self) -> String {
        let Self { line, dbname, table, column, rows, kept, back: _ } = self;
        let what = if *kept { "rows without what identifies" } else { "rows" };
        format!("line {line}: {rows} {what} of `{dbname}`, table `{table}` by `{column}`")
    }

    /// Says what stayed.
    fn told_back(&self) -> Option<String> {
        let Self { line, dbname, table, column, back, .. } = self;
        (*back > 0).then(|| {
            format!(
                "line {line}: {back} rows of `{dbname}`, table `{table}` by `{column}` stay: the data is newer than the \
                 line, so they came back after they were forgotten"
            )
        })
    }
}
