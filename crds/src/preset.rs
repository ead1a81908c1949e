//! Presets: named rules, from which a policy starts and which it may override field by field.
//!
//! A preset leaves nothing open: what its name stands for is the same in every cluster, whatever the
//! cluster's defaults. `WARP.EXPLAIN` prints what came of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::Mode;
use crate::rules::Rules;

/// A named set of rules.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Preset {
    /// Data read far more often than written: EventualDistributed for 5 minutes, less up to 10 %,
    /// read anew behind the hits when 80 % have passed.
    ReadMostly,
    /// A user's session, which any pod may be asked for next: EventualDistributed for 30 minutes.
    Session,
    /// Data that only its own pod writes, or that may be old: StrongLocal for 30 seconds.
    PodLocal,
    /// Data that must be there while the storage isn't: as ReadMostly, and for an hour more while the
    /// storage fails, or takes longer than 100 ms; an answer or an error after 2 s.
    Resilient,
    /// Keys that are asked for whether they exist or not: EventualDistributed for 5 minutes, less up to
    /// 10 %; that a key is absent is remembered for 30 seconds.
    Lookup,
    /// Data of which few keys are in use for a while and then no longer: EventualDistributed for an
    /// hour, and 5 minutes after the last hit no longer.
    ShortLived,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ReadMostly,
        Self::Session,
        Self::PodLocal,
        Self::Resilient,
        Self::Lookup,
        Self::ShortLived,
    ];

    /// The rules that the name stands for.
    pub const fn rules(self) -> Rules {
        const BASE: Rules = Rules::BUILT_IN;
        const READ_MOSTLY: Rules = Rules {
            ttl: Duration::from_mins(5),
            ttl_jitter_percent: 10,
            eager_refresh_percent: 80,
            ..BASE
        };
        match self {
            Self::ReadMostly => READ_MOSTLY,
            Self::Session => Rules { ttl: Duration::from_mins(30), ..BASE },
            Self::PodLocal => {
                Rules { mode: Mode::StrongLocal, ttl: Duration::from_secs(30), ..BASE }
            }
            Self::Resilient => Rules {
                fail_safe_grace: Duration::from_hours(1),
                soft_timeout: Duration::from_millis(100),
                hard_timeout: Duration::from_secs(2),
                ..READ_MOSTLY
            },
            Self::Lookup => Rules {
                ttl: Duration::from_mins(5),
                ttl_jitter_percent: 10,
                negative_ttl: Duration::from_secs(30),
                ..BASE
            },
            Self::ShortLived => {
                Rules { ttl: Duration::from_hours(1), sliding_ttl: Duration::from_mins(5), ..BASE }
            }
        }
    }

    /// As a policy writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadMostly => "ReadMostly",
            Self::Session => "Session",
            Self::PodLocal => "PodLocal",
            Self::Resilient => "Resilient",
            Self::Lookup => "Lookup",
            Self::ShortLived => "ShortLived",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyRules;
    use crate::validation;

    #[test]
    fn every_preset_is_valid_by_itself_and_is_called_what_it_is_written() {
        for preset in Preset::ALL {
            let given = PolicyRules { preset: Some(preset), ..Default::default() };
            assert_eq!(validation::rules(&given, Rules::BUILT_IN), [], "{preset:?}");
            assert_eq!(serde_json::to_value(preset).unwrap(), preset.name());
        }
    }
}
