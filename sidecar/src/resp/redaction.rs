//! Arguments as others may see them, in MONITOR and SLOWLOG: *no credential is shown*.

use smallvec::SmallVec;

/// What stands in a credential's place.
const REDACTED: &[u8] = b"(redacted)";

/// The arguments of a command, its name included, without what clients prove themselves with.
pub(super) fn redacted<'a>(arguments: &[&'a [u8]]) -> SmallVec<[&'a [u8]; 8]> {
    let mut shown = SmallVec::from_slice(arguments);
    let Some((name, rest)) = shown.split_first_mut() else { return shown };
    if name.eq_ignore_ascii_case(b"AUTH") {
        rest.fill(REDACTED);
    } else if name.eq_ignore_ascii_case(b"HELLO") {
        let option = rest.iter().position(|option| option.eq_ignore_ascii_case(b"AUTH"));
        if let Some(at) = option {
            rest[at + 1..].iter_mut().take(2).for_each(|credential| *credential = REDACTED);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::redacted;

    fn shown(line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let shown: Vec<_> =
            redacted(&words).iter().map(|word| word.escape_ascii().to_string()).collect();
        shown.join(" ")
    }

    #[test]
    fn credentials_are_left_out() {
        assert_eq!(shown("auth secret"), "auth (redacted)");
        assert_eq!(shown("AUTH user secret more"), "AUTH (redacted) (redacted) (redacted)");
        assert_eq!(
            shown("HELLO 3 auth user secret SETNAME x"),
            "HELLO 3 auth (redacted) (redacted) SETNAME x"
        );
        assert_eq!(shown("HELLO 3 AUTH user"), "HELLO 3 AUTH (redacted)");
        assert_eq!(shown("SET AUTH secret"), "SET AUTH secret");
    }
}
