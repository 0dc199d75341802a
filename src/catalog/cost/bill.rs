//! What one restore costs, in money and in waiting.

use std::time::Duration;

use serde::Serialize;

use super::stock::gigabytes;
use super::{ClassPrice, Tariff};
use crate::action::StorageClass;
use crate::language::inventory::RetrievalSpeed;

/// Bytes that one request reads.
const RANGE: u64 = 16 << 20;

/// An amount with what is not in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Amount {
    /// The amount, in the table's currency; `None` when nothing of it has a price.
    pub value: Option<f64>,
    /// What has no price and is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

impl Amount {
    fn add(&mut self, what: &str, price: Option<f64>) {
        match price {
            Some(price) => self.value = Some(self.value.unwrap_or_default() + price),
            None if self.without.iter().any(|known| known == what) => {}
            None => self.without.push(what.to_owned()),
        }
    }
}

/// An object that a restore reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreObject {
    /// Its storage class.
    pub class: String,
    /// Its size.
    pub size_bytes: u64,
}

/// What one restore costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restore {
    /// Objects that are read.
    pub objects: u64,
    /// Their sizes together.
    pub size_bytes: u64,
    /// Retrieval and requests.
    pub retrieval: Amount,
    /// What is to be paid besides when the data leaves the region.
    pub egress: Amount,
    /// How long it takes at the longest until the first byte can be read; `None`: no time.
    pub wait: Option<Duration>,
}

/// Estimates a restore that reads these objects, archived ones retrieved at a speed.
#[must_use]
pub fn restore(objects: &[RestoreObject], speed: RetrievalSpeed, tariff: Option<&Tariff>) -> Restore {
    let size_bytes = objects.iter().map(|object| object.size_bytes).sum();
    let mut told = Restore {
        objects: objects.len() as u64,
        size_bytes,
        retrieval: Amount::default(),
        egress: Amount::default(),
        wait: None,
    };
    told.egress.add("data out of the region", tariff.and_then(|t| Some(t.egress_gb? * gigabytes(size_bytes))));
    for object in objects {
        let archive = StorageClass::named(&object.class).filter(|class| class.is_archive());
        told.wait = told.wait.max(archive.and_then(|class| class.retrieval(speed)));
        let Some(price) = tariff.and_then(|tariff| tariff.class(&object.class)) else {
            told.retrieval.add(&format!("the class {}", object.class), None);
            continue;
        };
        let reads = object.size_bytes.div_ceil(RANGE).max(1);
        told.retrieval.add(
            &format!("requests of the class {}", object.class),
            price.get_1000.map(|each| each * thousands(reads)),
        );
        match archive {
            Some(_) => told.retrieval.add(
                &format!("retrieval from the class {}", object.class),
                retrieved(price, speed).map(|one| one.gb * gigabytes(object.size_bytes) + one.requests_1000 / 1000.0),
            ),
            None => told.retrieval.add("", Some(price.retrieval_gb.unwrap_or_default() * gigabytes(object.size_bytes))),
        }
    }
    told
}

/// The price of a speed; a class that lacks it is retrieved by the next slower one.
fn retrieved(price: &ClassPrice, speed: RetrievalSpeed) -> Option<super::RetrievalPrice> {
    price.retrieval.range(speed..).next().map(|(_, price)| *price)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn thousands(count: u64) -> f64 {
    count as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

    use std::time::Duration;

    use super::{RestoreObject, restore};
    use crate::catalog::cost::PriceTable;
    use crate::language::inventory::RetrievalSpeed;

    fn hundred_gb(class: &str) -> Vec<RestoreObject> {
        vec![RestoreObject { class: class.to_owned(), size_bytes: 100 << 30 }]
    }

    #[test]
    fn a_restore_from_an_archive_costs_and_takes_hours() {
        let table = PriceTable::own().unwrap();
        let tariff = Some(&table.regions["us-east-1"]);
        let told = restore(&hundred_gb("GLACIER"), RetrievalSpeed::Standard, tariff);
        let value = told.retrieval.value.unwrap();
        assert!((1.0..1.01).contains(&value), "{value}");
        assert_eq!(told.wait, Some(Duration::from_secs(5 * 3600)));
        assert!((told.egress.value.unwrap() - 9.0).abs() < 1e-6);
        let deep = restore(&hundred_gb("DEEP_ARCHIVE"), RetrievalSpeed::Expedited, tariff);
        assert_eq!(deep.wait, Some(Duration::from_secs(12 * 3600)), "the deepest class has no fast retrieval");
        assert!((2.0..2.01).contains(&deep.retrieval.value.unwrap()));
        assert_eq!(restore(&hundred_gb("GLACIER_IR"), RetrievalSpeed::Standard, tariff).wait, None);
    }

    #[test]
    fn what_has_no_price_is_named_and_is_not_nothing() {
        let told = restore(&hundred_gb("STANDARD"), RetrievalSpeed::Standard, None);
        assert_eq!((told.retrieval.value, told.egress.value), (None, None));
        assert_eq!(told.retrieval.without, ["the class STANDARD"]);
        let table = PriceTable::own().unwrap();
        let told = restore(&hundred_gb("STANDARD_IA"), RetrievalSpeed::Standard, Some(&table.regions["eu-central-1"]));
        assert!(told.retrieval.value.is_some());
        assert_eq!(told.retrieval.without, ["requests of the class STANDARD_IA"]);
    }
}
