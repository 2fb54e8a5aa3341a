//! The figures of a table as an SVG picture: a panel for each line, a bar for each server, as long as its share of the
//! panel's longest. It stands on its own, without scripts, fonts or other files, in light and dark.

use std::ffi::OsString;
use std::fmt::Write;

use serde_json::Value;

use crate::failure::{Failure, Outcome, failure};
use crate::table::show;

const WIDTH: usize = 920;
const COLUMNS: usize = 2;
const MARGIN: usize = 16;
const GAP: usize = 32;
/// Room of names to the left of bars, and of figures to the right of the longest.
const NAME_WIDTH: usize = 66;
const FIGURE_WIDTH: usize = 104;
const BAR_HEIGHT: usize = 13;
const BAR_STEP: usize = 17;
const TITLE_HEIGHT: usize = 40;
const PANEL_GAP: usize = 14;

const STYLE: &str = "
  text { font: 11px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 12px }
  .faint { fill: #656d76 }
  .ours { fill: #1a7f37 }
  .floor { fill: #8c959f }
  .peer { fill: #54aeff }
  .strong { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .faint { fill: #9198a1 } .ours { fill: #3fb950 } .floor { fill: #656c76 } .peer { fill: #1f6feb }
  }
";

/// Draws the file that the arguments name, to stdout.
///
/// # Errors
/// Where it is no table's.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Outcome<bool> {
    let mut arguments = arguments.into_iter();
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        return failure("draw: expected the JSON file of a table (table --to FILE)");
    };
    let named = |why: String| Failure(format!("{}: {why}", path.to_string_lossy()));
    let text = std::fs::read_to_string(&path).map_err(|error| named(error.to_string()))?;
    let table: Value = serde_json::from_str(&text).map_err(|error| named(error.to_string()))?;
    match svg(&table) {
        Some(svg) => {
            print!("{svg}");
            Ok(true)
        }
        None => Err(named("no lines of a table in it".to_owned())),
    }
}

/// A panel on its way: what stands in it, and how high it is.
struct Panel<'a> {
    line: &'a Value,
    bars: Vec<Bar<'a>>,
}

struct Bar<'a> {
    name: &'a str,
    value: f64,
    /// It did not do all of the work.
    is_flawed: bool,
}

impl<'a> Panel<'a> {
    fn new(line: &'a Value) -> Option<Self> {
        let values = line["values"].as_object()?.iter();
        let bars = values.filter_map(|(name, value)| {
            Some(Bar { name, value: value["value"].as_f64()?, is_flawed: value["flawed"] == true })
        });
        Some(Self { line, bars: bars.collect() })
    }

    fn height(&self) -> usize {
        TITLE_HEIGHT + self.bars.len() * BAR_STEP + PANEL_GAP
    }

    fn draw(&self, svg: &mut String, x: usize, y: usize, width: usize) -> std::fmt::Result {
        let word = |key: &str| escape(self.line[key].as_str().unwrap_or_default());
        let better = if self.line["more is better"] == true { "more is better" } else { "less is better" };
        writeln!(svg, "<text class=\"title\" x=\"{x}\" y=\"{}\">{}</text>", y + 14, word("name"))?;
        writeln!(svg, "<text class=\"faint\" x=\"{x}\" y=\"{}\">{}, {better}</text>", y + 29, word("unit"))?;
        let longest = self.bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        let room = width.saturating_sub(NAME_WIDTH + FIGURE_WIDTH) as f64;
        for (number, Bar { name, value, is_flawed }) in self.bars.iter().enumerate() {
            let top = y + TITLE_HEIGHT + number * BAR_STEP;
            let (bar, middle) = (x + NAME_WIDTH, top + BAR_HEIGHT - 3);
            let length = if longest > 0.0 { (value / longest * room).max(1.0) } else { 1.0 };
            let class = class(name);
            let weight = if class == "ours" { "strong" } else { "" };
            let name = escape(name);
            writeln!(
                svg,
                "<text class=\"{weight}\" x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\
                 <rect class=\"{class}\" x=\"{bar}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>\
                 <text class=\"{weight}\" x=\"{:.1}\" y=\"{middle}\">{}{}</text>",
                bar - 6,
                bar as f64 + length + 5.0,
                show(*value),
                if *is_flawed { " !" } else { "" }
            )?;
        }
        Ok(())
    }
}

fn class(name: &str) -> &'static str {
    match name {
        "stepcast" => "ours",
        name if name.starts_with("floor") => "floor",
        _ => "peer",
    }
}

/// The picture of a table's JSON; none where it is something else.
fn svg(table: &Value) -> Option<String> {
    let panels: Vec<Panel> = table["lines"].as_array()?.iter().map(Panel::new).collect::<Option<_>>()?;
    let width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS;
    let (mut body, mut bottoms) = (String::new(), [MARGIN; COLUMNS]);
    for row in panels.chunks(COLUMNS) {
        // Panels side by side begin at the same height.
        let top = bottoms.iter().copied().max().unwrap_or(MARGIN);
        for (column, panel) in row.iter().enumerate() {
            panel.draw(&mut body, MARGIN + column * (width + GAP), top, width).ok()?;
            bottoms[column] = top + panel.height();
        }
    }
    let height = bottoms.iter().max()? + 12;
    let conditions = conditions(&table["conditions"]);
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"stepcast beside the floor and other servers\">\n<style>{STYLE}</style>\n{body}\
         <text class=\"faint\" x=\"{MARGIN}\" y=\"{}\">{conditions}</text>\n</svg>\n",
        height - 8
    ))
}

fn conditions(conditions: &Value) -> String {
    let text = |key: &str| match &conditions[key] {
        Value::String(text) => escape(text),
        other => other.to_string(),
    };
    let pinned = if conditions["pinned"] == true { "server on one, generator on the others" } else { "not pinned" };
    let (processor, processors, runs, load) =
        (text("processor"), text("processors"), text("runs"), text("load average before"));
    format!(
        "{processor}; {processors} processors, {pinned}; median of {runs}; !: did not do all of the work; load average before: {load}"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_becomes_panels_with_bars_in_proportion() {
        let table = json!({
            "conditions": {"pinned": true, "processors": 2, "processor": "A & B", "runs": 3, "load average before": 0.5},
            "lines": [
                {"name": "bursts <1>", "unit": "/s", "more is better": true,
                    "values": {"floor": {"value": 50.0}, "node": {"value": null}, "stepcast": {"value": 100.0}}},
                {"name": "nothing", "unit": "s", "more is better": false, "values": {"stepcast": {"value": 0.0}}},
            ],
        });
        let svg = svg(&table).expect("a picture");
        let room = ((WIDTH - 2 * MARGIN - GAP) / 2 - NAME_WIDTH - FIGURE_WIDTH) as f64;
        assert!(svg.contains(
            &format!("class=\"ours\" x=\"82\" y=\"56\" width=\"{room:.1}\"").replace("y=\"56\"", "y=\"73\"")
        ));
        assert!(svg.contains(&format!("class=\"floor\" x=\"82\" y=\"56\" width=\"{:.1}\"", room / 2.0)));
        assert!(svg.contains("bursts &lt;1&gt;") && svg.contains("A &amp; B; 2 processors"));
        assert!(!svg.contains("node"), "what has no figure has no bar");
        assert_eq!(svg.matches("<rect").count(), 3);
    }

    #[test]
    fn what_is_no_table_is_not_drawn() {
        for table in [json!({}), json!({"lines": [1]}), json!([])] {
            assert!(svg(&table).is_none(), "{table}");
        }
        assert!(run([]).is_err());
        assert!(run([OsString::from("/nowhere/table.json")]).is_err());
    }
}
