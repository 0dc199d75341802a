//! Which services a step means: one by name, or all of a database.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::{ActionError, DatabaseRef, ParamFault, ServiceRef};
use crate::language::inventory::{Inventory, Service};

/// The choice of services; exactly one member.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// One service of the inventory.
    #[serde(default)]
    pub service: Option<ServiceRef>,
    /// All services that use this database, in the order of the inventory.
    #[serde(default)]
    pub services_of: Option<DatabaseRef>,
}

/// A chosen service.
pub(in crate::actions) struct Chosen<'a> {
    /// Its name.
    pub(in crate::actions) name: &'a str,
    /// Its entry.
    pub(in crate::actions) service: &'a Service,
}

impl Selection {
    /// Gives the chosen services; a database may have none.
    pub(in crate::actions) fn choose<'a>(&'a self, inventory: &'a Inventory) -> Result<Vec<Chosen<'a>>, ParamFault> {
        let find = |path: &str, name: &'a str| {
            let service = inventory.services.get(name);
            let service = service.ok_or_else(|| ParamFault::new(path, format!("there is no service `{name}`")))?;
            Ok(Chosen { name, service })
        };
        match (&self.service, &self.services_of) {
            (Some(name), None) => Ok(vec![find("/service", name.as_str())?]),
            (None, Some(database)) => {
                let name = database.as_str();
                let entry = inventory.databases.get(name);
                let entry =
                    entry.ok_or_else(|| ParamFault::new("/services_of", format!("there is no database `{name}`")))?;
                entry.services.iter().map(|service| find("/services_of", service)).collect()
            }
            (Some(_), Some(_)) | (None, None) => {
                Err(ParamFault::new("", "exactly one of `service` and `services_of` is wanted"))
            }
        }
    }

    /// As [`Selection::choose`], for a step that runs: what was wrong was said at bind.
    pub(in crate::actions) fn chosen<'a>(&'a self, inventory: &'a Inventory) -> Result<Vec<Chosen<'a>>, ActionError> {
        self.choose(inventory).map_err(|fault| ActionError::fatal(fault.message))
    }

    /// Says that there is nothing to do, where there is nothing.
    pub(in crate::actions) fn nothing(&self) -> String {
        let name = self.services_of.as_ref().map(DatabaseRef::as_str).unwrap_or_default();
        format!("database `{name}` has no services in the inventory: nothing to do")
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;
    use crate::language::inventory::{Database, Inventory, Service};

    fn selection(with: serde_json::Value) -> Selection {
        serde_json::from_value(with).expect("a selection")
    }

    #[test]
    fn services_are_chosen_by_name_or_by_database() {
        let mut inventory = Inventory::default();
        inventory.services.insert("api".to_owned(), Service::default());
        inventory.services.insert("web".to_owned(), Service::default());
        let services = vec!["web".to_owned(), "api".to_owned()];
        inventory.databases.insert("main".to_owned(), Database { services, ..Database::default() });
        inventory.databases.insert("lone".to_owned(), Database::default());
        let names = |with| {
            let selection = selection(with);
            let chosen = selection.choose(&inventory).map_err(|fault| fault.message)?;
            Ok::<_, String>(chosen.into_iter().map(|chosen| chosen.name.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names(serde_json::json!({ "service": "api" })), Ok(vec!["api".to_owned()]));
        assert_eq!(names(serde_json::json!({ "services_of": "main" })), Ok(vec!["web".to_owned(), "api".to_owned()]));
        assert_eq!(names(serde_json::json!({ "services_of": "lone" })), Ok(Vec::new()));
        for wrong in [
            serde_json::json!({}),
            serde_json::json!({ "service": "api", "services_of": "main" }),
            serde_json::json!({ "service": "none" }),
            serde_json::json!({ "services_of": "none" }),
        ] {
            assert!(names(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
