//! Arguments that name an entry of the inventory.

use serde::{Deserialize, Serialize};

macro_rules! reference {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The entry's name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            /// `x-ref` tells which part of the inventory the name must stand in.
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "minLength": 1, "x-ref": $kind })
            }
        }
    };
}

reference!(
    /// Names a database (one server) of the inventory.
    DatabaseRef, "database"
);
reference!(
    /// Names a service of the inventory.
    ServiceRef, "service"
);
reference!(
    /// Names a store of the inventory.
    StoreRef, "store"
);
