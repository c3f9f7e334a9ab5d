//! Whether a camera reads as many plates as it does otherwise at this hour of the week.
//!
//! A lens that was turned a little, a lamp that failed, a stream that was set to a tenth of its rate: pictures come, all
//! is well by every other sign, and hardly a plate is read any more. What is usual is the median of the same hour of the
//! last weeks; whether fewer are a chance is asked of the negative binomial distribution, whose mean is that median and
//! whose spread is that of vehicles coming at random, widened by how much the camera's weeks differ. So of a night with
//! two vehicles nothing follows, and of a morning with two of three hundred a lot.

use std::time::Duration;

use guiji_domain::Timestamp;

use crate::tactics::clocks::median;

/// How long an hour is.
pub const HOUR: Duration = Duration::from_secs(3600);
/// A week: what repeats itself.
pub const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Weeks that are looked back.
pub const WEEKS: usize = 6;
/// Fewer do not tell what is usual.
const WEEKS_MIN: usize = 3;
/// Of an hour of which less was seen nothing is taken.
const SEEN_MIN: f64 = 0.5;
/// How much the counts of the same hour differ from week to week beyond chance, where nothing else is known: the square
/// of their relative deviation, 16 %. As many weeks say so.
const SPREAD: f64 = 0.025;
const SPREAD_WEEKS: f64 = 4.0;
/// At most this share of what is usual is far too few, and no chance below this probability: of a thousand cameras one
/// in three days would be accused in vain.
const RATIO_MAX: f64 = 0.4;
const CHANCE_MAX: f64 = 1e-5;
/// When all cameras read fewer it is a holiday, or rain, and none of them is to blame. To this share at least: when they
/// read nothing at all, it is no holiday.
const ALL_MIN: f64 = 0.5;
/// Fewer cameras do not speak for all.
const ALL_CAMERAS_MIN: usize = 10;

/// The beginning of the hour of this time: hours are the same in UTC and in China.
pub fn hour_of(at: Timestamp) -> Timestamp {
    let hour = HOUR.as_nanos() as i64;
    let nanos = at.as_nanos();
    Timestamp::from_nanos(nanos.saturating_sub(nanos.rem_euclid(hour)))
}

/// The beginnings of the same hour in the last weeks, the latest first. (An hour of the week is the same one in every zone
/// without daylight saving, as China's.)
pub fn weeks_before(hour: Timestamp) -> impl Iterator<Item = Timestamp> {
    (1..=WEEKS as u32).map(move |weeks| hour.minus(WEEK * weeks))
}

/// What a camera read in an hour, or in what is over of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// Plates read.
    pub read: u32,
    /// The share of the hour in which it could see, 0 to 1.
    pub seen: f64,
}

/// What is usual in an hour of the week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// Plates in a whole hour.
    median: f64,
    spread: f64,
}

impl Usual {
    /// What the last weeks teach; nothing when they are too few.
    pub fn of(weeks: &[Counted]) -> Option<Self> {
        let told = weeks.iter().filter(|week| week.seen >= SEEN_MIN);
        let mut counts: Vec<f64> = told.map(|week| f64::from(week.read) / week.seen).collect();
        if counts.len() < WEEKS_MIN {
            return None;
        }
        let median = median(&mut counts)?;
        let weeks = counts.len() as f64;
        let mean = counts.iter().sum::<f64>() / weeks;
        let variance = counts.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (weeks - 1.0);
        let own = if mean > 0.0 { ((variance - mean) / mean.powi(2)).clamp(0.0, 4.0) } else { 0.0 };
        let spread = (SPREAD * SPREAD_WEEKS + own * weeks) / (SPREAD_WEEKS + weeks);
        Some(Self { median, spread: spread.max(SPREAD) })
    }
}

/// How a camera reads, beside what is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Counted since the beginning of the last hour, not of this one.
    pub with_last_hour: bool,
    /// Plates read.
    pub read: u32,
    /// As many are usual in as much time.
    pub usual: f64,
    /// So few are no chance.
    pub too_few: bool,
}

impl Verdict {
    /// What it read of what is usual; nothing where that is nothing.
    pub fn ratio(&self) -> Option<f64> {
        (self.usual > 0.0).then(|| f64::from(self.read) / self.usual)
    }
}

/// Judges a camera by this hour so far and the last one, each with what is usual in it. `all` is what all cameras
/// together read of what is usual ([`share_of_all`]). Nothing when nothing is known of this hour.
pub fn judge(
    now: (Counted, Option<Usual>),
    last: Option<(Counted, Option<Usual>)>,
    all: f64,
) -> Option<Verdict> {
    let known = |(counted, usual): (Counted, Option<Usual>)| Some((counted, usual?));
    let (now, last) = (known(now), last.and_then(known));
    let this = now.map(|now| verdict(false, &[now], all));
    let both = last.map(|last| {
        verdict(true, &[Some(last), now].into_iter().flatten().collect::<Vec<_>>(), all)
    });
    // The least likely says most; the longer time, when neither is unlikely.
    match (this, both) {
        (Some((this, chance)), Some((_, of_both))) if this.too_few && chance < of_both => {
            Some(this)
        }
        (_, Some((both, _))) => Some(both),
        (this, None) => this.map(|(verdict, _)| verdict),
    }
}

fn verdict(with_last_hour: bool, hours: &[(Counted, Usual)], all: f64) -> (Verdict, f64) {
    let read = hours.iter().fold(0u32, |sum, (counted, _)| sum.saturating_add(counted.read));
    let usual = |(counted, usual): &(Counted, Usual)| usual.median * counted.seen.clamp(0.0, 1.0);
    let expected: f64 = hours.iter().map(usual).sum();
    let spread = hours.iter().map(|(_, usual)| usual.spread).fold(SPREAD, f64::max);
    let fair = expected * all.clamp(ALL_MIN, 1.0);
    let few = f64::from(read) <= RATIO_MAX * fair;
    // Only where it matters: it is as long a sum as plates were read.
    let chance = if few { at_most(read, fair, spread) } else { 1.0 };
    let too_few = few && chance < CHANCE_MAX;
    (Verdict { with_last_hour, read, usual: expected, too_few }, chance)
}

/// What all cameras together read of what is usual: the median of their shares. 1 where they are too few to tell.
pub fn share_of_all(shares: impl IntoIterator<Item = f64>) -> f64 {
    let mut shares: Vec<f64> = shares.into_iter().filter(|share| share.is_finite()).collect();
    if shares.len() < ALL_CAMERAS_MIN {
        return 1.0;
    }
    let middle = shares.len() / 2;
    *shares.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// The probability of at most so many by the negative binomial distribution of this mean, whose variance is
/// `mean + spread * mean²`.
fn at_most(read: u32, mean: f64, spread: f64) -> f64 {
    if mean <= 0.0 {
        return 1.0;
    }
    let shape = 1.0 / spread;
    let step = (mean / (shape + mean)).ln();
    let mut logarithm = -shape * (mean / shape).ln_1p();
    let mut sum = logarithm.exp();
    for count in 0..read {
        let count = f64::from(count);
        logarithm += step + ((count + shape) / (count + 1.0)).ln();
        sum += logarithm.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(read: u32) -> Counted {
        Counted { read, seen: 1.0 }
    }

    fn usual(weeks: &[u32]) -> Option<Usual> {
        Usual::of(&weeks.iter().map(|read| whole(*read)).collect::<Vec<_>>())
    }

    /// This hour, half over, and the last one.
    fn judged(now: u32, last: u32, weeks: &[u32]) -> Verdict {
        let now = (Counted { read: now, seen: 0.5 }, usual(weeks));
        judge(now, Some((whole(last), usual(weeks))), 1.0).unwrap()
    }

    #[test]
    fn hours_repeat_themselves_every_week() {
        // Wednesday, 24 November 2027, 08:30 in China.
        let at = Timestamp::from_secs(1_827_016_200);
        let hour = hour_of(at);
        assert_eq!(hour, Timestamp::from_secs(1_827_014_400));
        let weeks: Vec<_> = weeks_before(hour).collect();
        assert_eq!((weeks.len(), weeks[0]), (WEEKS, Timestamp::from_secs(1_827_014_400 - 604_800)));
        assert_eq!(hour_of(Timestamp::from_secs(-1)), Timestamp::from_secs(-3600));
    }

    #[test]
    fn far_fewer_than_usual_are_told_and_few_vehicles_at_night_are_not() {
        let busy = [300, 280, 310, 290];
        let quiet = [2, 3, 0, 4];
        assert!(!judged(150, 295, &busy).too_few);
        assert!(!judged(100, 200, &busy).too_few, "a third fewer is a holiday");
        let blind = judged(20, 60, &busy);
        assert!(blind.too_few && blind.with_last_hour, "{blind:?}");
        assert_eq!((blind.read, blind.usual), (80, 442.5));
        assert!((blind.ratio().unwrap() - 0.18).abs() < 0.01);
        // It went wrong in this hour.
        let now = judged(1, 290, &busy);
        assert!(now.too_few && !now.with_last_hour && now.usual == 147.5, "{now:?}");
        assert!(!judged(0, 0, &quiet).too_few);
        assert!(!judged(0, 0, &[5, 6, 4, 7]).too_few);
        assert!(judged(0, 0, &[15, 16, 14, 17]).too_few);
    }

    #[test]
    fn weeks_that_differ_much_accuse_nobody() {
        assert!(judged(10, 20, &[100, 100, 100, 100]).too_few);
        assert!(!judged(10, 20, &[100, 20, 250, 90]).too_few);
    }

    #[test]
    fn what_is_usual_needs_three_weeks_in_which_it_could_see() {
        assert_eq!(usual(&[50, 50]), None);
        let half = Counted { read: 25, seen: 0.5 };
        let blind = Counted { read: 0, seen: 0.1 };
        let known = Usual::of(&[half, half, half, blind]).unwrap();
        assert!((known.median - 50.0).abs() < 1e-9);
        assert_eq!(Usual::of(&[half, half, blind, blind]), None);
        let nothing = judge((whole(3), None), Some((whole(3), None)), 1.0);
        assert_eq!(nothing, None);
        let last_only = judge((whole(3), None), Some((whole(30), usual(&[30, 30, 30]))), 1.0);
        assert_eq!(last_only.map(|it| (it.read, it.with_last_hour)), Some((30, true)));
    }

    #[test]
    fn what_all_cameras_do_is_no_fault_of_one() {
        let weeks = [300, 280, 310, 290];
        let of = |all| judge((whole(100), usual(&weeks)), None, all).unwrap();
        assert!(of(1.0).too_few && !of(0.4).too_few);
        let blind = judge((whole(30), usual(&weeks)), None, 0.01).unwrap();
        assert!(blind.too_few, "when all read nothing it is no holiday");
        assert_eq!(share_of_all(vec![0.1; 9]), 1.0);
        assert_eq!(share_of_all(vec![0.1; 11]), 0.1);
        assert_eq!(share_of_all([0.5; 10].into_iter().chain([f64::NAN])), 0.5);
    }

    #[test]
    fn chances_are_those_of_the_distribution() {
        // Of a spread that is next to nothing it is Poisson's.
        assert!((at_most(2, 4.0, 1e-9) - 0.238_103_3).abs() < 1e-5);
        // scipy.stats.nbinom.cdf(10, 20, 20 / 60)
        assert!((at_most(10, 40.0, 0.05) - 0.000_193_759).abs() < 1e-8);
        assert!((at_most(100_000, 40.0, 0.05) - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn more_is_never_worse(
            weeks in prop::collection::vec(0u32..2000, 3..7), read in 0u32..2000, more in 0u32..500,
            seen in 0.0f64..=1.0, all in 0.0f64..2.0,
        ) {
            let of = |read| judge((Counted { read, seen }, usual(&weeks)), None, all).unwrap();
            let (less, more) = (of(read), of(read + more));
            prop_assert!(less.too_few || !more.too_few);
            prop_assert!(!less.too_few || less.ratio().unwrap() <= RATIO_MAX);
            // Where a dozen at most are usual nothing follows.
            prop_assert!(!less.too_few || less.usual > 11.0);
        }

        #[test]
        fn chances_are_chances(read in 0u32..3000, mean in 0.0f64..5000.0, spread in 1e-6f64..4.0) {
            let chance = at_most(read, mean, spread);
            prop_assert!((0.0..=1.0).contains(&chance));
            prop_assert!(chance <= at_most(read + 1, mean, spread));
        }
    }
}
