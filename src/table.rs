//! Rows as lines with aligned columns, for people.

use crate::escape;

/// Lines with the columns aligned, the last one ragged. What is in a cell stays in its line ([`escape::line`]).
pub fn columns<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> String {
    let escaped = |cell: String| escape::line(&cell).into_owned();
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(escaped)).collect();
    let widths: Vec<usize> = (0..N).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The same below a line with the names of the columns.
pub fn with_head<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    columns([head.map(str::to_owned)].into_iter().chain(rows))
}

/// A line for each of what there is any of, `  COUNT WHAT`, with what to say of one and of more: what a report's totals are made of.
pub fn counts<'a>(counts: impl IntoIterator<Item = (u64, [&'a str; 2])>) -> String {
    let some = counts.into_iter().filter(|(count, _)| *count > 0);
    some.map(|(count, [one, more])| format!("  {count} {}\n", if count == 1 { one } else { more })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_a_cell_cannot_leave_its_line() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let text =
            with_head(["NAME", "SIZE", "NOTE"], [row(["a", "12345", ""]), row(["long-name", "", "x\ny\u{1b}["])]);
        assert_eq!(text, "NAME       SIZE   NOTE\na          12345\nlong-name         x\\ny\\x1b[\n");
        assert_eq!(columns::<2>([]), "");
    }
}
