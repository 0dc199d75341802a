//! `crypt.encrypt`: a file or an object, encrypted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::delivery::{Parcel, There, deliver};
use super::keys::Keys;
use super::note::Note;
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, RunContext,
};
use crate::actions::store::FilePlace;
use crate::actions::store::arrival::Existing;
use crate::actions::store::body::until_cancelled;
use crate::actions::store::source::{Source, check_source};
use crate::base::Digest;
use crate::language::inventory::CompressionFormat;

/// Encrypts a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Encrypt;

/// The arguments of `crypt.encrypt`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptParams {
    /// What is encrypted: `{ path }` or `{ store, key }`.
    pub from: FilePlace,
    /// Where to. A note with `.runbook.json` at its name's end is written beside.
    pub to: FilePlace,
    /// How.
    pub by: Keys,
    /// How it is compressed before. Default not.
    #[serde(default = "uncompressed")]
    pub compression: CompressionFormat,
    /// Replaces what is there.
    #[serde(default)]
    pub overwrite: bool,
}

pub(super) fn uncompressed() -> CompressionFormat {
    CompressionFormat::None
}

/// The outputs of `crypt.encrypt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EncryptOutput {
    /// The encrypted bytes.
    pub size_bytes: u64,
    /// SHA-256 of the encrypted bytes.
    pub sha256: Digest,
    /// The plain bytes.
    pub plain_size_bytes: u64,
    /// SHA-256 of the plain bytes.
    pub plain_sha256: Digest,
    /// Whether it was there before, made of the same bytes.
    pub existed: bool,
}

impl EncryptOutput {
    pub(super) fn of(note: &Note, existed: bool) -> Self {
        Self {
            size_bytes: note.stored.size_bytes,
            sha256: note.stored.sha256,
            plain_size_bytes: note.plain.size_bytes,
            plain_sha256: note.plain.sha256,
            existed,
        }
    }
}

impl Action for Encrypt {
    const SPEC: ActionSpec = ActionSpec {
        name: "crypt.encrypt",
        summary: "Encrypts a file or an object with age, openssl or gpg, and notes beside it how.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "For two people, one of whose keys lies in a safe",
                with: "from: { path: /var/backups/orders.dump }\nto: { store: primary, key: dumps/orders.dump.age }\nby: { recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p, age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg] }",
            },
            Example {
                title: "With a password, readable by openssl",
                with: "from: { path: /var/backups/orders.dump }\nto: { path: /var/backups/orders.dump.enc }\nby: { openssl: { password: '{{ secrets.backup_password }}', iterations: 600000 } }\ncompression: zstd",
            },
        ],
    };
    type Params = EncryptParams;
    type Output = EncryptOutput;

    fn effects(&self, params: &EncryptParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let (from, to) = match (params.from.spot("/from"), params.to.spot("/to"), params.by.writing_fault("/by")) {
            (Ok(from), Ok(to), None) => (from, to),
            (from, to, fault) => return Err([from.err(), to.err(), fault].into_iter().flatten().collect()),
        };
        if from == to {
            return Err(vec![ParamFault::new("/to", "it is the source itself")]);
        }
        let (class, access) = match params.overwrite {
            true => (EffectClass::Destroy, Access::Destroy),
            false => (EffectClass::Write, Access::Write),
        };
        Ok(Effects::of(class).target(Access::Read, from.target(cx)).target(access, to.target(cx)))
    }

    fn by_hand(&self, params: &EncryptParams, cx: &PlanContext<'_>) -> Vec<String> {
        let (Ok(from), Ok(to)) = (params.from.spot("/from"), params.to.spot("/to")) else { return Vec::new() };
        let program = if params.by.openssl.is_some() {
            "openssl enc -aes-256-cbc -pbkdf2"
        } else if params.by.gpg.is_some() {
            "gpg --symmetric --cipher-algo AES256"
        } else {
            "age"
        };
        vec![remark(&format!("encrypt {} to {} with `{program}`", from.shown(cx), to.shown(cx)))]
    }

    async fn check(&self, params: &EncryptParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        check_source(&params.from.known()?, cx).await
    }

    async fn run(&self, params: &EncryptParams, cx: &RunContext) -> Result<EncryptOutput, ActionError> {
        until_cancelled(cx, encrypt(params, cx)).await
    }
}

async fn encrypt(params: &EncryptParams, cx: &RunContext) -> Result<EncryptOutput, ActionError> {
    let (from, to) = (params.from.known()?, params.to.known()?);
    let packing = params.by.at_hand(cx)?.packing(params.compression)?;
    let source = Source::open(&from, None, cx).await?;
    let mut existing = Existing::Replace;
    if !params.overwrite {
        // The same plain bytes, made the same way, and the stored bytes are what the note says: it is done.
        let done = Note::of_whole(&to, cx).await?.filter(|note| note.plain == source.facts);
        if let Some(note) = done.filter(|note| note.encoding == *packing.encoding()) {
            return Ok(EncryptOutput::of(&note, true));
        }
        existing = There::at(&to, cx).await?.way(&to)?;
    }
    let encoding = packing.encoding().clone();
    let (body, packed) = packing.seal(source.into_body()).split();
    let note = deliver(&to, Parcel { source: from.to_string(), body, packed, encoding, existing }, cx).await?;
    Ok(EncryptOutput::of(&note, false))
}
