//! `archive.extract`: a folder out of an archive.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::reader::{Extracted, TreeReader};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    Interrupted, Late, ParamFault, PlanContext, ReadFiles, Recovery, RunContext, Target,
};
use crate::actions::store::FilePlace;
use crate::actions::store::body::{file_failed, on_files, until_cancelled};
use crate::actions::store::source::{Source, check_source};
use crate::base::Digest;

const FOLDER_MODE: u32 = 0o750;
const STAGED_MODE: u32 = 0o700;
/// Kept in the attempt's folder before the rename: what an interrupted attempt had done.
const RECEIPT: &str = "extracted.json";
const RECEIPT_BYTES: u64 = 1 << 20;
/// Differences that an error names.
const NAMED: usize = 10;

/// Extracts an archive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extract;

/// The arguments of `archive.extract`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractParams {
    /// The archive: `{ path }` or `{ store, key }`. Its compression is told by its content.
    pub from: FilePlace,
    /// The folder to make, an absolute path; it must not exist, or be empty.
    pub to: PathBuf,
    /// The SHA-256 it must have. Default: for an object the one it was stored with.
    #[serde(default)]
    pub sha256: Option<Late<Digest>>,
    /// The index that `archive.create` wrote: what the archive holds must be just that.
    #[serde(default)]
    pub index: Option<PathBuf>,
    /// Whose the files are. Default `auto`.
    #[serde(default)]
    pub ownership: Ownership,
    /// Which symbolic links are taken. Default `inside`.
    #[serde(default)]
    pub links: Links,
}

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// As the archive says where the engine runs as root, else the engine's own.
    #[default]
    Auto,
    /// As the archive says, by number; needs root.
    Keep,
    /// The engine's own; bits and attributes that lend the owner's rights are dropped.
    Own,
}

/// Which symbolic links are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// Those that stay in the folder; another is an error.
    #[default]
    Inside,
    /// All, as they are. They are never followed.
    Any,
}

/// The outputs of `archive.extract`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExtractOutput {
    /// The folder.
    pub path: PathBuf,
    /// How many files it holds, second names counted.
    pub files: u64,
    /// How many folders.
    pub folders: u64,
    /// How many links, symbolic and hard.
    pub links: u64,
    /// The bytes of the contents together.
    pub content_bytes: u64,
    /// SHA-256 of the archive as it is stored.
    pub sha256: Digest,
    /// How it is compressed.
    pub compression: String,
    /// Extended attributes that were left out: rights of another owner, and what only root may set.
    pub attributes_left: u64,
}

impl Action for Extract {
    const SPEC: ActionSpec = ActionSpec {
        name: "archive.extract",
        summary: "Extracts a tar archive into a new folder, which gets its name when everything is there and proven.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "An archive of a store",
                with: "from: { store: primary, key: files/media.tar.zst }\nto: /var/restore/media",
            },
            Example {
                title: "A file, compared with its index",
                with: "from: { path: /var/backups/etc.tar.gz }\nto: /var/restore/etc\nindex: /var/backups/etc.index.json\nownership: own\nlinks: any",
            },
        ],
    };
    type Params = ExtractParams;
    type Output = ExtractOutput;

    fn effects(&self, params: &ExtractParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let spot = params.from.spot("/from").map_err(|fault| vec![fault])?;
        if !params.to.is_absolute() || params.to.file_name().is_none() {
            return Err(vec![ParamFault::new("/to", "the path is not the absolute path of a folder")]);
        }
        if params.index.as_deref().is_some_and(Path::is_relative) {
            return Err(vec![ParamFault::new("/index", "the path is not absolute")]);
        }
        let folder = Target::Path { host: cx.host.to_owned(), path: params.to.clone() };
        Ok(Effects::of(EffectClass::Write).target(Access::Read, spot.target(cx)).target(Access::Write, folder))
    }

    fn by_hand(&self, params: &ExtractParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(spot) = params.from.spot("/from") else { return Vec::new() };
        let (from, to) = (spot.shown(cx), params.to.display().to_string());
        let remarks = from.contains("://").then(|| remark(&format!("fetch {from} with the store's own tool first")));
        let lines = [
            command_line(["mkdir", "-p", &to]),
            command_line(["tar", "-xpSf", &from, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", &to]),
        ];
        remarks.into_iter().chain(lines).collect()
    }

    async fn check(&self, params: &ExtractParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let findings = check_source(&params.from.known()?, cx).await?;
        if params.ownership == Ownership::Keep && cx.host.effective_uid() != 0 {
            return Ok(findings.refuse("only root may give files away", "say `ownership: own`, or run as root"));
        }
        if occupied(&*cx.host.read_files(), &params.to)? {
            let fact = format!("`{}` is there and not empty", params.to.display());
            return Ok(findings.refuse(fact, "name a folder that does not exist: nothing is extracted over another"));
        }
        Ok(findings)
    }

    async fn run(&self, params: &ExtractParams, cx: &RunContext) -> Result<ExtractOutput, ActionError> {
        let files = cx.host.files();
        if occupied(&*cx.host.read_files(), &params.to)? {
            let fact = format!("`{}` is there and not empty", params.to.display());
            return Err(ActionError::fatal(fact).help("name a folder that does not exist"));
        }
        let staged = staged_of(&params.to);
        let prepared = staged.clone();
        on_files(Arc::clone(&files), move |files| {
            if files.facts(&prepared)?.is_some() {
                files.remove_tree(&prepared)?;
            }
            if let Some(parent) = prepared.parent().filter(|parent| parent.parent().is_some())
                && files.facts(parent)?.is_none()
            {
                files.create_dir(parent, FOLDER_MODE)?;
            }
            files.create_dir(&prepared, STAGED_MODE)
        })
        .await?;
        match extract(params, &staged, cx).await {
            Ok(output) => place(&output, &staged, cx).await.map(|()| output),
            Err(error) => {
                on_files(files, move |files| files.remove_tree(&staged)).await?;
                Err(error)
            }
        }
    }

    /// The receipt is written before the folder gets its name: both there means that it happened.
    async fn recover(
        &self,
        params: &ExtractParams,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<ExtractOutput>, ActionError> {
        let files = cx.host.read_files();
        if !occupied(&*files, &params.to)? {
            return Ok(Recovery::Rerun);
        }
        let receipt = files.read(&cut.attempt_dir.join(RECEIPT), RECEIPT_BYTES).ok();
        let output = receipt.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let gone = files.facts(&staged_of(&params.to)).map_err(file_failed)?.is_none();
        Ok(match output.filter(|_| gone) {
            Some(output) => Recovery::Adopt(output),
            None => Recovery::Ask { why: format!("`{}` is there, but not by this step", params.to.display()) },
        })
    }
}

fn staged_of(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.runbook-staged"))
}

fn occupied(files: &dyn ReadFiles, to: &Path) -> Result<bool, ActionError> {
    match files.facts(to).map_err(file_failed)?.map(|facts| facts.kind) {
        None => Ok(false),
        Some(crate::action::FileKind::Directory) => Ok(!files.list(to).map_err(file_failed)?.is_empty()),
        Some(_) => Ok(true),
    }
}

async fn extract(params: &ExtractParams, staged: &Path, cx: &RunContext) -> Result<ExtractOutput, ActionError> {
    let sha256 = params.sha256.as_ref().map(Late::get).transpose()?.copied();
    let index = params.index.as_ref().map(|path| Index::load(&*cx.host.read_files(), path)).transpose()?;
    let ownership = match params.ownership {
        Ownership::Auto if cx.host.effective_uid() == 0 => Ownership::Keep,
        Ownership::Auto => Ownership::Own,
        Ownership::Keep | Ownership::Own => params.ownership,
    };
    let from = params.from.known()?;
    let source = until_cancelled(cx, Source::open(&from, sha256, cx)).await?;
    let sha256 = source.facts.sha256;
    let tree = TreeReader { files: cx.host.files(), root: staged.to_owned(), links: params.links, ownership };
    let extracted = source.read(move |reader| tree.read(reader)).await?;
    if let Some(index) = index {
        compare(&index, &extracted)?;
    }
    if extracted.attributes_left > 0 {
        let message = format!("{} extended attributes that give rights were left out", extracted.attributes_left);
        cx.reporter.note(message, serde_json::Value::Null);
    }
    Ok(ExtractOutput {
        path: params.to.clone(),
        files: extracted.files.len() as u64,
        folders: extracted.folders,
        links: extracted.links,
        content_bytes: extracted.content_bytes,
        sha256,
        compression: extracted.compression.to_owned(),
        attributes_left: extracted.attributes_left,
    })
}

fn compare(index: &Index, extracted: &Extracted) -> Result<(), ActionError> {
    let differences = index.differences(&extracted.files);
    if differences.is_empty() {
        return Ok(());
    }
    let first = differences[..differences.len().min(NAMED)].join("; ");
    let fact = format!("the archive is not what its index says, in {} places: {first}", differences.len());
    Err(ActionError::fatal(fact).help("nothing was put into place"))
}

/// Gives the staged folder its name, durably.
async fn place(output: &ExtractOutput, staged: &Path, cx: &RunContext) -> Result<(), ActionError> {
    let receipt = serde_json::to_vec(output)
        .map_err(|error| ActionError::fatal("the receipt cannot be written").because(&error))?;
    let (staged, to, at) = (staged.to_owned(), output.path.clone(), cx.attempt_dir.join(RECEIPT));
    on_files(cx.host.files(), move |files| {
        files.replace(&at, &receipt, 0o600)?;
        files.rename(&staged, &to)?;
        files.sync(to.parent().unwrap_or(Path::new("/")))
    })
    .await
}
