//! How far a step reaches.

use serde::{Deserialize, Serialize};

/// How far an action reaches. Ordered: a later one includes the earlier.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Touches nothing.
    #[default]
    None,
    /// Reads only.
    Read,
    /// Changes something that can be changed back or made again.
    Write,
    /// May destroy or replace data.
    Destroy,
}
