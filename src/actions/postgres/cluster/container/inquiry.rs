//! What docker is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::layout::Cluster;
use super::super::program::failed;
use super::facts::{Container, Inspected};
use super::project::{MAKE, Project};
use crate::action::{ActionError, CommandOutput, CommandSpec, ReadFiles, ReadHost};
use crate::language::inventory::Compose;

/// How long docker may take to answer.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(120);

/// Finds the data directory of a server whose inventory leaves it to its container.
///
/// # Errors
/// Fails when docker does not answer, and when the container is not there or names no folder of this machine.
pub(crate) async fn data_of(compose: &Compose, host: &dyn ReadHost) -> Result<PathBuf, ActionError> {
    let (service, unsaid) = (&compose.service, "write `pgdata` into the database's entry");
    let Some(container) = inspected(compose, host).await? else {
        let help = format!("make it: `{}`; or {unsaid}", Project(compose).by_hand(&MAKE));
        return Err(
            ActionError::fatal(format!("service `{service}` has no container, which would tell `pgdata`")).help(help)
        );
    };
    container.data().ok_or_else(|| {
        let fact = format!("the container of service `{service}` names no data directory that lies in a volume");
        ActionError::fatal(fact).help(unsaid)
    })
}

/// What docker tells of the service's one container; `None` when it is not there.
pub(super) async fn inspected(compose: &Compose, host: &dyn ReadHost) -> Result<Option<Container>, ActionError> {
    let mut found = Vec::new();
    for id in listed(compose, host).await? {
        found.extend(told(&id, host).await?);
    }
    let first = found.pop();
    match found.is_empty() {
        true => Ok(first),
        false => Err(ActionError::fatal(format!("service `{}` has several containers", compose.service))
            .help("a server's data belongs to one: scale the service to 1")),
    }
}

/// The numbers of the service's containers.
async fn listed(compose: &Compose, host: &dyn ReadHost) -> Result<Vec<String>, ActionError> {
    let answer = asked(Project(compose).list(host), host).await?;
    Ok(String::from_utf8_lossy(&answer.stdout).split_whitespace().map(str::to_owned).collect())
}

/// What docker tells of a container; `None` for one that somebody runs a program in (`docker compose run`), and for one
/// that went since it was listed.
async fn told(id: &str, host: &dyn ReadHost) -> Result<Option<Container>, ActionError> {
    let spec = CommandSpec::new("docker").args(["inspect", "--type", "container", id]);
    let answer = answered(spec, host).await?;
    let is_gone = !answer.success() && answer.tail(5).iter().any(|line| line.to_lowercase().contains("no such"));
    if is_gone {
        return Ok(None);
    }
    let told = Inspected::read(&refused_or(answer)?.stdout);
    let told = told
        .ok_or_else(|| ActionError::fatal(format!("what `docker inspect` tells of container `{id}` makes no sense")))?;
    Ok(match told {
        Inspected::Service(container) => Some(*container),
        Inspected::OneOff => None,
    })
}

/// What docker answers.
pub(super) async fn asked(spec: CommandSpec, host: &dyn ReadHost) -> Result<CommandOutput, ActionError> {
    refused_or(answered(spec, host).await?)
}

async fn answered(spec: CommandSpec, host: &dyn ReadHost) -> Result<CommandOutput, ActionError> {
    let program = spec.program.clone();
    let spec = CommandSpec { timeout: Some(ANSWERS_WITHIN), ..spec };
    host.probe(spec).await.map_err(|error| failed(&program, &error))
}

fn refused_or(answer: CommandOutput) -> Result<CommandOutput, ActionError> {
    if answer.success() {
        return Ok(answer);
    }
    let error = ActionError::retryable("docker does not tell where the server lives");
    Err(error
        .process(answer.exit_code, answer.tail(5))
        .help("see that the docker engine runs, and that this user may ask it"))
}

/// Refuses a container whose data is not where the inventory says.
pub(super) fn agrees(cluster: &Cluster, container: &Container, files: &dyn ReadFiles) -> Result<(), ActionError> {
    let real = |path: &Path| files.canonical(path).unwrap_or_else(|_| path.to_owned());
    let (name, ours) = (&cluster.name, &cluster.pgdata);
    let fact = match (container.data(), container.named()) {
        (Some(theirs), _) if real(&theirs) == real(ours) => return Ok(()),
        (Some(theirs), _) => format!(
            "the container's data lies in `{}`, but `pgdata` of `{name}` is `{}`",
            theirs.display(),
            ours.display()
        ),
        (None, None) if container.inside(ours).is_some() => return Ok(()),
        (None, None) => format!("`pgdata` of `{name}`, `{}`, is not mounted into its container", ours.display()),
        (None, Some(inside)) => {
            format!("the container of `{name}` keeps its data in `{}`, which is no volume", inside.display())
        }
    };
    Err(ActionError::fatal(fact).help("correct `pgdata` or `via` of the database in the inventory"))
}
