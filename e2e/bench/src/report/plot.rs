//! A bar for each server in each cell under load: how many times Redis' figure it reaches, and
//! where Warp's target is.

use std::fmt::Write as _;

use crate::cells::{CELLS, Cell, Entrants, Experiment};
use crate::peer::{BASELINE, Peer};
use crate::results::{Quantity, Results};
use crate::targets::{Aim, TARGETS};

const WIDTH: f64 = 860.0;
/// Where the bars begin.
const LEFT: f64 = 250.0;
/// Where they end at the most, with room for their figures.
const RIGHT: f64 = 800.0;
const TOP: f64 = 64.0;
const BAR: f64 = 12.0;
const GAP: f64 = 16.0;

/// A cell with its bars.
struct Group<'a> {
    cell: &'a Cell,
    quantity: Quantity,
    target: Option<f64>,
    bars: Vec<(Peer, f64)>,
}

pub(super) fn draw(results: &Results) -> String {
    let groups = groups(results);
    let farthest = groups
        .iter()
        .flat_map(|group| group.bars.iter().map(|(_, gain)| *gain).chain(group.target))
        .fold(1.0, f64::max);
    let scale = (RIGHT - LEFT) / farthest.ceil();
    let mut body = String::new();
    let mut y = TOP;
    for group in &groups {
        y = draw_group(&mut body, group, y, scale) + GAP;
    }
    let bottom = y - GAP / 2.0;
    let height = bottom + 26.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"bold\">How many times Redis' figure; \
         a black line is Warp's target</text>\n"
    );
    text += &legend(&groups);
    text += &grid(farthest, scale, bottom);
    text += &body;
    text + "</svg>\n"
}

fn groups(results: &Results) -> Vec<Group<'_>> {
    let is_drawn = |cell: &&Cell| {
        matches!(cell.experiment, Experiment::Load(_)) && cell.entrants == Entrants::Everyone
    };
    CELLS
        .iter()
        .filter(is_drawn)
        .filter_map(|cell| {
            let aim = TARGETS.iter().find_map(|target| match target.aim {
                Aim::Times(least, BASELINE) if target.cell == cell.id => {
                    Some((target.quantity, least))
                }
                _ => None,
            });
            let quantity = aim.map_or(Quantity::OperationsPerSecond, |(quantity, _)| quantity);
            let gain = |peer| Some((peer, results.gain(cell.id, peer, quantity)?));
            let bars: Vec<_> = results.peers(cell.id).into_iter().filter_map(gain).collect();
            let target = aim.map(|(_, least)| least);
            (!bars.is_empty()).then_some(Group { cell, quantity, target, bars })
        })
        .collect()
}

/// Draws it from `top` on; gives where it ends.
fn draw_group(text: &mut String, group: &Group<'_>, top: f64, scale: f64) -> f64 {
    let mut y = top;
    for (peer, gain) in &group.bars {
        let (width, middle) = (gain * scale, y + BAR - 2.0);
        let _ = writeln!(
            text,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{middle:.1}\" font-size=\"10\">{gain:.2}</text>",
            BAR - 1.0,
            colour(*peer),
            LEFT + width + 5.0,
        );
        if let (Peer::Warp, Some(target)) = (peer, group.target) {
            let x = LEFT + target * scale;
            let _ = writeln!(
                text,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#000\" \
                 stroke-width=\"2\"/>",
                y - 2.0,
                y + BAR + 1.0
            );
        }
        y += BAR;
    }
    let (first, second) = words(group);
    let middle = f64::midpoint(top, y);
    let _ = writeln!(
        text,
        "<text x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{first}</text>\
         <text x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\" font-size=\"11\">{second}</text>",
        middle - 2.0,
        middle + 12.0,
        x = LEFT - 10.0,
    );
    y
}

/// The two lines that name a group: the cell's title up to its first comma, and what follows with
/// what is compared.
fn words(group: &Group<'_>) -> (String, String) {
    let (first, rest) = group.cell.title.split_once(", ").unwrap_or((group.cell.title, ""));
    let compared = match group.quantity {
        Quantity::CpuPerOperation => "CPU for each",
        _ => "operations",
    };
    let rest = rest.replace("one core for client and server", "one core");
    (first.to_owned(), format!("{rest}: {compared}"))
}

fn legend(groups: &[Group<'_>]) -> String {
    let shown = |peer: &Peer| groups.iter().any(|group| group.bars.iter().any(|(p, _)| p == peer));
    let mut text = String::new();
    let mut x = LEFT;
    for peer in Peer::ALL.into_iter().filter(shown) {
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"38\" width=\"11\" height=\"11\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"48\">{}</text>",
            colour(peer),
            x + 16.0,
            peer.name()
        );
        x += 100.0;
    }
    text
}

fn grid(farthest: f64, scale: f64, bottom: f64) -> String {
    let mut text = String::new();
    let mut at = 0.0;
    while at <= farthest.ceil() {
        let x = LEFT + at * scale;
        let stroke = if (at - 1.0_f64).abs() < 0.1 { "#888" } else { "#ddd" };
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"{stroke}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{at}×</text>",
            TOP - 6.0,
            bottom + 16.0
        );
        at += 1.0;
    }
    text
}

const fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Redis => "#9a9a9a",
        Peer::Valkey => "#8da0cb",
        Peer::Memcached => "#66a182",
        Peer::Pogocache => "#d9a441",
        Peer::Warp | Peer::WarpUnmatched => "#c8442d",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::TCP_16;
    use crate::results::tests::results;

    #[test]
    fn there_is_a_bar_for_each_server_and_a_line_for_the_target() {
        let text = draw(&results(TCP_16, &[[100.0, 8.0, 400.0, 4.0]]));
        // 550 units are four times Redis.
        assert!(text.contains("width=\"137.5\""), "{text}");
        assert!(text.contains("width=\"550.0\""), "{text}");
        assert_eq!(text.matches("stroke=\"#000\"").count(), 1, "{text}");
        assert!(text.contains("pipelines of 16: operations"), "{text}");
    }

    #[test]
    fn nothing_measured_is_an_empty_plot() {
        let text = draw(&results(TCP_16, &[]));
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
    }
}
