//! One line of the table: what each server did, the median where there were several runs, and how that compares.

use serde_json::{Map, Value, json};

use super::cells::{Cell, OURS, Row, Target};
use super::figure::show;

/// A line with everything that is known.
#[derive(Debug)]
pub struct Line {
    name: &'static str,
    unit: &'static str,
    target: Target,
    /// By whom ratios are counted.
    floor: Option<&'static str>,
    /// The median of each server, and all that it is of.
    values: Vec<(String, Option<f64>, Vec<f64>)>,
    /// Those that lost something, or did not do all of the work: their figures are not of the same thing.
    flawed: Vec<String>,
}

impl Line {
    /// Of what each server did in each run.
    pub fn new(cell: &Cell, row: &Row, runs: Vec<(String, Vec<f64>)>, flawed: &[String]) -> Self {
        let values = runs.into_iter().map(|(subject, values)| (subject, median(&values), values));
        let floor = cell.floors.first().copied();
        let (values, flawed) = (values.collect(), flawed.to_vec());
        Self { name: row.name, unit: row.unit, target: row.target, floor, values, flawed }
    }

    fn value(&self, subject: &str) -> Option<f64> {
        self.values.iter().find(|(name, ..)| name == subject)?.1
    }

    /// As [`Line::value`], where it is one to compare with.
    fn sound_value(&self, subject: &str) -> Option<f64> {
        self.value(subject).filter(|_| !self.is_flawed(subject))
    }

    fn is_flawed(&self, subject: &str) -> bool {
        self.flawed.iter().any(|flawed| flawed == subject)
    }

    fn ratio(&self, value: f64) -> Option<f64> {
        let floor = self.sound_value(self.floor?)?;
        (floor > 0.0).then(|| value / floor)
    }

    fn is_met(&self) -> Option<bool> {
        self.target.is_met(self.sound_value(OURS)?, |other| self.sound_value(other))
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let values = self.values.iter().map(|(subject, value, runs)| {
            let ratio = value.and_then(|value| self.ratio(value));
            let flawed = self.is_flawed(subject);
            (subject.clone(), json!({"value": value, "ratio": ratio, "runs": runs, "flawed": flawed}))
        });
        json!({
            "name": self.name,
            "unit": self.unit,
            "more is better": self.target.is_more_better(),
            "target": self.target.text(),
            "met": self.is_met(),
            "values": values.collect::<Map<_, _>>(),
        })
    }

    fn cells(&self, subjects: &[String]) -> Vec<String> {
        let mut cells = vec![format!("{} [{}]", self.name, self.unit)];
        for subject in subjects {
            let value = self.value(subject);
            let ratio = value.and_then(|value| self.ratio(value)).filter(|_| Some(subject.as_str()) != self.floor);
            let mark = if self.is_flawed(subject) { "!" } else { "" };
            cells.push(match (value, ratio) {
                (None, _) => format!("-{mark}"),
                (Some(value), None) => show(value) + mark,
                (Some(value), Some(ratio)) => format!("{}{mark} ({})", show(value), show_ratio(ratio)),
            });
        }
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None if self.target == Target::Less => "",
            None => "?",
        };
        cells.extend([self.target.text(), met.to_owned()]);
        cells
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2.0 })
}

/// For people: in parentheses the ratio to the floor.
pub fn text(lines: &[Line]) -> String {
    let mut subjects: Vec<String> = Vec::new();
    for (subject, ..) in lines.iter().flat_map(|line| &line.values) {
        if !subjects.contains(subject) {
            subjects.push(subject.clone());
        }
    }
    // Floors first, ours last.
    subjects.sort_by_key(|subject| (subject == OURS, !subject.starts_with("floor")));
    let mut head = vec!["(in parentheses: times the floor)".to_owned()];
    head.extend(subjects.iter().cloned().chain(["target".to_owned(), "met".to_owned()]));
    let rows: Vec<Vec<String>> = [head].into_iter().chain(lines.iter().map(|line| line.cells(&subjects))).collect();
    let columns = subjects.len() + 3;
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            0 => format!("| {cell:<width$} "),
            _ => format!("| {cell:>width$} "),
        });
        text += &(cells.collect::<String>() + "|\n");
        if text.lines().count() == 1 {
            let rule = widths.iter().enumerate().map(|(column, width)| {
                let (dashes, end) = ("-".repeat(width + 1), if column == 0 { '-' } else { ':' });
                format!("|{dashes}{end}")
            });
            text += &(rule.collect::<String>() + "|\n");
        }
    }
    text
}

fn show_ratio(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{ratio:.0}x") } else { format!("{ratio:.2}x") }
}

#[cfg(test)]
mod tests {
    use super::super::cells::ReportRef;
    use super::*;

    fn line(target: Target, runs: &[(&str, &[f64])]) -> Line {
        let row = Row { name: "burst", unit: "/s", source: ReportRef::Figure("x"), target };
        let cell = Cell {
            name: "c",
            scenario: "burst",
            arguments: "",
            full: "",
            quick: "",
            floors: &["floor"],
            is_of_plans: false,
            rows: &[],
        };
        let runs = runs.iter().map(|(subject, values)| ((*subject).to_owned(), values.to_vec()));
        Line::new(&cell, &row, runs.collect(), &["flawed".to_owned()])
    }

    #[test]
    fn what_did_not_do_all_of_the_work_is_marked_and_compared_with_nothing() {
        let line = line(Target::AtLeastTimes(2.0, "flawed"), &[("flawed", &[1.0]), ("stepcast", &[50.0])]);
        assert_eq!(line.is_met(), None);
        assert_eq!(line.json()["values"]["flawed"]["flawed"], true);
        let text = text(&[line]);
        assert!(text.contains(" 1.00! |") && text.contains("|   ? |"), "{text}");
    }

    #[test]
    fn medians_ratios_and_targets_are_shown() {
        let target = Target::AtLeastTimes(2.0, "floor");
        let line = line(target, &[("floor", &[30.0, 10.0, 20.0]), ("node", &[]), ("stepcast", &[50.0, 30.0])]);
        let json = line.json();
        assert_eq!(json["values"]["floor"]["value"], 20.0);
        assert_eq!(json["values"]["stepcast"]["ratio"], 2.0);
        assert_eq!(json["met"], true);
        let expected = [
            "| (in parentheses: times the floor) | floor | node |     stepcast |       target | met |",
            "|-----------------------------------|------:|-----:|-------------:|-------------:|----:|",
            "| burst [/s]                        |  20.0 |    - | 40.0 (2.00x) | >= 2 x floor | yes |",
            "",
        ];
        assert_eq!(text(&[line]), expected.join("\n"));
    }

    #[test]
    fn a_target_that_is_missed_or_has_nothing_to_compare_with_says_so() {
        for (target, is_met) in [
            (Target::AtLeast(40.0), Some(true)),
            (Target::AtLeast(41.0), Some(false)),
            (Target::AtMost(39.0), Some(false)),
            (Target::AtMostTimes(4.0, "floor"), Some(true)),
            (Target::AtMostTimes(4.0, "floor-8"), None),
            (Target::Less, None),
        ] {
            assert_eq!(line(target, &[("floor", &[10.0]), ("stepcast", &[40.0])]).is_met(), is_met, "{target:?}");
        }
    }

    #[test]
    fn three_digits_are_enough() {
        for (value, shown) in [
            (1_303_000.0, "1.30M"),
            (999_999.0, "1.00M"),
            (167_400.0, "167k"),
            (2_345.0, "2.3k"),
            (0.0, "0"),
            (0.056, "0.06"),
            (43.21, "43.2"),
        ] {
            assert_eq!(show(value), shown);
        }
    }
}
