//! `archive.create`: a folder into an archive.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::pipe::pipe;
use super::writer::{Special, TreeWriter, Written};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, ByteStream, CheckContext, EffectClass, Effects, Example, FileKind,
    Findings, Idempotency, ParamFault, PlainFacts, PlanContext, PutOptions, RunContext, Target,
};
use crate::actions::store::arrival::{Arrival, Existing};
use crate::actions::store::body::{copy, file_failed, on_files, until_cancelled};
use crate::actions::store::carry::prove;
use crate::actions::store::passing::{Meter, Passing};
use crate::actions::store::place::FileSpot;
use crate::actions::store::{FilePlace, Glob, Proof, store_failed, transfer_failed};
use crate::base::Digest;
use crate::language::inventory::{Compression, CompressionFormat, StoreEntry};
use crate::transfer::Packing;

const FILE_MODE: u32 = 0o640;

/// Creates an archive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Create;

/// The arguments of `archive.create`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateParams {
    /// The folder, an absolute path. The archive's names begin below it.
    pub from: PathBuf,
    /// Where the archive is made: `{ path }` or `{ store, key }`.
    pub to: FilePlace,
    /// How it is compressed. Default `zstd`.
    #[serde(default)]
    pub compression: CompressionFormat,
    /// How hard: zstd 1 to 19, gzip 1 to 9.
    #[serde(default)]
    pub level: Option<i32>,
    /// What is left out: patterns for names below the folder; a folder with all it holds.
    #[serde(default)]
    pub exclude: Vec<Glob>,
    /// What is done about sockets, pipes and devices. Default `refuse`.
    #[serde(default)]
    pub special: Special,
    /// A file to write beside: path, size, SHA-256 and mode of every file, for `archive.extract` to compare with.
    #[serde(default)]
    pub index: Option<PathBuf>,
    /// Replaces an archive with other content.
    #[serde(default)]
    pub overwrite: bool,
    /// How the arrival in a store is proven. Default `read_back`.
    #[serde(default)]
    pub proof: Proof,
}

/// The outputs of `archive.create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateOutput {
    /// Its bytes as stored.
    pub size_bytes: u64,
    /// SHA-256 of its bytes as stored.
    pub sha256: Digest,
    /// SHA-256 of the tar archive before compression.
    pub plain_sha256: Digest,
    /// Bytes of the tar archive before compression.
    pub plain_size_bytes: u64,
    /// How many files it holds, second names counted.
    pub files: u64,
    /// How many folders.
    pub folders: u64,
    /// How many links, symbolic and hard.
    pub links: u64,
    /// How many sockets, pipes and devices were left out.
    pub skipped: u64,
    /// The bytes of the contents together.
    pub content_bytes: u64,
}

impl CreateParams {
    fn packing(&self, cx: &RunContext) -> Result<Packing, ActionError> {
        let compression = Compression { format: self.compression, level: self.level };
        let entry = StoreEntry { compression: Some(compression), ..StoreEntry::default() };
        Packing::of(&entry, &*cx.about.secrets).map_err(transfer_failed)
    }
}

impl Action for Create {
    const SPEC: ActionSpec = ActionSpec {
        name: "archive.create",
        summary: "Makes a tar archive of a folder: links, holes, owners, modes, times and attributes as they are.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "A folder into a store",
                with: "from: /srv/media\nto: { store: primary, key: files/media.tar.zst }\nexclude: ['*.tmp', 'cache']",
            },
            Example {
                title: "Into a file, with an index",
                with: "from: /etc\nto: { path: /var/backups/etc.tar.gz }\ncompression: gzip\nlevel: 9\nindex: /var/backups/etc.index.json\nspecial: skip",
            },
        ],
    };
    type Params = CreateParams;
    type Output = CreateOutput;

    fn effects(&self, params: &CreateParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let spot = params.to.spot("/to").map_err(|fault| vec![fault])?;
        let mut faults = Vec::new();
        if params.from.is_relative() {
            faults.push(ParamFault::new("/from", "the path is not absolute"));
        }
        if params.index.as_deref().is_some_and(Path::is_relative) {
            faults.push(ParamFault::new("/index", "the path is not absolute"));
        }
        if matches!(&spot, FileSpot::File(path) if path.starts_with(&params.from)) {
            faults.push(ParamFault::new("/to/path", "the archive would lie in the folder that it is made of"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let (class, access) = match params.overwrite {
            true => (EffectClass::Destroy, Access::Destroy),
            false => (EffectClass::Write, Access::Write),
        };
        let on_host = |path: &PathBuf| Target::Path { host: cx.host.to_owned(), path: path.clone() };
        let effects = Effects::of(class).target(Access::Read, on_host(&params.from)).target(access, spot.target(cx));
        Ok(params.index.iter().fold(effects, |effects, path| effects.target(Access::Write, on_host(path))))
    }

    fn by_hand(&self, params: &CreateParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(spot) = params.to.spot("/to") else { return Vec::new() };
        let (from, to) = (params.from.display().to_string(), spot.shown(cx));
        let (file, remarks) = match to.contains("://") {
            true => ("archive.tar".to_owned(), Some(remark(&format!("copy it to {to} with the store's own tool")))),
            false => (to, None),
        };
        let program = match params.compression {
            CompressionFormat::Zstd => Some("--zstd"),
            CompressionFormat::Gzip => Some("--gzip"),
            CompressionFormat::Lz4 => Some("--use-compress-program=lz4"),
            CompressionFormat::None => None,
        };
        let words = ["tar", "-cSf", &file, "--xattrs", "--numeric-owner", "--sort=name"].into_iter();
        let line = command_line(words.chain(program).chain(["-C", from.as_str(), "."]));
        [line].into_iter().chain(remarks).collect()
    }

    async fn check(&self, params: &CreateParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let found = cx.host.read_files().facts(&params.from).map_err(file_failed)?;
        let (findings, shown) = (Findings::default(), params.from.display());
        Ok(match found.map(|facts| facts.kind) {
            Some(FileKind::Directory) => findings.pass(format!("`{shown}` is a folder")),
            Some(_) => findings.refuse(format!("`{shown}` is not a folder"), "name a folder"),
            None if cx.ahead => findings.pending(format!("`{shown}` is not there yet")),
            None => findings.refuse(format!("`{shown}` is not there"), "make it in an earlier step"),
        })
    }

    async fn run(&self, params: &CreateParams, cx: &RunContext) -> Result<CreateOutput, ActionError> {
        until_cancelled(cx, create(params, cx)).await
    }
}

async fn create(params: &CreateParams, cx: &RunContext) -> Result<CreateOutput, ActionError> {
    let (into, from) = pipe();
    let tree = TreeWriter {
        files: cx.host.read_files(),
        root: params.from.clone(),
        exclude: params.exclude.clone(),
        special: params.special,
    };
    let writing = tokio::task::spawn_blocking(move || tree.write(into));
    let meter = Meter::new(cx, None);
    let plain: ByteStream = Box::new(Passing::new(Box::new(from)).metered(&meter));
    let (body, packed) = params.packing(cx)?.seal(plain).split();
    let (stored, written) = tokio::join!(store_body(params, body, cx), writing);
    let written =
        written.map_err(|error| ActionError::fatal("the writing of the archive broke off").because(&error))?;
    // Why the writer gave up tells more than that its bytes ended too soon.
    let broke_pipe = |error: &ActionError| error.to_string().contains("broken pipe");
    let (facts, written) = match (stored, written) {
        (Ok(facts), Ok(written)) => (facts, written),
        (Err(error), Err(cause)) if broke_pipe(&cause) => return Err(error),
        (Err(error), Ok(_)) | (_, Err(error)) => return Err(error),
    };
    let packed = packed().ok_or_else(|| ActionError::fatal("the archive was not read to its end"))?;
    let plain = packed.plain.facts().ok_or_else(|| ActionError::fatal("no digest of the archive was taken"))?;
    write_index(params, &written, cx).await?;
    Ok(CreateOutput {
        size_bytes: facts.size_bytes,
        sha256: facts.sha256,
        plain_sha256: plain.sha256,
        plain_size_bytes: plain.size_bytes,
        files: written.files.len() as u64,
        folders: written.folders,
        links: written.links,
        skipped: written.skipped,
        content_bytes: written.content_bytes,
    })
}

async fn store_body(params: &CreateParams, body: ByteStream, cx: &RunContext) -> Result<PlainFacts, ActionError> {
    match params.to.known()? {
        FileSpot::File(path) => {
            let existing = Existing::from(params.overwrite);
            let (arrival, file) = Arrival::begin(cx.host.files(), &path, FILE_MODE, existing).await?;
            let (mut body, mut into) = (body, tokio::fs::File::from_std(file));
            let written = copy(&mut body, &mut into).await;
            let written = written.map(|(size_bytes, sha256)| PlainFacts { size_bytes, sha256 });
            let shown = path.display();
            arrival
                .end(written.map_err(|error| ActionError::retryable(format!("cannot write `{shown}`")).because(&error)))
                .await
        }
        FileSpot::Object(name, key) => {
            let store = cx.store(name.as_str())?;
            let options = PutOptions { if_absent: !params.overwrite, ..PutOptions::default() };
            let put = store.put(&key, body, options).await.map_err(store_failed)?;
            let stored = prove((&*store, &key), &put, params.proof).await?;
            Ok(PlainFacts { size_bytes: stored.size_bytes, sha256: stored.sha256 })
        }
    }
}

async fn write_index(params: &CreateParams, written: &Written, cx: &RunContext) -> Result<(), ActionError> {
    let Some(path) = params.index.clone() else { return Ok(()) };
    let text = Index::new(written.files.clone()).text()?;
    on_files(cx.host.files(), move |files| files.replace(&path, &text, FILE_MODE)).await
}
