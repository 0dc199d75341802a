//! From a plan to what people read of it: the model behind `plan`, `print` and `pack`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Failure, history};
use crate::action::Registry;
use crate::engine::known_arguments;
use crate::plan::BoundPlan;
use crate::report::checklist::{Checklist, Material, checklist};

/// Makes the checklist of a plan. `open` are parameters given only when it is carried out.
pub fn outline(plan: BoundPlan, registry: &Registry, open: &BTreeSet<String>) -> Result<Checklist, Failure> {
    let plan = Arc::new(plan);
    let arguments = known_arguments(&plan, registry);
    let forecast = history::forecast_of(&plan, &BTreeMap::new(), BTreeMap::new())?;
    let material = Material { plan: &plan, registry, arguments: &arguments, forecast: &forecast, open };
    Ok(checklist(&material))
}
