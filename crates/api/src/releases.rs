//! Releases of tactics over many people's vehicles: by a second person, for a case, until a time. Kept where those of old
//! data are.

use guiji_domain::{Authority, PatternTactic, Release, Timestamp};

use crate::error::Problem;

/// Who released a tactic for whoever asks and their case.
pub(crate) fn released_by(
    releases: &[Release],
    tactic: PatternTactic,
    asks: &Authority,
    now: Timestamp,
) -> Result<String, Problem> {
    let fits = |release: &&Release| {
        release.tactic == Some(tactic) && release.covers(asks.officer(), asks.case_number(), now)
    };
    releases.iter().find(fits).map(|release| release.granted_by.clone()).ok_or_else(|| {
        Problem::Forbidden {
            reason: "RELEASE_REQUIRED",
            message: format!(
                "this tactic looks at many people's vehicles: a supervisor must release it to {} for case {} first \
                 (ApproveTactic)",
                asks.officer(),
                asks.case_number()
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_for_one_tactic_officer_and_case_until_its_end() {
        let at = Timestamp::from_secs;
        let who = |officer, case| Authority::new("test", case, officer).unwrap();
        let tactic = PatternTactic::NightActive;
        let release = Release {
            number: 1,
            officer: "wang".into(),
            case_number: "A-1".into(),
            plate: None,
            tactic: Some(tactic),
            reason: "series of thefts".into(),
            granted_by: "li".into(),
            granted: at(0),
            expires: at(9),
        };
        let asked = |release: &Release, tactic, officer, case, now| {
            released_by(std::slice::from_ref(release), tactic, &who(officer, case), at(now))
        };
        assert_eq!(asked(&release, tactic, "wang", "A-1", 8).unwrap(), "li");
        let old_data = Release { tactic: None, ..release.clone() };
        for (release, tactic, officer, case, now) in [
            (&release, PatternTactic::Frequent, "wang", "A-1", 8),
            (&release, tactic, "zhao", "A-1", 8),
            (&release, tactic, "wang", "A-2", 8),
            (&release, tactic, "wang", "A-1", 9),
            (&old_data, tactic, "wang", "A-1", 8),
        ] {
            let refused = asked(release, tactic, officer, case, now).unwrap_err();
            assert!(matches!(refused, Problem::Forbidden { reason: "RELEASE_REQUIRED", .. }));
        }
    }
}
