//! Arguments that several commands share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Exit, Failure};
use crate::base::Timestamp;
use crate::base::diagnostic::SourceId;
use crate::base::units::Span;
use crate::language::{document, time};

/// A runbook with what it is bound to.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Subject {
    /// A path, or a name: looked up in ./runbooks, then among the shipped ones
    pub runbook: String,
    /// The environment; else the one marked `default`
    #[arg(short, long, value_name = "NAME")]
    pub environment: Option<String>,
    /// A parameter; repeatable
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    pub param: Vec<String>,
    /// Parameters as a JSON or YAML mapping
    #[arg(long, value_name = "FILE")]
    pub params_file: Option<PathBuf>,
    /// A variable; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    pub var: Vec<String>,
    #[command(flatten)]
    pub inventory: InventoryArgs,
    /// How many steps may run at once; default the number of processors, at least 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_parallel: Option<u16>,
}

/// Where the inventory comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InventoryArgs {
    /// An inventory; repeatable. Else $RUNBOOK_INVENTORY, the runbook's own `include`, ./inventory.yaml, /etc/runbook/inventory.yaml
    #[arg(long, value_name = "FILE")]
    pub inventory: Vec<PathBuf>,
}

impl InventoryArgs {
    /// Gives the files asked for or set in the environment, and the ones to fall back to.
    pub fn files(&self) -> Vec<PathBuf> {
        if !self.inventory.is_empty() {
            return self.inventory.clone();
        }
        match super::wiring::environment_variable("RUNBOOK_INVENTORY") {
            Some(path) if !path.is_empty() => vec![PathBuf::from(path)],
            _ => Vec::new(),
        }
    }

    /// The inventories tried when none is named and the runbook includes none.
    pub fn fallbacks() -> Vec<PathBuf> {
        ["inventory.yaml", "/etc/runbook/inventory.yaml"]
            .map(PathBuf::from)
            .into_iter()
            .filter(|path| path.is_file())
            .take(1)
            .collect()
    }
}

/// Reads `NAME=VALUE` pairs; values stay text.
pub fn pairs(given: &[String], what: &str) -> Result<BTreeMap<String, Value>, Failure> {
    let mut pairs = BTreeMap::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::new(Exit::Usage, format!("`{text}` is not a {what}")).help("write NAME=VALUE"));
        };
        if pairs.insert(name.trim().to_owned(), Value::String(value.to_owned())).is_some() {
            return Err(Failure::new(Exit::Usage, format!("the {what} `{name}` is given twice")));
        }
    }
    Ok(pairs)
}

/// Reads a point in time, or a duration as that long ago.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let ago = text.parse::<Span>().map(|_| format!("{text} ago"));
    time::parse_time(ago.as_deref().unwrap_or(text), now)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()).help(error.help()))
}

/// A value that reads as JSON is that; anything else is text.
pub fn typed(value: Value) -> Value {
    let parsed = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    parsed.unwrap_or(value)
}

/// Reads parameters from a file; those of the command line win.
pub fn params(subject: &Subject) -> Result<BTreeMap<String, Value>, Failure> {
    let mut params = match &subject.params_file {
        None => BTreeMap::new(),
        Some(path) => mapping(path)?,
    };
    params.extend(pairs(&subject.param, "parameter")?);
    Ok(params)
}

fn mapping(path: &Path) -> Result<BTreeMap<String, Value>, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("the parameters in `{shown}` cannot be read")).because(&error)
    })?;
    let (node, faults) = document::parse(SourceId::default(), &text);
    let value = node.filter(|_| !faults.has_errors()).map(|node| node.to_json());
    match value {
        Some(Value::Object(members)) => Ok(members.into_iter().collect()),
        _ => Err(Failure::new(Exit::Usage, format!("`{shown}` is not a mapping of parameters"))
            .help("one `name: value` per line, in YAML or JSON")),
    }
}
