//! `postgres.promote`: opens a standby, or a recovery that is paused, for writing. It is final.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, ParamFault, PlanContext, ReadFiles, ReadHost, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::ha_manager::{self, Fact};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::units::{ByteSize, Span};
use crate::base::{Timestamp, clock};
use crate::event::Progress;

/// How long a promotion may take where nobody says otherwise.
const WITHIN: Duration = Duration::from_secs(300);

/// What every plan says of a promotion: the manual of `pg_rewind` tells the only way back.
const FINAL: &str = "the promotion is final and has no undo: the other server becomes a standby of this one by `pg_rewind` \
                     or from a new base backup";

/// Promotes a standby.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promote;

/// The arguments of `postgres.promote`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteParams {
    /// The database of the inventory: the standby's entry.
    pub database: DatabaseRef,
    /// How much received WAL may be left to replay; more is refused. Default: no limit, all of it is replayed first.
    #[serde(default)]
    pub max_lag: Option<ByteSize>,
    /// How long it may take. Default `5m`.
    #[serde(default)]
    pub within: Option<Span>,
}

/// The outputs of `postgres.promote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromoteOutput {
    /// Whether it was promoted; `false` when it was open already.
    pub promoted: bool,
    /// The timeline that it writes.
    pub timeline: u32,
    /// Where it stands.
    pub lsn: String,
    /// The newest commit that it had replayed, by the primary's clock; null when it was open already or saw none.
    #[schemars(with = "Option<String>")]
    pub newest_commit_at: Option<Timestamp>,
}

const STATE: &str = "SELECT pg_is_in_recovery(), pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), \
 to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
 (SELECT status FROM pg_stat_wal_receiver LIMIT 1), \
 has_function_privilege('pg_catalog.pg_promote(boolean, integer)', 'EXECUTE')";

const OPEN: &str =
    "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint, pg_current_wal_lsn()";

impl Action for Promote {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.promote",
        summary: "Promotes a standby or a paused recovery to a server that takes writes; it cannot be taken back.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "The standby takes over", with: "{ database: orders }" },
            Example { title: "Only if it has nearly all", with: "{ database: orders, max_lag: 16MiB, within: 2m }" },
        ],
    };
    type Params = PromoteParams;
    type Output = PromoteOutput;

    fn effects(&self, params: &PromoteParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        cluster.within_reach(Wish::Power)?;
        Ok(Effects::of(EffectClass::Write).target(Access::Write, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &PromoteParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let seconds = params.within.map_or(WITHIN, |span| span.0).as_secs();
        let mut lines = vec![crate::action::by_hand::remark(
            "make sure that the old primary is stopped and stays so: two that take writes cannot be joined again",
        )];
        let promote = format!("SELECT pg_promote(true, {seconds})");
        lines.push(crate::action::by_hand::remark(FINAL));
        lines.extend([promote.as_str(), OPEN].map(|statement| by_hand::sql(&cluster, &cluster.dbname, statement)));
        lines
    }

    async fn check(&self, params: &PromoteParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = Findings::default();
        if cx.ahead && cluster.is_scratch() {
            return Ok(findings.pending("the server is asked when the step starts"));
        }
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let seen = Seen::of(&mut session).await?;
        if !seen.in_recovery {
            return Ok(findings.pass("the server is open already: nothing would be done"));
        }
        if let Some((fact, help)) = under_way(cx.host.read_files().as_ref(), &cluster)? {
            return Ok(findings.refuse(fact, help));
        }
        if let Some(fact) = looked_after(&cluster, cx.host.as_ref()).await? {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        let findings = findings.pass(FINAL);
        Ok(match seen.refusal(params) {
            Some((fact, help)) => findings.refuse(fact, help),
            None if seen.streams => findings.warn(
                "the standby still receives WAL: its primary runs",
                "stop the primary first and keep it stopped; what it commits after the promotion is lost",
            ),
            None => findings.pass(format!("the standby has replayed up to {}", seen.shown())),
        })
    }

    async fn run(&self, params: &PromoteParams, cx: &RunContext) -> Result<PromoteOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let seen = Seen::of(&mut session).await?;
        if !seen.in_recovery {
            return open(&mut session).await;
        }
        if let Some((fact, help)) = under_way(cx.host.read_files().as_ref(), &cluster)? {
            return Err(ActionError::fatal(fact).help(help));
        }
        if let Some(fact) = looked_after(&cluster, cx.host.as_read()).await? {
            return Err(ActionError::fatal(fact.what).help(fact.help));
        }
        if let Some((fact, help)) = seen.refusal(params) {
            return Err(ActionError::fatal(fact).help(help));
        }
        session.query("SELECT pg_promote(false)").await?;
        let within = params.within.map_or(WITHIN, |span| span.0);
        let begun = clock::monotonic();
        while session.value("SELECT pg_is_in_recovery()").await? == "t" {
            if begun.elapsed() > within {
                let fact = format!("the server was told to promote and is in recovery after {}", Span(within));
                return Err(ActionError::retryable(fact).help("it goes on; look at its log, and run the step again"));
            }
            cx.reporter.progress(Progress::Doing { text: "waiting until the server is open".to_owned() });
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
                () = cx.cancel.cancelled() => {
                    return Err(ActionError::cancelled("cancelled while the server was promoted; a promotion cannot be stopped"));
                }
            }
        }
        // Until its first checkpoint a promoted server would recover from before the promotion (facts 2.4).
        session.query("CHECKPOINT").await?;
        let output =
            PromoteOutput { promoted: true, newest_commit_at: seen.newest_commit_at, ..open(&mut session).await? };
        let message = format!("the server writes timeline {} from {} on", output.timeline, output.lsn);
        cx.reporter.note(message, serde_json::json!({ "timeline": output.timeline, "lsn": output.lsn }));
        Ok(output)
    }
}

/// Says which recovery the server belongs to: only that one removes its settings and proves its archive.
fn under_way(files: &dyn ReadFiles, cluster: &Cluster) -> Result<Option<(String, &'static str)>, ActionError> {
    let marker = Marker::read(files, &cluster.pgdata)?.filter(|marker| !marker.has_opened());
    let fact = |marker: Marker| format!("the server is in the middle of the recovery of run `{}`", marker.run);
    Ok(marker
        .map(|marker| (fact(marker), "let that recovery open it: `postgres.recover`, which also proves its archive")))
}

/// Says what looks after the standby: it would promote another one beside it, or make this one a standby again (facts 2.10.21).
async fn looked_after(cluster: &Cluster, host: &dyn ReadHost) -> Result<Option<Fact>, ActionError> {
    let fact = ha_manager::in_charge(cluster, host).await?;
    Ok(fact.map(|fact| Fact { help: format!("let it do the promotion by its own means; or {}", fact.help), ..fact }))
}

/// What a standby says of itself.
struct Seen {
    in_recovery: bool,
    received: Option<crate::pgformat::Lsn>,
    replayed: Option<crate::pgformat::Lsn>,
    newest_commit_at: Option<Timestamp>,
    streams: bool,
    may: bool,
}

impl Seen {
    async fn of(session: &mut Session) -> Result<Self, ActionError> {
        let table = session.query(STATE).await?;
        Ok(Self {
            in_recovery: table.at(0, 0) == Some("t"),
            received: table.at(0, 1).and_then(|text| text.parse().ok()),
            replayed: table.at(0, 2).and_then(|text| text.parse().ok()),
            newest_commit_at: table.at(0, 3).and_then(|text| text.parse().ok()),
            streams: table.at(0, 4) == Some("streaming"),
            may: table.at(0, 5) == Some("t"),
        })
    }

    fn refusal(&self, params: &PromoteParams) -> Option<(String, &'static str)> {
        if !self.may {
            return Some((
                "the role may not promote".to_owned(),
                "GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO it",
            ));
        }
        let (received, replayed) = (self.received?, self.replayed?);
        let lag = if received > replayed { received.bytes_since(replayed) } else { 0 };
        let fact = format!("{lag} bytes of received WAL are not replayed yet");
        params.max_lag.filter(|most| lag > most.0).map(|_| (fact, "wait until it has caught up, or raise `max_lag`"))
    }

    fn shown(&self) -> String {
        self.replayed.map_or_else(|| "nothing".to_owned(), |lsn| lsn.to_string())
    }
}

/// Describes the open server.
async fn open(session: &mut Session) -> Result<PromoteOutput, ActionError> {
    let table = session.query(OPEN).await?;
    let strange = || ActionError::fatal("the server's answer makes no sense");
    let timeline = table.at(0, 0).and_then(|text| text.parse().ok()).ok_or_else(strange)?;
    let lsn = table.at(0, 1).ok_or_else(strange)?.to_owned();
    Ok(PromoteOutput { promoted: false, timeline, lsn, newest_commit_at: None })
}
