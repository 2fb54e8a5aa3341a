//! What a scenario found, for people as text and for programs as JSON.

use serde_json::{Map, Value, json};

/// Figures, tables, and what went wrong.
#[derive(Debug, Default)]
pub struct Report {
    scenario: String,
    conditions: Map<String, Value>,
    figures: Vec<Figure>,
    tables: Vec<Table>,
    notes: Vec<String>,
    failures: Vec<String>,
}

#[derive(Debug)]
struct Figure {
    name: String,
    value: Value,
    unit: &'static str,
}

/// Rows of figures under one head.
#[derive(Debug)]
pub struct Table {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Report {
    /// An empty one.
    pub fn new(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), ..Self::default() }
    }

    /// Under what conditions it was measured.
    pub fn condition(&mut self, name: &str, value: impl Into<Value>) {
        self.conditions.insert(name.to_owned(), value.into());
    }

    /// One figure.
    pub fn figure(&mut self, name: &str, value: impl Into<Value>, unit: &'static str) {
        self.figures.push(Figure { name: name.to_owned(), value: value.into(), unit });
    }

    /// A table.
    pub fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// What a reader needs to know to understand a figure.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// What must not be.
    pub fn fail(&mut self, text: impl Into<String>) {
        self.failures.push(text.into());
    }

    /// Several of those.
    pub fn fail_all(&mut self, texts: Vec<String>) {
        self.failures.extend(texts);
    }

    /// Nothing was wrong.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let figure = |figure: &Figure| (figure.name.clone(), json!({"value": figure.value, "unit": figure.unit}));
        let tables = self.tables.iter().map(|table| (table.title.clone(), table.json()));
        json!({
            "scenario": self.scenario,
            "ok": self.is_good(),
            "conditions": self.conditions,
            "figures": self.figures.iter().map(figure).collect::<Map<_, _>>(),
            "tables": tables.collect::<Map<_, _>>(),
            "notes": self.notes,
            "failures": self.failures,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.scenario);
        let width = |names: &mut dyn Iterator<Item = usize>| names.max().unwrap_or(0);
        let named = width(&mut self.conditions.keys().map(|name| name.len()));
        for (name, value) in &self.conditions {
            text += &format!("  {name:named$}  {}\n", show(value));
        }
        let named = width(&mut self.figures.iter().map(|figure| figure.name.len()));
        let shown = width(&mut self.figures.iter().map(|figure| show(&figure.value).len()));
        text += if self.figures.is_empty() { "" } else { "\n" };
        for Figure { name, value, unit } in &self.figures {
            text += format!("  {name:named$}  {:>shown$} {unit}", show(value)).trim_end();
            text.push('\n');
        }
        self.tables.iter().for_each(|table| text += &table.text());
        self.notes.iter().for_each(|note| text += &format!("\n  {note}"));
        text += if self.notes.is_empty() { "\n" } else { "\n\n" };
        match self.is_good() {
            true => text += "  all messages arrived exactly once and in order\n",
            false => self.failures.iter().for_each(|failure| text += &format!("  FAILED: {failure}\n")),
        }
        text
    }
}

impl Table {
    /// One without rows.
    pub fn new(title: &str, columns: &[&'static str]) -> Self {
        Self { title: title.to_owned(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// A row, in the order of the columns.
    pub fn row(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a value for each column");
        self.rows.push(row);
    }

    fn json(&self) -> Value {
        let names = || self.columns.iter().map(|name| (*name).to_owned());
        self.rows.iter().map(|row| names().zip(row.iter().cloned()).collect::<Map<_, _>>()).collect()
    }

    fn text(&self) -> String {
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(show).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
            cells.chain([self.columns[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            format!("  {}\n", cells.collect::<Vec<_>>().join("  "))
        };
        let mut text = format!("\n  {}\n", self.title);
        text += &line(&mut self.columns.iter().copied());
        rows.iter().for_each(|row| text += &line(&mut row.iter().map(String::as_str)));
        text
    }
}

/// A value as people read it: three digits are enough.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => show_float(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

fn show_float(number: f64) -> String {
    let digits = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{number:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("some");
        report.condition("clients", 3);
        report.figure("p99", 1.2345, "ms");
        report.figure("peak", Value::Null, "MiB");
        let mut table = Table::new("rates", &["in flight", "messages/s"]);
        table.row(vec![json!(8), json!(123_456.7)]);
        report.table(table);
        report.note("a note");
        report
    }

    #[test]
    fn people_get_aligned_text() {
        let expected = [
            "some",
            "  clients  3",
            "",
            "  p99   1.23 ms",
            "  peak     - MiB",
            "",
            "  rates",
            "  in flight  messages/s",
            "          8      123457",
            "",
            "  a note",
            "",
            "  all messages arrived exactly once and in order",
            "",
        ];
        assert_eq!(report().text(), expected.join("\n"));
    }

    #[test]
    fn programs_get_json_and_failures_show() {
        let mut report = report();
        report.fail("lost one");
        let json = report.json();
        assert_eq!(json["ok"], false);
        assert_eq!(json["failures"], json!(["lost one"]));
        assert_eq!(json["figures"]["p99"], json!({"value": 1.2345, "unit": "ms"}));
        assert_eq!(json["tables"]["rates"][0]["in flight"], 8);
        assert!(report.text().ends_with("\n  FAILED: lost one\n"));
    }
}
