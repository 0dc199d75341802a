//! `runbook iam`: what a role needs of the provider, and nothing more.

mod policy;
mod scope;

use clap::ValueEnum;
use serde_json::json;

use super::args::InventoryArgs;
use super::site::Site;
use super::{Exit, Failure, document};
use policy::Policy;
use scope::Scope;

/// Arguments of `iam`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook iam --role backup > backup-policy.json            for every database and store of the inventory\n  runbook iam nightly.yaml --role backup -p database=orders  only what this runbook writes\n  runbook iam --role wal --database orders                   only what archives its WAL\n  runbook iam --role restore --json | jq '.statements[].why'\n\nThe policy goes to standard output, why each statement stands there to standard error. Parameters that name a\ndatabase and are not given stand for every database of the inventory."
)]
pub struct Args {
    /// Runbooks whose steps are asked what they read, write and delete. Default: everything of the inventory
    runbooks: Vec<String>,
    /// What the role is for
    #[arg(long, value_enum)]
    role: Role,
    /// Whose policies
    #[arg(long, value_enum, default_value_t = Provider::Aws)]
    provider: Provider,
    /// Only of this database of the inventory; repeatable
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    /// With `expire`: old versions too, which then cannot be brought back
    #[arg(long)]
    versions: bool,
    /// A parameter of the runbooks; repeatable
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// The environment; else the one marked `default`
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// Print the policy together with the reason of each statement
    #[arg(long)]
    json: bool,
}

/// What a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Makes backups; can delete nothing
    Backup,
    /// Reads backups
    Restore,
    /// Deletes what retention lets go
    Expire,
    /// Sets buckets up
    Admin,
    /// Archives and fetches WAL
    Wal,
}

/// Whose policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Provider {
    /// Amazon, and servers that take its policies
    Aws,
}

/// Prints the policy of a role.
pub fn run(args: Args) -> Result<Exit, Failure> {
    if args.versions && args.role != Role::Expire {
        return Err(Failure::new(Exit::Usage, "`--versions` is for `--role expire`"));
    }
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let mut scope = match args.runbooks.is_empty() {
        true => Scope::of_inventory(&site.inventory, args.role),
        false => Scope::default(),
    };
    for runbook in &args.runbooks {
        let given = scope::Given { param: &args.param, environment: &site.environment, inventory: &args.inventory };
        scope.add_runbook(runbook, args.role, &given)?;
    }
    if !args.database.is_empty() {
        let unknown = args.database.iter().find(|name| !site.inventory.databases.contains_key(*name));
        if let Some(name) = unknown {
            return Err(super::site::no_database(name, &site.inventory));
        }
        scope.only(&args.database, &site.inventory);
    }
    let reach = scope.reach(&site.inventory);
    for (store, why) in &reach.left_out {
        tell!("left out: store `{store}` {why}");
    }
    if reach.places.is_empty() {
        return Err(Failure::new(Exit::Usage, "there is no bucket that this role would use").help(
            "a policy is made for stores with an URL of the form `s3://bucket/prefix`; `runbook graph` shows what a runbook does",
        ));
    }
    let policy = Policy::of(args.role, &reach.places, args.versions.into());
    print(&policy, &args)
}

fn print(policy: &Policy, args: &Args) -> Result<Exit, Failure> {
    let role = args.role.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    if args.json {
        let statements: Vec<_> =
            policy.statements.iter().map(|statement| json!({ "sid": statement.sid, "why": statement.why })).collect();
        document::write_json(
            &json!({ "role": role, "provider": "aws", "policy": policy.document(), "statements": statements }),
        )?;
        return Ok(Exit::Success);
    }
    let width = policy.statements.iter().map(|statement| statement.sid.chars().count()).max().unwrap_or_default();
    for statement in &policy.statements {
        tell!("{:width$}  {}", statement.sid, statement.why);
    }
    document::write_json(&policy.document())?;
    Ok(Exit::Success)
}
