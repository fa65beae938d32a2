//! Results, as a Markdown table that can be read as it is.

/// Two runs side by side, several times.
pub struct Pairs(pub Vec<(f64, f64)>);

impl Pairs {
    pub fn engine(&self) -> f64 {
        median(self.0.iter().map(|(engine, _)| *engine).collect())
    }

    pub fn peer(&self) -> f64 {
        median(self.0.iter().map(|(_, peer)| *peer).collect())
    }

    /// The engine over its peer: the median of paired runs, the least and the most.
    pub fn ratio(&self) -> (f64, f64, f64) {
        let ratios: Vec<f64> = self.0.iter().map(|(engine, peer)| engine / peer).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        (median(ratios), least, most)
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The first `words` columns stand to the left, numbers to the right. The first row is the heading.
pub fn table(words: usize, rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let dashes = |(column, width): (usize, &usize)| {
        if column < words { "-".repeat(*width) } else { "-".repeat(width.saturating_sub(1)) + ":" }
    };
    let rule = widths.iter().enumerate().map(dashes).collect();
    let mut lines = rows.iter().map(line).collect::<Vec<_>>();
    lines.insert(1.min(lines.len()), line(&rule));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::{Pairs, table};

    #[test]
    fn ratios_are_of_paired_runs() {
        let pairs = Pairs(vec![(10.0, 100.0), (60.0, 200.0), (20.0, 100.0)]);
        assert_eq!((pairs.engine(), pairs.peer()), (20.0, 100.0));
        assert_eq!(pairs.ratio(), (0.2, 0.1, 0.3));
        assert_eq!(Pairs(vec![(1.0, 1.0), (3.0, 1.0)]).ratio(), (2.0, 1.0, 3.0));
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = [["what", "1/s"], ["rows", "12345"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(1, &rows), "| what |   1/s |\n| ---- | ----: |\n| rows | 12345 |\n");
    }
}
