//! What is worth a word about the cost of a store.

use std::fmt;

use crate::base::units::ByteSize;
use crate::catalog::cost::{Pile, Stock, Tariff, Terms, TooShort};

/// From which share of their size on the billing of small objects is worth a word, in percent.
const MUCH_MORE: u64 = 120;

/// Something worth a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Warning {
    /// Something goes before the minimum duration of its class.
    TooShort(TooShort),
    /// Objects of a class are so small that they are billed as larger ones.
    SmallObjects(String, Pile),
    /// Old versions are never removed.
    VersionsForEver,
    /// Nothing is ever pruned.
    NoRetention,
    /// Something is counted as it is, because nothing tells how it goes on.
    NoPace(Vec<String>),
    /// A part of the settings could not be read.
    Unread(&'static str, String),
    /// A region without prices.
    NoRegion(String),
    /// Classes without prices.
    NoClass(Vec<String>),
}

impl Warning {
    /// A word for machines.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::TooShort(_) => "minimum_duration",
            Self::SmallObjects(..) => "small_objects",
            Self::VersionsForEver => "versions_for_ever",
            Self::NoRetention => "no_retention",
            Self::NoPace(_) => "no_pace",
            Self::Unread(..) => "unread",
            Self::NoRegion(_) => "no_region",
            Self::NoClass(_) => "no_class",
        }
    }

    /// What to do about it.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::TooShort(_) => "keep it longer, or keep it in a class without such a minimum",
            Self::SmallObjects(..) => "keep small objects in STANDARD, or pack more into each",
            Self::VersionsForEver => "`s3.lifecycle` sets `noncurrent_expire_after`",
            Self::NoRetention => "say how long backups are kept: `retention` in the inventory",
            Self::NoPace(_) => "it is known from two backups at least half an hour apart, and of WAL after a day",
            Self::Unread(..) => "`runbook iam --role admin` prints what reads them",
            Self::NoRegion(_) | Self::NoClass(_) => "give your provider's prices with `--prices FILE`",
        }
    }

    /// Classes of small objects.
    pub(super) fn small(stock: &Stock, tariff: Option<&Tariff>) -> Vec<Self> {
        let much = |(class, pile): &(&String, &Pile)| {
            let terms = Terms::of(class, tariff.and_then(|tariff| tariff.class(class)));
            terms.billed_bytes(0) > 0
                && pile.billed_bytes.saturating_mul(100) >= pile.size_bytes.saturating_mul(MUCH_MORE)
        };
        stock.0.iter().filter(much).map(|(class, pile)| Self::SmallObjects(class.clone(), *pile)).collect()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(TooShort { what, class, kept_days, minimum_days }) => {
                write!(f, "{what} lies in {class} for {kept_days} days and is billed for {minimum_days}")
            }
            Self::SmallObjects(class, pile) => {
                let (size, billed) = (ByteSize(pile.size_bytes), ByteSize(pile.billed_bytes));
                write!(f, "{} objects in {class} hold {size} and are billed as {billed}", pile.objects)
            }
            Self::VersionsForEver => f.write_str("old versions are never removed: what is deleted is billed for ever"),
            Self::NoRetention => f.write_str("nothing is ever pruned: the inventory has no `retention`"),
            Self::NoPace(what) => {
                write!(f, "{}: nothing tells how often it comes, so it is counted as it is", what.join(", "))
            }
            Self::Unread(what, why) => write!(f, "{what} could not be read and are not counted: {why}"),
            Self::NoRegion(region) => write!(f, "the price table has no region `{region}`"),
            Self::NoClass(classes) => write!(f, "the price table has no price of {}", classes.join(", ")),
        }
    }
}
