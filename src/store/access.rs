//! What may be done with a place.

/// Whether the inventory lets this store be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// Whether a folder may become a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// The first write makes it one.
    AtFirstWrite,
    /// It must be one.
    Never,
}
