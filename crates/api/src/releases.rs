//! Releases of tactics over many people's vehicles: by a second person, for a case, until a time. In memory: a restart
//! ends them, and what was released is in the audit.

use std::sync::{Mutex, PoisonError};

use guiji_domain::{Authority, Timestamp};

use crate::error::Problem;
use crate::pb;

/// Releases that are in force at the same time, at most.
const RELEASES_MAX: usize = 1000;

#[derive(Debug, Clone, PartialEq)]
struct Release {
    tactic: pb::PatternTactic,
    officer: String,
    case_number: String,
    by: String,
    until: Timestamp,
}

/// Those in force.
#[derive(Debug, Default)]
pub(crate) struct Releases(Mutex<Vec<Release>>);

impl Releases {
    /// Lets somebody ask a tactic for the case of whoever releases it.
    pub(crate) fn release(
        &self,
        tactic: pb::PatternTactic,
        officer: &str,
        by: &Authority,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), Problem> {
        if officer == by.officer() {
            let fix = "must be another than who releases: a release takes two people";
            return Err(Problem::field("officer", fix));
        }
        let mut releases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        releases.retain(|r| r.until > now);
        if releases.len() >= RELEASES_MAX {
            return Err(Problem::LimitReached { what: "releases", limit: RELEASES_MAX });
        }
        releases.push(Release {
            tactic,
            officer: officer.to_owned(),
            case_number: by.case_number().to_owned(),
            by: by.officer().to_owned(),
            until,
        });
        Ok(())
    }

    /// Who released a tactic for whoever asks and their case.
    pub(crate) fn released_by(
        &self,
        tactic: pb::PatternTactic,
        asks: &Authority,
        now: Timestamp,
    ) -> Result<String, Problem> {
        let releases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |r: &&Release| {
            r.tactic == tactic
                && r.officer == asks.officer()
                && r.case_number == asks.case_number()
                && r.until > now
        };
        releases.iter().find(fits).map(|r| r.by.clone()).ok_or_else(|| Problem::Forbidden {
            reason: "RELEASE_REQUIRED",
            message: format!(
                "this tactic looks at many people's vehicles: a supervisor must release it to {} for case {} first \
                 (ApproveTactic)",
                asks.officer(),
                asks.case_number()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_for_one_tactic_officer_and_case_until_its_end() {
        let (releases, at) = (Releases::default(), Timestamp::from_secs);
        let who = |officer, case| Authority::new("test", case, officer).unwrap();
        let tactic = pb::PatternTactic::NightActive;
        assert!(releases.release(tactic, "li", &who("li", "A-1"), at(9), at(0)).is_err());
        releases.release(tactic, "wang", &who("li", "A-1"), at(9), at(0)).unwrap();
        assert_eq!(releases.released_by(tactic, &who("wang", "A-1"), at(8)).unwrap(), "li");
        for (tactic, officer, case, now) in [
            (pb::PatternTactic::Frequent, "wang", "A-1", 8),
            (tactic, "zhao", "A-1", 8),
            (tactic, "wang", "A-2", 8),
            (tactic, "wang", "A-1", 9),
        ] {
            let refused = releases.released_by(tactic, &who(officer, case), at(now)).unwrap_err();
            assert!(matches!(refused, Problem::Forbidden { reason: "RELEASE_REQUIRED", .. }));
        }
    }
}
