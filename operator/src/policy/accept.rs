//! Which policies of a cluster are compiled into its configuration, and why the others aren't.
//!
//! Pure, and the same for the controllers of both kinds, so that what a policy's status says is
//! what the sidecars get.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use warp_crds::policy::Rules;
use warp_crds::validation::{self, Budget, Reason, Violation};
use warp_crds::{WarpClusterSpec, WarpPolicy, WarpPolicySpec};

/// A policy that asks to be compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// When it was made; of two that claim a pattern, the older has it.
    pub created: Option<Timestamp>,
    /// What it asks for.
    pub spec: WarpPolicySpec,
}

/// What becomes of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// Why it isn't accepted; empty when it is.
    pub refused: Vec<Violation>,
    /// What the sidecars get for it: its spec, or the one that was accepted before.
    pub compiled: Option<WarpPolicySpec>,
}

impl Claim {
    /// The claims on `cluster` among `policies`, all of its namespace. A policy that can't be read
    /// names no cluster; it isn't among them.
    pub fn on<'a>(
        cluster: &str,
        policies: impl IntoIterator<Item = &'a DeserializeGuard<WarpPolicy>>,
    ) -> Vec<Self> {
        policies
            .into_iter()
            .filter_map(|guard| guard.0.as_ref().ok())
            .filter(|policy| policy.spec.cluster_ref.name == cluster)
            .filter(|policy| policy.metadata.deletion_timestamp.is_none())
            .map(|policy| Self {
                name: policy.name_any(),
                created: policy.metadata.creation_timestamp.as_ref().map(|time| time.0),
                spec: policy.spec.clone(),
            })
            .collect()
    }

    fn older(&self, other: &Self) -> Ordering {
        self.created.cmp(&other.created).then_with(|| self.name.cmp(&other.name))
    }
}

/// Judges all claims on one cluster, `cluster`; `previous` is what was compiled
/// for each policy until now: a policy that turns unacceptable keeps it, so that an edit that goes
/// wrong doesn't take away what runs.
pub fn accept(
    mut claims: Vec<Claim>,
    cluster: &WarpClusterSpec,
    previous: &BTreeMap<String, WarpPolicySpec>,
) -> Vec<Verdict> {
    claims.sort_by(Claim::older);
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let mut budget = Budget::of(cluster);
    let base = cluster.defaults.resolve(Rules::BUILT_IN);
    claims
        .into_iter()
        .map(|claim| {
            let judge = |spec: &WarpPolicySpec| {
                let mut refused = validation::policy(spec, &cluster.defaults);
                refused.extend(conflicts(spec, &owners));
                refused.extend({ budget }.take(&spec.rules.resolve(base)).err());
                refused
            };
            let refused = judge(&claim.spec);
            let compiled = if refused.is_empty() {
                Some(claim.spec)
            } else {
                previous.get(&claim.name).filter(|spec| judge(spec).is_empty()).cloned()
            };
            if let Some(spec) = &compiled {
                // It fits, or it would not be compiled.
                let _ = budget.take(&spec.rules.resolve(base));
            }
            for pattern in compiled.iter().flat_map(|spec| &spec.patterns) {
                owners.insert(pattern.0.clone(), claim.name.clone());
            }
            Verdict { name: claim.name, refused, compiled }
        })
        .collect()
}

fn conflicts(
    spec: &WarpPolicySpec,
    owners: &BTreeMap<String, String>,
) -> impl Iterator<Item = Violation> {
    spec.patterns.iter().enumerate().filter_map(|(at, pattern)| {
        let owner = owners.get(&pattern.0)?;
        Some(Violation {
            field: format!("spec.match[{at}]"),
            reason: Reason::Conflict,
            message: format!(
                "{:?} is claimed by WarpPolicy {owner} already, which is older; take it out of one of them",
                pattern.0
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use proptest::prelude::*;
    use warp_crds::pattern::KeyPattern;
    use warp_crds::policy::{ClusterRef, Mode, PolicyRules};

    use super::*;

    fn spec(patterns: &[&str], mode: Option<Mode>) -> WarpPolicySpec {
        WarpPolicySpec {
            cluster_ref: ClusterRef::to("shop"),
            patterns: patterns.iter().map(|p| KeyPattern((*p).to_owned())).collect(),
            rules: PolicyRules { mode, ..Default::default() },
        }
    }

    fn claim(name: &str, age: i64, spec: WarpPolicySpec) -> Claim {
        let created = Timestamp::from_second(1_000_000 - age).ok();
        Claim { name: name.to_owned(), created, spec }
    }

    fn judge(claims: Vec<Claim>, previous: &[(&str, WarpPolicySpec)]) -> BTreeMap<String, Verdict> {
        let previous = previous.iter().map(|(n, s)| ((*n).to_owned(), s.clone())).collect();
        accept(claims, &WarpClusterSpec::default(), &previous)
            .into_iter()
            .map(|verdict| (verdict.name.clone(), verdict))
            .collect()
    }

    #[test]
    fn the_older_of_two_has_the_pattern() {
        let judged = judge(
            vec![
                claim("new", 1, spec(&["b:*", "a:*"], None)),
                claim("old", 2, spec(&["a:*"], None)),
            ],
            &[],
        );
        assert_eq!(judged["old"].refused, []);
        assert_eq!(judged["new"].compiled, None);
        let refused = &judged["new"].refused[0];
        assert_eq!((refused.reason, refused.field.as_str()), (Reason::Conflict, "spec.match[1]"));
        assert!(refused.message.contains("WarpPolicy old"));
    }

    #[test]
    fn an_edit_that_goes_wrong_keeps_what_runs() {
        let wrong = spec(&["a:*"], Some(Mode::StrongDistributed));
        let before = spec(&["a:*"], Some(Mode::StrongLocal));
        let judged = judge(vec![claim("p", 1, wrong.clone())], &[("p", before.clone())]);
        assert_eq!(judged["p"].refused[0].reason, Reason::Unsupported);
        assert_eq!(judged["p"].compiled, Some(before.clone()));
        // And what runs keeps its patterns.
        let judged = judge(
            vec![claim("p", 2, wrong), claim("q", 1, spec(&["a:*"], None))],
            &[("p", before)],
        );
        assert_eq!(judged["q"].refused[0].reason, Reason::Conflict);
    }

    #[test]
    fn a_quota_that_is_not_left_is_refused_to_the_younger() {
        let with_quota = |pattern: &str, quota: &str| {
            let mut spec = spec(&[pattern], None);
            spec.rules.quota = Some(Quantity(quota.to_owned()));
            spec
        };
        let judged = judge(
            vec![
                claim("young", 1, with_quota("a:*", "40Mi")),
                claim("old", 2, with_quota("b:*", "40Mi")),
            ],
            &[("young", with_quota("a:*", "10Mi"))],
        );
        assert_eq!(judged["old"].refused, []);
        assert_eq!(judged["young"].refused[0].field, "spec.quota");
        assert_eq!(judged["young"].compiled, Some(with_quota("a:*", "10Mi")));
    }

    #[test]
    fn what_ran_gives_way_to_an_older_policy() {
        let wrong = spec(&["a:*"], Some(Mode::StrongDistributed));
        let judged = judge(
            vec![claim("young", 1, wrong), claim("old", 2, spec(&["a:*"], None))],
            &[("young", spec(&["a:*"], None))],
        );
        assert_eq!(judged["young"].compiled, None);
        assert_eq!(judged["old"].refused, []);
    }

    proptest! {
        #[test]
        fn no_two_compiled_policies_share_a_pattern_whatever_their_order(
            policies in prop::collection::vec((prop::collection::vec("[ab]", 1..3), 0..3i64, any::<bool>()), 0..6),
            rotation in 0..6usize,
        ) {
            let claims: Vec<Claim> = policies
                .iter()
                .enumerate()
                .map(|(at, (patterns, age, strong))| {
                    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
                    let mode = strong.then_some(Mode::StrongDistributed);
                    claim(&format!("p{at}"), *age, spec(&patterns, mode))
                })
                .collect();
            let mut turned = claims.clone();
            turned.rotate_left(rotation % claims.len().max(1));
            let judged = judge(claims, &[("p0", spec(&["a"], None)), ("p1", spec(&["a", "b"], None))]);
            prop_assert_eq!(&judged, &judge(turned, &[("p0", spec(&["a"], None)), ("p1", spec(&["a", "b"], None))]));
            let mut seen = BTreeMap::new();
            for verdict in judged.values() {
                for pattern in verdict.compiled.iter().flat_map(|spec| &spec.patterns) {
                    let before = seen.insert(pattern.0.clone(), verdict.name.clone());
                    prop_assert!(before.is_none() || before.as_ref() == Some(&verdict.name));
                }
            }
        }
    }
}
