use guiji_domain::{Coverage, CoverageState, TimeSpan};

use super::{Word, timestamp_from_pb, timestamp_to_pb};
use crate::pb;
use crate::violations::{Violations, camera_id};

/// An interval of coverage; `None` when something is wrong, which is noted then.
pub(crate) fn coverage_from_pb(wrong: &mut Violations, given: &pb::Coverage) -> Option<Coverage> {
    let camera = wrong.take("camera", camera_id(&given.camera));
    let mut time = |field: &str, time: &Option<pb::Timestamp>| {
        let time = wrong.require(field, time.as_ref())?;
        wrong.take(field, timestamp_from_pb(time))
    };
    let (first, last) = (time("start_time", &given.start_time), time("end_time", &given.end_time));
    let span = first
        .zip(last)
        .and_then(|(first, last)| wrong.take("end_time", TimeSpan::new(first, last)));
    let state = wrong.take("state", CoverageState::from_pb(given.state));
    let state = state.and_then(|state| wrong.require("state", state));
    let (camera, span, state) = (camera?, span?, state?);
    let coverage = Coverage { camera, span, state, cause: given.cause.clone() };
    wrong.take("cause", coverage.checked())
}

/// As it is imported.
impl From<&Coverage> for pb::Coverage {
    fn from(coverage: &Coverage) -> Self {
        Self {
            camera: format!("cameras/{}", coverage.camera),
            start_time: Some(timestamp_to_pb(coverage.span.first())),
            end_time: Some(timestamp_to_pb(coverage.span.last())),
            state: coverage.state.to_pb(),
            cause: coverage.cause.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::Timestamp;

    fn right() -> pb::Coverage {
        let time = |secs| Some(timestamp_to_pb(Timestamp::from_secs(secs)));
        pb::Coverage {
            camera: "cameras/k1".into(),
            start_time: time(3),
            end_time: time(9),
            state: pb::CoverageState::Blind.into(),
            cause: "dirt".into(),
        }
    }

    #[test]
    fn comes_back_as_it_went_in() {
        let mut wrong = Violations::default();
        let coverage = coverage_from_pb(&mut wrong, &right()).unwrap();
        assert_eq!(pb::Coverage::from(&coverage), right());
        assert!(wrong.is_empty());
    }

    #[test]
    fn wrong_coverage_names_field_and_fix() {
        let with = |change: fn(&mut pb::Coverage)| {
            let mut coverage = right();
            change(&mut coverage);
            coverage
        };
        for (coverage, field, fix) in [
            (with(|c| c.camera = "k1".into()), "camera", "cameras/ID"),
            (with(|c| c.start_time = None), "start_time", "required"),
            (with(|c| c.end_time = None), "end_time", "required"),
            (with(|c| std::mem::swap(&mut c.start_time, &mut c.end_time)), "end_time", "exchange"),
            (with(|c| c.state = 0), "state", "required"),
            (with(|c| c.state = 9), "state", "use one of"),
            (with(|c| c.cause = "x".repeat(101)), "cause", "at most 100"),
        ] {
            let mut wrong = Violations::default();
            assert_eq!(coverage_from_pb(&mut wrong, &coverage), None);
            let told: Vec<_> = wrong.into_iter().collect();
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!(told[0].0, field);
            assert!(told[0].1.contains(fix), "{told:?}");
        }
    }
}
