//! Which transactions run at a position, as the server notes it for standbys (`standbydefs.h`).

use std::collections::BTreeSet;

use super::fields::u32_at;
use super::record::{RM_XLOG, WalRecord};

const RM_STANDBY: u8 = 8;
const OPERATION: u8 = 0xF0;
const RUNNING_XACTS: u8 = 0x10;
const CHECKPOINT_SHUTDOWN: u8 = 0x00;
const END_OF_RECOVERY: u8 = 0x90;
/// Where the numbers begin, behind two counts, a flag and three limits.
const NUMBERS_AT: usize = 24;

/// The transactions that run at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Census {
    /// None but prepared ones: the server was stopped, or came back from a crash.
    Nobody,
    /// These, where those inside others may be left out.
    These(BTreeSet<u32>),
}

impl Census {
    /// Reads what a record tells; `None` for one that tells nothing, or makes no sense.
    #[must_use]
    pub fn of(record: &WalRecord<'_>) -> Option<Self> {
        match (record.rmid, record.info & OPERATION) {
            (RM_XLOG, CHECKPOINT_SHUTDOWN | END_OF_RECOVERY) => Some(Self::Nobody),
            (RM_STANDBY, RUNNING_XACTS) => running(record.main_data().ok()?).map(Self::These),
            _ => None,
        }
    }
}

fn running(data: &[u8]) -> Option<BTreeSet<u32>> {
    let count = usize::try_from(u32_at(data, 0)?.checked_add(u32_at(data, 4)?)?).ok()?;
    let numbers = data.get(NUMBERS_AT..)?.get(..count.checked_mul(4)?)?;
    Some(numbers.chunks_exact(4).filter_map(|number| u32_at(number, 0)).collect())
}
