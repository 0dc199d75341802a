//! How a command that is printed is completed, so that it runs as it stands when it is pasted into the same folder.
//!
//! What is printed leaves out neither the inventory that was meant nor the environment; what every command finds by itself,
//! `./inventory.yaml` and the variables of the environment, is not repeated.

use std::path::PathBuf;

use super::args::InventoryArgs;
use crate::action::Mode;
use crate::action::by_hand::command_line;
use crate::language::inventory::Inventory;
use crate::language::named_inventories;
use crate::plan::BoundPlan;

/// What further commands must repeat to mean the same inventory and environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Again {
    inventory: Vec<String>,
    environment: Option<String>,
    confirm: Option<String>,
}

impl Again {
    /// As the command at hand was told: the files it names and the environment it asks for.
    pub fn of(inventory: &InventoryArgs, environment: Option<&str>) -> Self {
        Self::with(&inventory.inventory, environment)
    }

    /// As a run was told that has a plan. What a drill left is looked after in the environment that is the default.
    pub fn of_plan(plan: &BoundPlan) -> Self {
        let files = Self::inventories(plan);
        let entry = plan.inventory.environments.get(&plan.environment);
        let asked = entry.is_some_and(|entry| !entry.default) && plan.mode != Mode::Drill;
        let again = Self::with(&files, Some(plan.environment.as_str()).filter(|_| asked));
        let confirm = Some(plan.environment.clone()).filter(|_| plan.protected);
        Self { confirm, ..again }
    }

    /// The inventories that a command must be told to mean those of a run that has a plan.
    pub fn inventories(plan: &BoundPlan) -> Vec<PathBuf> {
        let found = InventoryArgs::default().files();
        let found = if found.is_empty() { InventoryArgs::fallbacks() } else { found };
        let found: Vec<String> = found.iter().map(|file| file.display().to_string()).collect();
        named_inventories(&plan.texts(), &found).into_iter().map(PathBuf::from).collect()
    }

    fn with(files: &[PathBuf], environment: Option<&str>) -> Self {
        let inventory = files.iter().flat_map(|file| ["--inventory".to_owned(), file.display().to_string()]).collect();
        Self { inventory, environment: environment.map(str::to_owned), confirm: None }
    }

    /// The same, with the word that a protected environment wants before it is changed.
    #[must_use]
    pub fn protected_by(self, inventory: &Inventory, environment: &str) -> Self {
        let protected = inventory.environments.get(environment).is_some_and(|entry| entry.protected);
        Self { confirm: Some(environment.to_owned()).filter(|_| protected), ..self }
    }

    /// A command that only looks or plans.
    pub fn line<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        self.completed(words, &[("-e", self.environment.as_deref())])
    }

    /// A drill, which has an environment of its own.
    pub fn drill<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        self.completed(std::iter::once("drill").chain(words), &[])
    }

    /// A command that changes something; where the environment is protected the word that confirms it stands there.
    pub fn change<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        self.completed(words, &[("-e", self.environment.as_deref()), ("--confirm", self.confirm.as_deref())])
    }

    /// A command about a run, which knows its inventory and environment itself; confirmed where that is protected.
    pub fn confirmed<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        let words = std::iter::once("runbook").chain(words).map(str::to_owned);
        let confirm = self.confirm.iter().flat_map(|word| ["--confirm".to_owned(), word.clone()]);
        command_line(words.chain(confirm))
    }

    /// An advice whose commands stand between backticks, each completed where it is one that reads an inventory.
    pub fn advice(&self, text: &str) -> String {
        let parts = text.split('`').enumerate().map(|(at, part)| {
            let words: Vec<&str> = part.split(' ').collect();
            let reads = at % 2 == 1 && !part.contains("--inventory");
            match words.as_slice() {
                ["runbook", "backup" | "run", ..] if reads => {
                    let command = self.ended(part, self.environment.as_deref());
                    let confirm = self.confirm.iter().filter(|_| !words.contains(&"--confirm"));
                    let confirm = command_line(confirm.flat_map(|word| ["--confirm".to_owned(), word.clone()]));
                    if confirm.is_empty() { command } else { format!("{command} {confirm}") }
                }
                ["runbook", "backups" | "dry-run" | "pitr" | "restore" | "status", ..] if reads => {
                    self.ended(part, self.environment.as_deref())
                }
                ["runbook", "wal", "search" | "status" | "verify", ..] if reads => {
                    self.ended(part, self.environment.as_deref())
                }
                ["runbook", "check" | "cost" | "doctor" | "drill" | "iam", ..] if reads => self.ended(part, None),
                _ => part.to_owned(),
            }
        });
        parts.collect::<Vec<_>>().join("`")
    }

    fn ended(&self, command: &str, environment: Option<&str>) -> String {
        let environment = environment.into_iter().flat_map(|name| ["-e".to_owned(), name.to_owned()]);
        let options = command_line(self.inventory.iter().cloned().chain(environment));
        if options.is_empty() { command.to_owned() } else { format!("{command} {options}") }
    }

    fn completed<'a>(&self, words: impl IntoIterator<Item = &'a str>, options: &[(&str, Option<&str>)]) -> String {
        let words = std::iter::once("runbook").chain(words).map(str::to_owned);
        let given = options.iter().filter_map(|(name, value)| Some([(*name).to_owned(), (*value)?.to_owned()]));
        command_line(words.chain(self.inventory.iter().cloned()).chain(given.flatten()))
    }
}

#[cfg(test)]
mod tests {
    use super::Again;
    use crate::cli::args::InventoryArgs;

    #[test]
    fn a_printed_command_repeats_what_was_asked_for_and_quotes_it() {
        let inventory = InventoryArgs { inventory: vec!["my site.yaml".into()] };
        let again = Again::of(&inventory, Some("staging"));
        assert_eq!(
            again.line(["restore", "orders", "--to", "5m ago"]),
            "runbook restore orders --to '5m ago' --inventory 'my site.yaml' -e staging"
        );
        let plain = Again::of(&InventoryArgs::default(), None);
        assert_eq!(again.drill(["x"]), "runbook drill x --inventory 'my site.yaml'");
        assert_eq!(
            again.advice("`runbook backups map` and `runbook wal push` and `x` and `runbook drill y`"),
            "`runbook backups map --inventory 'my site.yaml' -e staging` and `runbook wal push` and `x` and \
             `runbook drill y --inventory 'my site.yaml'`"
        );
        assert_eq!(plain.advice("`runbook backups map`"), "`runbook backups map`");
        assert_eq!(plain.line(["status", "orders"]), "runbook status orders");
        let confirmed = Again { confirm: Some("production".to_owned()), ..plain };
        assert_eq!(confirmed.line(["status"]), "runbook status");
        assert_eq!(
            confirmed
                .advice("`runbook backup orders` or `runbook backup orders --confirm test` or `runbook backups map`"),
            "`runbook backup orders --confirm production` or `runbook backup orders --confirm test` or `runbook backups map`"
        );
        assert_eq!(confirmed.confirmed(["undo", "last"]), "runbook undo last --confirm production");
        assert_eq!(confirmed.change(["backup", "orders"]), "runbook backup orders --confirm production");
    }
}
