/// The pairing of rows and columns with the highest total gain; a pair without a gain is not allowed, and leaving a
/// row or column alone gains nothing. At most one column a row and one row a column.
///
/// The Hungarian method with potentials (Kuhn 1955, Munkres 1957; the O(n²·m) form of Jonker and Volgenant 1987),
/// where every row also has a column of its own that means "alone".
pub(crate) fn assign(
    rows: usize,
    columns: usize,
    gain: impl Fn(usize, usize) -> Option<f32>,
) -> Vec<(usize, usize)> {
    const FORBIDDEN: f64 = 1e6;
    let width = columns + rows;
    let cost = |row: usize, column: usize| -> f64 {
        if column >= columns {
            return if column - columns == row { 0.0 } else { FORBIDDEN };
        }
        match gain(row, column) {
            Some(g) if g.is_finite() => -f64::from(g),
            _ => FORBIDDEN,
        }
    };
    let costs: Vec<Vec<f64>> =
        (0..rows).map(|r| (0..width).map(|c| cost(r, c)).collect()).collect();

    // One-based, as the method is usually written: row and column 0 are the outside.
    let (mut row_potential, mut column_potential) = (vec![0.0; rows + 1], vec![0.0; width + 1]);
    let mut row_of = vec![0_usize; width + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut column = 0;
        let mut least = vec![f64::INFINITY; width + 1];
        let mut came_from = vec![0_usize; width + 1];
        let mut used = vec![false; width + 1];
        while row_of[column] != 0 {
            used[column] = true;
            let (current, mut delta, mut next) = (row_of[column], f64::INFINITY, 0);
            for c in (1..=width).filter(|c| !used[*c]) {
                let reduced =
                    costs[current - 1][c - 1] - row_potential[current] - column_potential[c];
                if reduced < least[c] {
                    (least[c], came_from[c]) = (reduced, column);
                }
                if least[c] < delta {
                    (delta, next) = (least[c], c);
                }
            }
            for c in 0..=width {
                if used[c] {
                    row_potential[row_of[c]] += delta;
                    column_potential[c] -= delta;
                } else {
                    least[c] -= delta;
                }
            }
            column = next;
        }
        while column != 0 {
            let previous = came_from[column];
            row_of[column] = row_of[previous];
            column = previous;
        }
    }
    let mut pairs: Vec<_> = (1..=columns)
        .filter(|c| row_of[*c] != 0)
        .map(|c| (row_of[c] - 1, c - 1))
        .filter(|(r, c)| costs[*r][*c] < FORBIDDEN)
        .collect();
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn total(pairs: &[(usize, usize)], gains: &[Vec<Option<f32>>]) -> f32 {
        pairs.iter().map(|(r, c)| gains[*r][*c].unwrap()).sum()
    }

    fn best_by_trying_everything(gains: &[Vec<Option<f32>>], row: usize, taken: u32) -> f32 {
        if row == gains.len() {
            return 0.0;
        }
        let mut best = best_by_trying_everything(gains, row + 1, taken);
        for (c, gain) in gains[row].iter().enumerate() {
            if let Some(g) = gain
                && taken & (1 << c) == 0
            {
                best = best.max(g + best_by_trying_everything(gains, row + 1, taken | (1 << c)));
            }
        }
        best
    }

    proptest! {
        #[test]
        fn equals_trying_everything(
            gains in (0usize..5, 0usize..5).prop_flat_map(|(r, c)| {
                prop::collection::vec(
                    prop::collection::vec(prop::option::weighted(0.7, 0.0f32..1.0), c), r)
            }),
        ) {
            let columns = gains.first().map_or(0, Vec::len);
            let pairs = assign(gains.len(), columns, |r, c| gains[r][c]);
            let best = best_by_trying_everything(&gains, 0, 0);
            prop_assert!((total(&pairs, &gains) - best).abs() < 1e-4);
            for (i, (r, c)) in pairs.iter().enumerate() {
                prop_assert!(pairs[..i].iter().all(|(r2, c2)| r2 != r && c2 != c));
            }
        }
    }
}
