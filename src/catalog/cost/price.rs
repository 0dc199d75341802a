//! The price table: what a provider asks, by region and storage class.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::StorageClass;
use crate::base::diagnostic::SourceId;
use crate::language::document;
use crate::language::inventory::RetrievalSpeed;

/// The table that comes with the program.
const OWN: &str = include_str!("prices.yaml");

/// Prices, by region and by store.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Price table")]
pub struct PriceTable {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The currency of every amount, for example `USD`.
    pub currency: String,
    /// Tariffs by region of Amazon S3, for its own servers.
    #[serde(default)]
    pub regions: BTreeMap<String, Tariff>,
    /// Tariffs by store of the inventory: for every other provider, and for prices of your own. They win.
    #[serde(default)]
    pub stores: BTreeMap<String, Tariff>,
}

/// What one place costs.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// The day these prices were asked, `2026-01-28`.
    pub as_of: String,
    /// Where they stand.
    pub source: String,
    /// Each GB that leaves the region.
    #[serde(default)]
    pub egress_gb: Option<f64>,
    /// By storage class; of places without classes the one class is `STANDARD`.
    pub classes: BTreeMap<String, ClassPrice>,
}

/// What a storage class costs. What is absent has no price, which is not the same as nothing.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassPrice {
    /// Each GB (2^30 bytes) for a month.
    pub gb_month: f64,
    /// An object that goes earlier is billed to this day. Default: what Amazon S3 says of a class of this name, else 0.
    #[serde(default)]
    pub minimum_days: Option<u32>,
    /// A smaller object is billed as if it had this size. Default as above.
    #[serde(default)]
    pub minimum_bytes: Option<u64>,
    /// Bytes billed beside each object. Default as above.
    #[serde(default)]
    pub overhead_bytes: Option<u64>,
    /// A thousand requests that write.
    #[serde(default)]
    pub put_1000: Option<f64>,
    /// A thousand requests that read.
    #[serde(default)]
    pub get_1000: Option<f64>,
    /// Each GB that is read, where nothing needs to be retrieved first. Default: nothing.
    #[serde(default)]
    pub retrieval_gb: Option<f64>,
    /// What a retrieval costs, by its speed, where objects have to be retrieved first.
    #[serde(default)]
    pub retrieval: BTreeMap<RetrievalSpeed, RetrievalPrice>,
}

/// What a retrieval costs.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrievalPrice {
    /// Each GB.
    pub gb: f64,
    /// A thousand objects.
    pub requests_1000: f64,
}

/// A price table cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PriceError(String);

impl PriceTable {
    /// The table that comes with the program.
    ///
    /// # Errors
    /// Never, as a test holds.
    pub fn own() -> Result<Self, PriceError> {
        Self::parse(OWN)
    }

    /// Reads a table, YAML or JSON.
    ///
    /// # Errors
    /// Fails when it is not well-formed, says something unknown, or holds an amount below zero.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let (node, faults) = document::parse(SourceId::default(), text);
        if let Some(fault) = faults.iter().next() {
            return Err(PriceError(fault.message.clone()));
        }
        let value = node.map(|node| node.to_json()).unwrap_or_default();
        let table: Self = serde_json::from_value(value).map_err(|error| PriceError(error.to_string()))?;
        if table.version != 1 {
            return Err(PriceError(format!("version {} of the price table is not known, only 1", table.version)));
        }
        let fault = table.tariffs().find_map(|(name, tariff)| Some((name.clone(), tariff.negative()?)));
        match fault {
            Some((name, what)) => Err(PriceError(format!("`{name}`: {what} is below zero"))),
            None => Ok(table),
        }
    }

    fn tariffs(&self) -> impl Iterator<Item = (&String, &Tariff)> {
        self.regions.iter().chain(&self.stores)
    }
}

impl Tariff {
    /// The price of a class, where there is one.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&ClassPrice> {
        self.classes.get(name)
    }

    fn negative(&self) -> Option<String> {
        let egress = self.egress_gb.filter(|amount| *amount < 0.0).map(|_| "`egress_gb`".to_owned());
        egress.or_else(|| {
            let bad = |price: &ClassPrice| {
                let single = [Some(price.gb_month), price.put_1000, price.get_1000, price.retrieval_gb];
                let retrieval = price.retrieval.values().flat_map(|one| [one.gb, one.requests_1000]);
                single.into_iter().flatten().chain(retrieval).any(|amount| amount < 0.0)
            };
            self.classes.iter().find(|(_, price)| bad(price)).map(|(name, _)| format!("a price of `{name}`"))
        })
    }
}

/// How a class is billed, beside its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// An object that goes earlier is billed to this day.
    pub minimum_days: u32,
    /// A smaller object is billed as if it had this size.
    pub minimum_bytes: u64,
    /// Bytes billed beside each object.
    pub overhead_bytes: u64,
}

impl Terms {
    /// What the table says of a class, else what Amazon S3 says of a class of this name.
    #[must_use]
    pub fn of(class: &str, price: Option<&ClassPrice>) -> Self {
        let known = StorageClass::named(class).map(|class| Self {
            minimum_days: class.minimum_days,
            minimum_bytes: class.minimum_bytes,
            overhead_bytes: class.overhead_bytes,
        });
        let known = known.unwrap_or_default();
        let Some(price) = price else { return known };
        Self {
            minimum_days: price.minimum_days.unwrap_or(known.minimum_days),
            minimum_bytes: price.minimum_bytes.unwrap_or(known.minimum_bytes),
            overhead_bytes: price.overhead_bytes.unwrap_or(known.overhead_bytes),
        }
    }

    /// Bytes that are billed for an object of this size.
    #[must_use]
    pub fn billed_bytes(&self, size_bytes: u64) -> u64 {
        size_bytes.max(self.minimum_bytes).saturating_add(self.overhead_bytes)
    }
}

/// The JSON schema of a price table.
#[must_use]
pub fn price_schema() -> schemars::Schema {
    schemars::schema_for!(PriceTable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

    use super::{PriceTable, Terms};
    use crate::action::StorageClass;

    #[test]
    fn the_own_table_agrees_with_what_the_provider_says_of_its_classes() {
        let table = PriceTable::own().unwrap();
        for (region, tariff) in &table.regions {
            assert!(!tariff.source.is_empty() && tariff.as_of.len() == 10, "{region}");
            for (name, price) in &tariff.classes {
                let class = StorageClass::named(name).unwrap();
                let stated = (price.minimum_days.unwrap_or(0), price.minimum_bytes.unwrap_or(0));
                assert_eq!(stated, (class.minimum_days, class.minimum_bytes), "{region} {name}");
                assert_eq!(price.overhead_bytes.unwrap_or(0), class.overhead_bytes, "{region} {name}");
                assert_eq!(class.is_archive(), !price.retrieval.is_empty(), "{region} {name}");
            }
        }
        assert_eq!(Terms::of("STANDARD_IA", None).billed_bytes(1), 128 * 1024);
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_refused() {
        let table = |classes: &str| {
            PriceTable::parse(&format!(
                "version: 1\ncurrency: EUR\nstores:\n  mine: {{ as_of: 2026-01-01, source: own, classes: {classes} }}\n"
            ))
        };
        assert!(table("{ STANDARD: { gb_month: 1 } }").is_ok());
        for (classes, what) in [
            ("{ STANDARD: { gb_month: -1 } }", "below zero"),
            ("{ STANDARD: { gb_moth: 1 } }", "gb_moth"),
            ("{ STANDARD: {} }", "gb_month"),
        ] {
            let error = table(classes).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert!(PriceTable::parse("version: 2\ncurrency: EUR\n").unwrap_err().to_string().contains("version 2"));
    }
}
