//! `crypt.decrypt`: the plain bytes back, published when they are proven.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::delivery::deliver_plain;
use super::keys::Keys;
use super::note::Note;
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, ByteStream, CheckContext, EffectClass, Effects, Example, Findings,
    Idempotency, Late, ParamFault, PlanContext, RunContext,
};
use crate::actions::store::FilePlace;
use crate::actions::store::arrival::Existing;
use crate::actions::store::body::until_cancelled;
use crate::actions::store::place::FileSpot;
use crate::actions::store::source::{Source, check_source};
use crate::base::Digest;

/// Decrypts a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decrypt;

/// The arguments of `crypt.decrypt`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecryptParams {
    /// What is decrypted: `{ path }` or `{ store, key }`.
    pub from: FilePlace,
    /// Where the plain bytes go.
    pub to: FilePlace,
    /// The keys. Where no note lies beside, they say the format too, and `openssl` all of its derivation.
    pub by: Keys,
    /// SHA-256 of the plain bytes, for what has no note.
    #[serde(default)]
    pub sha256: Option<Late<Digest>>,
    /// Takes what `openssl enc` gives without any proof: neither a note nor `sha256`. A wrong password or a changed byte
    /// may go unnoticed.
    #[serde(default)]
    pub unproven: bool,
    /// Replaces what is there.
    #[serde(default)]
    pub overwrite: bool,
}

/// The outputs of `crypt.decrypt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecryptOutput {
    /// The plain bytes.
    pub size_bytes: u64,
    /// SHA-256 of the plain bytes.
    pub sha256: Digest,
    /// Whether they are proven: by a digest, or by the cipher itself.
    pub proven: bool,
}

impl Action for Decrypt {
    const SPEC: ActionSpec = ActionSpec {
        name: "crypt.decrypt",
        summary: "Decrypts a file or an object; the result gets its name when it is proven.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "What `crypt.encrypt` made",
                with: "from: { store: primary, key: dumps/orders.dump.age }\nto: { path: /var/restore/orders.dump }\nby: { identities: ['{{ secrets.age_identity }}'] }",
            },
            Example {
                title: "What an old script made with `openssl enc -k`",
                with: "from: { path: /var/backups/old.enc }\nto: { path: /var/restore/old.tar }\nby: { openssl: { password: '{{ secrets.old_password }}', kdf: legacy, digest: md5 } }\nunproven: true",
            },
        ],
    };
    type Params = DecryptParams;
    type Output = DecryptOutput;

    fn effects(&self, params: &DecryptParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let (from, to) = match (params.from.spot("/from"), params.to.spot("/to"), params.by.reading_fault("/by")) {
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

    fn by_hand(&self, params: &DecryptParams, cx: &PlanContext<'_>) -> Vec<String> {
        let (Ok(from), Ok(to)) = (params.from.spot("/from"), params.to.spot("/to")) else { return Vec::new() };
        let (from, to) = (from.shown(cx), to.shown(cx));
        vec![remark(&format!("decrypt {from} to {to}; {from}.runbook.json says with which program and options"))]
    }

    async fn check(&self, params: &DecryptParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        check_source(&params.from.known()?, cx).await
    }

    async fn run(&self, params: &DecryptParams, cx: &RunContext) -> Result<DecryptOutput, ActionError> {
        let (from, to) = (params.from.known()?, params.to.known()?);
        let work = async {
            let given = params.sha256.as_ref().map(Late::get).transpose()?.copied();
            let opened = Opened::of(&from, &params.by, (given, params.unproven), cx).await?;
            let plain = (from.to_string(), opened.plain);
            let facts = deliver_plain(&to, plain, Existing::from(params.overwrite), cx).await?;
            Ok(DecryptOutput { size_bytes: facts.size_bytes, sha256: facts.sha256, proven: opened.proven })
        };
        until_cancelled(cx, work).await
    }
}

/// An encrypted file that is read.
pub(super) struct Opened {
    /// The plain bytes; the last read fails unless they are what they must be.
    pub(super) plain: ByteStream,
    pub(super) proven: bool,
}

impl Opened {
    /// Opens it with its note, else as the keys say.
    pub(super) async fn of(
        from: &FileSpot,
        by: &Keys,
        (given, unproven): (Option<Digest>, bool),
        cx: &RunContext,
    ) -> Result<Self, ActionError> {
        let keys = by.at_hand(cx)?;
        if let Some(note) = Note::beside(from, cx).await? {
            if given.is_some_and(|given| given != note.plain.sha256) {
                return Err(ActionError::fatal(format!("the note of `{from}` names another SHA-256 than `sha256`")));
            }
            let body = Source::open(from, Some(note.stored.sha256), cx).await?.into_body();
            let plain = keys.unpacking(&note.encoding)?.open(body, note.expected());
            return Ok(Self { plain, proven: true });
        }
        if by.store.is_some() {
            let fact = format!("`{from}` has no note, so nothing says how it was encrypted");
            return Err(ActionError::fatal(fact).help("say it: `identities`, `passphrase`, `openssl` or `gpg` in `by`"));
        }
        let proven = by.authenticates() || given.is_some();
        if !proven && !unproven {
            let fact = format!("`{from}` has no note, and `openssl enc` proves nothing by itself");
            return Err(ActionError::fatal(fact).help("give `sha256` of the plain bytes, or say `unproven: true`"));
        }
        let body = Source::open(from, None, cx).await?.into_body();
        let plain = keys.unpacking(&by.encoding())?.open_foreign(body, given);
        Ok(Self { plain, proven })
    }
}
