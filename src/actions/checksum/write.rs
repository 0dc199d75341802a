//! `checksum.write`: digests of files into a sidecar.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sidecar::{Entry, digests, relative};
use crate::action::by_hand::{command_line, quoted};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, RunContext, Target,
};

const MODE: u32 = 0o644;

/// Writes a sidecar.
#[derive(Debug, Clone, Copy, Default)]
pub struct Write;

/// The arguments of `checksum.write`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteParams {
    /// The files, absolute paths below the sidecar's folder.
    #[schemars(length(min = 1))]
    pub files: Vec<PathBuf>,
    /// The sidecar to write, an absolute path.
    pub sidecar: PathBuf,
}

/// The outputs of `checksum.write`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WriteOutput {
    /// The sidecar.
    pub sidecar: PathBuf,
    /// How many files it names.
    pub count: u64,
    /// Their sizes together.
    pub size_bytes: u64,
}

impl Action for Write {
    const SPEC: ActionSpec = ActionSpec {
        name: "checksum.write",
        summary: "Writes the SHA-256 of files into a sidecar that `sha256sum -c` reads.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "Digest a dump",
            with: "{ files: [/var/backups/orders.dump], sidecar: /var/backups/orders.dump.sha256 }",
        }],
    };
    type Params = WriteParams;
    type Output = WriteOutput;

    fn effects(&self, params: &WriteParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let mut faults = Vec::new();
        if params.files.is_empty() {
            faults.push(ParamFault::new("/files", "there is no file to digest"));
        }
        if params.sidecar.is_relative() || params.sidecar.file_name().is_none() {
            faults.push(ParamFault::new("/sidecar", "the path is not the absolute path of a file"));
        }
        for (index, file) in params.files.iter().enumerate() {
            if relative(&params.sidecar, file).is_none() || *file == params.sidecar {
                let fault = ParamFault::new(format!("/files/{index}"), "the file is not below the sidecar's folder");
                faults.push(fault.help("names in the sidecar are relative to it, so that both can be moved together"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let path = |path: &PathBuf| Target::Path { host: cx.host.to_owned(), path: path.clone() };
        let effects = Effects::of(EffectClass::Write).target(Access::Write, path(&params.sidecar));
        Ok(params.files.iter().fold(effects, |effects, file| effects.target(Access::Read, path(file))))
    }

    fn by_hand(&self, params: &WriteParams, _: &PlanContext<'_>) -> Vec<String> {
        let folder = params.sidecar.parent().unwrap_or(&params.sidecar);
        let name = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let words = ["sha256sum".to_owned()].into_iter().chain(params.files.iter().map(name));
        let (into, line) = (quoted(&name(&params.sidecar)), command_line(words));
        vec![format!("(cd {} && {line} > {into})", quoted(&folder.display().to_string()))]
    }

    async fn check(&self, params: &WriteParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let files = cx.host.read_files();
        let mut findings = Findings::default();
        for file in &params.files {
            let found = files.facts(file).map_err(|error| ActionError::fatal(error.to_string()).because(&error))?;
            let path = file.display();
            findings = match found {
                Some(_) => findings.pass(format!("`{path}` is there")),
                None if cx.ahead => findings.pending(format!("`{path}` is not there yet")),
                None => findings.refuse(format!("`{path}` is not there"), "make it in an earlier step"),
            };
        }
        Ok(findings)
    }

    async fn run(&self, params: &WriteParams, cx: &RunContext) -> Result<WriteOutput, ActionError> {
        let found = tokio::select! {
            found = digests(cx.host.read_files(), params.files.clone()) => found?,
            () = cx.cancel.cancelled() => return Err(ActionError::cancelled("nothing was written")),
        };
        let mut text = String::new();
        for (file, (_, sha256)) in params.files.iter().zip(&found) {
            let name = relative(&params.sidecar, file)
                .ok_or_else(|| ActionError::fatal(format!("`{}` is not below the sidecar", file.display())))?;
            text.push_str(&Entry { sha256: *sha256, name }.line());
        }
        cx.host
            .files()
            .replace(&params.sidecar, text.as_bytes(), MODE)
            .map_err(|error| ActionError::fatal(error.to_string()).because(&error))?;
        Ok(WriteOutput {
            sidecar: params.sidecar.clone(),
            count: found.len() as u64,
            size_bytes: found.iter().map(|(size, _)| size).sum(),
        })
    }
}
