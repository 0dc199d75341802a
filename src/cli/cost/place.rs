//! What is known of one store's cost.

use serde_json::{Value, json};

use super::warning::Warning;
use crate::catalog::cost::{PriceTable, Restore, Stock, Tariff};

/// One store.
#[derive(Debug)]
pub(super) struct Place {
    /// Its name in the inventory, or its URL.
    pub(super) store: String,
    /// Where it lies.
    pub(super) url: String,
    /// The region, of a bucket that says one.
    pub(super) region: Option<String>,
    /// What it costs; `None`: no price is known.
    pub(super) tariff: Option<Tariff>,
    /// Whether it has storage classes.
    pub(super) classed: bool,
    /// What lies there now.
    pub(super) now: Holding,
    /// What will.
    pub(super) later: Holding,
    /// The newest backup of each source and kind, restored.
    pub(super) restores: Vec<NewestRestore>,
    /// What is worth a word.
    pub(super) warnings: Vec<Warning>,
}

/// What lies somewhere at a time.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// What can be read.
    pub(super) stock: Stock,
    /// What was deleted and is billed all the same.
    pub(super) lingering: Stock,
}

/// A restore of the newest backup.
#[derive(Debug)]
pub(super) struct NewestRestore {
    /// What it is of.
    pub(super) source: String,
    /// Its kind.
    pub(super) kind: String,
    /// Its id.
    pub(super) backup: String,
    /// What it costs.
    pub(super) cost: Restore,
}

impl Holding {
    /// What a month of it costs; `None` when some of it has no price.
    pub(super) fn month(&self, tariff: Option<&Tariff>) -> Option<f64> {
        Some(self.stock.month(tariff)? + self.lingering.month(tariff)?)
    }

    fn document(&self, tariff: Option<&Tariff>) -> Value {
        let classes = |stock: &Stock| -> Value {
            let each = stock.0.iter().map(|(class, pile)| {
                let value = json!({
                    "objects": pile.objects, "size_bytes": pile.size_bytes, "billed_bytes": pile.billed_bytes,
                    "month": pile.month(class, tariff),
                });
                (class.clone(), value)
            });
            each.collect::<serde_json::Map<_, _>>().into()
        };
        json!({
            "classes": classes(&self.stock),
            "deleted_and_billed": classes(&self.lingering),
            "month": self.month(tariff).filter(|_| tariff.is_some()),
        })
    }
}

impl Place {
    /// Everything, for machines. An amount without a price is `null`.
    pub(super) fn document(&self, prices: &PriceTable) -> Value {
        let tariff = self.tariff.as_ref();
        let restores = self.restores.iter().map(|one| {
            json!({
                "source": one.source, "kind": one.kind, "backup": one.backup,
                "objects": one.cost.objects, "size_bytes": one.cost.size_bytes,
                "wait_s": one.cost.wait.map_or(0, |wait| wait.as_secs()),
                "retrieval": one.cost.retrieval, "egress": one.cost.egress,
            })
        });
        let warnings = self
            .warnings
            .iter()
            .map(|one| json!({ "code": one.code(), "message": one.to_string(), "help": one.help() }));
        json!({
            "store": self.store,
            "url": self.url,
            "region": self.region,
            "prices": tariff.map(|tariff| json!({
                "currency": prices.currency, "as_of": tariff.as_of, "source": tariff.source,
            })),
            "now": self.now.document(tariff),
            "later": self.later.document(tariff),
            "restores": restores.collect::<Vec<_>>(),
            "warnings": warnings.collect::<Vec<_>>(),
        })
    }
}
