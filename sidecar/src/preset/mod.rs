//! From the policies of a cluster to the class that a key belongs to.
//!
//! Presets, defaults and overrides are resolved once, when a configuration is applied; a read only
//! asks which class its key is in, and how old a copy of such a key may be ([`lifetime`]).

use std::time::Duration;

use warp_crds::manifest::Manifests;
use warp_crds::pattern::{KeyMatcher, KeyPattern};
use warp_crds::policy::{Preset, Rules};

use crate::cache::Millis;

pub mod lifetime;

use lifetime::{Lifetime, millis};

/// The name of the class of keys that no policy matches.
pub const DEFAULT_CLASS: &str = "default";

/// A class of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its policy's name, or [`DEFAULT_CLASS`]; the `class` label of the metrics.
    pub name: String,
    /// What its policy starts from.
    pub preset: Option<Preset>,
    /// What its keys get.
    pub rules: Rules,
    /// How long its copies live.
    pub lifetime: Lifetime,
    /// How old the bus's last proof may be at a hit, in milliseconds; `None` where a hit needs none.
    pub proof_bound: Option<Millis>,
}

impl Class {
    fn new(name: String, preset: Option<Preset>, rules: Rules) -> Self {
        let bound = || millis(rules.max_staleness.unwrap_or(Rules::PROOF_BOUND));
        let proof_bound = rules.is_distributed().then(bound);
        Self { name, preset, rules, lifetime: Lifetime::of(&rules), proof_bound }
    }

    /// Whether the class's writes are told to the other pods, and its hits need a live bus.
    pub fn is_distributed(&self) -> bool {
        self.proof_bound.is_some()
    }

    /// How long a read waits for the storage, if something may be answered in its place and if not;
    /// `None` is as long as the storage takes.
    pub fn patience(&self, has_stand_in: bool) -> Option<Duration> {
        let Rules { soft_timeout, hard_timeout, .. } = self.rules;
        let soft = if has_stand_in { soft_timeout } else { Duration::ZERO };
        [soft, hard_timeout].into_iter().find(|patience| !patience.is_zero())
    }
}

/// All classes of one configuration; immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// The default class is the last.
    all: Vec<Class>,
    /// The most specific first, so that the first match decides.
    patterns: Vec<(KeyMatcher, usize)>,
    /// As they are written, in the same order.
    written: Vec<KeyPattern>,
}

impl Classes {
    /// Resolves every policy.
    pub fn compile(manifests: &Manifests) -> Self {
        let base = manifests.cluster.spec.defaults.resolve(Rules::BUILT_IN);
        let mut policies: Vec<_> = manifests.policies.iter().collect();
        policies.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let mut classes = Vec::with_capacity(policies.len() + 1);
        let mut patterns = Vec::new();
        for policy in policies {
            patterns.extend(
                policy.spec.patterns.iter().map(|pattern| (pattern.clone(), classes.len())),
            );
            let name = policy.metadata.name.clone().unwrap_or_default();
            let rules = &policy.spec.rules;
            classes.push(Class::new(name, rules.preset, rules.resolve(base)));
        }
        let preset = manifests.cluster.spec.defaults.preset;
        classes.push(Class::new(DEFAULT_CLASS.to_owned(), preset, base));
        patterns.sort_by_cached_key(|(pattern, _)| std::cmp::Reverse(pattern.specificity()));
        let written = patterns.iter().map(|(pattern, _)| pattern.clone()).collect();
        let patterns =
            patterns.into_iter().map(|(pattern, class)| (pattern.matcher(), class)).collect();
        Self { all: classes, patterns, written }
    }

    /// The place in [`Classes::all`] of the class that `key` belongs to.
    #[inline]
    pub fn index_of(&self, key: &[u8]) -> usize {
        let matching = self.patterns.iter().find(|(pattern, _)| pattern.matches(key));
        matching.map_or(self.all.len() - 1, |(_, class)| *class)
    }

    /// The class that `key` belongs to.
    pub fn of(&self, key: &[u8]) -> &Class {
        &self.all[self.index_of(key)]
    }

    /// The pattern that put `key` into its class; `None` is the default class.
    pub fn pattern_of(&self, key: &[u8]) -> Option<&KeyPattern> {
        let at = self.patterns.iter().position(|(pattern, _)| pattern.matches(key))?;
        self.written.get(at)
    }

    /// The least age of the bus's last proof at which some class's hits end.
    pub fn strictest_bound(&self) -> Option<Millis> {
        self.all.iter().filter_map(|class| class.proof_bound).min()
    }

    /// Every class, the default class last.
    pub fn all(&self) -> &[Class] {
        &self.all
    }

    /// Whether copies that were made while `before` held can't be kept. Either peers didn't invalidate
    /// some of them, which were in a class of the mode StrongLocal, and some class or pattern has
    /// another mode now; or some pattern's copies belong into another memory now.
    pub fn must_forget(&self, before: &Self) -> bool {
        let room = |class: &Class| (class.rules.quota > 0).then(|| class.name.clone());
        let has_rooms = |classes: &Self| classes.all().iter().any(|class| class.rules.quota > 0);
        let some_were_local = before.all().iter().any(|class| !class.is_distributed());
        let modes_differ =
            || self.each(|class| class.rules.mode) != before.each(|class| class.rules.mode);
        (some_were_local && modes_differ())
            || ((has_rooms(self) || has_rooms(before)) && self.each(room) != before.each(room))
    }

    /// Something of the default class, and of that of each pattern.
    fn each<T>(&self, of: impl Fn(&Class) -> T) -> Vec<(Option<&KeyMatcher>, T)> {
        let rest = std::iter::once((None, self.all.len() - 1));
        let each = self.patterns.iter().map(|(pattern, class)| (Some(pattern), *class));
        rest.chain(each).map(|(pattern, class)| (pattern, of(&self.all[class]))).collect()
    }
}

#[cfg(test)]
mod tests {
    use warp_crds::manifest;

    use super::*;

    fn compile(policies: &[(&str, &str, &str)]) -> Classes {
        let mut text = "kind: WarpCluster\napiVersion: warpcache.dev/v1alpha1\nmetadata: {name: c}\nspec: {defaults: {ttl: 7s}}\n".to_owned();
        for (name, pattern, rules) in policies {
            text += &format!(
                "---\nkind: WarpPolicy\napiVersion: warpcache.dev/v1alpha1\nmetadata: {{name: {name}}}\nspec: {{clusterRef: {{name: c}}, match: ['{pattern}'], {rules}}}\n"
            );
        }
        Classes::compile(&manifest::parse(&text).unwrap())
    }

    #[test]
    fn the_most_specific_pattern_decides_whatever_the_order() {
        let wide = ("all", "*", "ttl: 1s");
        let users = ("users", "user:*", "ttl: 2s");
        let admin = ("admin", "user:admin:*", "mode: StrongLocal");
        for policies in [[wide, users, admin], [admin, users, wide]] {
            let classes = compile(&policies);
            assert_eq!(classes.of(b"x").name, "all");
            assert_eq!(classes.of(b"user:7").name, "users");
            let class = classes.of(b"user:admin:7");
            assert_eq!((class.name.as_str(), class.rules.ttl.as_secs()), ("admin", 7));
            assert!(!class.is_distributed());
        }
    }

    #[test]
    fn a_key_that_nothing_matches_gets_the_defaults() {
        let classes = compile(&[("users", "user:*", "ttl: 2s")]);
        let class = classes.of(b"other");
        assert_eq!((class.name.as_str(), class.rules.ttl.as_secs()), (DEFAULT_CLASS, 7));
        assert_eq!(classes.pattern_of(b"other"), None);
        assert_eq!(classes.pattern_of(b"user:1").unwrap().0, "user:*");
    }

    #[test]
    fn a_changed_mode_or_place_is_told_from_a_changed_ttl() {
        let before = compile(&[("users", "user:*", "ttl: 2s")]);
        let changed = |rules| compile(&[("users", "user:*", rules)]);
        assert!(!changed("ttl: 3s").must_forget(&before));
        let local = changed("mode: StrongLocal");
        assert!(before.must_forget(&local));
        assert!(!local.must_forget(&before), "peers have invalidated all copies until now");
        assert!(changed("quota: 1Mi").must_forget(&before));
        assert!(!changed("quota: 2Mi").must_forget(&changed("quota: 1Mi")));
        let renamed = compile(&[("people", "user:*", "quota: 1Mi")]);
        assert!(renamed.must_forget(&changed("quota: 1Mi")), "its memory is another");
    }

    #[test]
    fn a_policy_starts_from_its_preset_and_overrides_it() {
        let classes = compile(&[(
            "users",
            "user:*",
            "preset: Resilient, failSafeGrace: 5m, maxStaleness: 10s",
        )]);
        let class = classes.of(b"user:1");
        assert_eq!(class.preset, Some(Preset::Resilient));
        let expected = Rules {
            fail_safe_grace: Duration::from_mins(5),
            max_staleness: Some(Duration::from_secs(10)),
            ..Preset::Resilient.rules()
        };
        assert_eq!(class.rules, expected);
        assert_eq!(class.proof_bound, Some(10_000));
        assert_eq!(classes.strictest_bound(), Some(3_000));
        assert_eq!(class.patience(true), Some(Duration::from_millis(100)));
        assert_eq!(class.patience(false), Some(Duration::from_secs(2)));
        assert_eq!(classes.of(b"x").patience(true), None);
    }
}
