//! `bit`: operations on 32 bits, as in LuaJIT.

use mlua::{Lua, MultiValue, Table};

use super::Arguments;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let unary = |name, apply: fn(u32) -> u32| {
        let function = lua.create_function(move |lua, values: MultiValue| {
            bits(&Arguments::new(lua, &values), 1).map(apply).map(signed)
        })?;
        library.raw_set(name, function)
    };
    unary("tobit", |bits| bits)?;
    unary("bnot", |bits| !bits)?;
    unary("bswap", u32::swap_bytes)?;
    let variadic = |name, apply: fn(u32, u32) -> u32| {
        let function = lua.create_function(move |lua, values: MultiValue| {
            let arguments = Arguments::new(lua, &values);
            let first = bits(&arguments, 1)?;
            (2..=arguments.count())
                .try_fold(first, |result, at| Ok(apply(result, bits(&arguments, at)?)))
                .map(signed)
        })?;
        library.raw_set(name, function)
    };
    variadic("band", |left, right| left & right)?;
    variadic("bor", |left, right| left | right)?;
    variadic("bxor", |left, right| left ^ right)?;
    let shift = |name, apply: fn(u32, u32) -> u32| {
        let function = lua.create_function(move |lua, values: MultiValue| {
            let arguments = Arguments::new(lua, &values);
            Ok(signed(apply(bits(&arguments, 1)?, bits(&arguments, 2)? & 31)))
        })?;
        library.raw_set(name, function)
    };
    shift("lshift", |bits, by| bits << by)?;
    shift("rshift", |bits, by| bits >> by)?;
    shift("arshift", |bits, by| (bits.cast_signed() >> by).cast_unsigned())?;
    shift("rol", u32::rotate_left)?;
    shift("ror", u32::rotate_right)?;
    let tohex = lua.create_function(|lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let number = bits(&arguments, 1)?;
        let digits = if arguments.count() > 1 { signed(bits(&arguments, 2)?) } else { 8 };
        let text = if digits < 0 { format!("{number:08X}") } else { format!("{number:08x}") };
        let shown = usize::try_from(digits.unsigned_abs()).unwrap_or(8).min(8);
        Ok(text[8 - shown..].to_owned())
    })?;
    library.raw_set("tohex", tohex)?;
    Ok(library)
}

/// The low 32 bits of an argument, rounded to the nearest, halves to even: by adding what moves
/// them to the end of a double's fraction, which also says what happens to numbers out of range.
fn bits(arguments: &Arguments<'_>, at: usize) -> mlua::Result<u32> {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let number = arguments.number(at)?;
    Ok(low((number + MAGIC).to_bits()))
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
fn low(bits: u64) -> u32 {
    bits as u32
}

fn signed(bits: u32) -> i32 {
    bits.cast_signed()
}
