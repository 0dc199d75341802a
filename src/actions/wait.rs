//! `wait`: until a port is open, an URL answers, a file is there, or a command succeeds.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::client;
use super::patience::Patience;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CommandSpec, EffectClass, Effects, Example, Idempotency, ParamFault,
    PlanContext, RunContext, Target,
};
use crate::base::units::Span;

/// Waits for a condition.
pub struct Wait;

/// The longest one request of an URL may take.
const REQUEST: Duration = Duration::from_secs(10);

/// The arguments of `wait`: exactly one of `tcp`, `http`, `file` and `command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// `host:port`, until it accepts a connection.
    #[serde(default)]
    tcp: Option<String>,
    /// An URL, until it answers with `status`.
    #[serde(default)]
    http: Option<String>,
    /// The status wanted of `http`. Default 200.
    #[serde(default)]
    status: Option<u16>,
    /// A path, until something is there.
    #[serde(default)]
    file: Option<PathBuf>,
    /// A command that changes nothing, until it ends with exit code 0.
    #[serde(default)]
    command: Option<Vec<String>>,
    /// How long to wait at most.
    within: Span,
    /// The pause between two looks. Default `1s`.
    #[serde(default)]
    every: Option<Span>,
}

/// What `wait` gives.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How often it was looked.
    pub tries: u32,
}

/// What is waited for.
#[derive(Debug)]
enum Condition<'a> {
    Tcp(&'a str),
    Http(Box<reqwest::Url>, u16),
    File(&'a PathBuf),
    Command(&'a str, &'a [String]),
}

impl Params {
    fn condition(&self) -> Result<Condition<'_>, ParamFault> {
        let condition = match (&self.tcp, &self.http, &self.file, &self.command) {
            (Some(address), None, None, None) => {
                let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
                if !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
                    return Err(ParamFault::new("/tcp", format!("`{address}` is not `host:port`")));
                }
                Condition::Tcp(address)
            }
            (None, Some(url), None, None) => {
                Condition::Http(Box::new(client::parse("/http", url)?), self.status.unwrap_or(200))
            }
            (None, None, Some(path), None) => Condition::File(path),
            (None, None, None, Some(argv)) => match argv.split_first() {
                Some((program, args)) if !program.is_empty() => Condition::Command(program, args),
                Some(_) | None => return Err(ParamFault::new("/command", "the command is empty")),
            },
            _ => return Err(ParamFault::new("", "exactly one of `tcp`, `http`, `file` and `command` is wanted")),
        };
        match (self.status, &condition) {
            (Some(_), Condition::Tcp(_) | Condition::File(_) | Condition::Command(..)) => {
                Err(ParamFault::new("/status", "`status` belongs to `http`"))
            }
            (_, _) => Ok(condition),
        }
    }
}

impl Condition<'_> {
    fn name(&self) -> String {
        match self {
            Self::Tcp(address) => (*address).to_owned(),
            Self::Http(url, _) => url.to_string(),
            Self::File(path) => path.display().to_string(),
            Self::Command(program, _) => (*program).to_owned(),
        }
    }

    /// Looks once; says in words why it does not hold.
    async fn holds(&self, cx: &RunContext) -> Result<(), String> {
        match self {
            Self::Tcp(address) => {
                tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
            }
            Self::Http(url, wanted) => match client::get(url, REQUEST).await?.status {
                status if status == *wanted => Ok(()),
                status => Err(format!("it answered with status {status} instead of {wanted}")),
            },
            Self::File(path) => match cx.host.read_files().facts(path) {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err("nothing is there".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Self::Command(program, args) => {
                let spec = CommandSpec::new(*program).args(args.iter().cloned());
                match cx.host.probe(spec).await {
                    Ok(output) if output.success() => Ok(()),
                    Ok(output) => Err(super::process::failed(&format!("`{program}`"), &output).to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }
}

impl Action for Wait {
    const SPEC: ActionSpec = ActionSpec {
        name: "wait",
        summary: "Waits until a port is open, an URL answers, a file is there, or a command succeeds.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "an open port", with: "tcp: 127.0.0.1:5432\nwithin: 2m" },
            Example {
                title: "an answer",
                with: "http: http://127.0.0.1:8080/health\nstatus: 204\nwithin: 5m\nevery: 5s",
            },
            Example { title: "a file", with: "file: /var/lib/app/ready\nwithin: 30s" },
            Example { title: "a command", with: "command: [pg_isready, -q]\nwithin: 1m" },
        ],
    };
    type Params = Params;
    type Output = Output;

    fn effects(&self, params: &Params, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let effects = Effects::of(EffectClass::Read);
        Ok(match params.condition().map_err(|fault| vec![fault])? {
            Condition::Tcp(_) => effects,
            Condition::Http(url, _) => effects.target(Access::Read, Target::Url { prefix: url.to_string() }),
            Condition::File(path) => {
                effects.target(Access::Read, Target::Path { host: cx.host.to_owned(), path: path.clone() })
            }
            Condition::Command(program, _) => effects.program(program),
        })
    }

    fn by_hand(&self, params: &Params, _: &PlanContext<'_>) -> Vec<String> {
        let Ok(condition) = params.condition() else { return Vec::new() };
        let look = match &condition {
            Condition::Tcp(address) => {
                let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
                command_line(["nc", "-z", "-v", host.trim_matches(['[', ']']), port])
            }
            Condition::Http(url, _) => command_line(["curl", "-sS", "-i", "-m", "10", url.as_str()]),
            Condition::File(path) => command_line(["ls", "-ld", &path.display().to_string()]),
            Condition::Command(program, args) => {
                command_line([*program].into_iter().chain(args.iter().map(String::as_str)))
            }
        };
        let wanted = match &condition {
            Condition::Http(_, status) => format!("until it answers with status {status}"),
            Condition::Tcp(_) | Condition::File(_) | Condition::Command(..) => "until it succeeds".to_owned(),
        };
        vec![remark(&format!("repeat {wanted}, for {} at most", params.within)), look]
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<Output, ActionError> {
        let condition = params.condition().map_err(|fault| ActionError::fatal(fault.message))?;
        let patience = Patience::new(Some(params.within), params.every);
        let tried = patience.until(&condition.name(), &cx.cancel, || condition.holds(cx)).await?;
        Ok(Output { seconds: tried.elapsed.as_secs_f64(), tries: tried.tries })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Params;

    #[test]
    fn exactly_one_condition_is_wanted() {
        let condition = |with: serde_json::Value| {
            let params: Params = serde_json::from_value(with).expect("arguments");
            params.condition().map(|condition| condition.name()).map_err(|fault| fault.path)
        };
        assert_eq!(condition(json!({ "tcp": "[::1]:5432", "within": "1s" })), Ok("[::1]:5432".to_owned()));
        assert_eq!(condition(json!({ "command": ["true"], "within": "1s" })), Ok("true".to_owned()));
        for (with, path) in [
            (json!({ "within": "1s" }), ""),
            (json!({ "tcp": "a:1", "file": "/x", "within": "1s" }), ""),
            (json!({ "tcp": "a", "within": "1s" }), "/tcp"),
            (json!({ "tcp": "a:0", "within": "1s" }), "/tcp"),
            (json!({ "http": "a:1", "within": "1s" }), "/http"),
            (json!({ "command": [], "within": "1s" }), "/command"),
            (json!({ "file": "/x", "status": 200, "within": "1s" }), "/status"),
        ] {
            assert_eq!(condition(with.clone()), Err(path.to_owned()), "{with}");
        }
        assert!(serde_json::from_value::<Params>(json!({ "file": "/x" })).is_err(), "`within` is required");
    }
}
