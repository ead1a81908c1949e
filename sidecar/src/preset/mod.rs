//! From the policies of a cluster to the class that a key belongs to.
//!
//! Presets, defaults and overrides are resolved once, when a configuration is applied; a read only
//! asks which class its key is in.

use warp_crds::manifest::Manifests;
use warp_crds::pattern::KeyMatcher;
use warp_crds::policy::{Mode, Rules};

/// The name of the class of keys that no policy matches.
pub const DEFAULT_CLASS: &str = "default";

/// A class of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its policy's name, or [`DEFAULT_CLASS`]; the `class` label of the metrics.
    pub name: String,
    /// What its keys get.
    pub rules: Rules,
}

impl Class {
    /// Whether the class's writes are told to the other pods, and its hits need a live bus.
    pub fn is_distributed(&self) -> bool {
        self.rules.mode != Mode::StrongLocal
    }

    /// How long a value may be answered from memory, in milliseconds.
    pub fn ttl_millis(&self) -> u64 {
        u64::try_from(self.rules.ttl.as_millis()).unwrap_or(u64::MAX)
    }
}

/// All classes of one configuration; immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// The default class is the last.
    classes: Vec<Class>,
    /// The most specific first, so that the first match decides.
    patterns: Vec<(KeyMatcher, usize)>,
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
            classes.push(Class { name, rules: policy.spec.rules.resolve(base) });
        }
        classes.push(Class { name: DEFAULT_CLASS.to_owned(), rules: base });
        patterns.sort_by_cached_key(|(pattern, _)| std::cmp::Reverse(pattern.specificity()));
        let patterns =
            patterns.into_iter().map(|(pattern, class)| (pattern.matcher(), class)).collect();
        Self { classes, patterns }
    }

    /// The place in [`Classes::all`] of the class that `key` belongs to.
    #[inline]
    pub fn index_of(&self, key: &[u8]) -> usize {
        let matching = self.patterns.iter().find(|(pattern, _)| pattern.matches(key));
        matching.map_or(self.classes.len() - 1, |(_, class)| *class)
    }

    /// The class that `key` belongs to.
    pub fn of(&self, key: &[u8]) -> &Class {
        &self.classes[self.index_of(key)]
    }

    /// Every class, the default class last.
    pub fn all(&self) -> &[Class] {
        &self.classes
    }

    /// Whether copies that were made while `before` held can't be kept: peers didn't invalidate some
    /// of them, which were in a class of the mode StrongLocal, and some class or pattern has another
    /// mode now.
    pub fn modes_differ(&self, before: &Self) -> bool {
        let modes = |classes: &Self| {
            let default = classes.classes.last().map(|class| class.rules.mode);
            let each: Vec<_> = classes
                .patterns
                .iter()
                .map(|(pattern, class)| (pattern.clone(), classes.classes[*class].rules.mode))
                .collect();
            (default, each)
        };
        let some_were_local = before.classes.iter().any(|class| !class.is_distributed());
        some_were_local && modes(self) != modes(before)
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
        assert_eq!((class.name.as_str(), class.ttl_millis()), (DEFAULT_CLASS, 7_000));
    }

    #[test]
    fn a_changed_mode_is_told_from_a_changed_ttl() {
        let before = compile(&[("users", "user:*", "ttl: 2s")]);
        assert!(!compile(&[("users", "user:*", "ttl: 3s")]).modes_differ(&before));
        let local = compile(&[("users", "user:*", "mode: StrongLocal")]);
        assert!(before.modes_differ(&local));
        assert!(!local.modes_differ(&before), "peers have invalidated all copies until now");
    }
}
