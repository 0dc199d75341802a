//! Changes settings with `ALTER SYSTEM`, and starts the server again where that was allowed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::change::{self, SettingChange};
use crate::action::{ActionError, HostError, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::cluster::server::{Server, with_programs};
use crate::actions::postgres::cluster::{ha_manager, live, settings};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::session::startup;
use crate::base::units::human_duration;
use crate::base::{Timestamp, clock};
use crate::event::Progress;

/// How long a reload may take to count.
const RELOADED_WITHIN: Duration = Duration::from_secs(30);
/// How long a server that was started again may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_millis(100);

/// What `ALTER SYSTEM` had set before, by name; `None` where it had set nothing.
pub(super) type Before = BTreeMap<String, Option<String>>;

/// What `ALTER SYSTEM` had set before the first attempt of this step: written down, durably, before anything changes,
/// so that an attempt after a crash can still tell what is to be put back.
///
/// # Errors
/// Fails when it cannot be written or read again, and as the server does.
pub(super) async fn noted(
    session: &mut Session,
    changes: &[SettingChange],
    cx: &RunContext,
) -> Result<Before, ActionError> {
    let unkept = |error: HostError| {
        ActionError::retryable("what is set now cannot be noted; no setting was changed").because(&error)
    };
    let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    let there = change::read(session, &names).await?;
    let altered = |name: &&str| ((*name).to_owned(), there.get(*name).and_then(|current| current.altered.clone()));
    let mut before: Before = names.iter().map(altered).collect();
    let (files, scratch, path) = (cx.host.files(), &cx.about.scratch, notes(cx));
    if files.facts(&path).map_err(unkept)?.is_some() {
        let earlier: Before = serde_json::from_slice(&files.read(&path, 1 << 20).map_err(unkept)?)
            .map_err(|error| ActionError::fatal(format!("`{}` makes no sense", path.display())).because(&error))?;
        before.extend(earlier);
    }
    let text = serde_json::to_vec(&before)
        .map_err(|error| ActionError::fatal("what is set now cannot be noted").because(&error))?;
    if files.facts(scratch).map_err(unkept)?.is_none() {
        files.create_dir(scratch, 0o755).map_err(unkept)?;
    }
    files.replace(&path, &text, 0o600).map_err(unkept)?;
    if !changes.is_empty() {
        let told = |(name, value): (&String, &Option<String>)| match value {
            Some(value) => format!("`{name}` = `{value}`"),
            None => format!("`{name}` not"),
        };
        let told: Vec<String> = before.iter().map(told).collect();
        let message = format!("set by ALTER SYSTEM before: {}", told.join(", "));
        cx.reporter.note(message, serde_json::json!({ "before": before }));
    }
    Ok(before)
}

/// Where an attempt of this step notes what was set before, before it changes anything.
fn notes(cx: &RunContext) -> PathBuf {
    cx.about.scratch.join(format!("archiving-{}.json", cx.step.to_string().replace('/', ".")))
}

/// Changes settings, all or none of them; then has the server read them.
///
/// # Errors
/// Fails when the server refuses one; those before it are put back then.
pub(super) async fn alter(session: &mut Session, changes: &[SettingChange]) -> Result<(), ActionError> {
    let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    let there = change::read(session, &names).await?;
    if changes.is_empty() {
        return Ok(());
    }
    let altered = |name: &str| there.get(name).and_then(|current| current.altered.clone());
    let mut before = Before::new();
    for change in changes {
        let unit = there.get(&change.name).map(|current| current.unit.clone()).unwrap_or_default();
        let value = if unit.is_empty() { change.to.clone() } else { format!("{}{unit}", change.to) };
        if let Err(error) = session.query(&statement(&change.name, Some(&value))).await {
            let back = put_back(session, &before).await;
            let error = ActionError::fatal(format!("the server refuses `{}`", change.name)).because(&error);
            return Err(match back {
                Ok(()) => error.help("nothing was changed"),
                Err(_) => error.help("some settings stay changed in `postgresql.auto.conf`: look at it"),
            });
        }
        before.insert(change.name.clone(), altered(&change.name));
    }
    reload(session).await
}

/// Sets each to what it was, and has the server read it.
///
/// # Errors
/// Fails as the server does.
pub(super) async fn put_back(session: &mut Session, before: &Before) -> Result<(), ActionError> {
    for (name, value) in before {
        session.query(&statement(name, value.as_deref())).await?;
    }
    reload(session).await
}

/// Has the server read its configuration, and waits until this session has read it too: what a setting is, and whether
/// it waits for a restart, is known only then.
async fn reload(session: &mut Session) -> Result<(), ActionError> {
    let read = "SELECT pg_conf_load_time()";
    let before = session.value(read).await?;
    session.query("SELECT pg_reload_conf()").await?;
    let started = clock::monotonic();
    while session.value(read).await? == before {
        if started.elapsed() > RELOADED_WITHIN {
            return Err(ActionError::retryable("the server does not read its configuration again"));
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

fn statement(name: &str, value: Option<&str>) -> String {
    // A name of a setting is never quoted by a user here: both come from the server or from this program.
    let name = format!("\"{}\"", name.replace('"', "\"\""));
    match value {
        Some(value) => format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''")),
        None => format!("ALTER SYSTEM RESET {name}"),
    }
}

/// Waits until what needs no restart counts.
///
/// # Errors
/// Fails when something does not count in time; it is named.
pub(super) async fn until_read(session: &mut Session, changes: &[SettingChange]) -> Result<(), ActionError> {
    let wanted: Vec<&SettingChange> = changes.iter().filter(|change| !change.restart).collect();
    let names: Vec<&str> = wanted.iter().map(|change| change.name.as_str()).collect();
    let started = clock::monotonic();
    while !names.is_empty() {
        let there = change::read(session, &names).await?;
        let differs =
            |change: &&&SettingChange| there.get(&change.name).is_none_or(|current| !same(&current.value, &change.to));
        let Some(late) = wanted.iter().find(differs) else { break };
        if started.elapsed() > RELOADED_WITHIN {
            let fact = format!("`{}` was changed, but the server does not use the new value", late.name);
            return Err(ActionError::fatal(fact).help("look at `pg_file_settings`: another line may stand above it"));
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

fn same(one: &str, other: &str) -> bool {
    one == other || one.parse::<f64>().ok().zip(other.parse::<f64>().ok()).is_some_and(|(one, other)| one == other)
}

/// A restart: when it was made, and how long nobody was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Down {
    /// When the server was told to stop.
    pub(super) since: Timestamp,
    /// How long it did not answer.
    pub(super) took: Duration,
}

/// Stops and starts the server, opens a session when it answers, and says how long it was down.
///
/// # Errors
/// Fails when it cannot be started again, before it is stopped; when it does not stop, or does not answer in time.
pub(super) async fn restart(cluster: &Cluster, cx: &RunContext) -> Result<(Session, Down), ActionError> {
    let server = Server::of(cluster, cx.host.as_read())?;
    server.verify(cx.host.as_read()).await?;
    cx.reporter.progress(Progress::Doing { text: "restarting the server".to_owned() });
    let (since, started) = (clock::now(), clock::monotonic());
    server.stop(cx.host.as_ref()).await?;
    let session = start(&server, cx).await?;
    Ok((session, noted_down(cluster, Down { since, took: started.elapsed() }, cx)))
}

/// Starts a server that is down, and opens a session when it answers.
async fn start(server: &Server<'_>, cx: &RunContext) -> Result<Session, ActionError> {
    server.start(cx.host.as_ref()).await?;
    server.tell_log(cx);
    startup::answers(server, ANSWERS_WITHIN, cx).await?;
    MaintenanceDb::own(server.cluster, cx.about.secrets.as_ref())?.open().await
}

/// Restarts the server. One that does not come up with its new settings gets the old ones back, and is started with them.
///
/// # Errors
/// Fails as [`restart`], and says whether the server runs.
pub(super) async fn restart_or_revert(
    cluster: &Cluster,
    before: &Before,
    cx: &RunContext,
) -> Result<(Session, Down), ActionError> {
    let error = match restart(cluster, cx).await {
        Ok(up) => return Ok(up),
        Err(error) => error,
    };
    let is_alive = !live::signs(cluster, cx.host.read_files().as_ref()).await.is_ok_and(|signs| signs.is_empty());
    if is_alive || cx.cancel.is_cancelled() {
        return Err(error);
    }
    let back = async {
        put_back_into_file(cluster, before, cx)?;
        start(&Server::of(cluster, cx.host.as_read())?, cx).await
    };
    let by_hand = cluster.service_manager().start_by_hand(&with_programs(cluster, cx.host.read_files().as_ref()));
    Err(match back.await {
        Ok(_) => {
            let fact =
                "the server did not come up with the new settings; it got the old ones back, and runs again with them";
            let tail = error.info().output_tail.clone();
            ActionError::fatal(fact)
                .because(&error)
                .process(error.info().exit_code, tail)
                .help("its last words say why")
        }
        Err(second) => {
            let fact = format!(
                "the server is DOWN: it did not come up with the new settings, nor with the old ones: {}",
                second.in_full()
            );
            let tail = second.info().output_tail.clone();
            let help = format!("its last words say why; start it once that is mended: {by_hand}");
            ActionError::fatal(fact).because(&error).process(second.info().exit_code, tail).help(help)
        }
    })
}

/// Sets each to what it was in the file of a server that is down.
///
/// # Errors
/// Fails when the file cannot be read or written.
pub(super) fn put_back_into_file(cluster: &Cluster, before: &Before, cx: &RunContext) -> Result<(), ActionError> {
    let (files, auto) = (cx.host.files(), cluster.pgdata.join(settings::FILE));
    let there = settings::restored(files.as_ref(), &cluster.pgdata)?;
    let text = before.iter().fold(there.clone(), |text, (name, value)| settings::put(&text, name, value.as_deref()));
    if text == there {
        return Ok(());
    }
    let text = settings::bytes_of(&text);
    match files.facts(&auto).map_err(|error| cannot(&error))? {
        Some(facts) => files.replace_for(&auto, &text, 0o600, (facts.uid, facts.gid)),
        None => files.replace(&auto, &text, 0o600),
    }
    .map_err(|error| cannot(&error))
}

/// Starts a server that an earlier attempt of this step has stopped, and died before it was up again.
///
/// # Errors
/// Fails when it does not come up.
pub(super) async fn started_again(cluster: &Cluster, cx: &RunContext) -> Result<(), ActionError> {
    let files = cx.host.read_files();
    let is_ours = files.facts(&notes(cx)).is_ok_and(|facts| facts.is_some());
    if !is_ours || !live::signs(cluster, files.as_ref()).await?.is_empty() {
        return Ok(());
    }
    ha_manager::refuse(cluster, cx.host.as_read()).await?;
    let message = format!(
        "the server of `{}` is down, and an earlier attempt of this step may have stopped it: it is started",
        cluster.name
    );
    cx.reporter.note(message, serde_json::Value::Null);
    let server = Server::of(cluster, cx.host.as_read())?;
    server.verify(cx.host.as_read()).await?;
    start(&server, cx).await.map(drop)
}

/// Says it in the journal, and so in the closing lines of the run: people lost their sessions.
fn noted_down(cluster: &Cluster, down: Down, cx: &RunContext) -> Down {
    let Down { since, took } = down;
    let message = format!(
        "the server of `{}` was restarted at {}: every session ended, and nobody was answered for {}",
        cluster.name,
        since.strftime("%FT%TZ"),
        human_duration(took)
    );
    cx.reporter.note(message, serde_json::json!({ "restarted_at": since, "down_ms": millis(took) }));
    down
}

/// A duration in whole milliseconds.
pub(super) fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
