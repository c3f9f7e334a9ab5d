use guiji_domain::{Candidate, Lattice, PlateChar, Position};

/// Entries of a dense position: every character, then "nothing".
pub(super) const SYMBOLS: usize = PlateChar::COUNT + 1;
/// The entry of "nothing stands here".
pub(super) const NOTHING: usize = PlateChar::COUNT;

/// The probabilities of all characters, and of nothing, at one position.
pub(super) type Dense = [f32; SYMBOLS];

/// Spells out what a lattice says by lists and shares.
pub(super) fn spell_out(lattice: &Lattice) -> Vec<Dense> {
    let spell = |position: &Position| {
        let mut dense = [0.0; SYMBOLS];
        // Every unlisted symbol has the same probability: ask for one of them.
        let unlisted = (0..SYMBOLS)
            .map(PlateChar::from_index)
            .find(|c| position.candidates().iter().all(|listed| listed.character != *c))
            .map_or(Position::FLOOR, |c| position.probability(c));
        dense.fill(unlisted);
        for Candidate { character, probability } in position.candidates() {
            dense[character.map_or(NOTHING, PlateChar::index)] = probability.max(Position::FLOOR);
        }
        dense
    };
    lattice.positions().iter().map(spell).collect()
}

/// Back to a lattice: the best of each position. `None` when there are more positions than a lattice may have.
pub(super) fn to_lattice(positions: &[Dense]) -> Option<Lattice> {
    let positions: Option<Vec<_>> = positions.iter().map(to_position).collect();
    Lattice::new(positions?).ok()
}

fn to_position(dense: &Dense) -> Option<Position> {
    let mut candidates: Vec<_> = dense
        .iter()
        .enumerate()
        .map(|(i, p)| Candidate {
            character: PlateChar::from_index(i),
            probability: p.clamp(0.0, 1.0),
        })
        .collect();
    candidates.sort_by(|a, b| {
        b.probability.total_cmp(&a.probability).then(a.character.cmp(&b.character))
    });
    candidates.truncate(Position::CANDIDATES_MAX);
    let sum: f32 = candidates.iter().map(|c| c.probability).sum();
    if sum > 1.0 {
        candidates.iter_mut().for_each(|c| c.probability /= sum);
    }
    Position::new(candidates).ok()
}

/// Chance that two positions mean the same character, over the best that could be: 0 to 1 (a cosine).
pub(super) fn agreement(a: &Dense, b: &Dense) -> f32 {
    let dot = |a: &Dense, b: &Dense| a.iter().zip(b).map(|(p, q)| p * q).sum::<f32>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm > 0.0 { (dot(a, b) / norm).clamp(0.0, 1.0) } else { 0.0 }
}
