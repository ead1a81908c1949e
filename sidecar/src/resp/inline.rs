//! Inline commands: a line of words, as a person types it into `nc`.

use bytes::{BufMut, Bytes, BytesMut};

/// A quote without its end, or with text stuck to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Splits a line into words as Redis' `sdssplitargs` does and adds them to `words`: blanks
/// separate, `"…"` knows `\n \r \t \b \a \xHH`, `'…'` knows `\'` only. A word without quotes is a
/// slice of the line. As in Redis the line ends at its first NUL.
pub(super) fn split(line: &Bytes, words: &mut Vec<Bytes>) -> Result<(), Unbalanced> {
    let end = memchr::memchr(0, line).unwrap_or(line.len());
    let mut at = 0;
    loop {
        while at < end && is_blank(line[at]) {
            at += 1;
        }
        if at == end {
            return Ok(());
        }
        let word = line[at..end].iter().position(|byte| is_blank(*byte)).unwrap_or(end - at);
        if line[at..at + word].iter().any(|byte| matches!(byte, b'"' | b'\'')) {
            let (text, length) = quoted_word(&line[at..end])?;
            words.push(text);
            at += length;
        } else {
            words.push(line.slice(at..at + word));
            at += word;
        }
    }
}

/// The word at the start of `text`, which has a quote somewhere, and how long it is there.
fn quoted_word(text: &[u8]) -> Result<(Bytes, usize), Unbalanced> {
    let mut word = BytesMut::new();
    let mut at = 0;
    while let Some(byte) = text.get(at).filter(|byte| !is_blank(**byte)) {
        at += 1;
        match byte {
            b'"' => at += double_quoted(&text[at..], &mut word)?,
            b'\'' => at += single_quoted(&text[at..], &mut word)?,
            plain => {
                word.put_u8(*plain);
                continue;
            }
        }
        return match text.get(at) {
            Some(byte) if !is_blank(*byte) => Err(Unbalanced),
            _ => Ok((word.freeze(), at)),
        };
    }
    Ok((word.freeze(), at))
}

/// Reads up to the closing `"` and gives how long that was.
fn double_quoted(text: &[u8], word: &mut BytesMut) -> Result<usize, Unbalanced> {
    let mut at = 0;
    loop {
        at += match &text[at..] {
            [] => return Err(Unbalanced),
            [b'"', ..] => return Ok(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.put_u8(hex(*high) << 4 | hex(*low));
                4
            }
            [b'\\', escaped, ..] => {
                word.put_u8(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                2
            }
            [plain, ..] => {
                word.put_u8(*plain);
                1
            }
        };
    }
}

/// Reads up to the closing `'` and gives how long that was.
fn single_quoted(text: &[u8], word: &mut BytesMut) -> Result<usize, Unbalanced> {
    let mut at = 0;
    loop {
        at += match &text[at..] {
            [] => return Err(Unbalanced),
            [b'\'', ..] => return Ok(at + 1),
            [b'\\', b'\'', ..] => {
                word.put_u8(b'\'');
                2
            }
            [plain, ..] => {
                word.put_u8(*plain);
                1
            }
        };
    }
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Unbalanced, split};

    fn words(line: &'static [u8]) -> Result<Vec<Bytes>, Unbalanced> {
        let mut words = Vec::new();
        split(&Bytes::from_static(line), &mut words).map(|()| words)
    }

    #[test]
    fn blanks_separate_words() {
        assert_eq!(words(b"  SET\ta  b\r").unwrap(), ["SET", "a", "b"]);
        assert_eq!(words(b" \t \r").unwrap(), Vec::<Bytes>::new());
    }

    #[test]
    fn double_quotes_know_escapes() {
        assert_eq!(words(br#"a "b c\n\x41\q\"" '' "" "#).unwrap(), ["a", "b c\nAq\"", "", ""]);
        assert_eq!(words(br#""\xZZ""#).unwrap(), ["xZZ"]);
    }

    #[test]
    fn single_quotes_know_one_escape() {
        assert_eq!(words(br"'it\'s \n'").unwrap(), [r"it's \n"]);
    }

    #[test]
    fn a_quote_may_start_within_a_word() {
        assert_eq!(words(br#"ab"c d""#).unwrap(), ["abc d"]);
    }

    #[test]
    fn open_quotes_and_text_behind_a_quote_are_refused() {
        for line in [&br#""a"#[..], b"'a", br#""a"b"#, b"'a'b", br#""a\"#] {
            assert_eq!(words(line), Err(Unbalanced));
        }
    }
}
