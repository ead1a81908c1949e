//! Lua's patterns, with a count of the steps.
//!
//! Lua's own matcher runs in C, where nothing ends it, and some patterns take exponential time. This
//! one does what that one does, and stops when the script's time is over.

use mlua::{Lua, Value};

use crate::resp::script::fault;
use crate::resp::script::shared::Shared;

/// How many captures a pattern may have.
const MAX_CAPTURES: usize = 32;
/// How many repetitions and captures a pattern may have behind each other, for the sake of the stack.
const MAX_DEPTH: usize = 200;

/// A part of the subject that a pattern remembers.
#[derive(Clone, Copy)]
struct Capture {
    start: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its end hasn't been seen.
    Open,
    /// It is a place, without a length.
    Position,
    Closed {
        length: usize,
    },
}

/// A subject and a pattern.
pub(super) struct Matcher<'a> {
    lua: &'a Lua,
    shared: &'a Shared,
    subject: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<Capture>,
    depth: usize,
}

impl<'a> Matcher<'a> {
    /// As in C a pattern ends at a NUL.
    pub(super) fn new(
        lua: &'a Lua,
        shared: &'a Shared,
        subject: &'a [u8],
        pattern: &'a [u8],
    ) -> Self {
        let end = memchr::memchr(0, pattern).unwrap_or(pattern.len());
        let pattern = &pattern[..end];
        Self { lua, shared, subject, pattern, captures: Vec::new(), depth: 0 }
    }

    /// The end of the match that begins at `start`, if there is one.
    pub(super) fn at(&mut self, start: usize) -> mlua::Result<Option<usize>> {
        self.captures.clear();
        self.depth = 0;
        self.matched(start, 0)
    }

    /// What the last match captured; the whole match when nothing was and it is asked for.
    pub(super) fn values(&self, whole: Option<(usize, usize)>) -> mlua::Result<Vec<Value>> {
        let count =
            if self.captures.is_empty() && whole.is_some() { 1 } else { self.captures.len() };
        (0..count).map(|index| self.value(index, whole.unwrap_or_default())).collect()
    }

    /// The capture `index` of the last match, which lies from `start` to `end`.
    pub(super) fn value(&self, index: usize, (start, end): (usize, usize)) -> mlua::Result<Value> {
        let part = match self.captures.get(index) {
            None if index == 0 => self.part((start, end)),
            None => return Err(fault::text(self.lua, "invalid capture index")),
            Some(Capture { kind: Kind::Open, .. }) => {
                return Err(fault::text(self.lua, "unfinished capture"));
            }
            Some(Capture { start, kind: Kind::Position }) => {
                return Ok(Value::Integer(i64::try_from(start + 1).unwrap_or(i64::MAX)));
            }
            Some(Capture { start, kind: Kind::Closed { length } }) => {
                &self.subject[*start..start + length]
            }
        };
        self.lua.create_string(part).map(Value::String)
    }

    /// A part of the subject.
    pub(super) fn part(&self, (start, end): (usize, usize)) -> &[u8] {
        &self.subject[start..end]
    }

    fn matched(&mut self, subject: usize, pattern: usize) -> mlua::Result<Option<usize>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(fault::text(self.lua, "pattern too complex"));
        }
        let end = self.walk(subject, pattern);
        self.depth -= 1;
        end
    }

    /// Matches the subject from `s` on with the pattern from `p` on.
    fn walk(&mut self, mut s: usize, mut p: usize) -> mlua::Result<Option<usize>> {
        loop {
            self.shared.step(0)?;
            match self.pattern[p..] {
                [] => return Ok(Some(s)),
                [b'(', b')', ..] => return self.open(s, p + 2, Kind::Position),
                [b'(', ..] => return self.open(s, p + 1, Kind::Open),
                [b')', ..] => return self.close(s, p + 1),
                [b'$'] => return Ok((s == self.subject.len()).then_some(s)),
                [b'%', b'b', ..] => {
                    let Some(end) = self.balanced(s, p + 2)? else { return Ok(None) };
                    (s, p) = (end, p + 4);
                    continue;
                }
                [b'%', b'f', ..] => {
                    p += 2;
                    if self.pattern.get(p) != Some(&b'[') {
                        return Err(fault::text(self.lua, "missing '[' after '%f' in pattern"));
                    }
                    let end = self.item_end(p)?;
                    let before = s.checked_sub(1).map_or(0, |before| self.subject[before]);
                    let here = self.subject.get(s).copied().unwrap_or(0);
                    if self.in_set(before, p, end - 1) || !self.in_set(here, p, end - 1) {
                        return Ok(None);
                    }
                    p = end;
                    continue;
                }
                [b'%', digit @ b'0'..=b'9', ..] => {
                    let Some(end) = self.repeated(s, digit)? else { return Ok(None) };
                    (s, p) = (end, p + 2);
                    continue;
                }
                _ => {}
            }
            let end = self.item_end(p)?;
            let fits = self.fits(s, p, end);
            match self.pattern.get(end) {
                Some(b'?') => {
                    if fits && let Some(end) = self.matched(s + 1, end + 1)? {
                        return Ok(Some(end));
                    }
                    p = end + 1;
                }
                Some(b'*') => return self.longest(s, p, end),
                Some(b'+') => return if fits { self.longest(s + 1, p, end) } else { Ok(None) },
                Some(b'-') => return self.shortest(s, p, end),
                _ if fits => (s, p) = (s + 1, end),
                _ => return Ok(None),
            }
        }
    }

    fn longest(&mut self, s: usize, p: usize, end: usize) -> mlua::Result<Option<usize>> {
        let mut count = 0;
        while self.fits(s + count, p, end) {
            self.shared.step(0)?;
            count += 1;
        }
        for count in (0..=count).rev() {
            if let Some(end) = self.matched(s + count, end + 1)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    fn shortest(&mut self, mut s: usize, p: usize, end: usize) -> mlua::Result<Option<usize>> {
        loop {
            if let Some(end) = self.matched(s, end + 1)? {
                return Ok(Some(end));
            }
            if !self.fits(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, s: usize, p: usize, kind: Kind) -> mlua::Result<Option<usize>> {
        if self.captures.len() >= MAX_CAPTURES {
            return Err(fault::text(self.lua, "too many captures"));
        }
        self.captures.push(Capture { start: s, kind });
        let end = self.matched(s, p)?;
        if end.is_none() {
            self.captures.pop();
        }
        Ok(end)
    }

    fn close(&mut self, s: usize, p: usize) -> mlua::Result<Option<usize>> {
        let last = self.captures.iter().rposition(|capture| capture.kind == Kind::Open);
        let last = last.ok_or_else(|| fault::text(self.lua, "invalid pattern capture"))?;
        self.captures[last].kind = Kind::Closed { length: s - self.captures[last].start };
        let end = self.matched(s, p)?;
        if end.is_none() {
            self.captures[last].kind = Kind::Open;
        }
        Ok(end)
    }

    /// `%1`: what was captured, again.
    fn repeated(&self, s: usize, digit: u8) -> mlua::Result<Option<usize>> {
        let index = digit.checked_sub(b'1').map(usize::from);
        match index.and_then(|index| self.captures.get(index)) {
            Some(Capture { start, kind: Kind::Closed { length } }) => {
                let captured = &self.subject[*start..start + length];
                Ok(self.subject[s..].starts_with(captured).then_some(s + length))
            }
            Some(Capture { kind: Kind::Position, .. }) => Ok(None),
            _ => Err(fault::text(self.lua, "invalid capture index")),
        }
    }

    /// `%bxy`: from an `x` to the `y` that belongs to it.
    fn balanced(&self, s: usize, p: usize) -> mlua::Result<Option<usize>> {
        let [open, close, ..] = self.pattern[p..] else {
            return Err(fault::text(self.lua, "unbalanced pattern"));
        };
        if self.subject.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        for (at, byte) in self.subject.iter().enumerate().skip(s + 1) {
            self.shared.step(0)?;
            if *byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at + 1));
                }
            } else if *byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// Where the item at `p` ends: a letter, `%a`, or a set.
    fn item_end(&self, mut p: usize) -> mlua::Result<usize> {
        match self.pattern[p..] {
            [b'%'] => Err(fault::text(self.lua, "malformed pattern (ends with '%')")),
            [b'%', ..] => Ok(p + 2),
            [b'[', ..] => {
                p += if self.pattern.get(p + 1) == Some(&b'^') { 2 } else { 1 };
                loop {
                    match self.pattern[p..] {
                        [] => {
                            let words = "malformed pattern (missing ']')";
                            return Err(fault::text(self.lua, words));
                        }
                        [b'%', _, ..] => p += 2,
                        _ => p += 1,
                    }
                    if self.pattern.get(p) == Some(&b']') {
                        return Ok(p + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// Whether the byte at `s` is one of the item's.
    fn fits(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(byte) = self.subject.get(s) else { return false };
        match self.pattern[p] {
            b'.' => true,
            b'%' => in_class(*byte, self.pattern[p + 1]),
            b'[' => self.in_set(*byte, p, end - 1),
            letter => letter == *byte,
        }
    }

    /// Whether a byte is in the set whose brackets are at `open` and `close`.
    fn in_set(&self, byte: u8, open: usize, close: usize) -> bool {
        let mut set = &self.pattern[open + 1..close];
        let wanted = set.first() != Some(&b'^');
        if !wanted {
            set = &set[1..];
        }
        loop {
            let (found, rest) = match set {
                [] => return !wanted,
                [b'%', class, rest @ ..] => (in_class(byte, *class), rest),
                [first, b'-', last, rest @ ..] => ((*first..=*last).contains(&byte), rest),
                [letter, rest @ ..] => (*letter == byte, rest),
            };
            if found {
                return wanted;
            }
            set = rest;
        }
    }
}

/// `%a` and its like; a capital is the opposite, and what is no class is itself.
fn in_class(byte: u8, class: u8) -> bool {
    let found = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | b'\t'..=b'\r'),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    found != class.is_ascii_uppercase()
}
