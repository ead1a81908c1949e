//! Functions of Lua's `string` that could run without end inside of C.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Function, Lua, LuaString, MultiValue, Table, Value};

use super::pattern::Matcher;
use super::{Arguments, type_name};
use crate::resp::script::fault::{self, Raised};
use crate::resp::script::shared::Shared;

/// What makes a pattern more than a text.
const SPECIALS: &[u8] = b"^$*+?.([%-";

pub(super) fn replacements(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let bounds = Rc::clone(shared);
    let rep = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let text = arguments.string(1)?;
        let text = text.as_bytes();
        let times = usize::try_from(arguments.integer(2)?).unwrap_or_default();
        let size = text.len().checked_mul(times).ok_or_else(fault::memory)?;
        bounds.step(size)?;
        // Many times nothing is nothing, at once.
        lua.create_string(if size == 0 { Vec::new() } else { text.repeat(times) })
    })?;
    table.raw_set("rep", rep)?;
    for (name, is_find) in [("find", true), ("match", false)] {
        let bounds = Rc::clone(shared);
        let function = lua.create_function(move |lua, values: MultiValue| {
            find(&Arguments::new(lua, &values), &bounds, is_find)
        })?;
        table.raw_set(name, function)?;
    }
    let bounds = Rc::clone(shared);
    let gmatch = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        all_matches(lua, Rc::clone(&bounds), arguments.string(1)?, arguments.string(2)?)
    })?;
    table.raw_set("gfind", &gmatch)?;
    table.raw_set("gmatch", gmatch)?;
    let bounds = Rc::clone(shared);
    let pcall: Function = lua.globals().raw_get("pcall")?;
    let gsub = lua.create_function(move |lua, values: MultiValue| {
        replace(&Arguments::new(lua, &values), &bounds, &pcall)
    })?;
    table.raw_set("gsub", gsub)?;
    Ok(table)
}

/// `find` and `match`.
fn find(arguments: &Arguments<'_>, shared: &Shared, is_find: bool) -> mlua::Result<MultiValue> {
    let (subject, pattern) = (arguments.string(1)?, arguments.string(2)?);
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    let start = start(arguments.integer_or(3, 1)?, subject.len());
    let is_plain = || {
        let asked = !matches!(arguments.get(4), None | Some(Value::Nil | Value::Boolean(false)));
        let end = memchr::memchr(0, &pattern).unwrap_or(pattern.len());
        asked || !pattern[..end].iter().any(|byte| SPECIALS.contains(byte))
    };
    if is_find && is_plain() {
        let found = memchr::memmem::find(&subject[start..], &pattern).map(|at| start + at);
        return Ok(found.map_or_else(none, |at| range(at, at + pattern.len()).collect()));
    }
    let (anchored, pattern) = anchor(&pattern);
    let mut matcher = Matcher::new(arguments.lua, shared, &subject, pattern);
    let last = if anchored { start } else { subject.len() };
    for at in start..=last {
        if let Some(end) = matcher.at(at)? {
            return Ok(if is_find {
                range(at, end).chain(matcher.values(None)?).collect()
            } else {
                matcher.values(Some((at, end)))?.into_iter().collect()
            });
        }
    }
    Ok(none())
}

fn none() -> MultiValue {
    [Value::Nil].into_iter().collect()
}

/// A part of a subject, counted from 1 and with its end.
fn range(start: usize, end: usize) -> impl Iterator<Item = Value> {
    [start + 1, end].into_iter().map(|at| Value::Integer(i64::try_from(at).unwrap_or(i64::MAX)))
}

/// Where to begin: `position` counts from 1, or below 0 from the end.
fn start(position: i64, length: usize) -> usize {
    let position = usize::try_from(position).unwrap_or_else(|_| {
        let back = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
        (length + 1).saturating_sub(back)
    });
    position.saturating_sub(1).min(length)
}

fn anchor(pattern: &[u8]) -> (bool, &[u8]) {
    pattern.strip_prefix(b"^").map_or((false, pattern), |rest| (true, rest))
}

/// `gmatch`: a function that gives the next match.
fn all_matches(
    lua: &Lua,
    shared: Rc<Shared>,
    subject: LuaString,
    pattern: LuaString,
) -> mlua::Result<Function> {
    let next = Cell::new(0);
    lua.create_function(move |lua, _: MultiValue| {
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let mut matcher = Matcher::new(lua, &shared, &subject, &pattern);
        for at in next.get()..=subject.len() {
            if let Some(end) = matcher.at(at)? {
                next.set(if end == at { end + 1 } else { end });
                return Ok(matcher.values(Some((at, end)))?.into_iter().collect());
            }
        }
        // C's is over and over at its end, too.
        Ok(MultiValue::new())
    })
}

/// `gsub`.
fn replace(
    arguments: &Arguments<'_>,
    shared: &Shared,
    pcall: &Function,
) -> mlua::Result<(LuaString, usize)> {
    let lua = arguments.lua;
    let (subject, pattern) = (arguments.string(1)?, arguments.string(2)?);
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    let most = match arguments.get(4) {
        None | Some(Value::Nil) => usize::MAX,
        Some(_) => usize::try_from(arguments.integer(4)?).unwrap_or_default(),
    };
    let replacement = match arguments.get(3) {
        Some(Value::String(_) | Value::Integer(_) | Value::Number(_)) => {
            Replacement::Text(arguments.string(3)?)
        }
        Some(Value::Table(table)) => Replacement::Table(table),
        Some(Value::Function(function)) => Replacement::Function { function, pcall },
        _ => return Err(arguments.unfit(3, "string/function/table expected")),
    };
    let (anchored, pattern) = anchor(&pattern);
    let mut matcher = Matcher::new(lua, shared, &subject, pattern);
    let mut result = Vec::new();
    let (mut at, mut count) = (0, 0);
    while count < most {
        shared.step(result.len())?;
        let end = matcher.at(at)?;
        if let Some(end) = end {
            count += 1;
            replacement.put(lua, &matcher, &subject, (at, end), &mut result)?;
        }
        match end {
            Some(end) if end > at => at = end,
            _ => {
                let Some(byte) = subject.get(at) else { break };
                result.push(*byte);
                at += 1;
            }
        }
        if anchored {
            break;
        }
    }
    result.extend(&subject[at..]);
    Ok((lua.create_string(result)?, count))
}

/// What `gsub` puts in place of a match.
enum Replacement<'a> {
    Text(LuaString),
    Table(&'a Table),
    Function { function: &'a Function, pcall: &'a Function },
}

impl Replacement<'_> {
    fn put(
        &self,
        lua: &Lua,
        matcher: &Matcher<'_>,
        subject: &[u8],
        found: (usize, usize),
        result: &mut Vec<u8>,
    ) -> mlua::Result<()> {
        let value = match self {
            Self::Text(text) => return put_text(lua, matcher, &text.as_bytes(), found, result),
            Self::Table(table) => {
                let key = matcher.value(0, found)?;
                if table.has_metatable() { table.get(key)? } else { table.raw_get(key)? }
            }
            Self::Function { function, pcall } => {
                let values = matcher.values(Some(found))?;
                let values = std::iter::once(Value::Function((*function).clone())).chain(values);
                // Only Lua itself keeps what was raised as it is.
                let (succeeded, value): (bool, Value) =
                    pcall.call(values.collect::<MultiValue>())?;
                if !succeeded {
                    return Err(Raised::Value(value).into());
                }
                value
            }
        };
        match value {
            Value::Nil | Value::Boolean(false) => result.extend(&subject[found.0..found.1]),
            Value::String(text) => result.extend(&*text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => {
                let text = lua.coerce_string(value)?;
                result
                    .extend(text.as_ref().map(LuaString::as_bytes).as_deref().unwrap_or_default());
            }
            other => {
                let words = format!("invalid replacement value (a {})", type_name(&other));
                return Err(fault::text(lua, words));
            }
        }
        Ok(())
    }
}

/// A text in which `%1` is the first capture and `%0` the whole match.
fn put_text(
    lua: &Lua,
    matcher: &Matcher<'_>,
    text: &[u8],
    found: (usize, usize),
    result: &mut Vec<u8>,
) -> mlua::Result<()> {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            result.push(*byte);
            continue;
        }
        // Behind the end C finds a NUL.
        let value = match bytes.next().copied().unwrap_or(0) {
            b'0' => lua.create_string(matcher.part(found)).map(Value::String)?,
            digit @ b'1'..=b'9' => matcher.value(usize::from(digit - b'1'), found)?,
            other => {
                result.push(other);
                continue;
            }
        };
        let value = lua.coerce_string(value)?;
        result.extend(value.as_ref().map(LuaString::as_bytes).as_deref().unwrap_or_default());
    }
    Ok(())
}
