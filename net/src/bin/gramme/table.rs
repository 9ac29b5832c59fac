//! Aligned columns for people.

/// Rows under a heading; numbers to the right, words to the left.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self {
            rows: vec![heading.iter().map(|word| (*word).to_owned()).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| {
            let widths = self
                .rows
                .iter()
                .map(|row| cell(row, column).chars().count());
            widths.max().unwrap_or(0)
        };
        let is_number = |column| {
            self.rows.iter().skip(1).all(|row| {
                let cell = cell(row, column);
                cell.chars()
                    .all(|letter| letter.is_ascii_digit() || letter == '.')
            })
        };
        let layout: Vec<(usize, bool)> = (0..columns)
            .map(|column| (width(column), is_number(column)))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = layout
                .iter()
                .enumerate()
                .map(|(column, (width, is_number))| {
                    let cell = cell(row, column);
                    if *is_number {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                })
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::new(&["node", "held"]);
        table.row(vec!["a".into(), "5".into()]);
        table.row(vec!["bcdef".into(), "1024".into()]);
        table.row(vec!["gone".into()]);
        assert_eq!(
            table.text(),
            "node   held\na         5\nbcdef  1024\ngone\n"
        );
    }
}
