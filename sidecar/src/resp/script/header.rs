//! The first line of a script, `#!lua flags=no-writes,allow-stale`, and what it says about it.

use super::ScriptError;
use crate::resp::inline;

/// What a script says about itself. A script without a header says nothing: it may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Whether there is a header at all. Redis holds scripts without one to older rules.
    pub declared: bool,
    /// It never writes; who runs it refuses its writes.
    pub no_writes: bool,
    /// It may run though memory is short.
    pub allow_oom: bool,
    /// It may run on a replica that lost its primary.
    pub allow_stale: bool,
    /// It can't run in a cluster.
    pub no_cluster: bool,
    /// Its keys may lie in many slots.
    pub allow_cross_slot_keys: bool,
}

/// Reads the header at the start of `source`: its flags, and where the rest begins. The line's end
/// belongs to the rest, so that the lines keep their numbers.
pub(super) fn parse(source: &[u8]) -> Result<(Flags, usize), ScriptError> {
    if !source.starts_with(b"#!") {
        return Ok((Flags::default(), 0));
    }
    let end = memchr::memchr(b'\n', source).ok_or(ScriptError::NoHeaderEnd)?;
    let (mut text, mut spans) = (Vec::new(), Vec::new());
    inline::split(&source[..end], &mut text, &mut spans).map_err(|_| ScriptError::NoEngine)?;
    let mut words = spans.into_iter().map(|span| &text[span]);
    let engine = words.next().ok_or(ScriptError::NoEngine)?;
    if engine != b"#!lua" {
        return Err(ScriptError::UnknownEngine(lossy(engine)));
    }
    let mut flags = Flags { declared: true, ..Flags::default() };
    for option in words {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err(ScriptError::UnknownOption(lossy(option)));
        };
        for name in names.split(|byte| *byte == b',').filter(|_| !names.is_empty()) {
            let flag = match name {
                b"no-writes" => &mut flags.no_writes,
                b"allow-oom" => &mut flags.allow_oom,
                b"allow-stale" => &mut flags.allow_stale,
                b"no-cluster" => &mut flags.no_cluster,
                b"allow-cross-slot-keys" => &mut flags.allow_cross_slot_keys,
                unknown => return Err(ScriptError::UnknownFlag(lossy(unknown))),
            };
            *flag = true;
        }
    }
    Ok((flags, end))
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Flags, parse};

    fn flags(source: &'static str) -> Result<Flags, String> {
        parse(source.as_bytes()).map(|(flags, _)| flags).map_err(|error| error.to_string())
    }

    #[test]
    fn a_script_without_a_header_says_nothing() {
        assert_eq!(flags("return 1"), Ok(Flags::default()));
    }

    #[test]
    fn flags_are_read_and_the_line_keeps_its_end() {
        let source = b"#!lua flags=no-writes,allow-stale\nreturn 1";
        let (flags, end) = parse(source).unwrap();
        assert_eq!(
            flags,
            Flags { declared: true, no_writes: true, allow_stale: true, ..Flags::default() }
        );
        assert_eq!(&source[end..], b"\nreturn 1");
    }

    #[test]
    fn what_is_unknown_is_named() {
        let error = |source| flags(source).unwrap_err();
        assert_eq!(error("#!lua"), "ERR Invalid script shebang");
        assert_eq!(error("#!js\n"), "ERR Unexpected engine in script shebang: #!js");
        assert_eq!(error("#!lua \"flags\n"), "ERR Invalid engine in script shebang");
        assert_eq!(error("#!lua flags=x\n"), "ERR Unexpected flag in script shebang: x");
        assert_eq!(error("#!lua name=x\n"), "ERR Unknown lua shebang option: name=x");
    }
}
