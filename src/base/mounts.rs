//! Where file systems are mounted, as Linux lists it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Where Linux lists what a process sees mounted: proc(5), `/proc/pid/mountinfo`.
pub const LIST: &str = "/proc/self/mountinfo";

/// The places of a list of mounts, in its order.
pub fn places(list: &[u8]) -> impl Iterator<Item = PathBuf> {
    let fields = list.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    fields.map(unescaped)
}

/// The first place of a list that lies below a folder; the folder itself is none.
#[must_use]
pub fn below(list: &[u8], folder: &Path) -> Option<PathBuf> {
    places(list).find(|place| place != folder && place.starts_with(folder))
}

/// Blanks, tabs, newlines and backslashes stand there as octal numbers.
fn unescaped(text: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((first, others)) = rest.split_first() {
        let number = others.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let number = number.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\');
        bytes.push(number.unwrap_or(*first));
        rest = if number.is_some() { &others[3..] } else { others };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_points_path_may_have_blanks() {
        assert_eq!(unescaped(br"/data/my\040disk\134"), Path::new("/data/my disk\\"));
        assert_eq!(unescaped(br"/data/\9"), Path::new("/data/\\9"));
    }

    #[test]
    fn what_is_mounted_below_a_folder_is_found_and_its_neighbours_are_not() {
        let list = b"22 1 8:1 / / rw - ext4 /dev/a rw\n23 22 8:2 / /run/one rw - ext4 /dev/b rw\n24 22 8:3 / /run/one/a\\040b rw - ext4 x rw\n";
        assert_eq!(below(list, Path::new("/run/one")), Some("/run/one/a b".into()));
        assert_eq!(below(list, Path::new("/run/on")), None);
        assert_eq!(below(list, Path::new("/run/one/a b")), None);
        assert_eq!(below(list, Path::new("/run")), Some("/run/one".into()));
    }
}
