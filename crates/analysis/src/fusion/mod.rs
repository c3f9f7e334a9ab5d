//! Many uncertain reads of one plate make one less uncertain plate.
//!
//! Reads are pooled in log space: per position, the weighted mean of the reads' log probabilities times an
//! *effective number of reads*. Frames of one track share their blur, angle and dirt, so ten of them are worth
//! about three independent ones; multiplying all ten would make confidence meaningless.
//!
//! Reads of different length are brought together: each length that some read supports is a hypothesis with its
//! own fused characters, to which reads of other lengths are aligned; grammar and colour choose between them.

mod decode;
mod dense;

pub use decode::{DecodedText, Decoding, decode};

use guiji_domain::{
    FusedPlate, Lattice, PlateColour, PlateKind, PlateRead, PlateRows, PlateText, Position,
};

use decode::{Appearance, decode_dense};
use dense::{Dense, NOTHING, SYMBOLS, agreement, spell_out, to_lattice};

/// How reads are fused.
#[derive(Debug, Clone, PartialEq)]
pub struct FusionSettings {
    /// Correlation between two reads of one track, 0 (independent) to 1 (the same picture).
    pub correlation: f32,
    /// Divides log probabilities: above 1 for a reader that is too sure of itself.
    pub temperature: f32,
    /// Below this confidence the plate is unreadable.
    pub confidence_min: f32,
    /// Most reads kept; beyond it the weakest gives way.
    pub reads_max: usize,
}

impl Default for FusionSettings {
    fn default() -> Self {
        Self { correlation: 0.3, temperature: 1.0, confidence_min: 0.2, reads_max: 24 }
    }
}

/// The reads of one plate so far.
#[derive(Debug, Clone)]
pub struct PlateFusion {
    settings: FusionSettings,
    reads: Vec<Weighted>,
    added: u32,
    colours: [f32; PlateColour::ALL.len()],
    rows: [f32; PlateRows::ALL.len()],
}

/// One read, spelt out.
#[derive(Debug, Clone)]
struct Weighted {
    weight: f32,
    /// Character probabilities given that something stands there ...
    characters: Vec<Dense>,
    /// ... and their logarithms.
    logs: Vec<Dense>,
    /// The likeliest number of characters.
    length: usize,
    /// Whether the read itself speaks for each number of characters.
    supports: [bool; LENGTHS],
    /// Probability of each true number of characters.
    lengths: [f32; LENGTHS],
}

const LENGTHS: usize = PlateText::CHARS_MAX + 1;
/// Whatever a reader says, this share of its characters is anything: one bad frame must not veto.
const MISREAD: f32 = 0.003;
/// A reader that emits characters loses one this often ...
const LOSES: f32 = 0.045;
/// ... and invents one this often (a bolt, the frame's edge).
const INVENTS: f32 = 0.015;
/// A read with an absent class speaks for every length of at least this probability.
const SUPPORTS_MIN: f32 = 0.2;
/// What seven characters keep on a confidently green plate that some read gives eight.
const GREEN_SEVEN_KEEPS: f32 = 0.01;
/// Cost of leaving a position out when reads of different lengths are aligned.
const GAP_LN: f32 = -4.0;
/// A longer alternative below this probability is not kept in the fused lattice.
const LONGER_MIN: f32 = 0.01;
/// A kind is named when it has this share.
const KIND_SHARE_MIN: f32 = 0.8;
/// Plate width, pixels, from which on width adds no weight.
const FULL_WEIGHT_WIDTH_PX: f32 = 110.0;

impl PlateFusion {
    /// No reads yet.
    pub fn new(settings: FusionSettings) -> Self {
        Self { settings, reads: Vec::new(), added: 0, colours: [0.0; 6], rows: [0.0; 2] }
    }

    /// How many reads were added.
    pub fn reads(&self) -> u32 {
        self.added
    }

    /// Adds a read, weighed by sharpness, plate width and the detector's score.
    pub fn add(&mut self, read: &PlateRead) {
        let weight = weight(read);
        self.added = self.added.saturating_add(1);
        if let Some((colour, p)) = read.colour {
            vote(&mut self.colours, colour as usize, weight * p.clamp(0.0, 1.0), weight);
        }
        vote(&mut self.rows, read.rows.0 as usize, weight * read.rows.1.clamp(0.0, 1.0), weight);
        let Some(read) = Weighted::new(&read.lattice, weight) else { return };
        if self.reads.len() >= self.settings.reads_max.max(1) {
            let weakest = (0..self.reads.len())
                .min_by(|a, b| self.reads[*a].weight.total_cmp(&self.reads[*b].weight));
            match weakest {
                Some(i) if self.reads[i].weight < read.weight => self.reads.remove(i),
                _ => return,
            };
        }
        self.reads.push(read);
    }

    /// Forgets all reads.
    pub fn clear(&mut self) {
        *self = Self::new(self.settings.clone());
    }

    /// Takes over the reads of another fusion of the same plate.
    pub fn absorb(&mut self, other: &Self) {
        self.added = self.added.saturating_add(other.added);
        self.colours.iter_mut().zip(other.colours).for_each(|(a, b)| *a += b);
        self.rows.iter_mut().zip(other.rows).for_each(|(a, b)| *a += b);
        self.reads.extend(other.reads.iter().cloned());
        self.reads.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        self.reads.truncate(self.settings.reads_max.max(1));
    }

    /// The ground colour with most votes, with its share.
    pub fn colour(&self) -> Option<(PlateColour, f32)> {
        best(&self.colours).map(|(i, p)| (PlateColour::ALL[i], p))
    }

    /// The plate as far as it is known. `None` when there is no read, or no text fits them well enough.
    pub fn plate(&self) -> Option<FusedPlate> {
        let appearance = Appearance {
            colour: self.colour(),
            rows: best(&self.rows).map(|(i, p)| (PlateRows::ALL[i], p)),
        };
        let fused = self.fused(appearance)?;
        let weighed = decode_dense(&fused, appearance);
        let decoding = weighed.decoding();
        let DecodedText { text, kinds, posterior } = decoding.texts.into_iter().next()?;
        if posterior < self.settings.confidence_min || decoding.unreadable > 0.5 {
            return None;
        }
        let kind: Option<PlateKind> =
            kinds.first().filter(|(_, share)| *share >= KIND_SHARE_MIN).map(|(k, _)| *k);
        Some(FusedPlate {
            text,
            kind,
            colour: appearance.colour.filter(|(_, p)| *p > 0.5).map(|(c, _)| c),
            rows: appearance.rows.map_or(PlateRows::One, |(r, _)| r),
            lattice: to_lattice(&weighed.marginals())?,
            confidence: posterior.clamp(0.0, 1.0),
            reads: self.added,
        })
    }

    /// Reads to count as independent: Kish's effective sample size of the weights, then the variance inflation of
    /// equally correlated observations, n / (1 + (n - 1) ρ).
    fn effective_reads(&self) -> f32 {
        let sum: f32 = self.reads.iter().map(|r| r.weight).sum();
        let squares: f32 = self.reads.iter().map(|r| r.weight * r.weight).sum();
        let n = if squares > 0.0 { sum * sum / squares } else { 0.0 };
        n / (1.0 + (n - 1.0).max(0.0) * self.settings.correlation.clamp(0.0, 1.0))
    }

    /// The fused positions, with "nothing" at the end as far as shorter texts are possible.
    fn fused(&self, appearance: Appearance) -> Option<Vec<Dense>> {
        let sum: f32 = self.reads.iter().map(|r| r.weight).sum();
        if self.reads.is_empty() || sum <= 0.0 {
            return None;
        }
        let power = self.effective_reads() / self.settings.temperature.max(0.1);
        let mut lengths = [0.0_f32; LENGTHS];
        for (m, p) in lengths.iter_mut().enumerate() {
            *p = self.reads.iter().map(|r| r.weight / sum * r.lengths[m].max(1e-4).ln()).sum();
            *p = (*p * power).exp();
        }
        let hypotheses: Vec<Option<Vec<Dense>>> =
            (0..LENGTHS).map(|m| self.characters_at_length(m, power)).collect();
        // A length beyond every read has no characters to show.
        let longest = hypotheses.iter().rposition(Option::is_some)?;
        lengths[longest + 1..].fill(0.0);
        lengths[..PlateText::CHARS_MIN].fill(0.0);
        if appearance.confidently_green() && longest > 7 {
            lengths[7] *= GREEN_SEVEN_KEEPS;
        }
        normalise(&mut lengths);

        let winner = (PlateText::CHARS_MIN..LENGTHS).filter(|m| hypotheses[*m].is_some()).max_by(
            |a, b| {
                let score = |m: &usize| {
                    let fit = hypotheses[*m]
                        .as_ref()
                        .map_or(0.0, |h| decode_dense(h, appearance).evidence());
                    f64::from(lengths[*m]).max(1e-12).ln() + fit.max(1e-30).ln()
                };
                score(a).total_cmp(&score(b))
            },
        )?;

        let mut fused = Vec::with_capacity(LENGTHS);
        let mut shorter = 0.0; // probability of having ended before position k
        for k in 0..longest {
            shorter += lengths[k];
            let source = (winner.max(k + 1)..LENGTHS).find_map(|m| hypotheses[m].as_ref());
            let Some(source) = source else { break };
            if k >= winner && 1.0 - shorter < LONGER_MIN {
                break;
            }
            let mut dense = source[k];
            // The winner's own characters are there unless the text is shorter; grammar decides between the two.
            dense.iter_mut().for_each(|p| *p *= 1.0 - shorter);
            dense[NOTHING] = shorter;
            fused.push(dense);
        }
        Some(fused)
    }

    /// The fused characters if the plate has `length` of them; `None` when no read says so.
    fn characters_at_length(&self, length: usize, power: f32) -> Option<Vec<Dense>> {
        let (own, others): (Vec<_>, Vec<_>) = self.reads.iter().partition(|r| r.supports[length]);
        if own.is_empty() || length == 0 {
            return None;
        }
        let straight: Vec<_> = own.iter().map(|r| (*r, (0..length).map(Some).collect())).collect();
        if others.is_empty() {
            return Some(pool(length, &straight, power));
        }
        let reference = pool(length, &straight, 1.0);
        let aligned = others
            .into_iter()
            .filter(|r| r.length.abs_diff(length) <= 2)
            .map(|r| (r, align(&reference, &r.characters[..r.length])));
        let all: Vec<_> = straight.iter().cloned().chain(aligned).collect();
        Some(pool(length, &all, power))
    }
}

impl Weighted {
    fn new(lattice: &Lattice, weight: f32) -> Option<Self> {
        let positions = spell_out(lattice);
        let n = positions.len();
        if n == 0 {
            return None;
        }
        let mut ends = [0.0_f32; LENGTHS];
        for (m, p) in ends.iter_mut().enumerate().take(n + 1) {
            *p = positions
                .iter()
                .enumerate()
                .map(|(k, d)| if k < m { 1.0 - d[NOTHING] } else { d[NOTHING] })
                .product();
        }
        normalise(&mut ends);
        let length = (1..=n).max_by(|a, b| ends[*a].total_cmp(&ends[*b]))?;
        let mut supports = ends.map(|p| p >= SUPPORTS_MIN);
        supports[length] = true;
        let mut lengths = [0.0_f32; LENGTHS];
        for (m, p) in ends.iter().enumerate() {
            lengths[m] += p * (1.0 - LOSES - INVENTS);
            if m + 1 < LENGTHS {
                lengths[m + 1] += p * LOSES;
            }
            if m > 0 {
                lengths[m - 1] += p * INVENTS;
            }
        }
        let characters: Vec<Dense> = positions
            .into_iter()
            .map(|mut dense| {
                dense[NOTHING] = 0.0;
                normalise(&mut dense);
                for p in &mut dense[..NOTHING] {
                    *p = *p * (1.0 - MISREAD) + MISREAD / NOTHING as f32;
                }
                dense
            })
            .collect();
        let logs =
            characters.iter().map(|dense| dense.map(|p| p.max(Position::FLOOR).ln())).collect();
        Some(Self { weight, characters, logs, length, supports, lengths })
    }
}

/// How alike two lattices are, 0 to 1: the product over positions of the cosine between them. Two good reads of one
/// plate come near 1; one certain difference makes it nearly 0.
pub fn similarity(a: &Lattice, b: &Lattice) -> f32 {
    let (a, b) = (spell_out(a), spell_out(b));
    let mut nothing = [Position::FLOOR; SYMBOLS];
    nothing[NOTHING] = 1.0;
    (0..a.len().max(b.len()))
        .map(|k| agreement(a.get(k).unwrap_or(&nothing), b.get(k).unwrap_or(&nothing)))
        .product()
}

/// In how many characters the likeliest texts of two lattices surely differ, a lost or added character counting once.
pub fn differences(a: &Lattice, b: &Lattice) -> usize {
    const SURELY: f32 = 0.3;
    let characters = |lattice: &Lattice| {
        let mut dense = spell_out(lattice);
        while dense.last().is_some_and(|d| d[..NOTHING].iter().all(|p| *p <= d[NOTHING])) {
            dense.pop();
        }
        dense
    };
    let (a, b) = (characters(a), characters(b));
    let places = align(&a, &b);
    let same = (0..a.len())
        .filter(|i| places[*i].is_some_and(|j| agreement(&a[*i], &b[j]) >= SURELY))
        .count();
    a.len().max(b.len()) - same
}

fn weight(read: &PlateRead) -> f32 {
    let unit = |x: f32| if x.is_finite() { x.clamp(0.0, 1.0) } else { 0.0 };
    let sharpness = 0.2 + 0.8 * unit(read.sharpness);
    let width = 0.1 + 0.9 * unit(read.corners.width() / FULL_WEIGHT_WIDTH_PX);
    let score = 0.2 + 0.8 * unit(read.detector_score);
    sharpness * width * score
}

/// Gives `named` to one choice, the rest of `weight` to the others in equal shares.
fn vote(votes: &mut [f32], choice: usize, named: f32, weight: f32) {
    let rest = (weight - named).max(0.0) / (votes.len() - 1).max(1) as f32;
    for (i, v) in votes.iter_mut().enumerate() {
        *v += if i == choice { named } else { rest };
    }
}

fn best(votes: &[f32]) -> Option<(usize, f32)> {
    let sum: f32 = votes.iter().sum();
    let (i, v) = votes.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))?;
    (sum > 0.0).then_some((i, v / sum))
}

fn normalise(values: &mut [f32]) {
    let sum: f32 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|v| *v /= sum);
    }
}

/// Weighted mean of log probabilities to a power, normalised, at each of `length` positions. Each read says which
/// of its positions stands there, if any.
fn pool(length: usize, reads: &[(&Weighted, Vec<Option<usize>>)], power: f32) -> Vec<Dense> {
    (0..length)
        .map(|k| {
            let (mut logs, mut sum) = ([0.0_f32; SYMBOLS], 0.0);
            for (read, places) in reads {
                if let Some(place) = places[k] {
                    sum += read.weight;
                    for (log, read_log) in logs[..NOTHING].iter_mut().zip(&read.logs[place]) {
                        *log += read.weight * read_log;
                    }
                }
            }
            let scale = if sum > 0.0 { power / sum } else { 0.0 };
            let top = logs[..NOTHING].iter().copied().fold(f32::MIN, f32::max);
            let mut dense = [0.0; SYMBOLS];
            for (p, log) in dense[..NOTHING].iter_mut().zip(&logs) {
                *p = ((log - top) * scale).exp();
            }
            normalise(&mut dense);
            dense
        })
        .collect()
}

/// Which position of `read` stands at each position of `reference`: the best global alignment (Needleman, Wunsch
/// 1970) by the chance that two positions mean the same character.
fn align(reference: &[Dense], read: &[Dense]) -> Vec<Option<usize>> {
    let (n, m) = (reference.len(), read.len());
    let same = |i: usize, j: usize| agreement(&reference[i], &read[j]).max(1e-4).ln();
    let mut score = vec![vec![0.0_f32; m + 1]; n + 1];
    for i in 0..=n {
        for j in 0..=m {
            score[i][j] = match (i, j) {
                (0, 0) => 0.0,
                (0, j) => j as f32 * GAP_LN,
                (i, 0) => i as f32 * GAP_LN,
                (i, j) => (score[i - 1][j - 1] + same(i - 1, j - 1))
                    .max(score[i - 1][j] + GAP_LN)
                    .max(score[i][j - 1] + GAP_LN),
            };
        }
    }
    let mut places = vec![None; n];
    let (mut i, mut j) = (n, m);
    while i > 0 && j > 0 {
        // The maximum was one of these three sums, computed alike.
        if score[i][j] == score[i - 1][j - 1] + same(i - 1, j - 1) {
            (i, j) = (i - 1, j - 1);
            places[i] = Some(j);
        } else if score[i][j] == score[i - 1][j] + GAP_LN {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    places
}

#[cfg(test)]
mod tests;
