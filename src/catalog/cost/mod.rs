//! What backups cost: what a store holds by storage class, what it will hold when the rules have worked for a
//! while, and what a restore of the newest backup costs. Pure.
//!
//! An estimate from what lies there and from a table of prices: no bill. Start with [`outlook`]; [`PriceTable`] has the
//! prices, and where there is none there is no amount, never a zero.

mod bill;
mod ladder;
mod outlook;
mod pace;
mod price;
mod stock;

pub use bill::{Amount, Restore, RestoreObject, restore};
pub use ladder::{Ladder, Subject};
pub use outlook::{Ground, Lot, OldVersions, Outlook, TooShort, WalLot, outlook};
pub use price::{ClassPrice, PriceError, PriceTable, RetrievalPrice, Tariff, Terms, price_schema};
pub use stock::{Pile, Stock};
