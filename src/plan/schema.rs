//! The JSON schemas of runbooks and inventories, with one branch per action for `with:`.

use serde_json::{Map, Value, json};

use super::model::StepKind;
use crate::action::{ActionSpec, EffectClass, LATE_KEY, Registry};

/// Completes the schema of a runbook file: a step's `with:` follows from its `uses:`.
///
/// `file` is the schema of the file's structure, `step` the name of the step's definition in it.
#[must_use]
pub fn runbook(mut file: Value, registry: &Registry) -> Value {
    let (branches, definitions) = of_actions(registry, |_| true);
    complete(&mut file, "StepSpec", EffectClass::Destroy, &branches);
    complete(&mut file, "UndoSpec", EffectClass::Destroy, &branches);
    complete(&mut file, "PreconditionSpec", EffectClass::Read, &branches);
    complete_rules(&mut file, &branches);
    for definition in ["/$defs/StepSpec", "/$defs/UndoSpec"] {
        if let Some(step) = file.pointer_mut(definition).and_then(Value::as_object_mut) {
            step.insert("oneOf".to_owned(), json!([{ "required": ["uses"] }, { "required": ["run"] }]));
            step.insert("dependentRequired".to_owned(), json!({ "with": ["uses"], "env": ["run"] }));
        }
    }
    if let Some(Value::Object(needed)) = file.pointer_mut("/$defs/StepSpec/dependentRequired") {
        needed.insert("max_parallel".to_owned(), json!(["for_each"]));
    }
    with_definitions(file, definitions)
}

/// One branch and one definition of `with:` for each action that is wanted.
fn of_actions(
    registry: &Registry,
    wanted: impl Fn(&ActionSpec) -> bool,
) -> (Vec<(ActionSpec, Value)>, Map<String, Value>) {
    let mut branches = Vec::new();
    let mut definitions = Map::new();
    for action in registry.iter().filter(|action| wanted(action.spec())) {
        let spec = action.spec();
        let name = format!("with_{}", spec.name.replace('.', "_"));
        let mut schema = action.params_schema();
        let needs_arguments = schema["required"].as_array().is_some_and(|required| !required.is_empty());
        lift_definitions(&mut schema, &name, &mut definitions);
        if let Some(members) = schema.as_object_mut() {
            members.remove("$schema");
            members.insert("description".to_owned(), Value::String(spec.summary.to_owned()));
        }
        definitions.insert(name.clone(), schema);
        branches.push((*spec, branch(spec.name, &name, needs_arguments)));
    }
    definitions.values_mut().for_each(accept_templates);
    (branches, definitions)
}

fn with_definitions(mut file: Value, definitions: Map<String, Value>) -> Value {
    if let Some(all) = file.pointer_mut("/$defs").and_then(Value::as_object_mut) {
        all.extend(definitions);
    }
    strip_extensions(&mut file);
    file
}

fn is_notifier(spec: &ActionSpec) -> bool {
    spec.name.starts_with("notify.")
}

/// A rule of `notify` takes notifiers only.
fn complete_rules(file: &mut Value, branches: &[(ActionSpec, Value)]) {
    let notifiers: Vec<_> = branches.iter().filter(|(spec, _)| is_notifier(spec)).cloned().collect();
    complete(file, "NotifyRule", EffectClass::Destroy, &notifiers);
}

/// What follows from naming an action: the arguments it takes, and that there are some where it must have them.
fn branch(action: &str, definition: &str, needs_arguments: bool) -> Value {
    let mut then = json!({ "properties": { "with": { "$ref": format!("#/$defs/{definition}") } } });
    if needs_arguments {
        then["required"] = json!(["with"]);
    }
    json!({ "if": { "properties": { "uses": { "const": action } }, "required": ["uses"] }, "then": then })
}

/// Lets a definition with `uses` and `with` take every action up to a class of effect.
fn complete(file: &mut Value, definition: &str, most: EffectClass, branches: &[(ActionSpec, Value)]) {
    let Some(members) = file.pointer_mut(&format!("/$defs/{definition}")).and_then(Value::as_object_mut) else {
        return;
    };
    let stands = |spec: &ActionSpec| most > EffectClass::Read || StepKind::of(spec.name) == StepKind::Action;
    let fitting: Vec<_> = branches.iter().filter(|(spec, _)| spec.effect <= most && stands(spec)).collect();
    members.insert("allOf".to_owned(), fitting.iter().map(|(_, branch)| branch.clone()).collect());
    if let Some(uses) = members.get_mut("properties").and_then(|properties| properties.get_mut("uses")) {
        *uses = json!({
            "description": "The action.",
            "enum": fitting.iter().map(|(spec, _)| spec.name).collect::<Vec<_>>(),
            "enumDescriptions": fitting.iter().map(|(spec, _)| spec.summary).collect::<Vec<_>>(),
        });
    }
}

/// Completes the schema of an inventory file.
#[must_use]
pub fn inventory(mut file: Value, registry: &Registry) -> Value {
    let (branches, definitions) = of_actions(registry, is_notifier);
    complete_rules(&mut file, &branches);
    with_definitions(file, definitions)
}

/// Moves an action's own definitions into the file's, under names that cannot meet.
fn lift_definitions(schema: &mut Value, prefix: &str, into: &mut Map<String, Value>) {
    let own = schema.as_object_mut().and_then(|members| members.remove("$defs"));
    let Some(Value::Object(own)) = own else { return };
    rename(schema, prefix);
    for (name, mut definition) in own {
        rename(&mut definition, prefix);
        into.insert(format!("{prefix}_{name}"), definition);
    }
}

fn rename(value: &mut Value, prefix: &str) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref")
                && let Some(name) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/$defs/{prefix}_{name}");
            }
            members.values_mut().for_each(|member| rename(member, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, prefix)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Lets every scalar leaf, every list, and every value that may come from another step, hold a template text as well.
fn accept_templates(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    for key in ["properties", "$defs"] {
        if let Some(Value::Object(children)) = members.get_mut(key) {
            children.values_mut().for_each(accept_templates);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = members.get_mut(key) {
            accept_templates(child);
        }
    }
    for key in ["anyOf", "allOf"] {
        if let Some(Value::Array(children)) = members.get_mut(key) {
            children.iter_mut().for_each(accept_templates);
        }
    }
    let mut scalar = is_scalar(members);
    if let Some(Value::Array(children)) = members.get_mut("oneOf") {
        // A text that two of them accept would be accepted by none: the choice as a whole accepts it.
        let is_scalar = |child: &Value| child.as_object().is_some_and(is_scalar);
        scalar |= children.iter().any(is_scalar);
        children.iter_mut().filter(|child| !is_scalar(child)).for_each(accept_templates);
    }
    let late = members.get("x-late") == Some(&Value::Bool(true));
    let list = members.get("type") == Some(&json!("array"));
    let plain_text = members.get("type") == Some(&json!("string"))
        && !members.contains_key("pattern")
        && !members.contains_key("enum")
        && !members.contains_key("format");
    if !(scalar || late || list) || plain_text {
        return;
    }
    let template = json!({ "type": "string", "pattern": "\\{\\{.*\\}\\}" });
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        return choices.push(template);
    }
    let mut inner = std::mem::take(members);
    let outer: Map<String, Value> =
        ["description", "default"].iter().filter_map(|key| Some(((*key).to_owned(), inner.remove(*key)?))).collect();
    *members = outer;
    members.insert("anyOf".to_owned(), json!([inner, template]));
}

fn is_scalar(members: &Map<String, Value>) -> bool {
    let scalar = |kind: &Value| matches!(kind.as_str(), Some("string" | "integer" | "number" | "boolean" | "null"));
    let kind = match members.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().all(scalar),
        Some(kind) => scalar(kind),
        None => false,
    };
    kind || members.contains_key("enum") || members.contains_key("const")
}

/// Removes our own markers, which editors do not know.
fn strip_extensions(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|key, _| !key.starts_with("x-") && key != LATE_KEY);
            if members.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("runbook-")) {
                members.remove("format");
            }
            members.values_mut().for_each(strip_extensions);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_extensions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
