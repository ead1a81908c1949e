//! What is made of results: the measured part of a page, and its plot. Both are pure; the rest of
//! the page is written by people and left alone.

use std::path::Path;

use crate::failure::{Failure, Outcome, read, write};
use crate::results::Results;

mod markdown;
mod plot;

const BEGIN: &str = "<!-- measured: begin, written by make bench -->\n";
const END: &str = "<!-- measured: end -->\n";

/// Replaces the measured part of the page, which has to be there, and writes the plot beside it.
pub(crate) fn publish(results: &Results, page: &Path) -> Outcome {
    let plot = page.with_extension("svg");
    let name = plot.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let measured = markdown::measured(results, &name);
    let text = replace(&read(page)?, &measured).ok_or_else(|| {
        Failure::Other(format!("{} lacks the lines {BEGIN}{END}", page.display()))
    })?;
    write(&plot, &plot::draw(results))?;
    write(page, &text)
}

/// Writes a page that has nothing else.
pub(crate) fn write_alone(results: &Results, page: &Path) -> Outcome {
    write(page, &format!("{BEGIN}{END}"))?;
    publish(results, page)
}

fn replace(page: &str, measured: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{measured}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_around_the_measured_part_stays() {
        let page = format!("# Title\n\n{BEGIN}old\n{END}\nwhy it is so\n");
        let new = replace(&page, "new").unwrap();
        assert_eq!(new, format!("# Title\n\n{BEGIN}\nnew\n{END}\nwhy it is so\n"));
        assert_eq!(replace(&new, "new").unwrap(), new, "and again nothing changes");
        assert_eq!(replace("no such part", "new"), None);
    }
}
