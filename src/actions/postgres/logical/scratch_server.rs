//! An empty server for a drill: made with `initdb`, isolated like every side instance, thrown away at the end.

use std::path::Path;
use std::time::Duration;

use crate::action::{ActionError, Files, HostError, RunContext};
use crate::actions::postgres::cluster::layout::{Cluster, Ground};
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::scratch;
use crate::actions::postgres::cluster::server::{Programs, Server};
use crate::actions::postgres::cluster::side::Side;
use crate::actions::postgres::session::client;
use crate::actions::postgres::session::connect::Endpoint;
use crate::base::clock;
use crate::pgformat::ControlFile;

/// How long the new server may take until it answers.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// Makes and starts the server of a scratch database, unless it runs already. Registers it first.
///
/// # Errors
/// Fails when it cannot be made or does not answer, with its log.
pub(crate) async fn ensure(cluster: &Cluster, major: &str, cx: &RunContext) -> Result<(), ActionError> {
    let Ground::Scratch(root) = &cluster.ground else {
        return Err(ActionError::fatal(format!("`{}` is no scratch database", cluster.name)));
    };
    let (host, files) = (cx.host.as_ref(), cx.host.files());
    if !live::signs(cluster, files.as_ref()).await?.is_empty() {
        return answers(cluster, cx).await;
    }
    let owner = Owner::of(cluster, cx.host.as_read())?;
    let programs = Programs::of(cluster, major, cx.host.as_read())?;
    scratch::register(cluster, std::slice::from_ref(root), cx).await?;
    fresh(files.as_ref(), root, &owner).map_err(|error| unmade(&error))?;
    let mut spec = owner.command(programs.path("initdb"));
    spec = spec.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    spec = spec.args([format!("--username={}", cluster.user), format!("--pgdata={}", cluster.pgdata.display())]);
    spec.inherit_env = false;
    spec.dir = Some("/".into());
    client::run(host, spec.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C")).await?;
    let control = files.read(&cluster.pgdata.join(ControlFile::PATH), 1 << 16).map_err(|error| unmade(&error))?;
    let control = ControlFile::parse(&control)
        .map_err(|error| ActionError::fatal("the new `pg_control` cannot be read").because(&error))?;
    let side = Side::of(cluster, &control)?;
    if let Some(side) = &side {
        side.write(files.as_ref(), &owner).map_err(|error| unmade(&error))?;
    }
    let options = side.map_or_else(Vec::new, |side| side.options());
    Server { cluster, owner, programs, options }.start(host).await?;
    answers(cluster, cx).await
}

async fn answers(cluster: &Cluster, cx: &RunContext) -> Result<(), ActionError> {
    let endpoint = Endpoint::of(cluster, Some("postgres"), cx.about.secrets.as_ref())?;
    let started = clock::monotonic();
    loop {
        match endpoint.open().await {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > UP_WITHIN => return Err(error),
            Err(_) => tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                () = cx.cancel.cancelled() => return Err(ActionError::cancelled("cancelled while the server started")),
            },
        }
    }
}

/// Makes the folder anew: what an earlier attempt left of a server that does not run is half a cluster.
fn fresh(files: &dyn Files, root: &Path, owner: &Owner) -> Result<(), HostError> {
    if files.facts(root)?.is_some() {
        files.remove_tree(root)?;
    }
    owner.make_folder(files, root)
}

fn unmade(error: &HostError) -> ActionError {
    ActionError::retryable("the throw-away server cannot be made").because(error)
}
