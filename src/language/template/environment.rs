//! The one template environment.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use super::error::{NOT_TEXT, SECRET};
use super::scope::Secret;
use crate::base::Digest;
use crate::base::secret::TOKEN_OPEN;

/// The largest text a template may give.
pub const MAX_OUTPUT: usize = 1 << 20;

/// Instructions one template may take.
const FUEL: u64 = 100_000;

/// Names that every template can see without being given them.
pub(super) const FUNCTIONS: [&str; 2] = ["range", "dict"];

pub(super) fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(build)
}

fn build() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(syntax());
    environment.set_recursion_limit(64);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true);
    environment.set_formatter(format);
    environment.remove_global("debug");
    // What a loop keeps from one round to the next grows without measure.
    environment.remove_global("namespace");
    environment.remove_filter("pprint");
    environment.add_filter("b64encode", |value: Value| whole("b64encode", &value, |text| STANDARD.encode(text)));
    environment
        .add_filter("sha256", |value: Value| whole("sha256", &value, |text| Digest::of(text.as_bytes()).to_string()));
    environment.add_filter("urlencode", |value: Value| whole("urlencode", &value, url_encoded));
    environment.add_filter("tojson", |value: Value| {
        demand_few(std::slice::from_ref(&value))?;
        let text = serde_json::to_string(&value).map_err(|error| failed(&error.to_string()))?;
        refuse_secret("tojson", &text).map(|()| text)
    });
    for name in CHANGING {
        environment.add_filter(name, move |arguments: Rest<Value>| {
            if arguments.iter().any(holds_secret) {
                return Err(secret_error(name));
            }
            if COPYING.contains(&name) {
                demand_few(&arguments)?;
            }
            builtin().empty_state().apply_filter(name, &arguments)
        });
    }
    for name in GATHERING {
        environment.add_filter(name, move |arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            demand_few(&arguments)?;
            builtin().empty_state().apply_filter(name, &arguments)
        });
    }
    // It calls other filters by name, ours among them.
    environment.add_filter("map", |state: &mut State<'_, '_>, value: Value, arguments: Rest<ValueOrKwargs>| {
        demand_few(std::slice::from_ref(&value))?;
        minijinja::filters::map(state, value, arguments)
    });
    environment
}

/// Filters of the engine that walk a whole list: a short text may stand for a list that fills the memory.
const GATHERING: [&str; 17] = [
    "batch",
    "chain",
    "format",
    "groupby",
    "join",
    "max",
    "min",
    "reject",
    "rejectattr",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "unique",
    "zip",
];

/// Those of [`CHANGING`] that do, too.
const COPYING: [&str; 3] = ["last", "list", "reverse"];

/// Refuses lists that are longer than a template could walk with its fuel.
fn demand_few(values: &[Value]) -> Result<(), Error> {
    let most = usize::try_from(FUEL).unwrap_or(usize::MAX);
    for value in values.iter().filter(|value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)) {
        let count = match value.len() {
            Some(count) => count,
            None => value.try_iter()?.take(most.saturating_add(1)).count(),
        };
        if count > most {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
    }
    Ok(())
}

/// Filters of the engine that measure or change a text: a secret's token must not pass for its value.
const CHANGING: [&str; 16] = [
    "length",
    "count",
    "lower",
    "upper",
    "title",
    "capitalize",
    "trim",
    "replace",
    "reverse",
    "split",
    "lines",
    "indent",
    "first",
    "last",
    "list",
    "int",
];

/// The engine's own filters.
fn builtin() -> &'static Environment<'static> {
    static BUILTIN: OnceLock<Environment<'static>> = OnceLock::new();
    BUILTIN.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment
    })
}

/// A final newline belongs to the text.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default()
}

/// Writes scalars; everything a reader would not expect inside a text is an error.
fn format(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let refused = |what: &str| Err(failed(&format!("{NOT_TEXT}{what} stands inside a text")));
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => refused("a null"),
        ValueKind::Seq | ValueKind::Iterable => refused("a list"),
        ValueKind::Map => refused("a mapping"),
        _ => write_scalar(out, value),
    }
}

fn write_scalar(out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    let text = value.to_string();
    if text.len() > MAX_OUTPUT {
        return Err(Error::from(ErrorKind::WriteFailure));
    }
    out.write_str(&text).map_err(Error::from)
}

fn failed(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}

fn holds_secret(value: &Value) -> bool {
    value.downcast_object_ref::<Secret>().is_some() || value.as_str().is_some_and(|text| text.contains(TOKEN_OPEN))
}

fn secret_error(filter: &str) -> Error {
    failed(&format!("{SECRET}a secret cannot go through `{filter}`: its value is not known to templates"))
}

fn refuse_secret(filter: &str, text: &str) -> Result<(), Error> {
    if text.contains(TOKEN_OPEN) { Err(secret_error(filter)) } else { Ok(()) }
}

fn whole(filter: &'static str, value: &Value, change: impl Fn(&str) -> String) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    demand_few(std::slice::from_ref(value))?;
    let text = value.to_string();
    refuse_secret(filter, &text)?;
    Ok(change(&text))
}

fn url_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
