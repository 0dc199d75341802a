//! `checksum.verify`: files against their sidecar.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sidecar::{Entry, LIMIT_BYTES, digests, parse_sidecar};
use crate::action::by_hand::{command_line, quoted};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, ReadFiles, RunContext, Target,
};

/// Verifies files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verify;

/// The arguments of `checksum.verify`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyParams {
    /// The sidecar, an absolute path. Every file it names must be there and be the same.
    pub sidecar: PathBuf,
}

/// The outputs of `checksum.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyOutput {
    /// How many files were verified.
    pub count: u64,
    /// Their sizes together.
    pub size_bytes: u64,
}

impl Action for Verify {
    const SPEC: ActionSpec = ActionSpec {
        name: "checksum.verify",
        summary: "Verifies files against a sidecar written by `checksum.write` or `sha256sum`.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example { title: "Verify a dump", with: "{ sidecar: /var/backups/orders.dump.sha256 }" }],
    };
    type Params = VerifyParams;
    type Output = VerifyOutput;

    fn effects(&self, params: &VerifyParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let folder = params.sidecar.parent().filter(|_| params.sidecar.is_absolute());
        let Some(folder) = folder else {
            return Err(vec![ParamFault::new("/sidecar", "the path is not the absolute path of a file")]);
        };
        let target = Target::Path { host: cx.host.to_owned(), path: folder.to_owned() };
        Ok(Effects::of(EffectClass::Read).target(Access::Read, target))
    }

    fn by_hand(&self, params: &VerifyParams, _: &PlanContext<'_>) -> Vec<String> {
        let folder = params.sidecar.parent().unwrap_or(&params.sidecar).display().to_string();
        let name = params.sidecar.file_name().unwrap_or_default().to_string_lossy().into_owned();
        vec![format!("(cd {} && {})", quoted(&folder), command_line(["sha256sum", "-c", &name]))]
    }

    async fn check(&self, params: &VerifyParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let files = cx.host.read_files();
        let found =
            files.facts(&params.sidecar).map_err(|error| ActionError::fatal(error.to_string()).because(&error))?;
        if found.is_none() && cx.ahead {
            return Ok(Findings::default().pending(format!("`{}` is not there yet", params.sidecar.display())));
        }
        Ok(match entries(&*files, &params.sidecar) {
            Ok(entries) => Findings::default().pass(format!("{} files to verify", entries.len())),
            Err(error) => Findings::default().refuse(error.to_string(), "a missing checksum is no proof"),
        })
    }

    async fn run(&self, params: &VerifyParams, cx: &RunContext) -> Result<VerifyOutput, ActionError> {
        let files = cx.host.read_files();
        let entries = entries(&*files, &params.sidecar)?;
        let folder = params.sidecar.parent().unwrap_or(Path::new("/"));
        let paths = entries.iter().map(|entry| folder.join(&entry.name)).collect();
        let found = tokio::select! {
            found = digests(files, paths) => found?,
            () = cx.cancel.cancelled() => return Err(ActionError::cancelled("the verification was cancelled")),
        };
        let differs = |(entry, (_, found)): &(&Entry, &(u64, _))| entry.sha256 != *found;
        let wrong: Vec<String> =
            entries.iter().zip(&found).filter(differs).map(|(entry, _)| format!("`{}`", entry.name)).collect();
        if !wrong.is_empty() {
            return Err(ActionError::fatal(format!(
                "{} of {} files differ: {}",
                wrong.len(),
                found.len(),
                wrong.join(", ")
            )));
        }
        Ok(VerifyOutput { count: found.len() as u64, size_bytes: found.iter().map(|(size, _)| size).sum() })
    }
}

/// Reads a sidecar. One that is missing, empty, or not wholly understood is an error.
fn entries(files: &dyn ReadFiles, sidecar: &Path) -> Result<Vec<Entry>, ActionError> {
    let shown = sidecar.display();
    let bytes =
        files.read(sidecar, LIMIT_BYTES).map_err(|error| ActionError::fatal(error.to_string()).because(&error))?;
    parse_sidecar(&shown.to_string(), bytes)
}
