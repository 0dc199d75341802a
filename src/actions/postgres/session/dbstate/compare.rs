//! What is not as it was.

use std::collections::BTreeSet;

use super::{Leave, acl};
use crate::catalog::{DatabaseSetting, DatabaseState};

/// Says what of a state a database does not have, one fact per line. The version of the collation library is no part of
/// it: a restored database has the one of its system.
#[must_use]
pub(crate) fn differences(wanted: &DatabaseState, found: &DatabaseState, leave: Leave) -> Vec<String> {
    let mut told = Vec::new();
    let mut compare = |what: &str, wanted: &str, found: &str| {
        if wanted != found {
            told.push(format!("its {what} is `{found}`, not `{wanted}`"));
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if !leave.owner {
        compare("owner", &wanted.owner, &found.owner);
    }
    compare("encoding", &wanted.encoding, &found.encoding);
    compare("`LC_COLLATE`", &wanted.collate, &found.collate);
    compare("`LC_CTYPE`", &wanted.ctype, &found.ctype);
    // A server older than 15 tells neither.
    if wanted.provider.is_some() && found.provider.is_some() {
        compare("locale provider", &text(&wanted.provider), &text(&found.provider));
        compare("locale", &text(&wanted.icu_locale), &text(&found.icu_locale));
    }
    compare("connection limit", &wanted.connection_limit.to_string(), &found.connection_limit.to_string());
    // A dump of an earlier release does not tell that it was one.
    if wanted.is_template {
        compare("mark as a template", "true", &found.is_template.to_string());
    }
    compare("comment", &text(&wanted.comment), &text(&found.comment));
    if !leave.tablespace {
        compare("tablespace", &text(&wanted.tablespace), &text(&found.tablespace));
    }
    if !leave.privileges {
        let of = |state: &DatabaseState| state.acl.clone().unwrap_or_default();
        let mut rights = of(wanted);
        if leave.owner {
            rights = acl::renamed(&rights, (&wanted.owner, &found.owner));
        }
        compare("rights", &acl::ordered(&rights), &acl::ordered(&of(found)));
    }
    compare("settings", &settings(&wanted.settings), &settings(&found.settings));
    told
}

fn settings(settings: &[DatabaseSetting]) -> String {
    let shown = settings.iter().map(|setting| {
        let role = setting.role.as_deref().map_or(String::new(), |role| format!("{role}: "));
        format!("{role}{} = {}", setting.name, setting.value)
    });
    shown.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::Leave;
    use super::differences;
    use crate::catalog::DatabaseState;

    #[test]
    fn every_loss_is_named_and_nothing_else() {
        let wanted = DatabaseState {
            owner: "app".into(),
            acl: Some(vec!["app=CTc/app".into(), "r=c/app".into()]),
            collation_version: Some("2.36".into()),
            ..DatabaseState::default()
        };
        let turned = Some(vec!["r=c/app".into(), "app=CTc/app".into()]);
        let same = DatabaseState { acl: turned, collation_version: Some("2.41".into()), ..wanted.clone() };
        assert!(differences(&wanted, &same, Leave::default()).is_empty());
        let lost = DatabaseState { owner: "postgres".into(), acl: None, ..wanted.clone() };
        assert_eq!(differences(&wanted, &lost, Leave::default()).len(), 2);
        let left = Leave { owner: true, privileges: true, tablespace: false };
        assert!(differences(&wanted, &lost, left).is_empty());
        // Another owner has and gives what the one that was left out had and gave.
        let acl = Some(vec!["postgres=CTc/postgres".into(), "r=c/postgres".into()]);
        let other = DatabaseState { owner: "postgres".into(), acl, ..wanted.clone() };
        let left = Leave { owner: true, ..Leave::default() };
        assert!(differences(&wanted, &other, left).is_empty(), "{:?}", differences(&wanted, &other, left));
        let less = DatabaseState { acl: Some(vec!["postgres=CTc/postgres".into()]), ..other };
        assert_eq!(differences(&wanted, &less, left).len(), 1);
    }
}
