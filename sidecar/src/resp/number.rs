//! Integers as Redis reads and writes them. Nothing else about the protocol is here.

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

    use super::{Digits, parse_i64, parse_u64};

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

    proptest! {
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
