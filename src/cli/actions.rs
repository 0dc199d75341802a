//! `runbook actions [NAME]`: what steps can use.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Exit, Failure};
use crate::action::{ActionSpec, ErasedAction, Idempotency};

/// Arguments of `actions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook actions\n  runbook actions postgres.recover\n  runbook actions --json | jq '.[].name'"
)]
pub struct Args {
    /// The action
    name: Option<String>,
    /// Print JSON, schemas included
    #[arg(long)]
    json: bool,
    /// Write one page per action into this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "json"])]
    write: Option<PathBuf>,
}

/// Lists the actions, shows one, or writes their pages.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let registry = crate::actions::registry();
    if let Some(folder) = args.write {
        let pages = registry.iter().map(|action| (format!("{}.md", action.spec().name), page(action.as_ref())));
        let mut index = String::from("# Actions\n\n| action | what it does | effect |\n|---|---|---|\n");
        for action in registry.iter() {
            let spec = action.spec();
            let _ = writeln!(index, "| [`{0}`]({0}.md) | {1} | {2} |", spec.name, spec.summary, effect(spec));
        }
        let mut pages: Vec<(String, String)> = pages.collect();
        pages.push(("README.md".to_owned(), index));
        super::schema::write_folder(&folder, pages, "md")?;
        return Ok(Exit::Success);
    }
    let selected: Vec<_> = match &args.name {
        None => registry.iter().collect(),
        Some(name) => vec![registry.get(name).ok_or_else(|| {
            let failure = Failure::new(Exit::Usage, format!("there is no action `{name}`"));
            let near = registry.names().min_by_key(|known| strsim::damerau_levenshtein(known, name));
            failure.help(format!("did you mean `{}`? `runbook actions` lists them all", near.unwrap_or_default()))
        })?],
    };
    if args.json {
        let all: Vec<Value> = selected.iter().map(|action| data(action.as_ref())).collect();
        let value = if args.name.is_some() { all[0].clone() } else { Value::Array(all) };
        out!("{value:#}");
    } else if args.name.is_some() {
        out_part!("{}", page(selected[0].as_ref()));
    } else {
        let width = registry.names().map(str::len).max().unwrap_or(0);
        for action in selected {
            out!("{:width$}  {}", action.spec().name, action.spec().summary);
        }
    }
    Ok(Exit::Success)
}

/// How far an action reaches, for people.
fn effect(spec: &ActionSpec) -> String {
    match spec.name {
        "exec" | "shell" => "as the step declares, write unless it does".to_owned(),
        _ => word(&json!(spec.effect)),
    }
}

fn word(value: &Value) -> String {
    text(value).replace('_', " ")
}

/// A value as it has to be written.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn data(action: &dyn ErasedAction) -> Value {
    let spec = action.spec();
    json!({
        "name": spec.name,
        "summary": spec.summary,
        "effect": spec.effect,
        "idempotency": spec.idempotency,
        "version": spec.version,
        "examples": spec.examples.iter().map(|e| json!({ "title": e.title, "with": e.with })).collect::<Vec<_>>(),
        "with": action.params_schema(),
        "output": action.output_schema(),
    })
}

/// The action's page in Markdown.
fn page(action: &dyn ErasedAction) -> String {
    let spec = action.spec();
    let mut page = format!("# `{}`\n\n{}\n\n", spec.name, spec.summary);
    let again = match spec.idempotency {
        Idempotency::Idempotent => "running it again with the same key does no harm",
        Idempotency::NotIdempotent => "running it again may repeat its effect",
    };
    let _ = writeln!(page, "Effect: **{}**; {again}.\n", effect(spec));
    members(&mut page, "Arguments", &action.params_schema());
    members(&mut page, "Outputs", &action.output_schema());
    page.push_str("## Examples\n");
    for example in spec.examples {
        let _ = write!(page, "\n{}:\n\n```yaml\nuses: {}\nwith:\n", example.title, spec.name);
        for line in example.with.trim().lines() {
            let _ = writeln!(page, "  {line}");
        }
        page.push_str("```\n");
    }
    page
}

fn members(page: &mut String, title: &str, schema: &Value) {
    let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) else { return };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let _ = writeln!(page, "## {title}\n\n| name | type | |\n|---|---|---|");
    for (name, member) in properties {
        let must = if title == "Arguments" && required.contains(&name.as_str()) { "**required.** " } else { "" };
        let late = if member["x-late"] == Value::Bool(true) { " May be the output of another step." } else { "" };
        let secret = if member["x-secret"] == Value::Bool(true) { " May be a secret." } else { "" };
        let text = member["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            page,
            "| `{name}` | {} | {must}{}{late}{secret} |",
            kind(schema, member).replace('|', "\\|"),
            text.replace('|', "\\|")
        );
    }
    page.push('\n');
}

/// Names the type of a value for people.
fn kind(root: &Value, schema: &Value) -> String {
    if let Some(name) = schema["x-ref"].as_str() {
        return format!("{name} of the inventory");
    }
    if let Some(target) = schema["$ref"].as_str() {
        let resolved = root.pointer(target.trim_start_matches('#'));
        return resolved.map_or_else(|| "object".to_owned(), |resolved| kind(root, resolved));
    }
    match schema["format"].as_str() {
        Some("runbook-duration") => return "duration".to_owned(),
        Some("runbook-size") => return "size".to_owned(),
        _ => {}
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{}`", text(value))).collect::<Vec<_>>().join(" | ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", text(value));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(alternatives) = schema[key].as_array() {
            let mut names: Vec<String> =
                alternatives.iter().map(|one| kind(root, one)).filter(|name| name != "null").collect();
            names.dedup();
            return names.join(" | ");
        }
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(root, &schema["items"])),
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect::<Vec<_>>().join(" | ")
        }
        _ => "any".to_owned(),
    }
}
