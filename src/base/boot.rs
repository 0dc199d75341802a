//! Which start of the machine this is.

use std::io;

/// Names this boot of the machine. What was written before and not synced may be torn; what was written since is whole.
///
/// # Errors
/// Fails where the system does not tell (Linux does, proc(5): `random/boot_id`).
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
