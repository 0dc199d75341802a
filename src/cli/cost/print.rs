//! The cost of stores as tables for people.

use super::place::Place;
use crate::base::units::{ByteSize, human_duration};
use crate::catalog::cost::{Amount, Pile, PriceTable, Stock, Tariff};
use crate::cli::backups::table;
use crate::report::mask_text;

/// Prints everything.
pub(super) fn people(places: &[Place], prices: &PriceTable, months: u16) {
    for place in places {
        match &place.tariff {
            Some(tariff) => {
                tell!(
                    "prices of `{}`: {}, as of {} ({})",
                    place.store,
                    prices.currency,
                    tariff.as_of,
                    tariff.source.trim()
                );
            }
            None => tell!("prices of `{}`: none known", place.store),
        }
    }
    let mut rows =
        vec![["STORE", "CLASS", "OBJECTS", "NOW", "A MONTH", &in_months(months), "A MONTH"].map(str::to_owned)];
    let sheet = Sheet { currency: &prices.currency };
    places.iter().for_each(|place| sheet.place(place, &mut rows));
    if rows.len() > 1 {
        table(&rows);
    }
    let mut rows = vec![
        ["RESTORE OF", "KIND", "BACKUP", "STORE", "READS", "WAITS", "COSTS", "LEAVING THE REGION"].map(str::to_owned),
    ];
    for place in places {
        for one in &place.restores {
            let cost = &one.cost;
            let wait = cost.wait.map_or_else(|| "-".to_owned(), |wait| format!("up to {}", human_duration(wait)));
            rows.push([
                mask_text(&one.source),
                mask_text(&one.kind),
                mask_text(&one.backup),
                mask_text(&place.store),
                ByteSize(cost.size_bytes).to_string(),
                wait,
                sheet.amount(&cost.retrieval),
                sheet.amount(&cost.egress),
            ]);
        }
    }
    if rows.len() > 1 {
        out!("");
        table(&rows);
    }
    for place in places {
        for warning in &place.warnings {
            tell!("warning: `{}`: {}", place.store, mask_text(&warning.to_string()));
            tell!("  help: {}", warning.help());
        }
    }
}

fn in_months(months: u16) -> String {
    format!("IN {months} {}", if months == 1 { "MONTH" } else { "MONTHS" })
}

/// How amounts are written.
struct Sheet<'a> {
    currency: &'a str,
}

impl Sheet<'_> {
    fn place(&self, place: &Place, rows: &mut Vec<[String; 7]>) {
        let before = rows.len();
        self.stocks(place, (&place.now.stock, &place.later.stock), "", rows);
        self.stocks(place, (&place.now.lingering, &place.later.lingering), "deleted, billed: ", rows);
        if rows.len() == before {
            let store = mask_text(&place.store);
            rows.push([
                store,
                "nothing".to_owned(),
                "0".to_owned(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ]);
        } else if rows.len() > before + 1 {
            let tariff = place.tariff.as_ref();
            let all = |holding: &super::place::Holding| {
                let mut all = holding.stock.clone();
                all.merge(&holding.lingering);
                all.0.values().fold(Pile::default(), |sum, pile| Pile {
                    objects: sum.objects + pile.objects,
                    size_bytes: sum.size_bytes + pile.size_bytes,
                    billed_bytes: sum.billed_bytes + pile.billed_bytes,
                })
            };
            let (now, later) = (all(&place.now), all(&place.later));
            let months =
                [place.now.month(tariff), place.later.month(tariff)].map(|month| month.filter(|_| tariff.is_some()));
            rows.push(self.row(&place.store, "together", (Some(now), Some(later)), months));
        }
    }

    fn stocks(&self, place: &Place, (now, later): (&Stock, &Stock), what: &str, rows: &mut Vec<[String; 7]>) {
        let tariff: Option<&Tariff> = place.tariff.as_ref();
        let classes: std::collections::BTreeSet<&String> = now.0.keys().chain(later.0.keys()).collect();
        for class in classes {
            let piles = [now.0.get(class).copied(), later.0.get(class).copied()];
            let months = piles.map(|pile| pile.unwrap_or_default().month(class, tariff));
            let shown = if place.classed { class.as_str() } else { "-" };
            rows.push(self.row(&place.store, &format!("{what}{shown}"), (piles[0], piles[1]), months));
        }
    }

    fn row(
        &self,
        store: &str,
        class: &str,
        (now, later): (Option<Pile>, Option<Pile>),
        months: [Option<f64>; 2],
    ) -> [String; 7] {
        let size = |pile: Option<Pile>| ByteSize(pile.unwrap_or_default().size_bytes).to_string();
        let [month, later_month] = months.map(|month| self.money(month));
        let objects = now.unwrap_or_default().objects.to_string();
        [mask_text(store), mask_text(class), objects, size(now), month, size(later), later_month]
    }

    fn amount(&self, amount: &Amount) -> String {
        match (amount.value, amount.without.is_empty()) {
            (Some(_), false) => format!("{}, without {}", self.money(amount.value), amount.without.join(" and ")),
            (value, _) => self.money(value),
        }
    }

    /// An amount; one without a price is no zero.
    fn money(&self, amount: Option<f64>) -> String {
        match amount {
            None => "no price".to_owned(),
            Some(amount) if amount > 0.0 && amount < 0.005 => format!("<0.01 {}", self.currency),
            Some(amount) => format!("{amount:.2} {}", self.currency),
        }
    }
}
