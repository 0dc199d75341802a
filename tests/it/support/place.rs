//! Places of every kind that a store can be opened in, and bodies that behave well and badly.

#![allow(dead_code, reason = "each topic uses a part")]

use std::any::Any;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use runbook::action::{ByteStream, NoSecrets, ObjectKey, ReadStore, Secrets, Store};
use runbook::base::Digest;
use runbook::base::digest::Hasher;
use runbook::language::inventory::StoreEntry;
use runbook::store::Opening;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::azurite::{self, AccountKey, Azurite};
use super::garage::{self, Garage};
use super::moto::Moto;
use super::parcel::Safe;
use super::s3::{self, BUCKET, S3};
use super::sshd::Sshd;

/// Makes empty objects.
type Seed = Box<dyn Fn(&[String]) + Send + Sync>;

/// A place that is there, an entry that leads to it, and one of the same kind that leads nowhere.
pub struct Place {
    /// How the place is reached.
    pub entry: StoreEntry,
    /// The same kind of place, which is not there.
    pub nowhere: StoreEntry,
    /// Its credentials.
    pub secrets: Arc<dyn Secrets>,
    /// What lies in the place that is no object: half-written content, locks. Asked until it is empty.
    pub leftovers: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Makes empty objects by other means, where putting thousands would only wait for the disk.
    pub seed: Option<Seed>,
    /// What lives as long as the place: a server, a folder.
    pub keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Place {
    /// A folder of this machine.
    pub fn folder() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("store");
        let at = |path: &Path| StoreEntry { url: format!("file://{}", path.display()), ..StoreEntry::default() };
        let (hidden, seeded) = (root.clone(), root.clone());
        Self {
            entry: at(&root),
            nowhere: at(&dir.path().join("unmounted")),
            secrets: Arc::new(NoSecrets),
            leftovers: Box::new(move || leftovers(&hidden)),
            seed: Some(Box::new(move |keys| seed(&seeded, keys))),
            keep: vec![Box::new(dir)],
        }
    }

    /// A folder behind a real `sshd`.
    pub fn sftp() -> Self {
        let server = Sshd::start();
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("store");
        let at =
            |path: &Path| StoreEntry { url: server.url(path), ssh: Some(server.access()), ..StoreEntry::default() };
        let (hidden, seeded) = (root.clone(), root.clone());
        Self {
            entry: at(&root),
            nowhere: at(&dir.path().join("unmounted")),
            secrets: Arc::new(NoSecrets),
            leftovers: Box::new(move || leftovers(&hidden)),
            seed: Some(Box::new(move |keys| seed(&seeded, keys))),
            keep: vec![Box::new(dir), Box::new(server)],
        }
    }

    /// A container of Azure.
    pub fn azure() -> Self {
        let server = Azurite::start("backups");
        let endpoint = server.endpoint();
        Self {
            entry: server.entry("az://backups/a prefix/deep"),
            nowhere: server.entry("az://nothing/a prefix"),
            secrets: AccountKey::secrets(),
            leftovers: Box::new(move || {
                let hidden = |name: &String| name.contains("/.rb-");
                azurite::names(&endpoint, "backups").into_iter().filter(hidden).collect()
            }),
            seed: None,
            keep: vec![Box::new(server)],
        }
    }

    /// A bucket on a server of this process.
    pub fn s3() -> Self {
        let server = S3::start();
        let entry = server.entry();
        let nowhere = StoreEntry { url: "s3://nowhere/below".to_owned(), ..entry.clone() };
        let (folder, bucket) = (server.folder().to_owned(), server.folder().join(BUCKET).join("below"));
        Self {
            entry,
            nowhere,
            secrets: s3::secrets(),
            leftovers: Box::new(move || s3::uploads(&folder)),
            seed: Some(Box::new(move |keys| seed(&bucket, keys))),
            keep: vec![Box::new(server)],
        }
    }

    /// A bucket on a server of its own process.
    pub fn moto() -> Self {
        let server = Moto::start();
        let entry = s3::entry(&server.url());
        let nowhere = StoreEntry { url: "s3://nowhere/below".to_owned(), ..entry.clone() };
        let address = server.url();
        s3::Behind::at(&address).ask("PUT", BUCKET, &[]);
        Self {
            entry,
            nowhere,
            secrets: s3::secrets(),
            leftovers: Box::new(move || s3::Behind::at(&address).uploads()),
            seed: None,
            keep: vec![Box::new(server)],
        }
    }

    /// A bucket on Garage.
    pub fn garage() -> Self {
        let server = Arc::new(Garage::start());
        let endpoint = format!("http://{}", server.address());
        let at = |bucket: &str| StoreEntry {
            url: format!("s3://{bucket}/below"),
            region: Some(garage::REGION.to_owned()),
            ..s3::entry(&endpoint)
        };
        let (id, secret) = server.credentials();
        let asked = Arc::clone(&server);
        Self {
            entry: at(garage::BUCKET),
            nowhere: at("nowhere"),
            secrets: Arc::new(Safe::default().with("id", id).with("key", secret)),
            leftovers: Box::new(move || asked.uploads()),
            seed: None,
            keep: vec![Box::new(server)],
        }
    }

    /// Opens the place anew.
    pub fn open(&self) -> Arc<dyn Store> {
        self.open_as(&self.entry)
    }

    /// Opens what an entry leads to.
    pub fn open_as(&self, entry: &StoreEntry) -> Arc<dyn Store> {
        // Installing it again is refused and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Opening::new(entry, "place", Arc::clone(&self.secrets)).open().expect("the entry makes sense")
    }
}

/// Every hidden name below a folder that is neither the mark of the store nor what is known of an object.
pub fn leftovers(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let orphan = |object: &str| !folder.join(object).exists();
            match name.strip_prefix(".rb-meta-") {
                Some(object) if orphan(object) => found.push(name),
                Some(_) => {}
                None if path.is_dir() => folders.push(path),
                None if name.starts_with(".rb-") && name != ".rb-store" => found.push(name),
                None => {}
            }
        }
    }
    found
}

/// Makes empty files of a store that is there.
pub fn seed(root: &Path, keys: &[String]) {
    for key in keys {
        let path = root.join(key);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, "").expect("a file");
    }
}

/// A key.
pub fn key(text: &str) -> ObjectKey {
    text.parse().expect("a key")
}

/// A body in one piece.
pub fn body(bytes: impl Into<Vec<u8>>) -> ByteStream {
    Box::new(io::Cursor::new(bytes.into()))
}

/// Bytes that do not repeat themselves within any part a store may cut.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Reads a stream to its end.
pub async fn all(mut stream: ByteStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Reads an object whole.
pub async fn content(store: &dyn ReadStore, name: &str) -> Vec<u8> {
    all(store.get(&key(name)).await.expect("the object")).await.expect("its bytes")
}

/// Digests a stream to its end. Returns its length, too.
pub async fn digest(mut stream: ByteStream) -> (u64, Digest) {
    let (mut hasher, mut buffer, mut size) = (Hasher::default(), vec![0; 1 << 20], 0);
    loop {
        match stream.read(&mut buffer).await.expect("bytes") {
            0 => return (size, hasher.finish()),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// A body in pieces of odd sizes, as a pipe gives them.
pub struct Trickle {
    bytes: io::Cursor<Vec<u8>>,
    turn: usize,
}

impl Trickle {
    /// A body of these bytes.
    pub fn of(bytes: Vec<u8>) -> ByteStream {
        Box::new(Self { bytes: io::Cursor::new(bytes), turn: 0 })
    }
}

impl AsyncRead for Trickle {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.turn += 1;
        if self.turn.is_multiple_of(7) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = buffer.remaining().min(1 + self.turn * 7919 % 100_003);
        let mut piece = vec![0; most];
        let count = io::Read::read(&mut self.bytes, &mut piece)?;
        buffer.put_slice(&piece[..count]);
        Poll::Ready(Ok(()))
    }
}

/// How a body goes wrong after its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The source fails.
    Breaks,
    /// Nothing more ever comes.
    Stalls,
}

/// A body that gives some bytes and then goes wrong.
pub struct Flawed {
    left: usize,
    flaw: Flaw,
    reached: Arc<Mutex<Reached>>,
}

#[derive(Default)]
struct Reached {
    yes: bool,
    waker: Option<Waker>,
}

/// Waits until a body has gone wrong.
pub struct WentWrong(Arc<Mutex<Reached>>);

impl Flawed {
    /// A body and whoever waits for its flaw.
    pub fn after(bytes: usize, flaw: Flaw) -> (ByteStream, WentWrong) {
        let reached = Arc::new(Mutex::new(Reached::default()));
        (Box::new(Self { left: bytes, flaw, reached: Arc::clone(&reached) }), WentWrong(reached))
    }
}

impl AsyncRead for Flawed {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left > 0 {
            let count = buffer.remaining().min(self.left);
            buffer.put_slice(&vec![b'x'; count]);
            self.left -= count;
            return Poll::Ready(Ok(()));
        }
        let mut reached = self.reached.lock().expect("the lock");
        reached.yes = true;
        if let Some(waker) = reached.waker.take() {
            waker.wake();
        }
        match self.flaw {
            Flaw::Breaks => Poll::Ready(Err(io::Error::other("the source broke off"))),
            Flaw::Stalls => Poll::Pending,
        }
    }
}

impl Future for WentWrong {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut reached = self.0.lock().expect("the lock");
        if reached.yes {
            return Poll::Ready(());
        }
        reached.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
