//! Counts the instructions of a server that runs under valgrind.

use std::path::Path;
use std::process::Command;

use crate::failure::{Failure, Outcome, read};

/// The file, in the server's folder, that valgrind writes at its end.
const COUNTS: &str = "callgrind.out";

/// The command that does what another does, under valgrind.
pub(crate) fn wrap(command: &Command) -> Command {
    let mut wrapped = Command::new("valgrind");
    wrapped
        .args(["--tool=callgrind", &format!("--callgrind-out-file={COUNTS}")])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

/// The instructions of the whole run.
pub(crate) fn count(folder: &Path) -> Outcome<u64> {
    let path = folder.join(COUNTS);
    total(&read(&path)?).ok_or_else(|| Failure::Other(format!("{} has no total", path.display())))
}

fn total(counts: &str) -> Option<u64> {
    let line = |name: &str| counts.lines().find_map(|line| line.strip_prefix(name));
    line("totals:").or_else(|| line("summary:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("events: Ir\nsummary: 12\n\nfn=(1)\n1 12\n\ntotals: 13\n"), Some(13));
        assert_eq!(total("events: Ir\nsummary: 12\n"), Some(12));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn a_wrapped_command_keeps_its_arguments_and_its_folder() {
        let mut command = Command::new("/bin/server");
        command.args(["run", "-f"]).current_dir("/tmp");
        let wrapped = wrap(&command);
        let arguments: Vec<_> = wrapped.get_args().skip(2).collect();
        assert_eq!(arguments, ["/bin/server", "run", "-f"]);
        assert_eq!(wrapped.get_current_dir(), Some(Path::new("/tmp")));
    }
}
