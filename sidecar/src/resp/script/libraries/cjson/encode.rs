//! From Lua's values to JSON.

use mlua::{Function, Lua, Table, Value};

use super::{Config, Invalid};
use crate::resp::script::fault;
use crate::resp::script::libraries::type_name;
use crate::resp::script::number::{float, general, truncated};
use crate::resp::script::shared::Shared;

/// How deep tables lie at most, whatever a script sets: each takes a place among the few thousand
/// that the interpreter has for what Rust holds.
const MAX_DEPTH: usize = 1000;

pub(super) fn encode(lua: &Lua, shared: &Shared, value: &Value) -> mlua::Result<Vec<u8>> {
    let mut writer = Writer { lua, shared, config: shared.json.get(), json: Vec::new() };
    writer.value(value.clone())?;
    Ok(writer.json)
}

/// A table that isn't written whole: up to which index, or behind which key.
enum Open {
    List { table: Table, index: i64, length: i64 },
    Object { table: Table, key: Value },
}

struct Writer<'a> {
    lua: &'a Lua,
    shared: &'a Shared,
    config: Config,
    json: Vec<u8>,
}

impl Writer<'_> {
    /// Writes a value without recursion, as deep as a script may want it.
    fn value(&mut self, value: Value) -> mlua::Result<()> {
        let next: Function = self.lua.globals().raw_get("next")?;
        let mut open: Vec<Open> = Vec::new();
        let mut value = value;
        loop {
            self.shared.step(self.json.len())?;
            match value {
                Value::Table(table) => open.push(self.begin(table, open.len() + 1)?),
                scalar => self.scalar(&scalar)?,
            }
            // On to the next value, of whatever is open.
            value = loop {
                match open.last_mut() {
                    None => return Ok(()),
                    Some(Open::List { table, index, length }) if *index < *length => {
                        self.json.push(if *index == 0 { b'[' } else { b',' });
                        *index += 1;
                        break table.raw_get(*index)?;
                    }
                    Some(Open::List { .. }) => self.json.push(b']'),
                    Some(Open::Object { table, key }) => {
                        let first = key.is_nil();
                        let (found, value): (Value, Value) = next.call((&*table, &*key))?;
                        if found.is_nil() {
                            self.json.extend(if first { &b"{}"[..] } else { b"}" });
                        } else {
                            self.json.push(if first { b'{' } else { b',' });
                            self.key(&found)?;
                            *key = found;
                            break value;
                        }
                    }
                }
                open.pop();
            };
        }
    }

    fn scalar(&mut self, value: &Value) -> mlua::Result<()> {
        match value {
            Value::String(text) => self.string(&text.as_bytes())?,
            Value::Integer(number) => self.number(float(*number))?,
            Value::Number(number) => self.number(*number)?,
            Value::Boolean(true) => self.json.extend(b"true"),
            Value::Boolean(false) => self.json.extend(b"false"),
            Value::Nil => self.json.extend(b"null"),
            value if *value == Value::NULL => self.json.extend(b"null"),
            other => return Err(self.unfit(other, "type not supported")),
        }
        Ok(())
    }

    fn begin(&self, table: Table, depth: usize) -> mlua::Result<Open> {
        if depth > usize::try_from(self.config.encode_max_depth).unwrap_or_default().min(MAX_DEPTH)
        {
            let words = format!("Cannot serialise, excessive nesting ({depth})");
            return Err(fault::text(self.lua, words));
        }
        Ok(match self.list_length(&table)? {
            Some(length) if length > 0 => Open::List { table, index: 0, length },
            _ => Open::Object { table, key: Value::Nil },
        })
    }

    /// How long the list is that a table is; `None` when it is an object.
    fn list_length(&self, table: &Table) -> mlua::Result<Option<i64>> {
        let (mut longest, mut items) = (0, 0_i64);
        for pair in table.pairs::<Value, Value>() {
            self.shared.step(self.json.len())?;
            longest = match pair?.0 {
                Value::Integer(key @ 1..) => longest.max(key),
                // Whole, but beyond the integers.
                Value::Number(key) if key >= 1.0 && key.fract() == 0.0 => i64::MAX,
                _ => return Ok(None),
            };
            items += 1;
        }
        let ratio = i64::from(self.config.sparse_ratio);
        let sparse = ratio > 0
            && longest > items.saturating_mul(ratio)
            && longest > i64::from(self.config.sparse_safe);
        if sparse && !self.config.sparse_convert {
            return Err(self.unfit(&Value::Table(table.clone()), "excessively sparse array"));
        }
        Ok((!sparse).then_some(longest))
    }

    /// A key and its colon.
    fn key(&mut self, key: &Value) -> mlua::Result<()> {
        match key {
            Value::String(text) => self.string(&text.as_bytes())?,
            Value::Integer(_) | Value::Number(_) => {
                self.json.push(b'"');
                self.scalar(key)?;
                self.json.push(b'"');
            }
            other => return Err(self.unfit(other, "table key must be a number or string")),
        }
        self.json.push(b':');
        Ok(())
    }

    fn number(&mut self, number: f64) -> mlua::Result<()> {
        if !number.is_finite() {
            match self.config.encode_invalid {
                Invalid::Refused => {
                    return Err(self.unfit(&Value::Number(number), "must not be NaN or Inf"));
                }
                Invalid::Written if number.is_nan() => self.json.extend(b"nan"),
                Invalid::Written => self.json.extend(general(number, 14).as_bytes()),
                Invalid::Null => self.json.extend(b"null"),
            }
            return Ok(());
        }
        let whole = truncated(number);
        if self.config.precision == 14
            && whole.unsigned_abs() < 1 << 40
            && whole != 0
            && float(whole).to_bits() == number.to_bits()
        {
            self.json.extend(crate::resp::number::Digits::of(whole).as_bytes());
            return Ok(());
        }
        let precision = usize::try_from(self.config.precision).unwrap_or(14);
        self.json.extend(general(number, precision).as_bytes());
        Ok(())
    }

    fn string(&mut self, text: &[u8]) -> mlua::Result<()> {
        self.shared.step(self.json.len() + text.len())?;
        self.json.push(b'"');
        for byte in text {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'/' => b"\\/",
                0x08 => b"\\b",
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                0x0c => b"\\f",
                b'\r' => b"\\r",
                0..=0x1f | 0x7f => {
                    self.json.extend(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                plain => {
                    self.json.push(*plain);
                    continue;
                }
            };
            self.json.extend(escape);
        }
        self.json.push(b'"');
        Ok(())
    }

    fn unfit(&self, value: &Value, words: &str) -> mlua::Error {
        fault::text(self.lua, format_args!("Cannot serialise {}: {words}", type_name(value)))
    }
}
