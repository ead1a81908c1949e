//! Numbers as Redis reads and writes them. Nothing else about the protocol is here.

use std::borrow::Cow;

/// Reads a decimal integer as Redis' `string2ll` does: no blanks, no `+`, no leading zeros, no
/// `-0`, nothing behind it.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // Counting below zero reaches i64::MIN, which has no positive counterpart.
    let mut number = 0_i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

/// Reads an unsigned decimal integer as in [`parse_i64`], up to `u64::MAX`: a scan's cursor.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Reads a floating point number as Redis does: decimal, or `inf` and `infinity` with or without a
/// sign; no blanks, not NaN, and nothing that is too great.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let is_said = || text.iter().any(|byte| matches!(byte, b'i' | b'I'));
    (!number.is_nan() && (number.is_finite() || is_said())).then_some(number)
}

/// Reads a floating point number as C's `strtod` does for Redis where it looks at the whole text
/// only up to a NUL: blanks before it don't matter, and nothing at all is zero.
pub fn parse_f64_as_c(text: &[u8]) -> Option<f64> {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    match &text[..end] {
        [] => Some(0.0),
        text => parse_f64(text.trim_ascii_start()),
    }
}

/// The shortest text that reads as `number` again, in the form of Redis: whole numbers without a
/// point, an exponent only where the digits lie far from the point.
pub fn format_f64(number: f64) -> Cow<'static, str> {
    if number.is_nan() {
        return Cow::Borrowed("nan");
    }
    if number.is_infinite() {
        return Cow::Borrowed(if number > 0.0 { "inf" } else { "-inf" });
    }
    // Rust gives the shortest digits as `d.ddde-x`; Redis puts the point by rules of its own.
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let digits = digits.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // How many zeros follow the digits; below zero are digits behind the point.
    let zeros = exponent + 1 - count;
    let places = |count: i32| usize::try_from(count).unwrap_or_default();
    let is_whole = zeros >= 0 && number.abs() < WHOLE;
    Cow::Owned(if is_whole || (zeros >= 0 && exponent < count + 7) {
        format!("{sign}{digits}{}", "0".repeat(places(zeros)))
    } else if zeros < 0 && (zeros > -7 || exponent.abs() < 4) {
        if exponent >= 0 {
            let (whole, rest) = digits.split_at(places(exponent + 1));
            format!("{sign}{whole}.{rest}")
        } else {
            format!("{sign}0.{}{digits}", "0".repeat(places(-exponent - 1)))
        }
    } else {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let direction = if exponent < 0 { '-' } else { '+' };
        format!("{sign}{first}{point}{rest}e{direction}{}", exponent.abs())
    })
}

/// Whole numbers below it are written in full.
const WHOLE: f64 = 4_503_599_627_370_496.0;

/// The decimal digits of an integer, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    /// Of `number`.
    pub fn of(number: i64) -> Self {
        let mut digits = Self { text: [0; 20], start: 20 };
        let mut rest = number.unsigned_abs();
        loop {
            // A remainder of ten always fits a byte.
            let digit = u8::try_from(rest % 10).unwrap_or_default();
            digits.push(b'0' + digit);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            digits.push(b'-');
        }
        digits
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.text[self.start] = byte;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Digits, format_f64, parse_f64, parse_f64_as_c, parse_i64, parse_u64};

    #[test]
    fn refuses_what_redis_refuses() {
        for text in ["", "-", "+1", " 1", "1 ", "01", "-0", "00", "1.0", "9223372036854775808"] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_i64(b"-9223372036854775809"), None);
    }

    #[test]
    fn cursors_use_all_64_bits() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
        assert_eq!(parse_u64(b""), None);
    }

    #[test]
    fn extremes_come_back() {
        for number in [0, 1, -1, 9, 10, i64::MAX, i64::MIN] {
            assert_eq!(parse_i64(Digits::of(number).as_bytes()), Some(number));
        }
    }

    #[test]
    fn floating_point_numbers_are_written_as_redis_does() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (1.1, "1.1"),
            (-0.25, "-0.25"),
            (0.001, "0.001"),
            (0.000_125, "0.000125"),
            (0.000_012_5, "1.25e-5"),
            (1e-7, "1e-7"),
            (1.5e-9, "1.5e-9"),
            (1e15, "1000000000000000"),
            (1e21, "1e+21"),
            (1.25e300, "1.25e+300"),
            (17_179_869_185.5, "17179869185.5"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_f64(number), text);
        }
    }

    #[test]
    fn only_numbers_are_read_as_such() {
        for (text, number) in
            [("1e3", 1000.0), ("+1", 1.0), (".5", 0.5), ("inf", f64::INFINITY), ("-0", -0.0)]
        {
            assert_eq!(parse_f64(text.as_bytes()), Some(number), "{text}");
        }
        assert_eq!(parse_f64_as_c(b" 1.5\0x"), Some(1.5));
        assert_eq!(parse_f64_as_c(b""), Some(0.0));
        assert_eq!(parse_f64_as_c(b"1 "), None);
        for text in ["", " 1", "1 ", "nan", "1e999", "x", "1.0.0"] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_floating_point_number_is_read_again(number: f64) {
            if !number.is_nan() {
                prop_assert_eq!(parse_f64(format_f64(number).as_bytes()), Some(number));
            }
        }

        #[test]
        fn what_is_written_is_read(number: i64) {
            let digits = Digits::of(number);
            prop_assert_eq!(digits.as_bytes().to_vec(), number.to_string().into_bytes());
            prop_assert_eq!(parse_i64(digits.as_bytes()), Some(number));
        }

        #[test]
        fn any_bytes_are_refused_or_read_as_std_does(text: Vec<u8>) {
            if let Some(number) = parse_i64(&text) {
                prop_assert_eq!(number.to_string().into_bytes(), text);
            }
        }
    }
}
