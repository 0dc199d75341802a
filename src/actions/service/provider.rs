//! How a service is asked and told: by systemd, by commands of its own, or by a pooler's console.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::process::{failed, host_error};
use super::Chosen;
use super::pooler::{PSQL, Pooler};
use crate::action::by_hand::command_line;
use crate::action::{ActionError, CommandSpec, Host, ReadHost, Secrets};
use crate::base::units::Span;
use crate::language::inventory::ServiceCommands;

/// The program that speaks to systemd.
const SYSTEMCTL: &str = "systemctl";
/// The code of a stopped service, as LSB init scripts give it.
const LSB_STOPPED: i32 = 3;

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// It runs.
    Running,
    /// It does not run.
    Stopped,
    /// It is starting or stopping.
    Changing,
}

impl ServiceState {
    /// The word for messages.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Changing => "changing",
        }
    }
}

/// What a service is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Start,
    Stop,
}

/// The way to one service.
pub(super) enum Provider<'a> {
    Systemd(&'a str),
    Command(&'a ServiceCommands),
    Pooler(Pooler<'a>),
}

impl<'a> Provider<'a> {
    /// Finds the way; the inventory gives exactly one.
    pub(super) fn of(chosen: &Chosen<'a>) -> Result<Self, ActionError> {
        match (&chosen.service.systemd, &chosen.service.command, &chosen.service.pgbouncer) {
            (Some(unit), None, None) => Ok(Self::Systemd(unit)),
            (None, Some(commands), None) => Ok(Self::Command(commands)),
            (None, None, Some(pgbouncer)) => Ok(Self::Pooler(Pooler { entry: pgbouncer })),
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                let message =
                    format!("service `{}` needs exactly one of `systemd`, `command` and `pgbouncer`", chosen.name);
                Err(ActionError::fatal(message))
            }
        }
    }

    /// The program that must exist.
    pub(super) fn program(&self) -> &str {
        match self {
            Self::Systemd(_) => SYSTEMCTL,
            Self::Command(commands) => commands.status.first().map(String::as_str).unwrap_or_default(),
            Self::Pooler(_) => PSQL,
        }
    }

    /// The command of an order, for a person.
    pub(super) fn order_line(&self, order: Order) -> String {
        match (self, order) {
            (Self::Pooler(pooler), order) => pooler.order_line(order),
            (Self::Systemd(unit), Order::Start) => command_line([SYSTEMCTL, "start", unit]),
            (Self::Systemd(unit), Order::Stop) => command_line([SYSTEMCTL, "stop", unit]),
            (Self::Command(commands), Order::Start) => command_line(&commands.start),
            (Self::Command(commands), Order::Stop) => command_line(&commands.stop),
        }
    }

    /// The command that asks what the service does, for a person.
    pub(super) fn state_line(&self) -> String {
        match self {
            Self::Systemd(unit) => command_line([SYSTEMCTL, "is-active", unit]),
            Self::Command(commands) => command_line(&commands.status),
            Self::Pooler(pooler) => pooler.state_line(),
        }
    }

    /// Asks what the service does; changes nothing.
    pub(super) async fn state(&self, host: &dyn ReadHost, secrets: &dyn Secrets) -> Result<ServiceState, ActionError> {
        match self {
            Self::Systemd(unit) => systemd_state(unit, host).await,
            Self::Pooler(pooler) => pooler.state(host, secrets).await,
            Self::Command(commands) => {
                let output = host.probe(argv(&commands.status)?).await.map_err(|error| host_error(&error))?;
                match output.exit_code {
                    Some(0) => Ok(ServiceState::Running),
                    Some(LSB_STOPPED) => Ok(ServiceState::Stopped),
                    Some(_) | None => Err(failed(&quoted(self.program()), &output)
                        .help("a status command ends with 0 when the service runs and with 3 when it is stopped")),
                }
            }
        }
    }

    /// Tells the service to start or stop. What a start leaves running outlives the step. A time is for what waits by
    /// itself until it is done.
    pub(super) async fn tell(
        &self,
        (order, within): (Order, Span),
        host: &dyn Host,
        secrets: &dyn Secrets,
    ) -> Result<(), ActionError> {
        let spec = match (self, order) {
            (Self::Pooler(pooler), order) => return pooler.tell((order, within), host, secrets).await,
            (Self::Systemd(unit), Order::Start) => CommandSpec::new(SYSTEMCTL).args(["start", "--", unit]),
            (Self::Systemd(unit), Order::Stop) => CommandSpec::new(SYSTEMCTL).args(["stop", "--", unit]),
            (Self::Command(commands), Order::Start) => argv(&commands.start)?,
            (Self::Command(commands), Order::Stop) => argv(&commands.stop)?,
        };
        let program = spec.program.clone();
        // Stopping may start what cleans up after the service, so neither order ends what it left.
        let output = host.start_daemon(spec).await.map_err(|error| host_error(&error))?;
        if output.success() { Ok(()) } else { Err(failed(&quoted(&program), &output)) }
    }
}

fn argv(argv: &[String]) -> Result<CommandSpec, ActionError> {
    let (program, args) = argv.split_first().ok_or_else(|| ActionError::fatal("a command of the service is empty"))?;
    Ok(CommandSpec::new(program).args(args.iter().cloned()))
}

fn quoted(program: &str) -> String {
    format!("`{program}`")
}

async fn systemd_state(unit: &str, host: &dyn ReadHost) -> Result<ServiceState, ActionError> {
    let spec = CommandSpec::new(SYSTEMCTL).args(["show", "--property=LoadState,ActiveState", "--", unit]);
    let output = host.probe(spec).await.map_err(|error| host_error(&error))?;
    if !output.success() {
        return Err(failed(&quoted(SYSTEMCTL), &output));
    }
    parse_systemd(unit, &String::from_utf8_lossy(&output.stdout))
}

fn parse_systemd(unit: &str, shown: &str) -> Result<ServiceState, ActionError> {
    let value = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    match (value("LoadState="), value("ActiveState=")) {
        ("not-found", _) => Err(ActionError::fatal(format!("systemd knows no unit `{unit}`"))),
        (_, "active" | "reloading") => Ok(ServiceState::Running),
        (_, "inactive" | "failed") => Ok(ServiceState::Stopped),
        (_, "activating" | "deactivating" | "maintenance") => Ok(ServiceState::Changing),
        (_, other) => Err(ActionError::retryable(format!("systemd says `{other}` of unit `{unit}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{ServiceState, parse_systemd};

    #[test]
    fn the_states_of_systemd_are_told_apart() {
        for (load, active, state) in [
            ("loaded", "active", Some(ServiceState::Running)),
            ("loaded", "failed", Some(ServiceState::Stopped)),
            ("loaded", "inactive", Some(ServiceState::Stopped)),
            ("loaded", "deactivating", Some(ServiceState::Changing)),
            ("not-found", "inactive", None),
            ("loaded", "", None),
        ] {
            let shown = format!("LoadState={load}\nActiveState={active}\n");
            assert_eq!(parse_systemd("u", &shown).ok(), state, "{shown}");
        }
    }
}
