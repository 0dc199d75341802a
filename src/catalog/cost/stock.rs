//! What lies somewhere, by storage class.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Tariff, Terms};

/// Bytes of a GB as providers bill them.
const GB: f64 = 1_073_741_824.0;

/// Objects of one storage class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Pile {
    /// How many.
    pub objects: u64,
    /// Their sizes together.
    pub size_bytes: u64,
    /// Bytes that are billed for them.
    pub billed_bytes: u64,
}

/// Objects by storage class.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Stock(pub BTreeMap<String, Pile>);

impl Stock {
    /// Adds objects of about the same size.
    pub fn add(&mut self, class: &str, (objects, size_bytes): (u64, u64), tariff: Option<&Tariff>) {
        if objects == 0 {
            return;
        }
        let terms = Terms::of(class, tariff.and_then(|tariff| tariff.class(class)));
        let pile = self.0.entry(class.to_owned()).or_default();
        pile.objects += objects;
        pile.size_bytes += size_bytes;
        let (each, rest) = (size_bytes / objects, size_bytes % objects);
        pile.billed_bytes += terms.billed_bytes(each).saturating_mul(objects).saturating_add(rest);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        for (class, pile) in &other.0 {
            let mine = self.0.entry(class.clone()).or_default();
            mine.objects += pile.objects;
            mine.size_bytes += pile.size_bytes;
            mine.billed_bytes += pile.billed_bytes;
        }
    }

    /// What a month of it costs; `None` when a class of it has no price.
    #[must_use]
    pub fn month(&self, tariff: Option<&Tariff>) -> Option<f64> {
        self.0.iter().map(|(class, pile)| pile.month(class, tariff)).sum()
    }
}

impl Pile {
    /// What a month of it costs; `None` when its class has no price.
    #[must_use]
    pub fn month(&self, class: &str, tariff: Option<&Tariff>) -> Option<f64> {
        Some(gigabytes(self.billed_bytes) * tariff?.class(class)?.gb_month)
    }
}

/// Bytes in GB as providers bill them.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / GB
}
