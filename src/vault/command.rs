//! Secrets from the standard output of a command, without the final newline.

use super::RunCommand;
use super::file::text;
use super::miss::Miss;
use crate::action::ActionError;

pub(super) fn fetch(name: &str, argv: &[String], run: &RunCommand) -> Result<String, Miss> {
    let program = argv.first().ok_or_else(|| Miss::failed(format!("secret `{name}`: the command is empty")))?;
    let output =
        run(argv).map_err(|error| Miss::failed(format!("secret `{name}`: cannot run `{program}`")).because(&error))?;
    if !output.success() {
        let tail = String::from_utf8_lossy(&output.stderr);
        let tail = tail.lines().rev().take(5).map(str::to_owned).collect::<Vec<_>>().into_iter().rev().collect();
        // Only standard error is shown: standard output may hold the secret even of a command that failed.
        let code = output.exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
        let error = ActionError::fatal(format!("secret `{name}`: `{program}` failed{code}"));
        return Err(Miss::Failed(error.process(output.exit_code, tail)));
    }
    if output.stdout_cut > 0 {
        return Err(Miss::failed(format!("secret `{name}`: `{program}` wrote too much to be a secret")));
    }
    text(name, output.stdout)
}
