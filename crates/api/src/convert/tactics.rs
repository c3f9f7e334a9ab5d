use guiji_analysis::tactics::cameras::{CameraGrade, Cause, Reads};
use guiji_analysis::tactics::card::VehicleCard;
use guiji_analysis::tactics::clone::{Finding, Verdict};
use guiji_analysis::tactics::collision::Collision;
use guiji_analysis::tactics::convoy::Companion;
use guiji_analysis::tactics::first_entry::Entry;
use guiji_analysis::tactics::frequent::Frequent;
use guiji_analysis::tactics::night::NightActivity;
use guiji_analysis::tactics::section_speed::{LimitVerdict, SectionSpeed};
use guiji_analysis::tactics::stops::{Stop, StopPlace};
use guiji_analysis::tactics::{CameraKey, PassageIndex, VehicleKey};
use guiji_domain::{CameraId, TimeSpan, Timestamp};

use super::{duration_to_pb, point_to_pb, timestamp_to_pb};
use crate::pb;

/// Says in messages what the tactics say in the keys of an index.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a>(pub(crate) &'a PassageIndex);

/// `cameras/ID`.
pub(crate) fn camera_name(camera: &CameraId) -> String {
    ["cameras/", camera.as_str()].concat()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Names<'_> {
    fn plate(self, vehicle: VehicleKey) -> String {
        self.0.plate(vehicle).map_or_else(String::new, |plate| plate.as_str().to_owned())
    }

    fn camera(self, camera: CameraKey) -> String {
        self.0.camera_id(camera).map_or_else(String::new, camera_name)
    }

    pub(crate) fn point(self, (at, camera): (Timestamp, CameraKey)) -> pb::PassagePoint {
        pb::PassagePoint { camera: self.camera(camera), time: Some(timestamp_to_pb(at)) }
    }

    /// What an answer rests on; `asked` is since when the question wanted to know, if it said so.
    pub(crate) fn coverage(self, asked: Option<Timestamp>) -> pb::PassageCoverage {
        let span = self.0.span();
        pb::PassageCoverage {
            cut_short: asked.zip(span).is_some_and(|(asked, span)| asked < span.first()),
            since_time: span.map(|span| timestamp_to_pb(span.first())),
            until_time: span.map(|span| timestamp_to_pb(span.last())),
            passage_count: self.0.len() as u64,
        }
    }

    pub(crate) fn companion(self, companion: &Companion) -> pb::Companion {
        const TOLD_MAX: usize = 50;
        let meetings = companion.meetings.iter().take(TOLD_MAX).map(|meeting| pb::Meeting {
            camera: self.camera(meeting.camera),
            target_time: Some(timestamp_to_pb(meeting.target_at)),
            companion_time: Some(timestamp_to_pb(meeting.companion_at)),
        });
        pb::Companion {
            plate: self.plate(companion.vehicle),
            meeting_count: count(companion.meetings.len()),
            meetings: meetings.collect(),
            chance: companion.chance,
        }
    }

    pub(crate) fn collision(self, collision: &Collision) -> pb::Collision {
        let seen = collision.first_seen.iter().enumerate();
        let first_seen = seen.filter_map(|(area, first)| {
            let passage = Some(self.point((*first)?));
            Some(pb::AreaPassage { area_index: count(area), passage })
        });
        pb::Collision { plate: self.plate(collision.vehicle), first_seen: first_seen.collect() }
    }

    pub(crate) fn entry(self, entry: &Entry) -> pb::FirstEntry {
        pb::FirstEntry {
            plate: self.plate(entry.vehicle),
            passage: Some(self.point((entry.at, entry.camera))),
            last_seen_time: entry.last_seen.map(timestamp_to_pb),
        }
    }

    pub(crate) fn night(self, activity: &NightActivity) -> pb::NightActivity {
        pb::NightActivity {
            plate: self.plate(activity.vehicle),
            night_count: activity.nights,
            day_count: activity.days,
            night_passage_count: activity.night_passages,
            day_passage_count: activity.day_passages,
        }
    }

    pub(crate) fn frequent(self, frequent: &Frequent) -> pb::FrequentVehicle {
        pb::FrequentVehicle {
            plate: self.plate(frequent.vehicle),
            passage_count: frequent.times,
            first_time: Some(timestamp_to_pb(frequent.first)),
            last_time: Some(timestamp_to_pb(frequent.last)),
        }
    }

    pub(crate) fn stop_place(self, place: &StopPlace) -> pb::StopPlace {
        const TOLD_MAX: usize = 20;
        let stop = |stop: &Stop| pb::Stop {
            before: Some(self.point(stop.before)),
            after: Some(self.point(stop.after)),
            dwell_least: Some(duration_to_pb(stop.dwell_least)),
            dwell_most: Some(duration_to_pb(stop.dwell_most)),
        };
        let latest = place.stops.len().saturating_sub(TOLD_MAX);
        pb::StopPlace {
            cameras: place.cameras.iter().map(|camera| self.camera(*camera)).collect(),
            centre: place.centre.as_ref().map(point_to_pb),
            stop_count: count(place.stops.len()),
            overnight_count: count(place.overnight),
            stops: place.stops.iter().skip(latest).map(stop).collect(),
        }
    }

    pub(crate) fn card(self, card: &VehicleCard) -> pb::VehicleCard {
        let cameras = card.cameras.iter().map(|(camera, passages)| pb::CameraCount {
            camera: self.camera(*camera),
            passage_count: *passages,
        });
        pb::VehicleCard {
            plate: self.plate(card.vehicle),
            passage_count: count(card.passages),
            first: Some(self.point(card.first)),
            last: Some(self.point(card.last)),
            active_day_count: count(card.days_active),
            hour_passage_counts: card.hours.to_vec(),
            cameras: cameras.collect(),
            stops: card.stops.iter().take(5).map(|place| self.stop_place(place)).collect(),
        }
    }

    pub(crate) fn grade(self, grade: &CameraGrade) -> pb::CameraGrade {
        const TOLD_MAX: usize = 50;
        let hour = |reads: &Reads| pb::HourGrade {
            read_count: reads.all,
            agreement: reads.agreement(),
            misread: reads.misread(),
        };
        let silent = |span: &TimeSpan| pb::SilentTime {
            start_time: Some(timestamp_to_pb(span.first())),
            end_time: Some(timestamp_to_pb(span.last())),
        };
        let faults = grade.faults.iter().map(|fault| {
            let cause = match fault.cause {
                Cause::Silent => pb::FaultCause::Silent,
                Cause::Clock => pb::FaultCause::Clock,
                Cause::Misreads => pb::FaultCause::Misreads,
                Cause::NightMisreads => pb::FaultCause::NightMisreads,
                Cause::Covered => pb::FaultCause::Covered,
                Cause::Blurred => pb::FaultCause::Blurred,
                Cause::Moved => pb::FaultCause::Moved,
            };
            pb::CameraFault { cause: cause.into(), passages_a_day: fault.cost }
        });
        let latest = grade.silent.len().saturating_sub(TOLD_MAX);
        pb::CameraGrade {
            camera: self.camera(grade.camera),
            read_count: grade.reads.all,
            agreement: grade.reads.agreement(),
            misread: grade.reads.misread(),
            hours: grade.hours.iter().map(hour).collect(),
            clock_offset_s: grade.clock.map(|clock| clock.offset_s),
            clock_error_s: grade.clock.map(|clock| clock.error_s),
            silent: grade.silent.iter().skip(latest).map(silent).collect(),
            faults: faults.collect(),
        }
    }
}

/// The verdict alone: what was judged is added by who judged it.
pub(crate) fn verdict_to_pb(plate: &str, verdict: &Verdict) -> pb::CloneVerdict {
    let finding = match verdict.finding {
        Finding::OneVehicle => pb::CloneFinding::OneVehicle,
        Finding::Clone => pb::CloneFinding::Clone,
        Finding::Misread => pb::CloneFinding::Misread,
        Finding::ClockError => pb::CloneFinding::ClockError,
        Finding::Undecided => pb::CloneFinding::Undecided,
    };
    let [one_vehicle, clone, misread, clock_error] = verdict.posterior;
    pb::CloneVerdict {
        plate: plate.to_owned(),
        finding: finding.into(),
        probability: verdict.probability,
        one_vehicle,
        clone,
        misread,
        clock_error,
        reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

pub(crate) fn speed_to_pb(speed: &SectionSpeed, limit_kmh: Option<f64>) -> pb::SectionSpeed {
    let verdict = match limit_kmh.map(|limit| speed.against(limit)) {
        None => pb::LimitVerdict::Unspecified,
        Some(LimitVerdict::Above) => pb::LimitVerdict::Above,
        Some(LimitVerdict::Within) => pb::LimitVerdict::Within,
        Some(LimitVerdict::Undecided) => pb::LimitVerdict::Undecided,
    };
    pb::SectionSpeed {
        low_kmh: speed.low_kmh,
        best_kmh: speed.best_kmh,
        high_kmh: speed.high_kmh,
        verdict: verdict.into(),
        clock_correction_s: None,
    }
}
