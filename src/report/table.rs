//! Columns that fit their content, with blocks of text between the rows.

use super::style::{Paint, View, columns, shortened, visible};

/// Spaces between two columns.
const GAP: usize = 2;
/// A last column is not cut below this, however narrow the terminal.
const NARROWEST: usize = 16;

/// Where a column's texts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// One text of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub fn new(paint: Paint, text: impl AsRef<str>) -> Cell {
        let text = visible(text.as_ref()).into_owned();
        Cell { text, paint }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(Paint::Plain, text)
    }
}

enum Row {
    Cells(Vec<Cell>),
    Block(String),
}

/// Rows of cells. The last column may be cut at the terminal's edge; the others never are.
pub(super) struct Table {
    indent: usize,
    aligns: Vec<Align>,
    rows: Vec<Row>,
}

impl Table {
    /// An empty table, `indent` columns from the left edge, one letter a column: `l` left, `r` right.
    pub fn new(indent: usize, aligns: &str) -> Table {
        let align = |letter| match letter {
            'r' => Align::Right,
            _ => Align::Left,
        };
        Table {
            indent,
            aligns: aligns.chars().map(align).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds faint headings.
    pub fn head<const N: usize>(&mut self, titles: [&str; N]) {
        self.row(titles.map(|title| Cell::new(Paint::Faint, title)));
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(Row::Cells(cells.into_iter().collect()));
    }

    /// Adds finished lines, each ended by a newline, that take no part in the widths.
    pub fn block(&mut self, lines: String) {
        self.rows.push(Row::Block(lines));
    }

    /// The lines, each ended by a newline and without trailing blanks.
    pub fn render(&self, view: &View) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            match row {
                Row::Cells(cells) => text.push_str(&self.line(cells, &widths, view)),
                Row::Block(lines) => text.push_str(lines),
            }
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.aligns.len()];
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(columns(&cell.text));
            }
        }
        widths
    }

    fn line(&self, cells: &[Cell], widths: &[usize], view: &View) -> String {
        let mut line = String::new();
        // Blanks are owed, and paid only when a text follows: so no line ends in blanks.
        let mut owed = self.indent;
        let mut left = self.indent;
        let last = self.aligns.len().saturating_sub(1);
        for (position, ((cell, width), align)) in
            cells.iter().zip(widths).zip(&self.aligns).enumerate()
        {
            let room = match view.width {
                Some(width) if position == last => width.saturating_sub(left).max(NARROWEST),
                _ => usize::MAX,
            };
            let text = shortened(&cell.text, room);
            let blanks = width.saturating_sub(columns(&text));
            let (before, after) = match align {
                Align::Left => (0, blanks),
                Align::Right => (blanks, 0),
            };
            owed += before;
            if !text.is_empty() {
                line.extend(std::iter::repeat_n(' ', owed));
                line.push_str(&view.paint(cell.paint, &text));
                owed = 0;
            }
            // An empty cell's width is all blanks, whichever side they stand on.
            owed += after + GAP;
            left += width + GAP;
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(rows: &[[&str; 3]], view: &View) -> String {
        let mut table = Table::new(1, "lrl");
        for row in rows {
            table.row(row.map(Cell::from));
        }
        table.render(view)
    }

    #[test]
    fn columns_fit_wide_characters_and_empty_cells() {
        let rows = [["日本", "1", "a"], ["x", "", "b"], ["abcde", "100", ""]];
        let lines = [" 日本     1  a", " x           b", " abcde  100", ""];
        assert_eq!(render(&rows, &View::default()), lines.join("\n"));
    }

    #[test]
    fn only_the_last_column_is_cut_at_the_terminals_edge() {
        let view = View {
            colour: false,
            width: Some(30),
        };
        let text = render(&[["name", "12", "a very long name of a function"]], &view);
        assert_eq!(text, " name  12  a very long name o…\n");
    }

    #[test]
    fn a_cell_cannot_break_the_line() {
        let text = render(&[["a\nb", "1", "c"]], &View::default());
        assert_eq!(text, " a\\nb  1  c\n");
    }
}
