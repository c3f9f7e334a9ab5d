//! What a supervisor should ask about: patterns in the audit that an honest reason may explain, but seldom does.
//!
//! Decides only; it reads no file and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A call, as far as the patterns look at it.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The record's number.
    pub number: u64,
    /// Who asked.
    pub officer: &'a str,
    /// The case that was named.
    pub case_number: &'a str,
    /// The plates and patterns that it was about.
    pub plates: &'a [&'a str],
    /// What became of it, as the audit has it: `Ok`, `PermissionDenied`.
    pub outcome: &'a str,
    /// Day where the officers work, counted from any day on.
    pub day: i32,
    /// Hour of that day, 0 to 23.
    pub hour: i8,
}

/// From when on a pattern is told.
#[derive(Debug, Clone)]
pub struct OddLimits {
    /// One plate by one officer: on so many different days.
    pub same_plate_days: usize,
    /// Hours of the day, the last one excluded.
    pub day_hours: std::ops::Range<i8>,
    /// Calls at night, of somebody who makes at least nine in ten by day.
    pub night_calls: usize,
    /// Different plates under one case number.
    pub plates_of_case: usize,
    /// Calls that were refused for want of a right.
    pub refused_calls: usize,
}

impl Default for OddLimits {
    fn default() -> Self {
        Self {
            same_plate_days: 5,
            day_hours: 6..22,
            night_calls: 3,
            plates_of_case: 50,
            refused_calls: 10,
        }
    }
}

/// Something to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Who made the calls.
    pub officer: String,
    /// What is odd about them.
    pub what: Pattern,
    /// How many calls.
    pub calls: usize,
    /// The record of the first of them.
    pub first: u64,
}

/// What is odd about calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The same plate again and again.
    SamePlate {
        /// The plate or pattern.
        plate: String,
        /// On so many days.
        days: usize,
        /// Under so many case numbers.
        cases: usize,
    },
    /// At night, by somebody who works by day.
    OffShift,
    /// A case number that names no case.
    NoCase {
        /// The case number.
        case_number: String,
    },
    /// A case number for everything.
    CatchAllCase {
        /// The case number.
        case_number: String,
        /// So many different plates.
        plates: usize,
    },
    /// Tried again and again what the token does not allow.
    Refused,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.officer)?;
        match &self.what {
            Pattern::SamePlate { plate, days, cases } => {
                write!(f, "asked for {plate} on {days} days, under {cases} case numbers")?;
            }
            Pattern::OffShift => f.write_str("works by day, but asked at night")?,
            Pattern::NoCase { case_number } => {
                write!(f, "case number {case_number:?} names no case")?
            }
            Pattern::CatchAllCase { case_number, plates } => {
                write!(f, "case {case_number} stands for {plates} different plates")?;
            }
            Pattern::Refused => f.write_str("tried what the token does not allow")?,
        }
        write!(f, " ({} calls, the first is record {})", self.calls, self.first)
    }
}

/// Calls that belong together.
#[derive(Debug, Default)]
struct Calls {
    count: usize,
    first: u64,
    days: BTreeSet<i32>,
    /// Case numbers of a plate, or plates of a case number.
    others: BTreeSet<String>,
}

impl Calls {
    fn add(&mut self, asked: &Asked<'_>, others: &[&str]) {
        if self.count == 0 {
            self.first = asked.number;
        }
        self.count += 1;
        self.days.insert(asked.day);
        for other in others {
            if !self.others.contains(*other) {
                self.others.insert((*other).to_owned());
            }
        }
    }
}

/// Looks at one call after the other.
#[derive(Debug, Default)]
pub struct Odd {
    limits: OddLimits,
    all: BTreeMap<String, usize>,
    night: BTreeMap<String, Calls>,
    refused: BTreeMap<String, Calls>,
    plates: BTreeMap<(String, String), Calls>,
    cases: BTreeMap<(String, String), Calls>,
}

impl Odd {
    /// Nothing seen yet.
    pub fn new(limits: OddLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes a call in, in the order of the records.
    pub fn add(&mut self, asked: &Asked<'_>) {
        let officer = asked.officer.to_owned();
        *self.all.entry(officer.clone()).or_default() += 1;
        if !self.limits.day_hours.contains(&asked.hour) {
            self.night.entry(officer.clone()).or_default().add(asked, &[]);
        }
        if asked.outcome == "PermissionDenied" {
            self.refused.entry(officer.clone()).or_default().add(asked, &[]);
        }
        for plate in asked.plates {
            let key = (officer.clone(), (*plate).to_owned());
            self.plates.entry(key).or_default().add(asked, &[asked.case_number]);
        }
        let key = (officer, asked.case_number.to_owned());
        self.cases.entry(key).or_default().add(asked, asked.plates);
    }

    /// What is odd, by officer.
    pub fn findings(self) -> Vec<Finding> {
        let Self { limits, all, night, refused, plates, cases } = self;
        let mut findings = Vec::new();
        let mut tell = |officer: &str, what, calls: &Calls| {
            let officer = officer.to_owned();
            findings.push(Finding { officer, what, calls: calls.count, first: calls.first });
        };
        for ((officer, plate), calls) in &plates {
            if calls.days.len() >= limits.same_plate_days {
                let (days, cases) = (calls.days.len(), calls.others.len());
                tell(officer, Pattern::SamePlate { plate: plate.clone(), days, cases }, calls);
            }
        }
        for (officer, calls) in &night {
            let by_day = all.get(officer).map_or(0, |all| all - calls.count);
            if calls.count >= limits.night_calls && by_day >= 9 * calls.count {
                tell(officer, Pattern::OffShift, calls);
            }
        }
        for ((officer, case_number), calls) in &cases {
            let case_number = case_number.clone();
            let plates = calls.others.iter().filter(|plate| !plate.is_empty()).count();
            if names_no_case(&case_number) {
                tell(officer, Pattern::NoCase { case_number }, calls);
            } else if plates >= limits.plates_of_case {
                tell(officer, Pattern::CatchAllCase { case_number, plates }, calls);
            }
        }
        for (officer, calls) in &refused {
            if calls.count >= limits.refused_calls {
                tell(officer, Pattern::Refused, calls);
            }
        }
        findings.sort_by(|a, b| a.officer.cmp(&b.officer).then(a.first.cmp(&b.first)));
        findings
    }
}

/// Whether a case number is a way of giving none: no digit in it (shifts and cases are counted), or the same character
/// again and again.
fn names_no_case(case_number: &str) -> bool {
    let mut characters = case_number.chars().filter(|c| c.is_alphanumeric());
    let first = characters.next();
    let same = characters.all(|c| Some(c) == first) && case_number.chars().count() > 1;
    same || !case_number.chars().any(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Asked<'_> = Asked {
        number: 1,
        officer: "wang",
        case_number: "2026-0417",
        plates: &["浙J12345"],
        outcome: "Ok",
        day: 1,
        hour: 9,
    };

    fn told(calls: impl IntoIterator<Item = Asked<'static>>) -> Vec<Pattern> {
        let mut odd = Odd::new(OddLimits::default());
        for (number, call) in (1..).zip(calls) {
            odd.add(&Asked { number, ..call });
        }
        odd.findings().into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn ordinary_work_is_not_odd() {
        // Many calls of one day, many plates of many cases, a night shift, a misspelt call or two.
        assert_eq!(told((0..100).map(|_| CALL)), []);
        assert_eq!(told((0..4).map(|day| Asked { day, ..CALL })), []);
        assert_eq!(told((0..50).map(|_| Asked { hour: 2, ..CALL })), []);
        assert_eq!(told((0..9).map(|_| Asked { outcome: "PermissionDenied", ..CALL })), []);
    }

    #[test]
    fn the_same_plate_day_after_day_is_odd() {
        let calls = (0..5).map(|day| Asked {
            day,
            case_number: if day < 2 { "2026-0417" } else { "2026-0418" },
            ..CALL
        });
        let plate = "浙J12345".to_owned();
        assert_eq!(told(calls), [Pattern::SamePlate { plate, days: 5, cases: 2 }]);
        // Two officers of one case are not one.
        let shared = (0..8).map(|day| Asked {
            day,
            officer: if day % 2 == 0 { "wang" } else { "li" },
            ..CALL
        });
        assert_eq!(told(shared), []);
    }

    #[test]
    fn somebody_of_the_day_at_night_is_odd() {
        let day = (0..27).map(|_| CALL);
        let night = (0..3).map(|_| Asked { hour: 23, plates: &[], ..CALL });
        assert_eq!(told(day.chain(night.clone())), [Pattern::OffShift]);
        assert_eq!(told((0..26).map(|_| CALL).chain(night)), []);
    }

    #[test]
    fn a_case_number_that_names_no_case_is_odd() {
        for case_number in ["-", "none", "test", "无", "000", "1111", "..1.1."] {
            let found = told([Asked { case_number, ..CALL }]);
            let case_number = case_number.to_owned();
            assert_eq!(found, [Pattern::NoCase { case_number }]);
        }
        for case_number in ["7", "2026-0417", "shift 2026-11-24", "刑字第12号"] {
            assert_eq!(told([Asked { case_number, ..CALL }]), [], "{case_number}");
        }
    }

    #[test]
    fn one_case_for_everything_is_odd() {
        static PLATES: [&str; 50] = {
            let mut plates = [""; 50];
            let all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
            let mut i = 0;
            while i < 50 {
                plates[i] = all.split_at(i + 1).0;
                i += 1;
            }
            plates
        };
        let calls = |n| PLATES.chunks(1).take(n).map(|plates| Asked { plates, ..CALL });
        let case_number = "2026-0417".to_owned();
        assert_eq!(told(calls(49)), []);
        assert_eq!(told(calls(50)), [Pattern::CatchAllCase { case_number, plates: 50 }]);
    }

    #[test]
    fn trying_again_and_again_is_odd() {
        let calls = (0..10).map(|_| Asked { outcome: "PermissionDenied", ..CALL });
        assert_eq!(told(calls), [Pattern::Refused]);
    }
}
