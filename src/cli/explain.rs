//! `runbook explain CODE`.

use super::{Exit, Failure};
use crate::base::diagnostic;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  runbook explain RB0204\n  runbook explain          list every code")]
pub struct Args {
    /// The code, for example RB0204
    code: Option<String>,
}

/// Explains one code, or lists all.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let Some(code) = args.code else {
        for code in diagnostic::Code::ALL {
            out!("{}  {}", code.as_str(), code.title());
        }
        return Ok(Exit::Success);
    };
    match diagnostic::explain(&code) {
        Some(text) => {
            out!("{text}");
            Ok(Exit::Success)
        }
        None => {
            let near = diagnostic::near_code(&code).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            Err(Failure::new(Exit::Usage, format!("there is no code `{code}`"))
                .help(format!("{near}`runbook explain` lists every code")))
        }
    }
}
