//! `postgres.dump`: logical backups of one or more databases, each with its facts, state and globals, its manifest last.
//!
//! `pg_dump` writes into a pipe ([`crate::actions::postgres::session::named_pipe`]) and from there into every store at once ([`crate::actions::postgres::backup::fan_out`]); only the
//! format `directory` lies on disk before. A session of ours holds the snapshot and counts while the dump flows. What
//! the dump of one database leaves out is saved beside it: the state of the database ([`crate::actions::postgres::session::dbstate`]), and the
//! roles and tablespaces of the server. Start with [`job`].

mod by_hand;
mod folder;
pub(crate) mod job;
mod params;
mod pattern;
mod program;
pub(crate) mod proof;
mod several;
mod shipment;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::job::Job;
pub use self::params::{AllDatabases, Compressor, DatabaseNames, DumpParams, Globals};
use self::pattern::Choice;
use self::several::Yield;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, EffectClass, Effects, Example, Findings,
    Idempotency, Interrupted, ParamFault, PlanContext, Recovery, RunContext, Surroundings, Target,
};
use crate::actions::postgres::backup::copies::Copies;
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::client::Client;
use crate::actions::postgres::session::connect::{Endpoint, Session};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::session::origin::Origin;
use crate::actions::postgres::session::sessions::Door;
use crate::base::Timestamp;
use crate::base::units::ByteSize;
use crate::catalog::{Backup, DumpFormat};
use crate::pgformat::Major;

/// Dumps databases.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dump;

/// The outputs of `postgres.dump`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DumpOutput {
    /// The backup; of several databases, that of the first.
    pub backup: BackupHandle,
    /// Each database with its backup.
    pub dumps: Vec<DumpedDatabase>,
    /// The bytes of all objects as they are stored, in one store.
    pub size_bytes: u64,
    /// When the last one ended, by the server's clock.
    #[schemars(with = "String")]
    pub ended_at: Timestamp,
}

/// One database's dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DumpedDatabase {
    /// The database within the server.
    pub dbname: String,
    /// The backup.
    pub backup: BackupHandle,
    /// The moment it shows, by the server's clock.
    #[schemars(with = "String")]
    pub taken_at: Timestamp,
    /// The bytes of the dump before it was packed.
    pub plain_size_bytes: u64,
    /// The bytes of its objects as they are stored.
    pub size_bytes: u64,
    /// The tables whose rows were counted.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// The backup in every store that has it. A store that an attempt did not reach, and into which no key here can bring
    /// the same dump, has one of another moment, under an id of its own.
    pub copies: Vec<BackupHandle>,
}

impl Action for Dump {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.dump",
        summary: "Dumps PostgreSQL databases into their stores, listed, counted, with roles and database settings.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "The database, in one stream", with: "{ database: orders, tier: daily }" },
            Example {
                title: "Every database of the server, with a hash over the rows of each table",
                with: "{ database: orders, dbnames: all, facts: hashes }",
            },
            Example {
                title: "Every database but one",
                with: "{ database: orders, dbnames: all, exclude_dbnames: [playground] }",
            },
            Example {
                title: "In parallel, without the rows of a log",
                with: "{ database: orders, dbnames: [shop], format: directory, jobs: 4, exclude_table_data: [audit.log] }",
            },
        ],
    };
    type Params = DumpParams;
    type Output = DumpOutput;

    fn effects(&self, params: &DumpParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.archive().map_err(|error| fault(&error))?;
        let copies = copies(params, &cluster);
        let copies = copies.map_err(|error| vec![ParamFault::new("/stores", error.to_string())])?;
        let faults = params.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let from = Target::Database { name: cluster.name.clone() };
        let mut effects = Effects::of(EffectClass::Write).target(Access::Read, from);
        for name in &copies.names {
            let target = Target::Store { name: (*name).to_owned(), prefix: copies.prefix.to_owned() };
            effects = effects.target(Access::Write, target);
        }
        Ok(effects.hold(cluster.name.clone()))
    }

    fn by_hand(&self, params: &DumpParams, cx: &PlanContext<'_>) -> Vec<String> {
        by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &DumpParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let mut findings = Findings::default();
        let own = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let copies = copies(params, &own)?;
        (_, findings) = copies.usable(cx, findings).await;
        // A dump holds nothing of that folder: what is taken now can still be moved out of there.
        if let Some(fact) = enclosed::store(&own, &cx.about.inventory, cx.host.read_files().as_ref()) {
            findings = findings.warn(fact.what, fact.help);
        }
        let late = params.instance.as_ref().is_some_and(|instance| instance.known().is_none());
        if late || cx.ahead && own.is_scratch() {
            return Ok(findings.pending("the instance does not run yet"));
        }
        let cluster = serving(params, &cx.about)?;
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let origin = Origin::of(&mut session).await?;
        let client = Client::dumping(&cluster, &origin, (cx.host.as_ref(), cx.about.secrets.as_ref())).await?;
        if let Some((fact, help)) = unfolded(params, &client) {
            return Ok(findings.refuse(fact, help));
        }
        findings = programs(&client, &origin, cx, findings).await?;
        if !origin.superuser {
            let fact = format!("`{}` is no superuser: roles are saved without their passwords", cluster.user);
            findings = findings.warn(fact, "let a superuser take the dump, or keep the passwords elsewhere");
        }
        findings = several::excluded(params, &mut session, findings).await?;
        let mut size = 0;
        let mut each = Vec::new();
        let names = several::dbnames(params, &cluster, &mut session).await?;
        if names.is_empty() {
            return Ok(findings.refuse("no database is left to dump", "correct `exclude_dbnames`"));
        }
        for (dbname, door) in names {
            let looked = match door {
                Door::Shut => {
                    let (fact, help) = several::shut(&dbname);
                    Ok(Findings::default().refuse(fact, help))
                }
                Door::Open => looked_at(params, (&cluster, &dbname), cx).await.map(|found| {
                    size = size.max(found.size_bytes);
                    findings.0.extend(found.patterns.0);
                    found.whole
                }),
            };
            each.push((dbname, looked));
        }
        findings.0.extend(several::judged(each)?.0);
        space(params, size, cx, findings)
    }

    async fn run(&self, params: &DumpParams, cx: &RunContext) -> Result<DumpOutput, ActionError> {
        let cluster = serving(params, &cx.about)?;
        let copies = copies(params, &cluster)?;
        let secrets = cx.about.secrets.as_ref();
        let mut session = MaintenanceDb::own(&cluster, secrets)?.open().await?;
        let origin = Origin::of(&mut session).await?;
        let names = several::dbnames(params, &cluster, &mut session).await?;
        drop(session);
        let client = Client::dumping(&cluster, &origin, (cx.host.as_read(), secrets)).await?;
        if let Some((fact, help)) = unfolded(params, &client) {
            return Err(ActionError::fatal(fact).help(help));
        }
        let program_version = client.version("pg_dump", cx.host.as_read()).await?;
        let (cluster, copies, client) = (&cluster, &copies, &client);
        let job = Job { cluster, params, copies, client, origin: &origin, program_version: &program_version, cx };
        let mut found = Yield::default();
        for (dbname, door) in names {
            let dump = match door {
                Door::Shut => {
                    let (fact, help) = several::shut(&dbname);
                    Err(ActionError::fatal(fact).help(help))
                }
                Door::Open => job.database(&dbname).await,
            };
            found.add(dbname, dump)?;
        }
        let mut dumps = Vec::new();
        let mut ended_at = None;
        for (dbname, backups) in found.whole()? {
            ended_at = backups.first().map(|backup| backup.manifest.stopped_at).or(ended_at);
            dumps.extend(dumped(dbname, &backups));
        }
        let first = dumps.first().zip(ended_at);
        let (first, ended_at) = first.ok_or_else(|| ActionError::fatal("no store has a dump"))?;
        let size_bytes = dumps.iter().map(|dump| dump.size_bytes).sum();
        Ok(DumpOutput { backup: first.backup.clone(), size_bytes, ended_at, dumps })
    }

    async fn recover(
        &self,
        _: &DumpParams,
        _: &Interrupted,
        _: &CheckContext,
    ) -> Result<Recovery<DumpOutput>, ActionError> {
        Ok(Recovery::Rerun)
    }
}

fn copies<'a>(params: &'a DumpParams, cluster: &'a Cluster) -> Result<Copies<'a>, ActionError> {
    Copies::named((params.stores.as_deref(), params.at_least), cluster)
}

/// The server that is dumped.
fn serving(params: &DumpParams, about: &Surroundings) -> Result<Cluster, ActionError> {
    let cluster = Cluster::of(&params.database, &about.inventory, &about.scratch)?;
    match &params.instance {
        Some(instance) => cluster.serving(instance.get()?, &about.scratch),
        None => Ok(cluster),
    }
}

fn dumped(dbname: String, backups: &[Backup]) -> Option<DumpedDatabase> {
    let backup = backups.first()?;
    let manifest = &backup.manifest;
    let facts = manifest.facts.iter().flat_map(|facts| facts.databases.values());
    let tables: Vec<_> = facts.flat_map(|facts| facts.tables.values()).collect();
    Some(DumpedDatabase {
        dbname,
        backup: backup.handle(),
        taken_at: manifest.started_at,
        plain_size_bytes: manifest.objects.first().map_or(0, |object| object.plain_facts().size_bytes),
        size_bytes: manifest.size_bytes(),
        tables: tables.len() as u64,
        rows: tables.iter().map(|table| table.rows).sum(),
        copies: backups.iter().map(Backup::handle).collect(),
    })
}

/// Says why a container's own programs cannot dump in the format that is wanted.
fn unfolded(params: &DumpParams, client: &Client<'_>) -> Option<(&'static str, &'static str)> {
    let refused = params.format == DumpFormat::Directory && !client.is_here();
    refused.then_some((
        "this machine has no `pg_dump` of the server's version, and its container's cannot write into a folder here",
        "use another `format`, or install the client package of the server's version",
    ))
}

/// Refuses programs that cannot read the server: they must be at least as new.
async fn programs(
    client: &Client<'_>,
    origin: &Origin,
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let mut findings = findings;
    for program in ["pg_dump", "pg_restore", "pg_dumpall"] {
        let version = client.version(program, cx.host.as_ref()).await?;
        if Major::of_text(&version).is_none_or(|major| major < origin.major) {
            let fact = format!("`{program}` is of version {version}, older than the server's {}", origin.version);
            findings = findings.refuse(fact, "install the client package of the server's version, or set `bin`");
        }
    }
    Ok(findings)
}

/// What was found of a database before its dump.
struct LookedAt {
    size_bytes: u64,
    /// Whether it can be dumped whole.
    whole: Findings,
    /// Whether the arguments' patterns choose something of it.
    patterns: Findings,
}

async fn looked_at(
    params: &DumpParams,
    (cluster, dbname): (&Cluster, &str),
    cx: &CheckContext,
) -> Result<LookedAt, ActionError> {
    let mut session = Endpoint::of(cluster, Some(dbname), cx.about.secrets.as_ref())?.open().await?;
    let size = session.value("SELECT pg_database_size(current_database())").await?;
    let whole = readable(params, dbname, &mut session, Findings::default()).await?;
    let patterns = chosen(params, dbname, &mut session, Findings::default()).await?;
    Ok(LookedAt { size_bytes: size.parse().unwrap_or_default(), whole, patterns })
}

/// Refuses a database that the role may not read whole: `pg_dump` would fail in the middle.
async fn readable(
    params: &DumpParams,
    dbname: &str,
    session: &mut Session,
    findings: Findings,
) -> Result<Findings, ActionError> {
    const CLOSED: &str = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
        AND NOT has_table_privilege(c.oid, 'SELECT') LIMIT 3";
    let closed: Vec<String> = session.query(CLOSED).await?.rows.into_iter().flatten().flatten().collect();
    if closed.is_empty() || params.is_partial() {
        return Ok(findings.pass(format!("database `{dbname}` can be dumped")));
    }
    let fact = format!("the role may not read `{}` of database `{dbname}`", closed.join("`, `"));
    Ok(findings.refuse(fact, "GRANT pg_read_all_data TO the role, or exclude them"))
}

/// Refuses patterns that choose nothing, and warns of those that exclude nothing: `pg_dump` never looks at the latter.
async fn chosen(
    params: &DumpParams,
    dbname: &str,
    session: &mut Session,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let mut findings = findings;
    for (choice, patterns) in [(Choice::Schemas, &params.schemas), (Choice::Tables, &params.tables)] {
        for pattern in patterns {
            if !pattern::fits(session, choice, pattern).await? {
                let fact = format!("`{pattern}` fits nothing in database `{dbname}`");
                findings =
                    findings.refuse(fact, "correct the pattern; one without a schema is looked for on the search path");
            }
        }
    }
    let excluding = [
        (Choice::Schemas, &params.exclude_schemas),
        (Choice::Tables, &params.exclude_tables),
        (Choice::Tables, &params.exclude_table_data),
    ];
    for (choice, patterns) in excluding {
        for pattern in patterns {
            if !pattern::fits(session, choice, pattern).await? {
                let fact = format!("`{pattern}` excludes nothing in database `{dbname}`, so what it means is dumped");
                findings = findings.warn(fact, "correct the pattern, or leave it out");
            }
        }
    }
    Ok(findings)
}

/// Refuses a scratch folder that a dump in the format `directory` may not fit into.
fn space(params: &DumpParams, size: u64, cx: &CheckContext, findings: Findings) -> Result<Findings, ActionError> {
    if params.format != DumpFormat::Directory {
        return Ok(findings);
    }
    let space = cx.host.read_files().space(&cx.about.scratch);
    let space = space.map_err(|error| ActionError::fatal("the scratch folder cannot be looked at").because(&error))?;
    if space.free_bytes >= size {
        return Ok(findings);
    }
    let fact = format!(
        "the scratch folder has {} free, the largest database has {}",
        ByteSize(space.free_bytes),
        ByteSize(size)
    );
    Ok(findings.refuse(fact, "free some space, or use the format `custom`, which needs none"))
}

#[cfg(test)]
mod tests {
    use super::DumpParams;

    fn faults(with: &str) -> String {
        let params: DumpParams = serde_json::from_str(with).expect("params");
        params.faults().iter().map(|fault| format!("{} ", fault.path)).collect()
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused_all_at_once() {
        assert_eq!(
            faults(r#"{ "database": "d", "jobs": 2, "format": "plain", "compression": "program" }"#),
            "/jobs /compression "
        );
        assert_eq!(faults(r#"{ "database": "d", "exclude_dbnames": ["a"] }"#), "/exclude_dbnames ");
        assert_eq!(faults(r#"{ "database": "d", "dbnames": "all", "exclude_dbnames": [] }"#), "");
        assert_eq!(faults(r#"{ "database": "d", "dbnames": ["a", "a", ""] }"#), "/dbnames/1 /dbnames/2 ");
        assert_eq!(faults(r#"{ "database": "d", "dbnames": "all", "format": "directory", "jobs": 4 }"#), "");
    }
}
