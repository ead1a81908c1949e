//! Events where a condition turns, but for those that turn at every rollout.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use warp_crds::conditions;

/// A condition that turned, and whether for the better.
fn turned<'a>(
    before: &'a [Condition],
    after: &'a [Condition],
) -> impl Iterator<Item = (&'a Condition, bool)> {
    let passing = [conditions::SIDECARS_CURRENT, conditions::PROGRAMMED];
    after.iter().filter(move |condition| !passing.contains(&condition.type_.as_str())).filter_map(
        |condition| {
            let was = before.iter().find(|c| c.type_ == condition.type_);
            // What is well from the start needs no word.
            let unknown = was.is_none_or(|was| was.status == "Unknown");
            let well = condition.status
                != if condition.type_ == conditions::DEGRADED { "True" } else { "False" };
            let same = was.is_some_and(|was| {
                was.status == condition.status && was.reason == condition.reason
            });
            let first_word = unknown && well && condition.type_ != conditions::READY;
            (!same && !first_word && condition.status != "Unknown").then_some((condition, well))
        },
    )
}

/// Tells of what turned between `before` and `after`. An event that can't be written is let go.
pub async fn tell<K: Resource<DynamicType = ()>>(
    recorder: &Recorder,
    object: &K,
    before: &[Condition],
    after: &[Condition],
) {
    for (condition, well) in turned(before, after) {
        let event = Event {
            type_: if well { EventType::Normal } else { EventType::Warning },
            reason: condition.reason.clone(),
            // Of an event's note the API takes 1,024 bytes.
            note: Some(
                format!("{}={}: {}", condition.type_, condition.status, condition.message)
                    .chars()
                    .take(250)
                    .collect(),
            ),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            tracing::debug!(%error, "an event wasn't written");
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use warp_crds::conditions::{BUS_READY, DEGRADED, Observation, READY, SIDECARS_CURRENT, merge};

    use super::*;

    fn at(ready: Option<bool>, degraded: bool) -> Vec<Condition> {
        let observations = [
            Observation::new(READY, ready, format!("R{ready:?}"), ""),
            Observation::new(BUS_READY, true, "Connected", ""),
            Observation::new(SIDECARS_CURRENT, ready, "Updating", ""),
            Observation::new(DEGRADED, degraded, format!("D{degraded}"), ""),
        ];
        merge(&[], &observations, None, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_what_turns_is_told() {
        let told = |before: &[Condition], after: &[Condition]| -> Vec<(String, bool)> {
            turned(before, after).map(|(c, well)| (c.type_.clone(), well)).collect()
        };
        let well = at(Some(true), false);
        assert_eq!(told(&[], &well), [("Ready".to_owned(), true)]);
        assert_eq!(told(&well, &well), []);
        let ill = at(Some(false), true);
        assert_eq!(
            told(&well, &ill),
            [("Ready".to_owned(), false), ("Degraded".to_owned(), false)]
        );
        assert_eq!(told(&ill, &well), [("Ready".to_owned(), true), ("Degraded".to_owned(), true)]);
        assert_eq!(told(&well, &at(None, false)), []);
    }
}
