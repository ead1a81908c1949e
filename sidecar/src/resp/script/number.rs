//! Numbers as C's `printf` writes them with `%g`, which is how Lua, cjson and Redis show a float.

/// `%.{precision}g` of `number`; a precision of 0 counts as 1.
pub(super) fn general(number: f64, precision: usize) -> String {
    if number.is_nan() {
        // C shows the sign bit, and 0/0 has it on x86.
        return if number.is_sign_negative() { "-nan" } else { "nan" }.to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let precision = precision.max(1);
    let scientific = format!("{number:.*e}", precision - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let places = i32::try_from(precision).unwrap_or(i32::MAX) - 1 - exponent;
    if exponent < -4 || places < 0 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs());
    }
    trimmed(&format!("{number:.*}", usize::try_from(places).unwrap_or_default())).to_owned()
}

/// Without the zeros at the end of a fraction.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// As C casts a double to a 64-bit integer on x86: cut, and the least integer for what doesn't fit.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(super) fn truncated(number: f64) -> i64 {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    if (-BOUND..BOUND).contains(&number) { number as i64 } else { i64::MIN }
}

/// What Lua's numbers can hold of an integer.
#[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
pub(super) fn float(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::{general, truncated};

    #[test]
    fn floats_are_written_as_c_does() {
        for (number, precision, text) in [
            (0.1, 17, "0.10000000000000001"),
            (0.1, 14, "0.1"),
            (1e17, 17, "1e+17"),
            (1e16, 17, "10000000000000000"),
            (3.0, 14, "3"),
            (-2.5, 14, "-2.5"),
            (1e-5, 14, "1e-05"),
            (0.0001, 14, "0.0001"),
            (1e100, 14, "1e+100"),
            (123_456_789_012_345_680.0, 14, "1.2345678901235e+17"),
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (9.999_999_999_999_999, 14, "10"),
            (f64::INFINITY, 14, "inf"),
            (f64::NEG_INFINITY, 14, "-inf"),
        ] {
            assert_eq!(general(number, precision), text);
        }
    }

    #[test]
    fn what_is_no_integer_becomes_the_least() {
        assert_eq!(truncated(-2.9), -2);
        assert_eq!(truncated(f64::NAN), i64::MIN);
        assert_eq!(truncated(1e300), i64::MIN);
        assert_eq!(truncated(9_223_372_036_854_774_784.0), 9_223_372_036_854_774_784);
    }
}
