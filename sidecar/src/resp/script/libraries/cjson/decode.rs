//! From JSON to Lua's values.

use mlua::{Lua, LuaString, Table, Value};

use super::Config;
use crate::resp::script::fault;
use crate::resp::script::shared::Shared;

/// How deep values lie at most, whatever a script sets: each takes a place among the few thousand
/// that the interpreter has for what Rust holds.
const MAX_DEPTH: usize = 1000;

pub(super) fn decode(lua: &Lua, shared: &Shared, text: &[u8]) -> mlua::Result<Value> {
    if matches!(text, [0, _, ..] | [_, 0, ..]) {
        return Err(fault::text(lua, "JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut reader = Reader { lua, shared, config: shared.json.get(), text, at: 0 };
    let token = reader.token();
    let value = reader.value(token)?;
    match reader.token() {
        Token { kind: Kind::End, .. } => Ok(value),
        token => Err(reader.unexpected("the end", &token)),
    }
}

struct Reader<'a> {
    lua: &'a Lua,
    shared: &'a Shared,
    config: Config,
    text: &'a [u8],
    at: usize,
}

/// A table that isn't complete, and where its next value goes.
enum Open {
    Object { table: Table, key: LuaString },
    List { table: Table, index: i64 },
}

/// A token, and where it begins or is wrong.
struct Token {
    kind: Kind,
    at: usize,
}

enum Kind {
    ObjectBegin,
    ObjectEnd,
    ListBegin,
    ListEnd,
    Colon,
    Comma,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    End,
    Wrong(&'static str),
}

impl Kind {
    /// The name that the original has for it.
    fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ListBegin => "T_ARR_BEGIN",
            Self::ListEnd => "T_ARR_END",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::String(_) => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::End => "T_END",
            Self::Wrong(words) => words,
        }
    }
}

impl Reader<'_> {
    /// Reads a value without recursion, as deep as a script may want it.
    fn value(&mut self, mut token: Token) -> mlua::Result<Value> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.shared.step(0)?;
            let mut value = match token.kind {
                Kind::String(text) => Value::String(self.lua.create_string(text)?),
                Kind::Number(number) => Value::Number(number),
                Kind::Boolean(truth) => Value::Boolean(truth),
                Kind::Null => Value::NULL,
                Kind::ObjectBegin => {
                    let table = self.table(open.len())?;
                    let next = self.token();
                    if matches!(next.kind, Kind::ObjectEnd) {
                        Value::Table(table)
                    } else {
                        open.push(Open::Object { key: self.key(next)?, table });
                        token = self.token();
                        continue;
                    }
                }
                Kind::ListBegin => {
                    let table = self.table(open.len())?;
                    token = self.token();
                    if matches!(token.kind, Kind::ListEnd) {
                        Value::Table(table)
                    } else {
                        open.push(Open::List { table, index: 1 });
                        continue;
                    }
                }
                _ => return Err(self.unexpected("value", &token)),
            };
            // The value goes where it belongs, and so does what it completes.
            loop {
                let Some(innermost) = open.last_mut() else { return Ok(value) };
                let next = self.token();
                match (innermost, &next.kind) {
                    (Open::Object { table, key }, Kind::Comma) => {
                        table.raw_set(&*key, value)?;
                        let next = self.token();
                        *key = self.key(next)?;
                    }
                    (Open::List { table, index }, Kind::Comma) => {
                        table.raw_set(*index, value)?;
                        *index += 1;
                    }
                    (Open::Object { table, key }, Kind::ObjectEnd) => {
                        table.raw_set(&*key, value)?;
                        value = Value::Table(table.clone());
                        open.pop();
                        continue;
                    }
                    (Open::List { table, index }, Kind::ListEnd) => {
                        table.raw_set(*index, value)?;
                        value = Value::Table(table.clone());
                        open.pop();
                        continue;
                    }
                    (Open::Object { .. }, _) => {
                        return Err(self.unexpected("comma or object end", &next));
                    }
                    (Open::List { .. }, _) => {
                        return Err(self.unexpected("comma or array end", &next));
                    }
                }
                token = self.token();
                break;
            }
        }
    }

    /// The key of an object, and the colon behind it.
    fn key(&mut self, token: Token) -> mlua::Result<LuaString> {
        let Kind::String(key) = token.kind else {
            return Err(self.unexpected("object key string", &token));
        };
        let colon = self.token();
        if !matches!(colon.kind, Kind::Colon) {
            return Err(self.unexpected("colon", &colon));
        }
        self.lua.create_string(key)
    }

    /// A table within so many others.
    fn table(&self, outer: usize) -> mlua::Result<Table> {
        let depth = outer + 1;
        if depth > usize::try_from(self.config.decode_max_depth).unwrap_or_default().min(MAX_DEPTH)
        {
            let at = self.at;
            return Err(fault::text(
                self.lua,
                format_args!("Found too many nested data structures ({depth}) at character {at}"),
            ));
        }
        self.lua.create_table()
    }

    /// The byte so far ahead; behind the end there is a NUL, as in C.
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let kind = match self.peek(0) {
            0 => return Token { kind: Kind::End, at },
            b'{' => Kind::ObjectBegin,
            b'}' => Kind::ObjectEnd,
            b'[' => Kind::ListBegin,
            b']' => Kind::ListEnd,
            b':' => Kind::Colon,
            b',' => Kind::Comma,
            _ => return self.long_token(at),
        };
        self.at += 1;
        Token { kind, at }
    }

    fn long_token(&mut self, at: usize) -> Token {
        let rest = &self.text[at..];
        let (kind, length) = match rest[0] {
            b'"' => return self.string(at),
            b'-' | b'0'..=b'9' => {
                if !self.config.decode_invalid && is_invalid_number(rest) {
                    (Kind::Wrong("invalid number"), 0)
                } else {
                    number(rest)
                }
            }
            _ if rest.starts_with(b"true") => (Kind::Boolean(true), 4),
            _ if rest.starts_with(b"false") => (Kind::Boolean(false), 5),
            _ if rest.starts_with(b"null") => (Kind::Null, 4),
            b'+' | b'i' | b'I' | b'n' | b'N'
                if self.config.decode_invalid && is_invalid_number(rest) =>
            {
                number(rest)
            }
            _ => (Kind::Wrong("invalid token"), 0),
        };
        self.at += length;
        Token { kind, at }
    }

    fn string(&mut self, at: usize) -> Token {
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let kind = match self.peek(0) {
                b'"' => break,
                0 => Kind::Wrong("unexpected end of string"),
                b'\\' => match self.peek(1) {
                    b'u' => match self.unicode() {
                        Some((letter, length)) => {
                            let mut buffer = [0; 4];
                            text.extend(letter.encode_utf8(&mut buffer).as_bytes());
                            self.at += length;
                            continue;
                        }
                        None => Kind::Wrong("invalid unicode escape code"),
                    },
                    escaped => match escape(escaped) {
                        Some(byte) => {
                            text.push(byte);
                            self.at += 2;
                            continue;
                        }
                        None => Kind::Wrong("invalid escape code"),
                    },
                },
                plain => {
                    text.push(plain);
                    self.at += 1;
                    continue;
                }
            };
            return Token { kind, at: self.at };
        }
        self.at += 1;
        Token { kind: Kind::String(text), at }
    }

    /// The letter of `\uXXXX`, or of two of them that are a surrogate pair, and their length.
    fn unicode(&self) -> Option<(char, usize)> {
        let first = self.hex(2)?;
        if first & 0xf800 != 0xd800 {
            return char::from_u32(first).map(|letter| (letter, 6));
        }
        if first & 0x400 != 0 || (self.peek(6), self.peek(7)) != (b'\\', b'u') {
            return None;
        }
        let second = self.hex(8)?;
        if second & 0xfc00 != 0xdc00 {
            return None;
        }
        char::from_u32((((first & 0x3ff) << 10) | (second & 0x3ff)) + 0x1_0000)
            .map(|letter| (letter, 12))
    }

    fn hex(&self, ahead: usize) -> Option<u32> {
        (ahead..ahead + 4)
            .try_fold(0, |number, at| Some((number << 4) | char::from(self.peek(at)).to_digit(16)?))
    }

    fn unexpected(&self, expected: &str, found: &Token) -> mlua::Error {
        let (name, at) = (found.kind.name(), found.at + 1);
        fault::text(
            self.lua,
            format_args!("Expected {expected} but found {name} at character {at}"),
        )
    }
}

fn escape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 0x08,
        b't' => b'\t',
        b'n' => b'\n',
        b'f' => 0x0c,
        b'r' => b'\r',
        _ => return None,
    })
}

/// Whether `strtod` takes what JSON doesn't: signs, hexadecimals, leading zeros, infinity, nan.
fn is_invalid_number(text: &[u8]) -> bool {
    let text = match text {
        [b'+', ..] => return true,
        [b'-', rest @ ..] | rest => rest,
    };
    match text {
        [b'0', next, ..] => next.eq_ignore_ascii_case(&b'x') || next.is_ascii_digit(),
        [_, _, _, ..] => is_word(text, b"inf") || is_word(text, b"nan"),
        _ => false,
    }
}

fn is_word(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// The number at the start of `text` as C's `strtod` reads it, and its length.
fn number(text: &[u8]) -> (Kind, usize) {
    let (negative, signs) = match text {
        [b'-', ..] => (true, 1),
        [b'+', ..] => (false, 1),
        _ => (false, 0),
    };
    let rest = &text[signs..];
    let (number, length) = if is_word(rest, b"infinity") {
        (f64::INFINITY, 8)
    } else if is_word(rest, b"inf") {
        (f64::INFINITY, 3)
    } else if is_word(rest, b"nan") {
        (f64::NAN, 3)
    } else if let [b'0', b'x' | b'X', digits @ ..] = rest
        && let Some((number, length)) = hexadecimal(digits)
    {
        (number, length + 2)
    } else {
        decimal(rest)
    };
    if length == 0 {
        return (Kind::Wrong("invalid number"), 0);
    }
    (Kind::Number(if negative { -number } else { number }), signs + length)
}

fn digits(text: &[u8], is_digit: fn(&u8) -> bool) -> usize {
    text.iter().take_while(|byte| is_digit(byte)).count()
}

fn decimal(text: &[u8]) -> (f64, usize) {
    let whole = digits(text, u8::is_ascii_digit);
    let mut length = whole;
    let mut fraction = 0;
    if text.get(whole) == Some(&b'.') {
        fraction = digits(&text[whole + 1..], u8::is_ascii_digit);
        length += 1 + fraction;
    }
    if whole + fraction == 0 {
        return (0.0, 0);
    }
    length += exponent(&text[length..], b'e').map_or(0, |(_, length)| length);
    let number = std::str::from_utf8(&text[..length]).ok().and_then(|text| text.parse().ok());
    (number.unwrap_or_default(), length)
}

/// The digits behind `0x`.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let whole = digits(text, u8::is_ascii_hexdigit);
    let mut length = whole;
    let mut fraction = 0;
    if text.get(whole) == Some(&b'.') {
        fraction = digits(&text[whole + 1..], u8::is_ascii_hexdigit);
        length += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    let mantissa = text[..length].iter().filter_map(|byte| char::from(*byte).to_digit(16));
    let mut number = mantissa.fold(0.0, |number, digit| number * 16.0 + f64::from(digit));
    let mut power = -4 * i32::try_from(fraction).unwrap_or(i32::MAX / 4);
    if let Some((exponent, more)) = exponent(&text[length..], b'p') {
        power = power.saturating_add(exponent);
        length += more;
    }
    number *= f64::from(power).exp2();
    Some((number, length))
}

/// `e+10`: the number and how long it is.
fn exponent(text: &[u8], mark: u8) -> Option<(i32, usize)> {
    let (first, rest) = text.split_first()?;
    if !first.eq_ignore_ascii_case(&mark) {
        return None;
    }
    let signs = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
    let count = digits(&rest[signs..], u8::is_ascii_digit);
    let number = rest[signs..signs + count].iter().fold(0_i32, |number, digit| {
        number.saturating_mul(10).saturating_add(i32::from(digit - b'0'))
    });
    let number = if rest.first() == Some(&b'-') { -number } else { number };
    (count > 0).then_some((number, 1 + signs + count))
}
