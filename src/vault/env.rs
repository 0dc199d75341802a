//! Secrets from a variable of the engine's environment, as it was captured at the start.

use std::collections::BTreeMap;

use super::miss::Miss;

pub(super) fn fetch(name: &str, variable: &str, environment: &BTreeMap<String, String>) -> Result<String, Miss> {
    environment.get(variable).cloned().ok_or_else(|| {
        Miss::absent(format!("secret `{name}`: the variable `{variable}` is not set"))
            .help(format!("set `{variable}` in the environment of runbook"))
    })
}
