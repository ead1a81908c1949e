//! What can't be accepted of a class's rules, by itself and together with what it starts from.

use std::time::Duration;

use kube::core::Duration as Given;

use super::{LEAST_MEMORY, Reason, Violation, invalid, unsupported};
use crate::policy::{Mode, PolicyRules, Rules};
use crate::{WarpClusterSpec, quantity};

/// The longest time that a value is answered from memory.
const LONGEST_TTL: Duration = Duration::from_hours(8760);
const LONGEST_NEGATIVE: Duration = Duration::from_hours(24);
/// What a storage allows itself for a call.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The bus proves once a second that nothing is missed, and that takes its time.
const LEAST_PROOF: Duration = Duration::from_millis(1500);
const LONGEST_STALENESS: Duration = Duration::from_hours(24);

/// Everything that is wrong with rules that start from `base`; the fields are relative to them.
pub fn rules(given: &PolicyRules, base: Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    let resolved = given.resolve(base);
    if resolved.mode == Mode::StrongDistributed {
        unsupported(
            &mut found,
            "mode",
            "StrongDistributed is not supported yet; use EventualDistributed, or StrongLocal for data that one pod owns",
        );
    }
    ranges(given, &mut found);
    if found.is_empty() {
        together(&resolved, &mut found);
    }
    found
}

/// Each field by itself.
fn ranges(given: &PolicyRules, found: &mut Vec<Violation>) {
    let millisecond = Duration::from_millis(1);
    let none = Duration::ZERO;
    for (field, value, least, most, range) in [
        ("ttl", given.ttl, millisecond, LONGEST_TTL, "1ms and 8760h"),
        ("slidingTtl", given.sliding_ttl, none, LONGEST_TTL, "0s (none) and 8760h"),
        ("adaptiveTtlMin", given.adaptive_ttl_min, none, LONGEST_TTL, "0s (none) and 8760h"),
        ("negativeTtl", given.negative_ttl, none, LONGEST_NEGATIVE, "0s (none) and 24h"),
        ("failSafeGrace", given.fail_safe_grace, none, LONGEST_TTL, "0s (none) and 8760h"),
        ("softTimeout", given.soft_timeout, none, LONGEST_TIMEOUT, "0s (none) and 5s"),
        ("hardTimeout", given.hard_timeout, none, LONGEST_TIMEOUT, "0s (none) and 5s"),
        ("maxStaleness", given.max_staleness, millisecond, LONGEST_STALENESS, "1ms and 24h"),
    ] {
        let is_outside = |value: &Given| {
            value.is_negative() || !(least..=most).contains(&Duration::from(*value))
        };
        if value.as_ref().is_some_and(is_outside) {
            invalid(found, field, format!("must be between {range}"));
        }
    }
    for (field, value, most) in [
        ("ttlJitterPercent", given.ttl_jitter_percent, 90),
        ("eagerRefreshPercent", given.eager_refresh_percent, 99),
    ] {
        if value.is_some_and(|value| !(0..=most).contains(&value)) {
            invalid(found, field, format!("must be 0 to {most}"));
        }
    }
    match given.quota.as_ref().map(quantity::bytes) {
        None | Some(Ok(0 | LEAST_MEMORY..)) => {}
        Some(Ok(_)) => invalid(found, "quota", "must be at least 1Mi, or 0 for none"),
        Some(Err(error)) => invalid(found, "quota", error.to_string()),
    }
}

/// What doesn't go together, wherever each part comes from.
fn together(rules: &Rules, found: &mut Vec<Violation>) {
    for (field, value) in
        [("slidingTtl", rules.sliding_ttl), ("adaptiveTtlMin", rules.adaptive_ttl_min)]
    {
        if value > rules.ttl {
            let message = format!("is longer than the ttl, {:?}, which bounds it", rules.ttl);
            invalid(found, field, message);
        }
    }
    if !rules.soft_timeout.is_zero() && rules.fail_safe_grace.is_zero() {
        invalid(
            found,
            "softTimeout",
            "does nothing without a copy that may be answered after its TTL; give a failSafeGrace, or use hardTimeout",
        );
    }
    if !rules.hard_timeout.is_zero() && rules.soft_timeout >= rules.hard_timeout {
        let message = format!("must be less than the hardTimeout, {:?}", rules.hard_timeout);
        invalid(found, "softTimeout", message);
    }
    if rules.is_distributed() && rules.max_staleness.is_some_and(|bound| bound < LEAST_PROOF) {
        invalid(
            found,
            "maxStaleness",
            "must be at least 1500ms in EventualDistributed: the bus proves once a second that nothing is missed",
        );
    }
}

/// The memory of a sidecar that quotas may still be made of: *all quotas together leave
/// [`LEAST_MEMORY`] for the classes that have none*.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// What the policies of a cluster may take: the default class comes first.
    pub fn of(cluster: &WarpClusterSpec) -> Self {
        // Another rule refuses a limit that isn't bytes.
        let limit = quantity::bytes(&cluster.sidecar.memory_limit).unwrap_or(0);
        let taken = cluster.defaults.resolve(Rules::BUILT_IN).quota;
        Self { left: limit.saturating_sub(LEAST_MEMORY).saturating_sub(taken) }
    }

    /// Takes the quota of a policy, if it is left.
    pub fn take(&mut self, rules: &Rules) -> Result<(), Violation> {
        match self.left.checked_sub(rules.quota) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Violation {
                field: "spec.quota".to_owned(),
                reason: Reason::Invalid,
                message: format!(
                    "{} bytes are more than is left of the cluster's sidecar.memoryLimit, which is {} bytes: other quotas take theirs, and 1Mi stays for the classes without one",
                    rules.quota, self.left
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use proptest::prelude::*;

    use super::*;
    use crate::preset::Preset;

    fn of(text: &str) -> PolicyRules {
        serde_yaml::from_str(text).unwrap()
    }

    fn wrong(text: &str) -> Vec<String> {
        rules(&of(text), Rules::BUILT_IN).into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn each_field_has_its_range() {
        for (text, field) in [
            ("ttl: 0s", "ttl"),
            ("ttl: -1s", "ttl"),
            ("ttl: 8761h", "ttl"),
            ("ttlJitterPercent: 91", "ttlJitterPercent"),
            ("ttlJitterPercent: -1", "ttlJitterPercent"),
            ("negativeTtl: 25h", "negativeTtl"),
            ("negativeTtl: -1s", "negativeTtl"),
            ("failSafeGrace: -1s", "failSafeGrace"),
            ("hardTimeout: 6s", "hardTimeout"),
            ("eagerRefreshPercent: 100", "eagerRefreshPercent"),
            ("maxStaleness: 25h", "maxStaleness"),
            ("quota: 5k", "quota"),
            ("quota: much", "quota"),
        ] {
            assert_eq!(wrong(text), [field], "{text}");
        }
    }

    #[test]
    fn what_would_do_nothing_or_cant_be_kept_is_refused() {
        for (text, field) in [
            ("slidingTtl: 2m", "slidingTtl"),
            ("adaptiveTtlMin: 2m", "adaptiveTtlMin"),
            ("softTimeout: 100ms", "softTimeout"),
            ("{softTimeout: 1s, hardTimeout: 1s, failSafeGrace: 1h}", "softTimeout"),
            ("maxStaleness: 1s", "maxStaleness"),
        ] {
            assert_eq!(wrong(text), [field], "{text}");
        }
        assert_eq!(wrong("{mode: StrongLocal, maxStaleness: 1s}"), [""; 0]);
        assert_eq!(wrong("{softTimeout: 100ms, preset: Resilient}"), [""; 0]);
        assert_eq!(wrong("{failSafeGrace: 0s, preset: Resilient}"), ["softTimeout"]);
    }

    #[test]
    fn quotas_leave_room_for_the_others() {
        let mut cluster = WarpClusterSpec::default();
        cluster.sidecar.memory_limit = Quantity("9Mi".to_owned());
        cluster.defaults = of("quota: 1Mi");
        let rules = |mebibytes: u64| Rules { quota: mebibytes << 20, ..Rules::BUILT_IN };
        let mut budget = Budget::of(&cluster);
        assert_eq!(budget.take(&rules(3)), Ok(()));
        let violation = budget.take(&rules(5)).unwrap_err();
        assert!(violation.message.contains("is 4194304 bytes"), "{violation}");
        assert_eq!(budget.take(&rules(4)), Ok(()));
        assert_eq!(budget.take(&rules(0)), Ok(()));
    }

    fn duration(millis: u32) -> Given {
        Duration::from_millis(millis.into()).into()
    }

    proptest! {
        /// Whatever is accepted on top of any preset keeps its promises.
        #[test]
        fn accepted_rules_hold_together(
            ttl in prop::option::of(0..10_000u32),
            sliding in prop::option::of(0..10_000u32),
            grace in prop::option::of(0..3u32),
            soft in prop::option::of(0..6_000u32),
            hard in prop::option::of(0..6_000u32),
            jitter in prop::option::of(-5..110i32),
            eager in prop::option::of(-5..110i32),
            quota in prop::option::of("[0-9]{1,8}(Ki|Mi)?"),
            preset in prop::option::of(prop::sample::select(Preset::ALL.to_vec())),
        ) {
            let given = PolicyRules {
                ttl: ttl.map(duration),
                sliding_ttl: sliding.map(duration),
                fail_safe_grace: grace.map(duration),
                soft_timeout: soft.map(duration),
                hard_timeout: hard.map(duration),
                ttl_jitter_percent: jitter,
                eager_refresh_percent: eager,
                quota: quota.map(Quantity),
                preset,
                ..Default::default()
            };
            if rules(&given, Rules::BUILT_IN).is_empty() {
                let rules = given.resolve(Rules::BUILT_IN);
                prop_assert!(!rules.ttl.is_zero() && rules.sliding_ttl <= rules.ttl);
                prop_assert!(rules.soft_timeout.is_zero() || !rules.fail_safe_grace.is_zero());
                prop_assert!(rules.hard_timeout.is_zero() || rules.soft_timeout < rules.hard_timeout);
                prop_assert!(rules.ttl_jitter_percent <= 90 && rules.eager_refresh_percent <= 99);
                prop_assert!(rules.quota == 0 || rules.quota >= LEAST_MEMORY);
            }
        }
    }
}
