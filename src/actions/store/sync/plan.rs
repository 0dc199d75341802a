//! What a sync is going to do, decided before anything is changed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::side::{Item, Side, key_of};
use crate::action::ActionError;
use crate::actions::store::crew::each;
use crate::wal::{Copied, Keys, NameConflict, WalError};

/// Names of each kind that the plan shows.
const NAMED: usize = 20;

/// How two items are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// By size and SHA-256: the recorded one of an object, else by reading.
    #[default]
    Digest,
    /// By size and time, to the second. Misses a change that keeps both.
    SizeAndTime,
}

/// How much may be deleted: a number of objects, or a share of what is at the target, `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// So many objects.
    Count(u64),
    /// So many of a hundred.
    Percent(u8),
}

impl Default for Allowance {
    fn default() -> Self {
        Self::Percent(10)
    }
}

impl Allowance {
    /// Whether `deleted` of `all` may be deleted.
    #[must_use]
    pub fn covers(self, deleted: usize, all: usize) -> bool {
        match self {
            Self::Count(most) => deleted as u64 <= most,
            Self::Percent(most) => deleted as u128 * 100 <= all as u128 * u128::from(most),
        }
    }
}

impl std::fmt::Display for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(most) => write!(f, "{most}"),
            Self::Percent(most) => write!(f, "{most}%"),
        }
    }
}

impl<'de> Deserialize<'de> for Allowance {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let read = match text.strip_suffix('%') {
            Some(share) => share.trim().parse().ok().filter(|share| *share <= 100).map(Self::Percent),
            None => text.trim().parse().ok().map(Self::Count),
        };
        read.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is neither a number nor a share such as `10%`")))
    }
}

impl JsonSchema for Allowance {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Allowance".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+ ?%?$", "description": "A number, or a share such as `10%`."
        })
    }
}

/// What is done to each name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) create: Vec<Item>,
    pub(super) replace: Vec<Item>,
    /// What has other content at the target and stays as it is, where that is an error.
    pub(super) differ: Vec<Item>,
    /// Why it is not known of some of these whether they differ rightly.
    pub(super) untold: Vec<String>,
    pub(super) delete: Vec<Item>,
    pub(super) same: u64,
    /// What the target holds in all.
    pub(super) at_target: usize,
}

/// Names on both sides whose sizes are equal: only their content or time can tell.
struct Pair {
    source: Item,
    target: Item,
}

impl Plan {
    /// Compares two listings.
    pub(super) async fn make(
        (from, to): (&Side, &Side),
        (source, target): (Vec<Item>, Vec<Item>),
        compare: Compare,
        parallel: usize,
    ) -> Result<Self, ActionError> {
        let (mut plan, pairs) = Self::by_size(source, target);
        let judged = each(parallel, pairs, async |pair| {
            let same = match compare {
                Compare::Digest => from.facts(&pair.source).await?.sha256 == to.facts(&pair.target).await?.sha256,
                Compare::SizeAndTime => {
                    let (one, two) = (from.own_time(&pair.source).await?, to.own_time(&pair.target).await?);
                    one.as_second() == two.as_second()
                }
            };
            Ok::<_, ActionError>((!same).then_some(pair.source))
        })
        .await;
        for changed in judged {
            match changed? {
                Some(item) => plan.replace.push(item),
                None => plan.same += 1,
            }
        }
        plan.replace.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(plan)
    }

    fn by_size(source: Vec<Item>, target: Vec<Item>) -> (Self, Vec<Pair>) {
        let mut plan = Self { at_target: target.len(), ..Self::default() };
        let mut there: BTreeMap<String, Item> = target.into_iter().map(|item| (item.name.clone(), item)).collect();
        let mut pairs = Vec::new();
        for source in source {
            match there.remove(&source.name) {
                None => plan.create.push(source),
                Some(target) if target.size_bytes != source.size_bytes => plan.replace.push(source),
                Some(target) => pairs.push(Pair { source, target }),
            }
        }
        plan.delete = there.into_values().collect();
        (plan, pairs)
    }

    /// Has nothing replaced: what differs stays as it is, and what is `last` is not created in a folder where something
    /// differs, for it would make that count.
    pub(super) fn replace_nothing(&mut self, last: impl Fn(&str) -> bool) {
        self.differ = std::mem::take(&mut self.replace);
        let folder = |name: &str| name.rfind('/').map_or(0, |at| at + 1);
        let is_doubtful = |name: &str| self.differ.iter().any(|one| one.name.starts_with(&name[..folder(name)]));
        self.create.retain(|item| !last(&item.name) || !is_doubtful(&item.name));
    }

    /// Takes out of what differs what differs rightly: WAL that was mended or packed anew is the same, and the beginning of a
    /// segment gives way to the segment.
    pub(super) async fn settle(
        &mut self,
        sides: (&Side, &Side),
        keys: Keys<'_>,
        parallel: usize,
    ) -> Result<(), ActionError> {
        let differ = std::mem::take(&mut self.differ);
        let judged = each(parallel, differ, async |item| {
            let judged = counterpart(sides, keys, &item).await;
            (item, judged)
        })
        .await;
        for (item, judged) in judged {
            match judged? {
                Ok(NameConflict::Same) => self.same += 1,
                Ok(NameConflict::Continued) => self.replace.push(item),
                Ok(NameConflict::Other) => self.differ.push(item),
                Err(why) => {
                    self.untold.push(format!("`{}` may go on from what the target has: {why}", item.name));
                    self.differ.push(item);
                }
            }
        }
        Ok(())
    }

    /// Bytes that are going to be copied.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.create.iter().chain(&self.replace).map(|item| item.size_bytes).sum()
    }

    /// The plan in one line.
    pub(super) fn said(&self) -> String {
        let bytes = |items: &[Item]| items.iter().map(|item| item.size_bytes).sum::<u64>();
        let differ = match self.differ.len() {
            0 => String::new(),
            differ => format!(", {differ} have other content and stay"),
        };
        format!(
            "plan: create {} ({} bytes), replace {} ({} bytes), delete {} ({} bytes), {} are the same{differ}",
            self.create.len(),
            bytes(&self.create),
            self.replace.len(),
            bytes(&self.replace),
            self.delete.len(),
            bytes(&self.delete),
            self.same
        )
    }

    /// The first names of each kind.
    pub(super) fn data(&self) -> serde_json::Value {
        let names = |items: &[Item]| items.iter().take(NAMED).map(|item| item.name.clone()).collect::<Vec<_>>();
        json!({
            "create": { "count": self.create.len(), "first": names(&self.create) },
            "replace": { "count": self.replace.len(), "first": names(&self.replace) },
            "delete": { "count": self.delete.len(), "first": names(&self.delete) },
            "differ": { "count": self.differ.len(), "first": names(&self.differ) },
            "same": self.same,
            "bytes": self.copied_bytes(),
        })
    }
}

/// What an item has to do with what the target has under its name. Fails inside when the source's cannot be read, so that
/// nobody knows.
async fn counterpart(
    (from, to): (&Side, &Side),
    keys: Keys<'_>,
    item: &Item,
) -> Result<Result<NameConflict, WalError>, ActionError> {
    let (Side::Store { store, prefix }, Side::Store { store: there, prefix: below }) = (from, to) else {
        return Ok(Ok(NameConflict::Other));
    };
    let (object, copy) = (key_of(prefix, &item.name)?, key_of(below, &item.name)?);
    let copied = Copied { from: (store.as_ref(), &object), keys, to: (there.as_ref(), &copy) };
    Ok(copied.judge().await)
}

#[cfg(test)]
mod tests {
    use super::{Allowance, Plan};
    use crate::actions::store::sync::side::Item;
    use crate::base::Timestamp;

    fn item(name: &str, size_bytes: u64) -> Item {
        Item { name: name.to_owned(), size_bytes, modified_at: Timestamp::UNIX_EPOCH, stamp: String::new() }
    }

    #[test]
    fn sizes_alone_tell_what_is_new_changed_and_gone() {
        let source = vec![item("a", 1), item("b", 2), item("c", 3)];
        let target = vec![item("b", 9), item("c", 3), item("d", 4)];
        let (plan, pairs) = Plan::by_size(source, target);
        let names = |items: &[Item]| items.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&plan.create), names(&plan.replace), names(&plan.delete)),
            (vec!["a".to_owned()], vec!["b".to_owned()], vec!["d".to_owned()])
        );
        assert_eq!((pairs.len(), pairs[0].source.name.as_str(), plan.at_target), (1, "c", 3));
    }

    #[test]
    fn where_nothing_is_replaced_what_is_last_stays_out_of_a_folder_that_differs() {
        let source =
            vec![item("b/1/data", 1), item("b/1/manifest.json", 2), item("b/2/manifest.json", 3), item("b/3", 4)];
        let (mut plan, _) = Plan::by_size(source, vec![item("b/1/data", 9)]);
        plan.replace_nothing(|name| name.ends_with("manifest.json"));
        let names = |items: &[Item]| items.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&plan.create), names(&plan.differ)),
            (vec!["b/2/manifest.json".to_owned(), "b/3".to_owned()], vec!["b/1/data".to_owned()])
        );
        assert!(plan.replace.is_empty() && plan.said().ends_with("0 are the same, 1 have other content and stay"));
    }

    #[test]
    fn an_allowance_is_a_number_or_a_share() {
        let read = |text: &str| serde_json::from_str::<Allowance>(text).ok();
        assert_eq!(read("5"), Some(Allowance::Count(5)));
        assert_eq!(read("\"5\""), Some(Allowance::Count(5)));
        assert_eq!(read("\"25%\""), Some(Allowance::Percent(25)));
        for wrong in ["\"101%\"", "-1", "\"many\"", "null"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(Allowance::Percent(10).covers(1, 10) && !Allowance::Percent(10).covers(2, 10));
        assert!(Allowance::Count(2).covers(2, 2) && !Allowance::Count(0).covers(1, 100));
        assert!(Allowance::Percent(0).covers(0, 0));
    }
}
