//! Sums of decimal numbers as INCRBYFLOAT gives them.
//!
//! Redis adds with 64 bits of precision and writes 17 digits behind the point, so that 0.1 and 0.2
//! are 0.3. The same comes of adding decimal digits exactly; what has too many of them for that is
//! added as floating point numbers.

use super::number::parse_f64;

/// How many digits behind the point are kept.
const PLACES: usize = 17;

/// The sum in Redis' words; `None` if it isn't finite.
pub(super) fn sum(one: &Number, other: &Number) -> Option<String> {
    if let (Some(one), Some(other)) = (one.fixed, other.fixed)
        && let Some(sum) = one.checked_add(other)
    {
        return Some(written(sum));
    }
    let sum = one.float + other.float;
    sum.is_finite().then(|| {
        let text = format!("{sum:.PLACES$}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        (if text == "-0" { "0" } else { text }).to_owned()
    })
}

/// A number as it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number {
    /// Its multiple of the last place, if it has no more digits than these and fits.
    fixed: Option<i128>,
    float: f64,
}

impl Number {
    /// No sum without it.
    pub(super) const ZERO: Self = Self { fixed: Some(0), float: 0.0 };

    /// As [`parse_f64`] reads it.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let float = parse_f64(text)?;
        Some(Self { fixed: std::str::from_utf8(text).ok().and_then(fixed), float })
    }

    /// Whether it is a number at all.
    pub(super) fn is_finite(&self) -> bool {
        self.float.is_finite()
    }
}

fn fixed(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{rest}").parse().ok()?;
    let shift = i32::try_from(PLACES).ok()? + exponent - i32::try_from(rest.len()).ok()?;
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 {
        digits.checked_mul(power)
    } else {
        (digits % power == 0).then_some(digits / power)
    }
}

fn written(fixed: i128) -> String {
    let sign = if fixed < 0 { "-" } else { "" };
    let digits = format!("{:0>1$}", fixed.unsigned_abs(), PLACES + 1);
    let (whole, rest) = digits.split_at(digits.len() - PLACES);
    let rest = rest.trim_end_matches('0');
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{rest}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Number, sum};

    fn sum_of(one: &str, other: &str) -> Option<String> {
        let number = |text: &str| Number::parse(text.as_bytes()).unwrap();
        sum(&number(one), &number(other))
    }

    #[test]
    fn sums_are_decimal() {
        for (one, other, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1.5", "-0.5"),
            ("-0", "0", "0"),
            ("+.5", "5.", "5.5"),
            ("17179869184", "1.5", "17179869185.5"),
            ("1e30", "1e30", "2000000000000000039769249677312"),
        ] {
            assert_eq!(sum_of(one, other).unwrap(), expected, "{one} {other}");
        }
        assert_eq!(sum_of("inf", "1"), None);
        assert_eq!(sum_of("1.7e308", "1.7e308"), None);
    }

    proptest! {
        #[test]
        fn integers_are_added_exactly(one: i32, other: i32) {
            let expected = (i64::from(one) + i64::from(other)).to_string();
            prop_assert_eq!(sum_of(&one.to_string(), &other.to_string()), Some(expected));
        }
    }
}
