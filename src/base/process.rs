//! What may be asked of a process by its number alone.

use rustix::process::{Pid, test_kill_process};

/// Tells whether surely no process has this number here. One that took the number over counts as being there.
#[must_use]
pub fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::is_gone;

    #[test]
    fn a_process_is_gone_when_nothing_has_its_number() {
        assert!(!is_gone(std::process::id()));
        assert!(!is_gone(0));
        assert!(is_gone(i32::MAX as u32));
    }
}
