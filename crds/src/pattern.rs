//! Key patterns in Redis' glob syntax, and which of two is the more specific.
//!
//! The syntax and its corner cases are those of the `KEYS` command: `*` any run of bytes, `?` one
//! byte, `[abc]`, `[a-z]` and `[^a]` a set, `\` takes the next byte literally.

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pattern as a policy writes it.
#[derive(
    Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema,
)]
#[serde(transparent)]
pub struct KeyPattern(#[schemars(length(min = 1, max = 512))] pub String);

/// How narrow a pattern is; the greater one decides where several match a key.
///
/// A pattern without wildcards is narrower than any with one; then the longer literal prefix
/// counts, then the more literal bytes in all, then the fewer `*`. The text itself breaks ties, so
/// that every sidecar and the operator agree whatever order the policies arrive in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Specificity {
    exact: bool,
    prefix: usize,
    literals: usize,
    stars: usize,
    text: String,
}

impl Ord for Specificity {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.exact, self.prefix, self.literals)
            .cmp(&(other.exact, other.prefix, other.literals))
            .then(other.stars.cmp(&self.stars))
            .then(other.text.cmp(&self.text))
    }
}

impl PartialOrd for Specificity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A pattern made ready to match many keys: most are one key, or a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMatcher {
    /// This key alone.
    Exact(Box<[u8]>),
    /// Every key that begins so.
    Prefix(Box<[u8]>),
    /// What [`glob_match`] says.
    Glob(Box<[u8]>),
}

impl KeyMatcher {
    /// Whether the pattern matches the whole key.
    #[inline]
    pub fn matches(&self, key: &[u8]) -> bool {
        match self {
            Self::Exact(only) => **only == *key,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Glob(pattern) => glob_match(pattern, key),
        }
    }
}

impl KeyPattern {
    /// The pattern, ready to match.
    pub fn matcher(&self) -> KeyMatcher {
        let mut literals = Vec::new();
        let mut rest = self.0.as_bytes();
        while let Some((token, tail)) = next_token(rest) {
            match token {
                Token::Literal(byte) => literals.push(byte),
                Token::AnyRun if tail.is_empty() => return KeyMatcher::Prefix(literals.into()),
                _ => return KeyMatcher::Glob(self.0.as_bytes().into()),
            }
            rest = tail;
        }
        KeyMatcher::Exact(literals.into())
    }

    /// See [`Specificity`].
    pub fn specificity(&self) -> Specificity {
        let (mut prefix, mut literals, mut stars, mut wild) = (0, 0, 0, false);
        let mut rest = self.0.as_bytes();
        while let Some((token, tail)) = next_token(rest) {
            match token {
                Token::Literal(_) => {
                    literals += 1;
                    prefix += usize::from(!wild);
                }
                Token::AnyRun => (stars, wild) = (stars + 1, true),
                Token::AnyByte | Token::Set(_) => wild = true,
            }
            rest = tail;
        }
        Specificity { exact: !wild, prefix, literals, stars, text: self.0.clone() }
    }
}

/// Whether `pattern` matches the whole of `key`, as Redis' `stringmatchlen` does. Takes time
/// proportional to the product of the lengths at worst: a failed match goes back to the last `*`
/// only.
pub fn glob_match(pattern: &[u8], key: &[u8]) -> bool {
    let (mut pattern, mut key) = (pattern, key);
    // Where to go on when what follows the last `*` doesn't match: the pattern behind the star,
    // and the key with one more byte swallowed by it.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let matched = match next_token(pattern) {
            None if key.is_empty() => return true,
            None => None,
            Some((Token::AnyRun, tail)) => {
                retry = Some((tail, key));
                Some((tail, key))
            }
            Some((token, tail)) => key
                .split_first()
                .filter(|(byte, _)| token.accepts(**byte))
                .map(|(_, key_tail)| (tail, key_tail)),
        };
        if let Some(next) = matched {
            (pattern, key) = next;
            continue;
        }
        let Some((after_star, swallowed)) = retry else {
            return false;
        };
        let Some((_, rest)) = swallowed.split_first() else {
            return false;
        };
        retry = Some((after_star, rest));
        (pattern, key) = (after_star, rest);
    }
}

enum Token<'a> {
    Literal(u8),
    AnyByte,
    AnyRun,
    Set(&'a [u8]),
}

impl Token<'_> {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Literal(literal) => *literal == byte,
            Self::AnyByte | Self::AnyRun => true,
            Self::Set(body) => set_accepts(body, byte),
        }
    }
}

fn next_token(pattern: &[u8]) -> Option<(Token<'_>, &[u8])> {
    let (first, tail) = pattern.split_first()?;
    Some(match first {
        b'*' => (Token::AnyRun, tail),
        b'?' => (Token::AnyByte, tail),
        b'[' => {
            let end = set_end(tail);
            // An unclosed set reaches to the pattern's end, as in Redis.
            (Token::Set(&tail[..end]), tail.get(end + 1..).unwrap_or_default())
        }
        b'\\' => match tail.split_first() {
            Some((escaped, rest)) => (Token::Literal(*escaped), rest),
            None => (Token::Literal(b'\\'), tail),
        },
        literal => (Token::Literal(*literal), tail),
    })
}

fn set_end(body: &[u8]) -> usize {
    let mut at = 0;
    while at < body.len() && body[at] != b']' {
        at += if body[at] == b'\\' { 2 } else { 1 };
    }
    at.min(body.len())
}

fn set_accepts(body: &[u8], byte: u8) -> bool {
    let (negated, mut rest) = match body.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, body),
    };
    let mut found = false;
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [escaped, tail @ ..]) => {
                found |= *escaped == byte;
                tail
            }
            (low, [b'-', high, tail @ ..]) => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                tail
            }
            (literal, tail) => {
                found |= *literal == byte;
                tail
            }
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, key: &str) -> bool {
        let matched = KeyPattern(pattern.to_owned()).matcher().matches(key.as_bytes());
        assert_eq!(matched, glob_match(pattern.as_bytes(), key.as_bytes()), "{pattern} on {key}");
        matched
    }

    #[test]
    fn matches_as_redis_keys_does() {
        for (pattern, key, expected) in [
            ("user:*", "user:1", true),
            ("user:*", "user:", true),
            ("user:*", "users:1", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            ("*:*:end", "a:b:c:end", true),
            ("*:*:end", "a:end", false),
            ("[abc", "b", true),
            ("", "", true),
            ("", "x", false),
            ("**", "anything", true),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} on {key}");
        }
    }

    #[test]
    fn the_narrower_pattern_is_the_more_specific() {
        let narrow_to_wide =
            ["user:1", "user:admin:*", "user:a*", "user:?", "user:*", "u*:x", "*:1", "*", "**"];
        for pair in narrow_to_wide.windows(2) {
            let [narrow, wide] = pair else { unreachable!() };
            assert!(
                KeyPattern((*narrow).into()).specificity()
                    > KeyPattern((*wide).into()).specificity(),
                "{narrow} must beat {wide}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_escaped_key_matches_itself_only(key in "[a-z*?\\[\\]\\\\^-]{0,12}", other in "[a-z*?]{0,12}") {
            let escaped: String = key.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(&escaped, &key));
            prop_assert_eq!(matches(&escaped, &other), key == other);
        }

        #[test]
        fn any_input_is_answered(pattern in prop::collection::vec(any::<u8>(), 0..24), key in prop::collection::vec(any::<u8>(), 0..24)) {
            let _ = glob_match(&pattern, &key);
        }

        #[test]
        fn a_prefix_pattern_matches_by_prefix(prefix in "[a-z:]{0,8}", key in "[a-z:]{0,12}") {
            prop_assert_eq!(matches(&format!("{prefix}*"), &key), key.starts_with(&prefix));
        }
    }
}
