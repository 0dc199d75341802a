//! `SHA256SUMS`: the digests of a backup's stored bytes, as `sha256sum -c SHA256SUMS` reads them in its folder.

use super::Manifest;

/// Its name in the backup's folder.
pub const NAME: &str = "SHA256SUMS";

/// Writes the sidecar of a backup. Objects that lie elsewhere are not in it.
#[must_use]
pub fn text(manifest: &Manifest) -> String {
    let inside = manifest.objects.iter().filter(|object| object.key.is_none());
    inside.map(|object| line(&object.name, &object.sha256.to_string())).collect()
}

/// Tells whether a sidecar vouches for a manifest: it names the same digests for the objects in the folder, and there is
/// one of them at least.
#[must_use]
pub fn vouches(sidecar: &[u8], manifest: &Manifest) -> bool {
    let expected = text(manifest);
    !expected.is_empty() && expected.as_bytes() == sidecar
}

/// One line: the digest, two spaces, the name; a name with a backslash is escaped and the line says so.
fn line(name: &str, digest: &str) -> String {
    match name.contains('\\') {
        true => format!("\\{digest}  {}\n", name.replace('\\', "\\\\")),
        false => format!("{digest}  {name}\n"),
    }
}
