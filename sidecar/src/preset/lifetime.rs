//! How long a copy lives: what a class's rules say of one that is so and so old. Pure.
//!
//! A copy knows when it was read, not when it ends, so that changed rules hold for what is cached
//! already. What chance takes off its TTL follows from the copy itself ([`Copy::draw`]) and is the same
//! each time it is asked for.
//!
//! *A hit on a copy younger than [`Lifetime::plain`] needs no judgement*: so most hits cost one
//! comparison, whatever the rules are.

use std::time::Duration;

use warp_crds::policy::Rules;

use crate::cache::Millis;

/// Never.
const NEVER: Millis = Millis::MAX;

/// What a class's rules come to, in milliseconds. Where a rule says none, what it would do is
/// done never, or takes no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// A copy of a plain string that is younger is answered, and nothing else is to be done.
    pub plain: Millis,
    ttl: Millis,
    jitter_percent: u64,
    sliding: Option<Millis>,
    /// What a copy's TTL begins with.
    adaptive: Option<Millis>,
    negative: Millis,
    grace: Millis,
    eager_percent: Option<u64>,
    /// What bounds the age of an answer whatever the other rules say.
    oldest: Millis,
}

/// What is known of a copy when it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Since it was read.
    pub age: Millis,
    /// Since it was read or hit last; of importance to classes with a sliding TTL.
    pub idle: Millis,
    /// Whether it says that there is no such key.
    pub is_absent: bool,
    /// How many readings in a row have found the same value; of importance to classes whose TTL
    /// adapts.
    pub steady: u8,
    /// A number that chance gave to the copy.
    pub draw: u16,
}

/// What is to be done with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered.
    Fresh,
    /// It is answered, and the storage is asked for another one.
    Due,
    /// It is answered if the storage fails.
    Stale,
    /// It is not answered.
    Ended,
}

impl Lifetime {
    /// What `rules` come to.
    pub fn of(rules: &Rules) -> Self {
        let some = |duration: Duration| (!duration.is_zero()).then(|| millis(duration));
        let percent = |share: u8| u64::from(share.min(100));
        let eager_percent =
            (rules.eager_refresh_percent > 0).then(|| percent(rules.eager_refresh_percent));
        // A distributed class has the bus's proof for it.
        let oldest = match rules.max_staleness {
            Some(bound) if !rules.is_distributed() => millis(bound),
            _ => NEVER,
        };
        let mut lifetime = Self {
            plain: 0,
            ttl: millis(rules.ttl).min(oldest),
            jitter_percent: percent(rules.ttl_jitter_percent),
            sliding: some(rules.sliding_ttl),
            adaptive: some(rules.adaptive_ttl_min),
            negative: millis(rules.negative_ttl).min(oldest),
            grace: millis(rules.fail_safe_grace),
            eager_percent,
            oldest,
        };
        let shortest = lifetime.ttl_of(u16::MAX, 0);
        let idle = lifetime.sliding.unwrap_or(NEVER);
        lifetime.plain = lifetime.due_at(shortest).min(shortest).min(idle);
        lifetime
    }

    /// What becomes of `copy`.
    pub fn judge(&self, copy: &Copy) -> Verdict {
        let ttl = self.ttl_of(copy.draw, copy.steady);
        if copy.is_absent {
            // That there is none isn't told when the storage can't say so any more.
            return if copy.age < self.negative { Verdict::Fresh } else { Verdict::Ended };
        }
        let is_idle = self.sliding.is_some_and(|sliding| copy.idle >= sliding);
        if copy.age < ttl && !is_idle {
            return if copy.age < self.due_at(ttl) { Verdict::Fresh } else { Verdict::Due };
        }
        if copy.age < self.stale_until(ttl) { Verdict::Stale } else { Verdict::Ended }
    }

    /// At which age the copy is no longer answered, if nobody reads it meanwhile and the storage
    /// answers.
    pub fn fresh_until(&self, copy: &Copy) -> Millis {
        if copy.is_absent {
            return self.negative;
        }
        let last_used = copy.age.saturating_sub(copy.idle);
        let idle = self.sliding.map_or(NEVER, |sliding| last_used.saturating_add(sliding));
        self.ttl_of(copy.draw, copy.steady).min(idle)
    }

    /// At which age the copy stands in for the storage no longer.
    pub fn stale_until_of(&self, copy: &Copy) -> Millis {
        if copy.is_absent {
            self.negative
        } else {
            self.stale_until(self.ttl_of(copy.draw, copy.steady))
        }
    }

    /// Whether copies know when they were hit last.
    pub fn is_sliding(&self) -> bool {
        self.sliding.is_some()
    }

    /// Whether copies know how many readings have found the same value.
    pub fn is_adaptive(&self) -> bool {
        self.adaptive.is_some()
    }

    /// Whether it is remembered that there is no such key.
    pub fn keeps_absent(&self) -> bool {
        self.negative > 0
    }

    /// Whether a copy may be answered after its TTL.
    pub fn has_grace(&self) -> bool {
        self.grace > 0
    }

    fn ttl_of(&self, draw: u16, steady: u8) -> Millis {
        let ttl = match self.adaptive {
            None => self.ttl,
            // No TTL has more than 35 bits.
            Some(least) => self.ttl.min(least.saturating_mul(1 << steady.min(36))),
        };
        if self.jitter_percent == 0 {
            return ttl;
        }
        // 8760 hours times all these is less than 2^58.
        let most = u64::from(u16::MAX) * 100;
        ttl - ttl.saturating_mul(self.jitter_percent * u64::from(draw)) / most
    }

    fn due_at(&self, ttl: Millis) -> Millis {
        self.eager_percent.map_or(NEVER, |percent| ttl.saturating_mul(percent) / 100)
    }

    fn stale_until(&self, ttl: Millis) -> Millis {
        if self.grace == 0 { 0 } else { ttl.saturating_add(self.grace).min(self.oldest) }
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warp_crds::policy::Mode;

    use super::*;

    fn lifetime(change: impl FnOnce(&mut Rules)) -> Lifetime {
        let mut rules = Rules { ttl: Duration::from_secs(1), ..Rules::BUILT_IN };
        change(&mut rules);
        Lifetime::of(&rules)
    }

    fn aged(age: Millis) -> Copy {
        Copy { age, idle: age, is_absent: false, steady: 0, draw: 0 }
    }

    #[test]
    fn a_copy_is_fresh_then_due_then_stale_then_ended() {
        let lifetime = lifetime(|rules| {
            rules.eager_refresh_percent = 80;
            rules.fail_safe_grace = Duration::from_secs(2);
        });
        for (age, verdict) in [
            (0, Verdict::Fresh),
            (799, Verdict::Fresh),
            (800, Verdict::Due),
            (999, Verdict::Due),
            (1000, Verdict::Stale),
            (2999, Verdict::Stale),
            (3000, Verdict::Ended),
        ] {
            assert_eq!(lifetime.judge(&aged(age)), verdict, "{age}");
        }
    }

    #[test]
    fn a_hit_keeps_a_sliding_copy_until_its_ttl() {
        let lifetime = lifetime(|rules| rules.sliding_ttl = Duration::from_millis(300));
        let judge = |age, idle| lifetime.judge(&Copy { age, idle, ..aged(0) });
        assert_eq!(judge(299, 299), Verdict::Fresh);
        assert_eq!(judge(300, 300), Verdict::Ended);
        assert_eq!(judge(900, 299), Verdict::Fresh);
        assert_eq!(judge(1000, 0), Verdict::Ended);
    }

    #[test]
    fn a_ttl_doubles_with_each_reading_that_finds_the_same_up_to_the_longest() {
        let lifetime = lifetime(|rules| rules.adaptive_ttl_min = Duration::from_millis(300));
        let end = |steady| lifetime.fresh_until(&Copy { steady, ..aged(0) });
        assert_eq!([0, 1, 2, 3, u8::MAX].map(end), [300, 600, 1000, 1000, 1000]);
    }

    #[test]
    fn an_absent_key_has_a_time_of_its_own_and_no_grace() {
        let lifetime = lifetime(|rules| {
            rules.negative_ttl = Duration::from_millis(50);
            rules.fail_safe_grace = Duration::from_hours(1);
        });
        let judge = |age| lifetime.judge(&Copy { is_absent: true, ..aged(age) });
        assert_eq!((judge(49), judge(50)), (Verdict::Fresh, Verdict::Ended));
    }

    #[test]
    fn a_local_class_is_bound_by_the_age_of_its_copies() {
        let lifetime = lifetime(|rules| {
            rules.mode = Mode::StrongLocal;
            rules.max_staleness = Some(Duration::from_millis(100));
            rules.negative_ttl = Duration::from_secs(1);
            rules.fail_safe_grace = Duration::from_hours(1);
        });
        assert_eq!(lifetime.judge(&aged(99)), Verdict::Fresh);
        assert_eq!(lifetime.judge(&aged(100)), Verdict::Ended);
        assert_eq!(lifetime.judge(&Copy { is_absent: true, ..aged(100) }), Verdict::Ended);
    }

    #[test]
    fn chance_spreads_the_ends_over_the_jitter() {
        let lifetime = lifetime(|rules| rules.ttl_jitter_percent = 50);
        let end = |draw| lifetime.fresh_until(&Copy { draw, ..aged(0) });
        assert_eq!((end(0), end(u16::MAX / 2), end(u16::MAX)), (1000, 751, 500));
    }

    prop_compose! {
        fn any_rules()(
            ttl in 1..5_000u64,
            jitter in 0..=90u8,
            sliding in 0..5_000u64,
            adaptive in 0..5_000u64,
            negative in 0..5_000u64,
            grace in 0..5_000u64,
            eager in 0..=99u8,
            bound in prop::option::of(1..5_000u64),
            is_local: bool,
        ) -> Rules {
            Rules {
                mode: if is_local { Mode::StrongLocal } else { Mode::EventualDistributed },
                ttl: Duration::from_millis(ttl),
                ttl_jitter_percent: jitter,
                sliding_ttl: Duration::from_millis(sliding.min(ttl)),
                adaptive_ttl_min: Duration::from_millis(adaptive.min(ttl)),
                negative_ttl: Duration::from_millis(negative),
                fail_safe_grace: Duration::from_millis(grace),
                eager_refresh_percent: eager,
                max_staleness: bound.map(Duration::from_millis),
                ..Rules::BUILT_IN
            }
        }
    }

    proptest! {
        /// What the way of a hit goes by, and the bounds that the rules promise.
        #[test]
        fn no_answer_breaks_a_bound(
            rules in any_rules(),
            age in 0..12_000u64,
            idle in 0..12_000u64,
            is_absent: bool,
            steady in 0..8u8,
            draw: u16,
        ) {
            let lifetime = Lifetime::of(&rules);
            let copy = Copy { age, idle: idle.min(age), is_absent, steady, draw };
            let verdict = lifetime.judge(&copy);
            if age < lifetime.plain && !is_absent {
                prop_assert_eq!(verdict, Verdict::Fresh);
            }
            let is_fresh = matches!(verdict, Verdict::Fresh | Verdict::Due);
            let end = if is_absent { millis(rules.negative_ttl) } else { millis(rules.ttl) };
            if is_fresh {
                prop_assert!(age < end);
                prop_assert!(age < lifetime.fresh_until(&copy));
            } else {
                prop_assert!(age >= lifetime.fresh_until(&copy));
            }
            if verdict == Verdict::Stale {
                prop_assert!(!is_absent && age < end + millis(rules.fail_safe_grace));
                prop_assert!(age < lifetime.stale_until_of(&copy));
            }
            if verdict != Verdict::Ended
                && let (Mode::StrongLocal, Some(bound)) = (rules.mode, rules.max_staleness)
            {
                prop_assert!(age < millis(bound));
            }
            let end = if lifetime.is_adaptive() {
                end.min(millis(rules.adaptive_ttl_min) << steady)
            } else {
                end
            };
            let least = end * u64::from(100 - rules.ttl_jitter_percent) / 100;
            if !is_absent && !lifetime.is_sliding() && rules.max_staleness.is_none() && age < least {
                prop_assert!(is_fresh, "chance takes no more than the jitter");
            }
        }

        /// A copy only gets worse with time.
        #[test]
        fn a_copy_never_comes_back(
            rules in any_rules(),
            draw: u16,
            steady in 0..8u8,
            is_absent: bool,
        ) {
            let rank = |verdict| match verdict {
                Verdict::Fresh => 0,
                Verdict::Due => 1,
                Verdict::Stale => 2,
                Verdict::Ended => 3,
            };
            let lifetime = Lifetime::of(&rules);
            let ranks: Vec<u8> = (0..12_000)
                .step_by(37)
                .map(|age| rank(lifetime.judge(&Copy { age, idle: age, is_absent, steady, draw })))
                .collect();
            prop_assert!(ranks.is_sorted());
        }
    }
}
