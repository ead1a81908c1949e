//! Inline commands: a line of words, as a person types it into `nc`.

use std::ops::Range;

/// A quote without its end, or with text stuck to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Splits a line into words as Redis' `sdssplitargs` does, appends their text to `text` and adds
/// where each lies there to `spans`: blanks separate, `"…"` knows `\n \r \t \b \a \xHH`, `'…'` knows
/// `\'` only. As in Redis the line ends at its first NUL.
pub(super) fn split(
    line: &[u8],
    text: &mut Vec<u8>,
    spans: &mut Vec<Range<usize>>,
) -> Result<(), Unbalanced> {
    let line = &line[..memchr::memchr(0, line).unwrap_or(line.len())];
    let mut at = 0;
    while let Some(blanks) = line[at..].iter().position(|byte| !is_blank(*byte)) {
        at += blanks;
        let start = text.len();
        at += word(&line[at..], text)?;
        spans.push(start..text.len());
    }
    Ok(())
}

/// Reads the word at the start of `line` and gives how long it is there.
fn word(line: &[u8], text: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    let mut at = 0;
    while let Some(byte) = line.get(at).filter(|byte| !is_blank(**byte)) {
        at += 1;
        match byte {
            b'"' => at += double_quoted(&line[at..], text)?,
            b'\'' => at += single_quoted(&line[at..], text)?,
            plain => {
                text.push(*plain);
                continue;
            }
        }
        return match line.get(at) {
            Some(byte) if !is_blank(*byte) => Err(Unbalanced),
            _ => Ok(at),
        };
    }
    Ok(at)
}

/// Reads up to the closing `"` and gives how long that was.
fn double_quoted(text: &[u8], word: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    let mut at = 0;
    loop {
        at += match &text[at..] {
            [] => return Err(Unbalanced),
            [b'"', ..] => return Ok(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                4
            }
            [b'\\', escaped, ..] => {
                word.push(match escaped {
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
                word.push(*plain);
                1
            }
        };
    }
}

/// Reads up to the closing `'` and gives how long that was.
fn single_quoted(text: &[u8], word: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    let mut at = 0;
    loop {
        at += match &text[at..] {
            [] => return Err(Unbalanced),
            [b'\'', ..] => return Ok(at + 1),
            [b'\\', b'\'', ..] => {
                word.push(b'\'');
                2
            }
            [plain, ..] => {
                word.push(*plain);
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
    use super::{Unbalanced, split};

    fn words(line: &[u8]) -> Result<Vec<String>, Unbalanced> {
        let (mut text, mut spans) = (Vec::new(), Vec::new());
        split(line, &mut text, &mut spans)?;
        let word = |span: std::ops::Range<usize>| String::from_utf8(text[span].to_vec()).unwrap();
        Ok(spans.into_iter().map(word).collect())
    }

    #[test]
    fn blanks_separate_words() {
        assert_eq!(words(b"  SET\ta  b\r").unwrap(), ["SET", "a", "b"]);
        assert_eq!(words(b" \t \r").unwrap(), Vec::<String>::new());
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
