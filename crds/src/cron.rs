//! Schedules as cron writes them: minute, hour, day of the month, month, day of the week; in UTC.
//!
//! Each field is `*`, a number, a range `1-5`, any of these with a step `*/15`, or a list of such,
//! separated by commas. Months and days of the week may be written by their first three letters, and
//! Sunday is 0 or 7. As in cron, where both days are given, either will do.

use std::str::FromStr;

use k8s_openapi::jiff::civil::Date;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Timestamp, ToSpan};

/// A schedule that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the days of the month and of the week are restricted.
    restricts: (bool, bool),
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no schedule: write minute, hour, day, month and day of the week, such as */15 * * * *"
)]
pub struct NoSchedule(String);

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Days that are looked at for the next time: 29 February comes once in eight years at worst.
const HORIZON: usize = 366 * 9;

impl FromStr for Schedule {
    type Err = NoSchedule;

    fn from_str(text: &str) -> Result<Self, NoSchedule> {
        Self::read(text).ok_or_else(|| NoSchedule(text.to_owned()))
    }
}

impl Schedule {
    fn read(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else { return None };
        let mut of_week = field(weekdays, 0, 7, WEEKDAYS, 0)?;
        // Sunday again.
        of_week |= of_week >> 7 & 1;
        Some(Self {
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: field(days, 1, 31, &[], 0)?,
            months: field(months, 1, 12, MONTHS, 1)?,
            weekdays: of_week,
            restricts: (!days.starts_with('*'), !weekdays.starts_with('*')),
        })
    }

    /// The first time of the schedule after `now`; `None` where it has none, such as 30 February.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let from = now.to_zoned(TimeZone::UTC).datetime();
        let (hour, minute) = (from.hour(), from.minute());
        let mut date = from.date();
        // What is left of today begins behind this minute.
        let mut after = Some((hour, minute));
        for _ in 0..HORIZON {
            if self.has_day(date)
                && let Some((hour, minute)) = self.first_behind(after)
            {
                let at = date.at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).ok()?;
                return Some(at.timestamp());
            }
            date = date.checked_add(1.day()).ok()?;
            after = None;
        }
        None
    }

    /// The same in milliseconds since the Unix epoch.
    pub fn next_after_millis(&self, now: u64) -> Option<u64> {
        let now = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?;
        u64::try_from(self.next_after(now)?.as_millisecond()).ok()
    }

    fn has_day(&self, date: Date) -> bool {
        let of_month = has(self.days, date.day());
        let of_week = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month())
            && match self.restricts {
                (true, true) => of_month || of_week,
                _ => of_month && of_week,
            }
    }

    fn first_behind(&self, after: Option<(i8, i8)>) -> Option<(i8, i8)> {
        let times = (0..24).flat_map(|hour| (0..60).map(move |minute| (hour, minute)));
        times
            .filter(|(hour, minute)| has(self.hours, *hour) && has(self.minutes, *minute))
            .find(|time| after.is_none_or(|after| *time > after))
    }
}

fn has(set: u64, number: i8) -> bool {
    set >> number & 1 == 1
}

/// The numbers of a field, each as a bit. `names` stand for numbers from `first` on.
fn field(text: &str, least: u32, most: u32, names: &[&str], first: u32) -> Option<u64> {
    let number = |text: &str| {
        let named = names.iter().zip(first..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let number = named.map(|(_, number)| number).or_else(|| digits(text))?;
        (least..=most).contains(&number).then_some(number)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(digits(step).filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // As in cron, `5/15` goes on to the end.
            None if step.is_some() => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return None;
        }
        for number in (from..=to).step_by(usize::try_from(step.unwrap_or(1)).ok()?) {
            set |= 1 << number;
        }
    }
    Some(set)
}

fn digits(text: &str) -> Option<u32> {
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        let next = schedule.next_after(after.parse().unwrap());
        next.map_or_else(|| "never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_after_now() {
        for (schedule, after, expected) in [
            ("*/15 * * * *", "2026-11-26T04:30:31Z", "2026-11-26T04:45:00Z"),
            ("*/15 * * * *", "2026-11-26T04:45:00Z", "2026-11-26T05:00:00Z"),
            ("0 3 * * *", "2026-11-26T04:30:31Z", "2026-11-27T03:00:00Z"),
            ("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"),
            ("0 0 29 feb *", "2026-11-26T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 6 * * mon-fri", "2026-11-27T06:30:00Z", "2026-11-30T06:30:00Z"),
            ("0 0 * * 7", "2026-11-26T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("0 0 1 * sat", "2026-11-26T00:00:00Z", "2026-11-28T00:00:00Z"),
            ("5/20 8-9 * * *", "2026-11-26T08:06:00Z", "2026-11-26T08:25:00Z"),
            ("0 0 30 2 *", "2026-11-26T00:00:00Z", "never"),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "+5 * * * *",
            "1,,2 * * * *",
            "-1 * * * *",
            "@daily",
        ] {
            assert!(text.parse::<Schedule>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[0-9*/,a-z -]{0,24}", now in 0..4_000_000_000i64) {
            if let Ok(schedule) = text.parse::<Schedule>() {
                let now = Timestamp::from_second(now).unwrap();
                if let Some(next) = schedule.next_after(now) {
                    prop_assert!(next > now && next.as_second() % 60 == 0);
                    // There is none in between.
                    let before = Timestamp::from_second(next.as_second() - 1).unwrap();
                    prop_assert_eq!(schedule.next_after(before.max(now)), Some(next));
                }
            }
        }
    }
}
