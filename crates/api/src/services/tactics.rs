//! The tactics: each checks its question, asks the index of passages and turns the answer into messages.

mod clones;
mod question;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use guiji_analysis::tactics::cameras::{Cause, GradeSettings, grade_cameras};
use guiji_analysis::tactics::card::vehicle_card;
use guiji_analysis::tactics::collision::{AREAS_MAX, Area, collisions};
use guiji_analysis::tactics::convoy::{ConvoySettings, companions};
use guiji_analysis::tactics::first_entry::first_entries;
use guiji_analysis::tactics::forecast::LastSeen;
use guiji_analysis::tactics::frequent::frequent;
use guiji_analysis::tactics::night::{NightSettings, night_active};
use guiji_analysis::tactics::section_speed::{SectionLength, SectionSpeed};
use guiji_analysis::tactics::stops::{StopSettings, stop_places};
use guiji_analysis::tactics::travel::Roads;
use guiji_analysis::tactics::way::along;
use guiji_analysis::tactics::{PassageIndex, VehicleKey};
use guiji_domain::{
    Authority, CameraId, CaptureTime, ControlError, Opening, PatternTactic, PlateText, Release,
    Sighting, StatusReason, TimeSpan, Timestamp,
};
use tonic::{Request, async_trait};

use super::camera::open_period;
use super::forecast::{LIKELY, tell};
use super::trajectory::whole_plate;
use super::{Answer, Messages, Services};
use crate::ApiParts;
use crate::auth::{Method, Reach, View};
use crate::call::{Call, CallKind};
use crate::convert::{
    Names, Word as _, camera_name, duration_to_pb, span_from_pb, speed_to_pb, timestamp_from_pb,
};
use crate::error::Problem;
use crate::passages::{HORIZON, Learnt, Seen};
use crate::pb;
use crate::releases::released_by;
use crate::violations::{Violations, camera_id, sighting_id};
use question::{Page, Place, duration_or, share_or};

/// A tactic's method: notes the call, answers it, and ends it with its record.
macro_rules! unary {
    ($($name:ident: $method:ident($request:ident) -> $response:ident;)+) => {
        #[async_trait]
        impl pb::tactics_service_server::TacticsService for Services {
            type WatchClonesStream = Messages<pb::WatchClonesResponse>;

            async fn watch_clones(
                &self,
                request: Request<pb::WatchClonesRequest>,
            ) -> Answer<Self::WatchClonesStream> {
                let mut call = Call::new(&self.core, Method::WatchClones, &request);
                let begun = self.begin_watch_clones(&mut call, request.into_inner());
                call.stream(begun.map(|view| move |core, sink| watch::send_clones(core, sink, view)))
                    .await
            }

            $(async fn $name(&self, request: Request<pb::$request>) -> Answer<pb::$response> {
                let mut call = Call::new(&self.core, Method::$method, &request);
                let answer = Services::$name(self, &mut call, request.into_inner()).await;
                call.end(answer).await
            })+
        }
    };
}

unary! {
    find_convoys: FindConvoys(FindConvoysRequest) -> FindConvoysResponse;
    find_collisions: FindCollisions(FindCollisionsRequest) -> FindCollisionsResponse;
    list_first_entries: ListFirstEntries(ListFirstEntriesRequest) -> ListFirstEntriesResponse;
    list_night_active: ListNightActive(ListNightActiveRequest) -> ListNightActiveResponse;
    list_frequent: ListFrequent(ListFrequentRequest) -> ListFrequentResponse;
    list_stops: ListStops(ListStopsRequest) -> ListStopsResponse;
    get_vehicle_card: GetVehicleCard(GetVehicleCardRequest) -> GetVehicleCardResponse;
    measure_section_speed: MeasureSectionSpeed(MeasureSectionSpeedRequest) -> MeasureSectionSpeedResponse;
    judge_clone: JudgeClone(JudgeCloneRequest) -> JudgeCloneResponse;
    list_clones: ListClones(ListClonesRequest) -> ListClonesResponse;
    forecast_vehicle: ForecastVehicle(ForecastVehicleRequest) -> ForecastVehicleResponse;
    list_camera_grades: ListCameraGrades(ListCameraGradesRequest) -> ListCameraGradesResponse;
    approve_tactic: ApproveTactic(ApproveTacticRequest) -> ApproveTacticResponse;
}

/// What was learnt of the roads.
fn roads(learnt: &Learnt) -> Roads<'_> {
    Roads { travel: learnt.forecaster.travel(), positions: &learnt.positions }
}

/// The vehicle of a plate.
fn vehicle(index: &PassageIndex, plate: &PlateText) -> Result<VehicleKey, Problem> {
    index.vehicle(plate).ok_or_else(|| never_seen(plate))
}

fn never_seen(plate: &PlateText) -> Problem {
    Problem::NotFound {
        kind: "guiji.v1.VehicleCard",
        name: format!("vehicle {plate} here and then"),
    }
}

/// The plate and the time that a question about one vehicle names, as far as the caller may see.
fn plate_and_span(
    call: &Call,
    plate: &str,
    start: Option<&prost_types::Timestamp>,
    end: Option<&prost_types::Timestamp>,
) -> Result<(PlateText, TimeSpan), Problem> {
    let mut wrong = Violations::default();
    let plate = wrong.take("plate", whole_plate(plate));
    let span = span_from_pb(&mut wrong, "", start, end);
    wrong.done()?;
    let plate = required(plate)?;
    let span = call.reach().for_plate(Some(&plate)).span("", span)?;
    Ok((plate, span))
}

fn required(plate: Option<PlateText>) -> Result<PlateText, Problem> {
    plate.ok_or_else(|| Problem::field("plate", "is required"))
}

impl Services {
    /// Asks the index on a blocking thread; what the caller may not see is not in it.
    async fn on_index<T: Send + 'static>(
        &self,
        call: &Call,
        doing: &'static str,
        ask: impl FnOnce(&ApiParts, &Seen, &Reach) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.on_index_within(call.reach(), doing, ask).await
    }

    /// The same for a question about one vehicle, of which old data may be released.
    async fn on_index_of<T: Send + 'static>(
        &self,
        call: &Call,
        plate: &PlateText,
        doing: &'static str,
        ask: impl FnOnce(&ApiParts, &Seen, &Reach) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.on_index_within(call.reach().for_plate(Some(plate)), doing, ask).await
    }

    async fn on_index_within<T: Send + 'static>(
        &self,
        reach: Reach,
        doing: &'static str,
        ask: impl FnOnce(&ApiParts, &Seen, &Reach) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let core = Arc::clone(&self.core);
        let work = move |parts: &ApiParts| {
            let seen = core.passages.seen(parts, &reach)?;
            ask(parts, &seen, &reach)
        };
        self.core.blocking(doing, work).await
    }

    /// Refuses a tactic over many people's vehicles that nobody released; who did is noted with the question.
    fn released(
        &self,
        call: &mut Call,
        tactic: PatternTactic,
        asks: &Authority,
        question: String,
    ) -> Result<(), Problem> {
        call.asks(question.as_str());
        let now = self.core.parts.clock.now();
        let by = released_by(&self.core.parts.releases.releases(now), tactic, asks, now)?;
        call.asks(format!("{question}, released by {by}"));
        Ok(())
    }

    async fn find_convoys(
        &self,
        call: &mut Call,
        request: pb::FindConvoysRequest,
    ) -> Result<pb::FindConvoysResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let plate = wrong.take("plate", whole_plate(&request.plate));
        let span =
            span_from_pb(&mut wrong, "", request.start_time.as_ref(), request.end_time.as_ref());
        let usual = ConvoySettings::default();
        let apart = duration_or(&mut wrong, "apart", request.apart.as_ref(), usual.apart);
        let chance_max = share_or(&mut wrong, "chance_max", request.chance_max, usual.chance_max);
        let question = pb::FindConvoysRequest {
            authority: None,
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let page =
            Page::from_pb(&mut wrong, "convoys", &question, request.page_size, &request.page_token);
        wrong.done()?;
        let plate = required(plate)?;
        let span = call.reach().span("", span)?;
        let asked = request.start_time.as_ref().map(|_| span.first());
        call.asks(format!("company of {plate}, from {} to {}", span.first(), span.last()));
        let settings = ConvoySettings {
            apart,
            chance_max,
            points_min: if request.points_min == 0 {
                usual.points_min
            } else {
                request.points_min as usize
            },
            results_max: page.wanted(),
            ..usual
        };
        let ask = move |_: &ApiParts, seen: &Seen, _: &Reach| {
            let (index, names) = (&*seen.index, Names(&seen.index));
            let Some(target) = index.vehicle(&plate) else {
                let coverage = Some(names.coverage(asked));
                return Ok(pb::FindConvoysResponse { coverage, ..Default::default() });
            };
            let (found, next_page_token) = page.cut(companions(index, target, span, &settings)?);
            Ok(pb::FindConvoysResponse {
                companions: found.iter().map(|companion| names.companion(companion)).collect(),
                next_page_token,
                coverage: Some(names.coverage(asked)),
            })
        };
        let answer = self.on_index(call, "find a convoy", ask).await?;
        call.found(answer.companions.len());
        Ok(answer)
    }

    async fn find_collisions(
        &self,
        call: &mut Call,
        request: pb::FindCollisionsRequest,
    ) -> Result<pb::FindCollisionsResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let question = pb::FindCollisionsRequest {
            authority: None,
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let page = Page::from_pb(
            &mut wrong,
            "collisions",
            &question,
            request.page_size,
            &request.page_token,
        );
        if request.areas.is_empty() {
            wrong.add("areas", format!("give 1 to {AREAS_MAX} areas"));
        }
        let few = wrong.check_count("areas", request.areas.len(), AREAS_MAX);
        let mut areas = Vec::new();
        for (i, area) in request.areas.iter().enumerate().filter(|_| few) {
            let field = format!("areas[{i}].");
            let place = Place::from_pb(&mut wrong, &format!("{field}place"), area.place.as_ref());
            if area.place.is_none() {
                wrong.add(format!("{field}place"), "is required");
            }
            let (start, end) = (area.start_time.as_ref(), area.end_time.as_ref());
            wrong.require(&format!("{field}start_time"), start);
            wrong.require(&format!("{field}end_time"), end);
            areas.push((field.clone(), place, span_from_pb(&mut wrong, &field, start, end)));
        }
        wrong.done()?;
        let reach = call.reach();
        for (field, _, span) in &areas {
            reach.span(field, *span)?;
        }
        let asked = areas.iter().map(|(_, _, span)| span.first()).min();
        call.asks(format!("who was in {} areas", areas.len()));
        let areas_min = match request.areas_min {
            0 => areas.len(),
            least => least as usize,
        };
        let ask = move |parts: &ApiParts, seen: &Seen, reach: &Reach| {
            let area = |(field, place, span): &(String, Place, _)| {
                let cameras = place.keys(parts, seen, reach, &format!("{field}place"))?;
                Ok(Area { cameras, span: *span })
            };
            let areas = areas.iter().map(area).collect::<Result<Vec<_>, Problem>>()?;
            let names = Names(&seen.index);
            let found = collisions(&seen.index, &areas, areas_min, page.wanted())?;
            let (found, next_page_token) = page.cut(found);
            Ok(pb::FindCollisionsResponse {
                collisions: found.iter().map(|collision| names.collision(collision)).collect(),
                next_page_token,
                coverage: Some(names.coverage(asked)),
            })
        };
        let answer = self.on_index(call, "find collisions", ask).await?;
        call.found(answer.collisions.len());
        Ok(answer)
    }

    async fn list_first_entries(
        &self,
        call: &mut Call,
        request: pb::ListFirstEntriesRequest,
    ) -> Result<pb::ListFirstEntriesResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let place = Place::from_pb(&mut wrong, "place", request.place.as_ref());
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        wrong.require("start_time", start);
        wrong.require("end_time", end);
        let span = span_from_pb(&mut wrong, "", start, end);
        wrong.require("absence", request.absence.as_ref());
        let absence = duration_or(&mut wrong, "absence", request.absence.as_ref(), Duration::ZERO);
        let question = pb::ListFirstEntriesRequest {
            authority: None,
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let page =
            Page::from_pb(&mut wrong, "entries", &question, request.page_size, &request.page_token);
        wrong.done()?;
        let span = call.reach().span("", span)?;
        let asked = start.map(|_| span.first());
        let said = format!(
            "who came in from {} to {} after {} s",
            span.first(),
            span.last(),
            absence.as_secs()
        );
        self.released(call, PatternTactic::FirstEntry, &authority, said)?;
        let ask = move |parts: &ApiParts, seen: &Seen, reach: &Reach| {
            let cameras = place.keys(parts, seen, reach, "place")?;
            let names = Names(&seen.index);
            let since = seen.index.span().map_or(Timestamp::MAX, |span| span.first());
            let entries =
                first_entries(&seen.index, &cameras, span, absence, since, page.wanted())?;
            let (found, next_page_token) = page.cut(entries);
            Ok(pb::ListFirstEntriesResponse {
                entries: found.iter().map(|entry| names.entry(entry)).collect(),
                next_page_token,
                coverage: Some(names.coverage(asked)),
            })
        };
        let answer = self.on_index(call, "list first entries", ask).await?;
        call.found(answer.entries.len());
        Ok(answer)
    }

    async fn list_night_active(
        &self,
        call: &mut Call,
        request: pb::ListNightActiveRequest,
    ) -> Result<pb::ListNightActiveResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        let span = span_from_pb(&mut wrong, "", start, end);
        let share_min = share_or(&mut wrong, "share_min", request.share_min, 0.8);
        let question = pb::ListNightActiveRequest {
            authority: None,
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let page =
            Page::from_pb(&mut wrong, "night", &question, request.page_size, &request.page_token);
        wrong.done()?;
        let span = call.reach().span("", span)?;
        let asked = start.map(|_| span.first());
        let said = format!("who is night-active from {} to {}", span.first(), span.last());
        self.released(call, PatternTactic::NightActive, &authority, said)?;
        let settings = NightSettings {
            nights_min: if request.nights_min == 0 { 3 } else { request.nights_min },
            share_min,
            results_max: page.wanted(),
            ..NightSettings::default()
        };
        let ask = move |_: &ApiParts, seen: &Seen, _: &Reach| {
            let names = Names(&seen.index);
            let (found, next_page_token) = page.cut(night_active(&seen.index, span, &settings)?);
            Ok(pb::ListNightActiveResponse {
                vehicles: found.iter().map(|activity| names.night(activity)).collect(),
                next_page_token,
                coverage: Some(names.coverage(asked)),
            })
        };
        let answer = self.on_index(call, "list night-active vehicles", ask).await?;
        call.found(answer.vehicles.len());
        Ok(answer)
    }

    async fn list_frequent(
        &self,
        call: &mut Call,
        request: pb::ListFrequentRequest,
    ) -> Result<pb::ListFrequentResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let place = Place::from_pb(&mut wrong, "place", request.place.as_ref());
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        let span = span_from_pb(&mut wrong, "", start, end);
        let usual = Duration::from_secs(600);
        let apart = duration_or(&mut wrong, "apart", request.apart.as_ref(), usual);
        if request.times_min == 0 {
            wrong.add("times_min", "is required: 1 or more");
        }
        let question = pb::ListFrequentRequest {
            authority: None,
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let page = Page::from_pb(
            &mut wrong,
            "frequent",
            &question,
            request.page_size,
            &request.page_token,
        );
        wrong.done()?;
        let span = call.reach().span("", span)?;
        let asked = start.map(|_| span.first());
        let times_min = request.times_min;
        let said = format!("who passed {times_min} times from {} to {}", span.first(), span.last());
        self.released(call, PatternTactic::Frequent, &authority, said)?;
        let ask = move |parts: &ApiParts, seen: &Seen, reach: &Reach| {
            let cameras = place.keys(parts, seen, reach, "place")?;
            let names = Names(&seen.index);
            let often = frequent(&seen.index, &cameras, span, times_min, apart, page.wanted())?;
            let (found, next_page_token) = page.cut(often);
            Ok(pb::ListFrequentResponse {
                vehicles: found.iter().map(|vehicle| names.frequent(vehicle)).collect(),
                next_page_token,
                coverage: Some(names.coverage(asked)),
            })
        };
        let answer = self.on_index(call, "list frequent vehicles", ask).await?;
        call.found(answer.vehicles.len());
        Ok(answer)
    }

    async fn list_stops(
        &self,
        call: &mut Call,
        request: pb::ListStopsRequest,
    ) -> Result<pb::ListStopsResponse, Problem> {
        /// The protos promise it.
        const PLACES_MAX: usize = 200;
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let plate = wrong.take("plate", whole_plate(&request.plate));
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        let span = span_from_pb(&mut wrong, "", start, end);
        let usual = StopSettings::default();
        let dwell_min =
            duration_or(&mut wrong, "dwell_min", request.dwell_min.as_ref(), usual.dwell_min);
        wrong.done()?;
        let plate = required(plate)?;
        let span = call.reach().for_plate(Some(&plate)).span("", span)?;
        call.asks(format!("stops of {plate}, from {} to {}", span.first(), span.last()));
        let asked = start.map(|_| span.first());
        let named = plate.clone();
        let ask = move |_: &ApiParts, seen: &Seen, _: &Reach| {
            let (index, names) = (&*seen.index, Names(&seen.index));
            let settings = StopSettings { dwell_min, ..usual };
            let places = index.vehicle(&plate).map_or_else(Vec::new, |vehicle| {
                stop_places(index, vehicle, span, roads(&seen.learnt), &settings)
            });
            let told = places.iter().take(PLACES_MAX);
            Ok(pb::ListStopsResponse {
                places: told.map(|place| names.stop_place(place)).collect(),
                coverage: Some(names.coverage(asked)),
            })
        };
        let answer = self.on_index_of(call, &named, "list stops", ask).await?;
        call.found(answer.places.len());
        Ok(answer)
    }

    async fn get_vehicle_card(
        &self,
        call: &mut Call,
        request: pb::GetVehicleCardRequest,
    ) -> Result<pb::GetVehicleCardResponse, Problem> {
        const CAMERAS_TOLD: usize = 10;
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        let (plate, span) = plate_and_span(call, &request.plate, start, end)?;
        call.asks(format!("card of {plate}, from {} to {}", span.first(), span.last()));
        let asked = start.map(|_| span.first());
        let named = plate.clone();
        let ask = move |_: &ApiParts, seen: &Seen, _: &Reach| {
            let (index, names) = (&*seen.index, Names(&seen.index));
            let (key, stops) = (vehicle(index, &plate)?, StopSettings::default());
            let card = vehicle_card(index, key, span, CAMERAS_TOLD, roads(&seen.learnt), &stops);
            let card = card.ok_or_else(|| never_seen(&plate))?;
            let (card, coverage) = (Some(names.card(&card)), Some(names.coverage(asked)));
            Ok(pb::GetVehicleCardResponse { card, coverage })
        };
        let answer = self.on_index_of(call, &named, "make a card", ask).await?;
        call.found(1);
        Ok(answer)
    }

    async fn measure_section_speed(
        &self,
        call: &mut Call,
        request: pb::MeasureSectionSpeedRequest,
    ) -> Result<pb::MeasureSectionSpeedResponse, Problem> {
        use pb::measure_section_speed_response::Result as Answered;
        const RELATIVE_ERROR_MAX: f64 = 0.05;
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let from = wrong.take("from_sighting", sighting_id(&request.from_sighting));
        let to = wrong.take("to_sighting", sighting_id(&request.to_sighting));
        let pb::MeasureSectionSpeedRequest { length_m, length_error_m, limit_kmh, .. } = request;
        if !(length_m.is_finite() && length_m > 0.0) {
            wrong.add("length_m", "is required: the surveyed length of the road, metres above 0");
        }
        if !(length_error_m.is_finite() && length_error_m >= 0.0) {
            wrong.add("length_error_m", "use metres of 0 or more");
        }
        let relative = request.relative_error_max;
        let relative = share_or(&mut wrong, "relative_error_max", relative, RELATIVE_ERROR_MAX);
        if limit_kmh.is_some_and(|limit| !(limit.is_finite() && limit > 0.0)) {
            wrong.add("limit_kmh", "use km/h above 0");
        }
        wrong.done()?;
        let (Some(from), Some(to)) = (from, to) else {
            return Err(Problem::field("from_sighting", "is required"));
        };
        call.asks(format!("speed from sighting {from} to {to}"));
        let reach = call.reach();
        let find = move |parts: &ApiParts| {
            let find = |id| super::sighting::find(parts, &reach, id);
            Ok::<[Sighting; 2], Problem>([find(from)?, find(to)?])
        };
        let [from, to] = self.core.blocking("get sightings", find).await?;
        let core = Arc::clone(&self.core);
        let learn = move |parts: &ApiParts| Ok(core.passages.lately(parts)?.1);
        let learnt = self.core.blocking("learn the clocks", learn).await?;
        let same = from.plate_text().is_some() && from.plate_text() == to.plate_text();
        if !same {
            let fix = "must be a sighting of the same plate as from_sighting";
            return Err(Problem::field("to_sighting", fix));
        }
        let length = SectionLength { metres: length_m, error_m: length_error_m };
        // A clock that other vehicles show to be wrong is set right, one that may be is not relied on.
        let set_right = |sighting: &Sighting| {
            let clock = learnt.clocks.get(&sighting.camera);
            clock.map_or(sighting.captured, |clock| clock.set_right(sighting.captured))
        };
        let ends = [set_right(&from), set_right(&to)];
        let elapsed = |[from, to]: [CaptureTime; 2]| to.at.as_secs_f64() - from.at.as_secs_f64();
        let corrected = elapsed(ends) - elapsed([from.captured, to.captured]);
        let result = match SectionSpeed::between(ends[0], ends[1], length, relative) {
            Ok(speed) => Answered::Speed(pb::SectionSpeed {
                clock_correction_s: (corrected != 0.0).then_some(corrected),
                ..speed_to_pb(&speed, limit_kmh)
            }),
            Err(refusal) => Answered::Refusal(refusal.to_string()),
        };
        call.found(1);
        Ok(pb::MeasureSectionSpeedResponse { result: Some(result) })
    }

    async fn forecast_vehicle(
        &self,
        call: &mut Call,
        request: pb::ForecastVehicleRequest,
    ) -> Result<pb::ForecastVehicleResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let plate = wrong.take("plate", whole_plate(&request.plate));
        let as_of = request.as_of_time.as_ref();
        let as_of = as_of.and_then(|at| wrong.take("as_of_time", timestamp_from_pb(at)));
        let period = request.open_period.as_ref();
        let period = period.and_then(|it| wrong.take("open_period", open_period(Some(it))));
        wrong.done()?;
        let plate = required(plate)?;
        let now = self.core.parts.clock.now();
        let as_of = as_of.unwrap_or(now);
        let opening = match period {
            Some(period) => {
                call.permits(Method::OpenCamera)?;
                Some(Opening { until: now.plus(period), by: authority.officer().to_owned() })
            }
            None => None,
        };
        let opens = period.map_or_else(String::new, |period| {
            format!(", and closed cameras along its way for {} s", period.as_secs())
        });
        call.asks(format!("where {plate} is next, as of {as_of}{opens}"));
        let asked = plate.clone();
        let ask = move |parts: &ApiParts, seen: &Seen, reach: &Reach| {
            let mut answer = forecast(parts, seen, reach, &plate, as_of)?;
            if let Some(opening) = &opening {
                answer.opened = open_along(parts, seen, &reach.view(parts), &answer, opening)?;
            }
            Ok(answer)
        };
        let answer = self.on_index_of(call, &asked, "forecast", ask).await?;
        call.found(answer.next.len());
        Ok(answer)
    }

    async fn list_camera_grades(
        &self,
        call: &mut Call,
        request: pb::ListCameraGradesRequest,
    ) -> Result<pb::ListCameraGradesResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let question =
            pb::ListCameraGradesRequest { faulty_only: request.faulty_only, ..Default::default() };
        let page =
            Page::from_pb(&mut wrong, "grades", &question, request.page_size, &request.page_token);
        wrong.done()?;
        call.asks(if request.faulty_only { "cameras with faults" } else { "all cameras" });
        let faulty_only = request.faulty_only;
        let ask = move |parts: &ApiParts, seen: &Seen, _: &Reach| {
            let (index, names) = (&*seen.index, Names(&seen.index));
            let (positions, settings) = (&seen.learnt.positions, GradeSettings::default());
            let mut grades = grade_cameras(index, positions, &view_faults(parts), &settings);
            grades.retain(|grade| !faulty_only || !grade.faults.is_empty());
            let (grades, next_page_token) = page.slice(&grades);
            Ok(pb::ListCameraGradesResponse {
                grades: grades.iter().map(|grade| names.grade(grade)).collect(),
                next_page_token,
                coverage: Some(names.coverage(None)),
            })
        };
        let answer = self.on_index(call, "grade cameras", ask).await?;
        call.found(answer.grades.len());
        Ok(answer)
    }

    async fn approve_tactic(
        &self,
        call: &mut Call,
        request: pb::ApproveTacticRequest,
    ) -> Result<pb::ApproveTacticResponse, Problem> {
        const LONGEST: Duration = Duration::from_secs(7 * 86_400);
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let now = self.core.parts.clock.now();
        let tactic = wrong.take("tactic", PatternTactic::from_pb(request.tactic)).flatten();
        if tactic.is_none() {
            wrong.add("tactic", "is required");
        }
        let officer = request.officer.trim().to_owned();
        wrong.check_text("officer", &officer, 200);
        if officer.is_empty() {
            wrong.add("officer", "is required: who may ask");
        }
        if officer == authority.officer() {
            wrong.add("officer", "must be another than who releases: a release takes two people");
        }
        let until = wrong.require("expire_time", request.expire_time.as_ref());
        let until = until.and_then(|at| wrong.take("expire_time", timestamp_from_pb(at)));
        if until.is_some_and(|until| until <= now || until > now.plus(LONGEST)) {
            wrong.add("expire_time", "use a time within the next 7 days");
        }
        wrong.done()?;
        let (Some(tactic), Some(expires)) = (tactic, until) else {
            return Err(Problem::field("tactic", "is required"));
        };
        call.asks(format!("{tactic} for {officer} until {expires}"));
        let release = Release {
            number: 0,
            officer,
            case_number: authority.case_number().to_owned(),
            plate: None,
            tactic: Some(tactic),
            reason: authority.purpose().to_owned(),
            granted_by: authority.officer().to_owned(),
            granted: now,
            expires,
        };
        let grant = move |parts: &ApiParts| Ok(parts.releases.grant(release)?);
        self.core.blocking("release a tactic", grant).await?;
        call.found(1);
        Ok(pb::ApproveTacticResponse {})
    }
}

/// What the cameras' own pictures show to be wrong.
fn view_faults(parts: &ApiParts) -> HashMap<CameraId, Cause> {
    let cause = |reason| match reason {
        StatusReason::Black | StatusReason::Covered | StatusReason::Frozen => Some(Cause::Covered),
        StatusReason::Blurred => Some(Cause::Blurred),
        StatusReason::Moved => Some(Cause::Moved),
        _ => None,
    };
    let cameras = parts.cameras.list().into_iter();
    cameras
        .filter_map(|(camera, health)| Some((camera.id, health.status.reason.and_then(cause)?)))
        .collect()
}

/// Opens closed cameras between the last sighting and the likeliest cameras after it; those that were opened.
fn open_along(
    parts: &ApiParts,
    seen: &Seen,
    view: &View,
    forecast: &pb::ForecastVehicleResponse,
    opening: &Opening,
) -> Result<Vec<String>, Problem> {
    const OPENED_MAX: usize = 8;
    const WAYS_MAX: usize = 5;
    let positions = &seen.learnt.positions;
    let place = |name: &String| camera_id(name).ok().and_then(|id| positions.get(&id).copied());
    let last = forecast.last_seen.as_ref().and_then(|last| place(&last.camera));
    let Some(last) = last else { return Ok(Vec::new()) };
    let next = forecast.next.iter().filter(|next| next.probability >= LIKELY).take(WAYS_MAX);
    let next: Vec<_> = next.filter_map(|next| place(&next.camera)).collect();
    let closed = parts.cameras.list().into_iter().filter_map(|(camera, _)| {
        let fits = !camera.enabled && view.sees_camera(&camera.id);
        fits.then_some((camera.id, camera.position))
    });
    let mut opened = Vec::new();
    for id in along(last, &next, closed, OPENED_MAX) {
        match parts.cameras.open_until(&id, opening.clone()) {
            Ok(()) => opened.push(camera_name(&id)),
            // Somebody changed it in between.
            Err(ControlError::NotFound(_) | ControlError::AlwaysOpen(_)) => {}
            Err(ControlError::TooManyOpen { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(opened)
}

/// The last sighting before a time, and what comes after it.
fn forecast(
    parts: &ApiParts,
    seen: &Seen,
    reach: &Reach,
    plate: &PlateText,
    as_of: Timestamp,
) -> Result<pb::ForecastVehicleResponse, Problem> {
    const CAMERAS_TOLD: usize = 20;
    let (index, learnt) = (&*seen.index, &seen.learnt);
    let key = vehicle(index, plate)?;
    let rows: Vec<_> = index.way(key).iter().take_while(|(at, _)| *at <= as_of).collect();
    let Some((last, before)) = rows.split_last() else { return Err(never_seen(plate)) };
    let (at, camera) = *last;
    let id = |camera| index.camera_id(camera).ok_or_else(|| never_seen(plate));
    let mut later = at;
    let drive = before.iter().rev().take_while(|(earlier, _)| {
        let near = later.since(*earlier) <= HORIZON;
        later = *earlier;
        near
    });
    let drive = drive.map(|(_, camera)| id(*camera).cloned()).collect::<Result<Vec<_>, _>>()?;
    let last_seen = LastSeen { before: &drive, camera: id(camera)?, at };
    // What may not be seen is not in the index.
    let habit = learnt.forecaster.habit(index, key, at, |_, _| true);
    let view = reach.view(parts);
    let told = tell(parts, learnt, &view, (last_seen, &habit), as_of, CAMERAS_TOLD);
    Ok(pb::ForecastVehicleResponse {
        last_seen: Some(Names(index).point((at, camera))),
        next: told.next,
        ended: told.ended,
        passed_unseen: told.passed_unseen,
        elsewhere: told.elsewhere,
        unseen_for: Some(duration_to_pb(as_of.since(at))),
        coverage: Some(Names(index).coverage(None)),
        opened: Vec::new(),
    })
}
