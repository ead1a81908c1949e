//! What is to be done about the certificates at a moment.
//!
//! Pure, and the whole order of a rotation: a new CA is trusted beside the old one before the first
//! leaf that it signs is served, so that no request meets a server that it can't verify.

use std::time::Duration;

use jiff::Timestamp;

/// When a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From this moment.
    pub not_before: Timestamp,
    /// Until this moment.
    pub not_after: Timestamp,
}

impl Lifetime {
    /// When it is to be replaced: after two thirds.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        self.not_before.saturating_add(life / 3 * 2).unwrap_or(self.not_after)
    }
}

/// The leaf in the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// When it holds.
    pub lifetime: Lifetime,
    /// Whether the CA in the Secret has signed it, for the names that the webhook is called by.
    pub fitting: bool,
}

/// The `caBundle` of the webhook configuration, beside what the Secret says is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bundle {
    /// There is no webhook configuration.
    Absent,
    /// Nothing is trusted: no request has succeeded yet.
    Empty,
    /// Something else is trusted.
    Stale,
    /// The same is trusted, and was seen so since then.
    Published(Timestamp),
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// The CA in the Secret, if its key is there too.
    pub authority: Option<Lifetime>,
    /// The leaf in the Secret, if its key is there too.
    pub leaf: Option<Leaf>,
    /// The `caBundle`.
    pub bundle: Bundle,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a CA and store it; what was trusted before stays trusted until it expires.
    RenewAuthority,
    /// Write what is trusted into the `caBundle`.
    Publish,
    /// Make a leaf, signed by the CA, and store it.
    RenewLeaf,
    /// Nothing until then, unless something changes.
    Wait(Timestamp),
}

/// The next thing to do at `now`. `settle` is how long API servers may take to notice a new
/// `caBundle`.
pub fn plan(now: Timestamp, present: &Present, settle: Duration) -> Action {
    let Some(authority) = present.authority.filter(|ca| now < ca.renew_at()) else {
        return Action::RenewAuthority;
    };
    let leaf = present.leaf.filter(|leaf| leaf.fitting && now < leaf.lifetime.renew_at());
    let useless = present.leaf.is_some_and(|leaf| now >= leaf.lifetime.not_after);
    match (leaf, present.bundle) {
        // Nobody trusts the leaf that is served, or there is nobody: nothing is lost by a new one.
        (None, Bundle::Absent | Bundle::Empty) => Action::RenewLeaf,
        (None, _) if useless => Action::RenewLeaf,
        (_, Bundle::Stale) | (Some(_), Bundle::Empty) => Action::Publish,
        (None, Bundle::Published(since)) => {
            let settled = since.saturating_add(settle).unwrap_or(Timestamp::MAX);
            if now < settled { Action::Wait(settled) } else { Action::RenewLeaf }
        }
        (Some(leaf), Bundle::Absent | Bundle::Published(_)) => {
            Action::Wait(authority.renew_at().min(leaf.lifetime.renew_at()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTLE: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn life(from: i64, to: i64) -> Lifetime {
        Lifetime { not_before: at(from), not_after: at(to) }
    }

    fn next(now: i64, authority: Option<Lifetime>, leaf: Option<Leaf>, bundle: Bundle) -> Action {
        plan(at(now), &Present { authority, leaf, bundle }, SETTLE)
    }

    #[test]
    fn at_first_the_leaf_is_made_without_waiting() {
        assert_eq!(next(0, None, None, Bundle::Empty), Action::RenewAuthority);
        let ca = Some(life(0, 3000));
        assert_eq!(next(0, ca, None, Bundle::Empty), Action::RenewLeaf);
        let leaf = Some(Leaf { lifetime: life(0, 300), fitting: true });
        assert_eq!(next(0, ca, leaf, Bundle::Empty), Action::Publish);
        assert_eq!(next(0, ca, leaf, Bundle::Published(at(0))), Action::Wait(at(200)));
    }

    #[test]
    fn a_new_authority_is_trusted_before_its_first_leaf_is_served() {
        let old_leaf = Some(Leaf { lifetime: life(1900, 2200), fitting: true });
        let published = Bundle::Published(at(0));
        assert_eq!(next(2000, Some(life(0, 3000)), old_leaf, published), Action::RenewAuthority);
        let ca = Some(life(2000, 5000));
        let foreign = old_leaf.map(|leaf| Leaf { fitting: false, ..leaf });
        assert_eq!(next(2000, ca, foreign, Bundle::Stale), Action::Publish);
        let published = Bundle::Published(at(2001));
        assert_eq!(next(2001, ca, foreign, published), Action::Wait(at(2011)));
        assert_eq!(next(2011, ca, foreign, published), Action::RenewLeaf);
    }

    #[test]
    fn a_bundle_that_somebody_changed_is_put_right() {
        let leaf = Some(Leaf { lifetime: life(0, 300), fitting: true });
        for bundle in [Bundle::Stale, Bundle::Empty] {
            assert_eq!(next(5, Some(life(0, 3000)), leaf, bundle), Action::Publish);
        }
    }

    #[test]
    fn a_leaf_that_has_expired_is_replaced_at_once() {
        let leaf = Some(Leaf { lifetime: life(0, 300), fitting: true });
        let just_seen = Bundle::Published(at(400));
        assert_eq!(next(400, Some(life(0, 3000)), leaf, just_seen), Action::RenewLeaf);
    }

    proptest! {
        /// Steps through years of a cluster, and the API server is behind by up to `SETTLE`: a
        /// leaf is always served, holds, and its CA is trusted.
        #[test]
        fn at_every_moment_what_is_served_is_trusted(
            leaf_life in 60_i64..5_000,
            ca_life in 300_i64..20_000,
            lag in 0_i64..10,
            pauses in prop::collection::vec(0_i64..5, 1..20),
        ) {
            let mut now = 0;
            let mut authority: Option<(usize, Lifetime)> = None;
            let mut leaf: Option<(usize, Lifetime)> = None;
            // Each CA by number: when it was published.
            let mut published: Vec<(usize, i64)> = Vec::new();
            let mut pauses = pauses.into_iter().cycle();
            let mut started = false;
            for _ in 0..300 {
                let bundle = match (authority, published.last()) {
                    (_, None) => Bundle::Empty,
                    (Some((ca, _)), Some((last, since))) if ca == *last => {
                        Bundle::Published(at(*since))
                    }
                    _ => Bundle::Stale,
                };
                let present = Present {
                    authority: authority.map(|(_, life)| life),
                    leaf: leaf.map(|(signer, lifetime)| Leaf {
                        lifetime,
                        fitting: authority.is_some_and(|(ca, _)| ca == signer),
                    }),
                    bundle,
                };
                match plan(at(now), &present, SETTLE) {
                    Action::RenewAuthority => {
                        let number = authority.map_or(0, |(ca, _)| ca + 1);
                        authority = Some((number, life(now, now + ca_life)));
                    }
                    Action::Publish => {
                        published.push((authority.unwrap().0, now));
                        started = true;
                    }
                    Action::RenewLeaf => {
                        let (ca, lifetime) = authority.unwrap();
                        let end = lifetime.not_after.as_second().min(now + leaf_life);
                        leaf = Some((ca, life(now, end)));
                    }
                    Action::Wait(until) => {
                        prop_assert!(until > at(now));
                        now = until.as_second() + 1;
                    }
                }
                if started {
                    let (signer, lifetime) = leaf.unwrap();
                    prop_assert!(at(now) < lifetime.not_after);
                    let first = published.first().unwrap().0;
                    let trusted = published.iter().find(|(ca, _)| *ca == signer);
                    prop_assert!(trusted.is_some_and(|(ca, since)| *ca == first || since + lag <= now));
                }
                now += pauses.next().unwrap();
            }
        }
    }
}
