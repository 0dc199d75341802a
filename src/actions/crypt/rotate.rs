//! `crypt.rotate`: the same content for new keys, in one pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decrypt::Opened;
use super::delivery::{Parcel, There, broken, deliver};
use super::encrypt::{EncryptOutput, uncompressed};
use super::keys::Keys;
use super::note::{END, Note};
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, RunContext,
};
use crate::actions::store::arrival::Existing;
use crate::actions::store::body::{copy, on_files, until_cancelled};
use crate::actions::store::place::FileSpot;
use crate::actions::store::source::{Source, check_source};
use crate::actions::store::{FilePlace, store_failed};
use crate::base::Digest;
use crate::event::Progress;
use crate::language::inventory::CompressionFormat;

/// Changes the keys of a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rotate;

/// The arguments of `crypt.rotate`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateParams {
    /// What is encrypted with the old keys; it has the note that `crypt.encrypt` wrote, or `old` says all.
    pub from: FilePlace,
    /// Where it goes, encrypted with the new keys; never in place.
    pub to: FilePlace,
    /// The keys to read with.
    pub old: Keys,
    /// The keys to write with. With an identity or a passphrase among them the result is read back and decrypted.
    pub new: Keys,
    /// How it is compressed. Default not.
    #[serde(default = "uncompressed")]
    pub compression: CompressionFormat,
    /// Keeps what is encrypted with the old keys. Default yes; without it the new one must have been decrypted first.
    #[serde(default = "yes")]
    pub keep_old: bool,
}

fn yes() -> bool {
    true
}

/// The outputs of `crypt.rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotateOutput {
    /// The newly encrypted bytes.
    pub size_bytes: u64,
    /// SHA-256 of the newly encrypted bytes.
    pub sha256: Digest,
    /// SHA-256 of the plain bytes.
    pub plain_sha256: Digest,
    /// Whether the result was read back and decrypted with the new keys.
    pub decrypted: bool,
    /// Whether the old one was removed.
    pub removed_old: bool,
}

impl Action for Rotate {
    const SPEC: ActionSpec = ActionSpec {
        name: "crypt.rotate",
        summary: "Decrypts with old keys and encrypts with new ones in one pass; the old stays until the new is proven.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[Example {
            title: "From a password to public keys",
            with: "from: { store: primary, key: dumps/old.enc }\nto: { store: primary, key: dumps/old.age }\nold: { openssl: { password: '{{ secrets.old_password }}' } }\nnew: { recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p], identities: ['{{ secrets.age_identity }}'] }",
        }],
    };
    type Params = RotateParams;
    type Output = RotateOutput;

    fn effects(&self, params: &RotateParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let faults = [params.old.reading_fault("/old"), params.new.writing_fault("/new")];
        let mut faults: Vec<ParamFault> = faults.into_iter().flatten().collect();
        if !params.keep_old && !params.new.can_read() {
            let fault = ParamFault::new("/keep_old", "without a key to decrypt the new one, the old one is kept");
            faults.push(fault.help("give one of `identities` in `new`"));
        }
        let (from, to) = match (params.from.spot("/from"), params.to.spot("/to")) {
            (Ok(from), Ok(to)) => (from, to),
            (from, to) => return Err(faults.into_iter().chain(from.err()).chain(to.err()).collect()),
        };
        if from == to {
            faults.push(ParamFault::new("/to", "it is the source itself: both are kept until the new one is proven"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let (class, access) = match params.keep_old {
            true => (EffectClass::Write, Access::Read),
            false => (EffectClass::Destroy, Access::Destroy),
        };
        Ok(Effects::of(class).target(access, from.target(cx)).target(Access::Write, to.target(cx)))
    }

    fn by_hand(&self, params: &RotateParams, cx: &PlanContext<'_>) -> Vec<String> {
        let (Ok(from), Ok(to)) = (params.from.spot("/from"), params.to.spot("/to")) else { return Vec::new() };
        let (from, to) = (from.shown(cx), to.shown(cx));
        vec![remark(&format!("decrypt {from} with the old keys, encrypt it to {to} with the new ones, compare"))]
    }

    async fn check(&self, params: &RotateParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        check_source(&params.from.known()?, cx).await
    }

    async fn run(&self, params: &RotateParams, cx: &RunContext) -> Result<RotateOutput, ActionError> {
        until_cancelled(cx, rotate(params, cx)).await
    }
}

async fn rotate(params: &RotateParams, cx: &RunContext) -> Result<RotateOutput, ActionError> {
    let (from, to) = (params.from.known()?, params.to.known()?);
    let keys = params.new.at_hand(cx)?;
    let packing = keys.packing(params.compression)?;
    let note = match earlier(&to, &from, cx).await? {
        Begun::Done(note) => note,
        Begun::Not(existing) => {
            let opened = Opened::of(&from, &params.old, (None, false), cx).await?;
            let encoding = packing.encoding().clone();
            let (body, packed) = packing.seal(opened.plain).split();
            deliver(&to, Parcel { source: from.to_string(), body, packed, encoding, existing }, cx).await?
        }
    };
    let decrypted = params.new.can_read();
    if decrypted {
        cx.reporter.progress(Progress::Doing { text: format!("decrypting `{to}` with the new keys") });
        let body = Source::open(&to, Some(note.stored.sha256), cx).await?.into_body();
        let mut plain = keys.unpacking(&note.encoding)?.open(body, note.expected());
        copy(&mut plain, &mut tokio::io::sink()).await.map_err(|error| broken(&to.to_string(), error))?;
    }
    if !params.keep_old {
        remove(&from, cx).await?;
        remove(&from.beside(END)?, cx).await?;
    }
    let made = EncryptOutput::of(&note, false);
    Ok(RotateOutput {
        size_bytes: made.size_bytes,
        sha256: made.sha256,
        plain_sha256: made.plain_sha256,
        decrypted,
        removed_old: !params.keep_old,
    })
}

/// What earlier attempts came to.
enum Begun {
    /// The result is there.
    Done(Note),
    /// It is still to be made; whether what is at its place may be replaced.
    Not(Existing),
}

/// The note of a result that an earlier attempt has finished; anything else in the place is in the way.
async fn earlier(to: &FileSpot, from: &FileSpot, cx: &RunContext) -> Result<Begun, ActionError> {
    if let Some(note) = Note::of_whole(to, cx).await? {
        let same = match Note::beside(from, cx).await? {
            Some(old) => old.plain == note.plain,
            // The old one may be gone already: the new one was proven before.
            None => There::at(from, cx).await? != There::Other,
        };
        if same {
            return Ok(Begun::Done(note));
        }
    }
    There::at(to, cx).await?.way(to).map(Begun::Not)
}

async fn remove(spot: &FileSpot, cx: &RunContext) -> Result<(), ActionError> {
    match spot {
        FileSpot::File(path) => {
            let path = path.clone();
            on_files(cx.host.files(), move |files| match files.facts(&path)? {
                Some(_) => files.remove_file(&path),
                None => Ok(()),
            })
            .await
        }
        FileSpot::Object(name, key) => cx.store(name.as_str())?.delete(key).await.map_err(store_failed),
    }
}
