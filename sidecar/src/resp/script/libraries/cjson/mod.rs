//! `cjson`: JSON, with what the original takes and gives beyond the standard.

mod decode;
mod encode;

use std::rc::Rc;

use mlua::{Lua, LuaString, MultiValue, Table, Value};

use super::Arguments;
use crate::resp::script::shared::Shared;

/// What a script can set; every run begins with the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::resp::script) struct Config {
    /// Lists with too many holes become objects; without it they are refused.
    sparse_convert: bool,
    /// How many times as long as its elements are many a list may be; 0 is for ever.
    sparse_ratio: i32,
    /// Up to this length a list may have any holes.
    sparse_safe: i32,
    encode_max_depth: i32,
    decode_max_depth: i32,
    precision: i32,
    keep_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: bool,
}

/// What becomes of infinity and what is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            precision: 14,
            keep_buffer: true,
            encode_invalid: Invalid::Refused,
            decode_invalid: true,
        }
    }
}

pub(super) fn library(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    library.raw_set("null", Value::NULL)?;
    let state = Rc::clone(shared);
    let encode = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let value = only(&arguments)?;
        lua.create_string(encode::encode(lua, &state, value)?)
    })?;
    library.raw_set("encode", encode)?;
    let state = Rc::clone(shared);
    let decode = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        only(&arguments)?;
        let text: LuaString = arguments.string(1)?;
        decode::decode(lua, &state, &text.as_bytes())
    })?;
    library.raw_set("decode", decode)?;
    settings(lua, &library, shared)?;
    Ok(library)
}

fn only<'a>(arguments: &'a Arguments<'_>) -> mlua::Result<&'a Value> {
    match arguments.get(1) {
        Some(value) if arguments.count() == 1 => Ok(value),
        _ => Err(arguments.unfit(1, "expected 1 argument")),
    }
}

/// The functions that read a setting, and change it when they are given a value.
fn settings(lua: &Lua, library: &Table, shared: &Rc<Shared>) -> mlua::Result<()> {
    type Field = fn(&mut Config) -> &mut i32;
    let numbers: [(&'static str, i64, Field); 3] = [
        ("encode_max_depth", i64::from(i32::MAX), |config| &mut config.encode_max_depth),
        ("decode_max_depth", i64::from(i32::MAX), |config| &mut config.decode_max_depth),
        ("encode_number_precision", 14, |config| &mut config.precision),
    ];
    for (name, most, field) in numbers {
        let state = Rc::clone(shared);
        let function = lua.create_function(move |lua, values: MultiValue| {
            let arguments = at_most(lua, &values, 1)?;
            let mut config = state.json.get();
            set_integer(&arguments, 1, 1, most, field(&mut config))?;
            state.json.set(config);
            Ok(*field(&mut config))
        })?;
        library.raw_set(name, function)?;
    }
    let state = Rc::clone(shared);
    let sparse = lua.create_function(move |lua, values: MultiValue| {
        let arguments = at_most(lua, &values, 3)?;
        let mut config = state.json.get();
        set_truth(&arguments, 1, &mut config.sparse_convert)?;
        set_integer(&arguments, 2, 0, i64::from(i32::MAX), &mut config.sparse_ratio)?;
        set_integer(&arguments, 3, 0, i64::from(i32::MAX), &mut config.sparse_safe)?;
        state.json.set(config);
        Ok((config.sparse_convert, config.sparse_ratio, config.sparse_safe))
    })?;
    library.raw_set("encode_sparse_array", sparse)?;
    let state = Rc::clone(shared);
    let keep_buffer = lua.create_function(move |lua, values: MultiValue| {
        let arguments = at_most(lua, &values, 1)?;
        let mut config = state.json.get();
        set_truth(&arguments, 1, &mut config.keep_buffer)?;
        state.json.set(config);
        Ok(config.keep_buffer)
    })?;
    library.raw_set("encode_keep_buffer", keep_buffer)?;
    let state = Rc::clone(shared);
    let encode_invalid = lua.create_function(move |lua, values: MultiValue| {
        let arguments = at_most(lua, &values, 1)?;
        let mut config = state.json.get();
        if let Some(Value::String(word)) = arguments.get(1) {
            if word.as_bytes() != *b"null" {
                let words = format!("invalid option '{}'", word.to_string_lossy());
                return Err(arguments.unfit(1, words));
            }
            config.encode_invalid = Invalid::Null;
        } else {
            let mut written = config.encode_invalid != Invalid::Refused;
            if set_truth(&arguments, 1, &mut written)? {
                config.encode_invalid = if written { Invalid::Written } else { Invalid::Refused };
            }
        }
        state.json.set(config);
        Ok(match config.encode_invalid {
            Invalid::Refused => Value::Boolean(false),
            Invalid::Written => Value::Boolean(true),
            Invalid::Null => Value::String(lua.create_string("null")?),
        })
    })?;
    library.raw_set("encode_invalid_numbers", encode_invalid)?;
    let state = Rc::clone(shared);
    let decode_invalid = lua.create_function(move |lua, values: MultiValue| {
        let arguments = at_most(lua, &values, 1)?;
        let mut config = state.json.get();
        set_truth(&arguments, 1, &mut config.decode_invalid)?;
        state.json.set(config);
        Ok(config.decode_invalid)
    })?;
    library.raw_set("decode_invalid_numbers", decode_invalid)
}

fn at_most<'a>(lua: &'a Lua, values: &'a MultiValue, most: usize) -> mlua::Result<Arguments<'a>> {
    let arguments = Arguments::new(lua, values);
    if arguments.count() > most {
        return Err(arguments.unfit(most + 1, "found too many arguments"));
    }
    Ok(arguments)
}

fn set_integer(
    arguments: &Arguments<'_>,
    at: usize,
    least: i64,
    most: i64,
    field: &mut i32,
) -> mlua::Result<()> {
    if matches!(arguments.get(at), None | Some(Value::Nil)) {
        return Ok(());
    }
    match i32::try_from(arguments.integer(at)?) {
        Ok(number) if (least..=most).contains(&i64::from(number)) => *field = number,
        _ => {
            let words = format_args!("expected integer between {least} and {most}");
            return Err(arguments.unfit(at, words));
        }
    }
    Ok(())
}

/// Sets a truth from true, false, `"on"` or `"off"`, and says whether there was one.
fn set_truth(arguments: &Arguments<'_>, at: usize, field: &mut bool) -> mlua::Result<bool> {
    *field = match arguments.get(at) {
        None | Some(Value::Nil) => return Ok(false),
        Some(Value::Boolean(truth)) => *truth,
        Some(_) => {
            let word = arguments.string(at)?;
            match &*word.as_bytes() {
                b"on" => true,
                b"off" => false,
                _ => {
                    let words = format!("invalid option '{}'", word.to_string_lossy());
                    return Err(arguments.unfit(at, words));
                }
            }
        }
    };
    Ok(true)
}
