//! The trials of a search as an SVG picture: CPU by stage over the number of streams, and what was found.

use super::report::{FOUND_MIN, Figures};

const COLOURS: [&str; 7] =
    ["#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb"];
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;

/// A bar a trial, in rising number of streams; its height is the share of the core in use.
pub(super) fn svg(title: &str, trials: &[Figures]) -> String {
    let mut trials: Vec<_> = trials.iter().collect();
    trials.sort_by_key(|trial| trial.streams);
    let (left, top, width, height) = (60.0, 50.0, WIDTH - 200.0, HEIGHT - 110.0);
    let step = width / trials.len().max(1) as f64;
    let most = trials.iter().map(|t| t.core_use).fold(1.0, f64::max);
    let y = |share: f64| top + height * (1.0 - share / most);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"24\" font-size=\"15\">{}</text>\n",
        title.replace('&', "&amp;").replace('<', "&lt;")
    );
    let mut line = |text: String| {
        out += &(text
            + "
")
    };
    for percent in [0, 25, 50, 75, 100] {
        let at = y(f64::from(percent) / 100.0);
        line(format!(
            "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            left + width,
            left - 6.0,
            at + 4.0
        ));
    }
    for (index, trial) in trials.iter().enumerate() {
        let x = left + step * (index as f64 + 0.15);
        let mut below = 0.0;
        for ((_, cpu), colour) in trial.cpu.named().into_iter().zip(COLOURS) {
            let share = cpu * trial.streams as f64;
            let (from, to) = (y(below), y(below + share));
            line(format!(
                "<rect x=\"{x:.1}\" y=\"{to:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                step * 0.7,
                from - to
            ));
            below += share;
        }
        let middle = x + step * 0.35;
        let mark = if trial.holds() { "held" } else { "not held" };
        line(format!(
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{mark}</text>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            top + height + 16.0,
            trial.streams,
            top + height + 32.0,
            top - 6.0,
            trial.passages_found_ratio.map_or("?".to_owned(), |it| format!("{:.0} %", it * 100.0))
        ));
    }
    line(format!(
        "<text x=\"{left}\" y=\"{:.1}\">streams; above each, passages found of those `full` finds (needed: {:.0} %); \
         bars: share of the core</text>",
        HEIGHT - 8.0,
        FOUND_MIN * 100.0
    ));
    if let Some(trial) = trials.first() {
        for (index, ((name, _), colour)) in trial.cpu.named().into_iter().zip(COLOURS).enumerate() {
            let (x, y) = (left + width + 20.0, top + 20.0 * index as f64);
            line(format!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{}\">{name}</text>",
                x + 18.0,
                y + 11.0
            ));
        }
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::raw;
    use super::*;

    #[test]
    fn every_trial_is_drawn_in_order() {
        let trials = [8, 2].map(|streams| super::super::report::Raw { streams, ..raw() }.figures());
        let picture = svg("idle < 95 %", &trials);
        assert!(picture.contains("idle &lt; 95 %") && picture.ends_with("</svg>\n"));
        let (two, eight) = (picture.find(">2</text>").unwrap(), picture.find(">8</text>").unwrap());
        assert!(two < eight);
        // Two trials of seven stages, the key, the ground.
        assert_eq!(picture.matches("<rect").count(), 2 * 7 + 7 + 1);
    }
}
