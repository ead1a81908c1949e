//! What a class of keys gets when preset, defaults and overrides have been put together.

use std::time::Duration;

use crate::policy::{Mode, PolicyRules};
use crate::preset::Preset;
use crate::quantity;

/// [`PolicyRules`] with nothing left out. A duration, percentage or quota of zero is none; see
/// there for what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The consistency of a hit.
    pub mode: Mode,
    /// How long a value may be answered from memory after it was read from storage.
    pub ttl: Duration,
    /// What may be taken off each copy's TTL, in percent.
    pub ttl_jitter_percent: u8,
    /// How long a copy lives without a hit.
    pub sliding_ttl: Duration,
    /// What a copy's TTL begins with, where it adapts.
    pub adaptive_ttl_min: Duration,
    /// How long it is remembered that there is no such key.
    pub negative_ttl: Duration,
    /// How long after its TTL a copy stands in for the storage.
    pub fail_safe_grace: Duration,
    /// How long a read waits that a copy can stand in for.
    pub soft_timeout: Duration,
    /// How long a read waits.
    pub hard_timeout: Duration,
    /// When a copy is read anew behind its hits, in percent of its TTL.
    pub eager_refresh_percent: u8,
    /// How far a hit may be behind; `None` is [`Rules::PROOF_BOUND`] in a distributed class, and the
    /// TTL in a local one.
    pub max_staleness: Option<Duration>,
    /// Bytes that are the class's alone.
    pub quota: u64,
}

impl Rules {
    /// What holds where nobody said anything.
    pub const BUILT_IN: Self = Self {
        mode: Mode::EventualDistributed,
        ttl: Duration::from_mins(1),
        ttl_jitter_percent: 0,
        sliding_ttl: Duration::ZERO,
        adaptive_ttl_min: Duration::ZERO,
        negative_ttl: Duration::ZERO,
        fail_safe_grace: Duration::ZERO,
        soft_timeout: Duration::ZERO,
        hard_timeout: Duration::ZERO,
        eager_refresh_percent: 0,
        max_staleness: None,
        quota: 0,
    };

    /// How old the bus's last proof may be where nobody said anything: three of its periods.
    pub const PROOF_BOUND: Duration = Duration::from_secs(3);

    /// Whether writes are told to the other pods, and hits need a live bus.
    pub fn is_distributed(&self) -> bool {
        self.mode != Mode::StrongLocal
    }

    /// Each rule by its name in a policy, as a person reads it.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let percent = |share: u8| match share {
            0 => "none".to_owned(),
            share => share.to_string(),
        };
        let quota = if self.quota == 0 { "none".to_owned() } else { self.quota.to_string() };
        let staleness = match self.max_staleness {
            Some(bound) => shown(bound),
            None if self.is_distributed() => shown(Self::PROOF_BOUND),
            None => shown(self.ttl),
        };
        vec![
            ("mode", format!("{:?}", self.mode)),
            ("ttl", shown(self.ttl)),
            ("ttlJitterPercent", percent(self.ttl_jitter_percent)),
            ("slidingTtl", shown(self.sliding_ttl)),
            ("adaptiveTtlMin", shown(self.adaptive_ttl_min)),
            ("negativeTtl", shown(self.negative_ttl)),
            ("failSafeGrace", shown(self.fail_safe_grace)),
            ("softTimeout", shown(self.soft_timeout)),
            ("hardTimeout", shown(self.hard_timeout)),
            ("eagerRefreshPercent", percent(self.eager_refresh_percent)),
            ("maxStaleness", staleness),
            ("quota", quota),
        ]
    }
}

/// A duration as a policy writes it.
fn shown(duration: Duration) -> String {
    if duration.is_zero() { "none".to_owned() } else { format!("{duration:?}") }
}

impl PolicyRules {
    /// Fills what is left out: from the preset, else from `base`. What validation refuses (a
    /// negative duration, a share above 100, a quota that isn't bytes) comes out as something.
    pub fn resolve(&self, base: Rules) -> Rules {
        let base = self.preset.map_or(base, Preset::rules);
        let duration =
            |given: Option<kube::core::Duration>, base: Duration| given.map_or(base, Into::into);
        let percent = |given: Option<i32>, base: u8| {
            given.map_or(base, |given| u8::try_from(given.clamp(0, 100)).unwrap_or(base))
        };
        let quota = self.quota.as_ref().map(|quota| quantity::bytes(quota).unwrap_or(0));
        Rules {
            mode: self.mode.unwrap_or(base.mode),
            ttl: duration(self.ttl, base.ttl),
            ttl_jitter_percent: percent(self.ttl_jitter_percent, base.ttl_jitter_percent),
            sliding_ttl: duration(self.sliding_ttl, base.sliding_ttl),
            adaptive_ttl_min: duration(self.adaptive_ttl_min, base.adaptive_ttl_min),
            negative_ttl: duration(self.negative_ttl, base.negative_ttl),
            fail_safe_grace: duration(self.fail_safe_grace, base.fail_safe_grace),
            soft_timeout: duration(self.soft_timeout, base.soft_timeout),
            hard_timeout: duration(self.hard_timeout, base.hard_timeout),
            eager_refresh_percent: percent(self.eager_refresh_percent, base.eager_refresh_percent),
            max_staleness: self.max_staleness.map(Into::into).or(base.max_staleness),
            quota: quota.unwrap_or(base.quota),
        }
    }
}
