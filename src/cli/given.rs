//! Says at the start of a run what it goes by: which inventory, and which points in time.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::prepare::Prepared;
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::language::runbook::ParamType;
use crate::plan::BoundPlan;

/// Says it on standard error: at three in the morning the wrong file and the wrong hour must show.
pub fn tell(prepared: &Prepared, plan: &BoundPlan) {
    if !prepared.inventory.files.is_empty() {
        tell!("inventory: {}", prepared.inventory.files.join(", "));
    }
    for (name, param) in &prepared.plan.runbook.params {
        let given = plan.params.get(&name.value).and_then(Value::as_str).filter(|_| param.kind == ParamType::Timestamp);
        if let Some(at) = given.and_then(|text| text.parse::<Timestamp>().ok()) {
            tell!("{}: {}", name.value, moment(at, plan.started_at, &TimeZone::system()));
        }
    }
}

/// A point in time as the run takes it: in UTC, in local time, and how long ago.
fn moment(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let local = at.to_zoned(zone.clone());
    let name = zone.iana_name().unwrap_or("local time");
    let away = if at > now {
        format!("in {}", human_duration(between(now, at)))
    } else {
        format!("{} ago", human_duration(between(at, now)))
    };
    if local.offset() == jiff::tz::Offset::UTC {
        return format!("{} UTC, which is local time here, {away}", at.strftime("%F %T"));
    }
    format!("{} UTC, {} {name}, {away}", at.strftime("%F %T"), local.strftime("%F %T"))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::moment;
    use crate::base::Timestamp;

    #[test]
    fn a_moment_is_told_in_utc_in_local_time_and_by_its_distance() {
        let at: Timestamp = "2026-07-01T12:30:05Z".parse().expect("a time");
        let now: Timestamp = "2026-07-01T14:00:05Z".parse().expect("a time");
        let berlin = TimeZone::get("Europe/Berlin").expect("the zone");
        let told = "2026-07-01 12:30:05 UTC, 2026-07-01 14:30:05 Europe/Berlin, 1h 30m ago";
        assert_eq!(moment(at, now, &berlin), told);
        assert!(moment(now, at, &berlin).ends_with("in 1h 30m"));
        assert!(moment(at, now, &TimeZone::UTC).contains("12:30:05 UTC, which is local time here"));
    }
}
