//! One contract for every store, run against the durable one, the durable one with every day sealed after each write,
//! and the one in memory.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::path::Path;
use std::sync::Arc;

use common::*;
use guiji_domain::*;
use guiji_store::{MemoryStore, Store, StoreSettings};
use proptest::prelude::*;

/// Everything that a store is.
trait AnyStore:
    SightingStore
    + PassageSource
    + LikelySearch
    + AlertLog
    + PatrolUnits
    + Watchlist
    + CameraRegistry
    + CoverageStore
    + RoadGraphStore
    + CorrectionStore
{
}
impl<T> AnyStore for T where
    T: SightingStore
        + PassageSource
        + LikelySearch
        + AlertLog
        + PatrolUnits
        + Watchlist
        + CameraRegistry
        + CoverageStore
        + RoadGraphStore
        + CorrectionStore
{
}

/// The durable store, in which every day is sealed after each write.
struct Sealing(Store);

impl Sealing {
    fn open(folder: &Path) -> Self {
        let settings =
            StoreSettings { seal_days: 0, segment_cache_bytes: 20_000, ..settings(folder) };
        Self(Store::open(settings).unwrap())
    }
}

impl SightingStore for Sealing {
    fn record(&self, batch: &[Recorded]) -> Result<Receipt, StoreError> {
        let receipt = self.0.record(batch)?;
        self.0.seal_days(at(1000 * 86_400))?;
        Ok(receipt)
    }
    fn get(&self, id: SightingId) -> Result<Option<Sighting>, StoreError> {
        self.0.get(id)
    }
    fn unfinished(
        &self,
        after: Option<SightingId>,
        limit: usize,
    ) -> Result<Vec<Sighting>, StoreError> {
        self.0.unfinished(after, limit)
    }
    fn search(&self, query: &SightingQuery) -> Result<SightingPage, StoreError> {
        self.0.search(query)
    }
    fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.evidence(digest)
    }
}

impl PassageSource for Sealing {
    fn passages(
        &self,
        span: TimeSpan,
        visit: &mut dyn FnMut(&PlatePassage<'_>),
    ) -> Result<(), StoreError> {
        self.0.passages(span, visit)
    }
}

impl LikelySearch for Sealing {
    fn likely(&self, query: &LikelyQuery) -> Result<Vec<Likely>, StoreError> {
        self.0.likely(query)
    }
    fn times_read(
        &self,
        plates: &[PlateText],
        span: TimeSpan,
        cameras: Option<&[CameraId]>,
        most: usize,
    ) -> Result<Vec<usize>, StoreError> {
        self.0.times_read(plates, span, cameras, most)
    }
}

impl AlertLog for Sealing {
    fn alerts_after(&self, cursor: u64, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.0.alerts_after(cursor, limit)
    }
    fn last_cursor(&self) -> Result<u64, StoreError> {
        self.0.last_cursor()
    }
    fn alerts_of(&self, sightings: &[SightingId]) -> Result<Vec<Alert>, StoreError> {
        self.0.alerts_of(sightings)
    }
    fn alert_history(&self, id: &AlertId) -> Result<Vec<Alert>, StoreError> {
        self.0.alert_history(id)
    }
    fn append(&self, alert: &Alert) -> Result<Option<Alert>, StoreError> {
        let logged = self.0.append(alert)?;
        self.0.seal_days(at(1000 * 86_400))?;
        Ok(logged)
    }
}

impl PatrolUnits for Sealing {
    fn put_unit(&self, unit: &PatrolUnit) -> Result<(), StoreError> {
        self.0.put_unit(unit)
    }
    fn remove_unit(&self, id: &PatrolUnitId) -> Result<bool, StoreError> {
        self.0.remove_unit(id)
    }
    fn units(&self) -> Result<Vec<PatrolUnit>, StoreError> {
        self.0.units()
    }
}

impl Watchlist for Sealing {
    fn put_entries(&self, entries: &[WatchEntry]) -> Result<(), StoreError> {
        self.0.put_entries(entries)
    }
    fn remove_entry(&self, id: &WatchEntryId) -> Result<bool, StoreError> {
        self.0.remove_entry(id)
    }
    fn entry(&self, id: &WatchEntryId) -> Result<Option<WatchEntry>, StoreError> {
        self.0.entry(id)
    }

    fn entries_after(
        &self,
        after: Option<&WatchEntryId>,
        limit: usize,
    ) -> Result<Vec<WatchEntry>, StoreError> {
        self.0.entries_after(after, limit)
    }
    fn entries(&self) -> Result<Vec<WatchEntry>, StoreError> {
        self.0.entries()
    }
}

impl CameraRegistry for Sealing {
    fn put_cameras(&self, cameras: &[Camera]) -> Result<(), StoreError> {
        self.0.put_cameras(cameras)
    }
    fn remove_camera(&self, id: &CameraId) -> Result<bool, StoreError> {
        self.0.remove_camera(id)
    }
    fn cameras(&self) -> Result<Vec<Camera>, StoreError> {
        self.0.cameras()
    }
}

impl CoverageStore for Sealing {
    fn keep_coverage(&self, intervals: &[Coverage]) -> Result<Vec<Kept>, StoreError> {
        self.0.keep_coverage(intervals)
    }
    fn coverage(&self, cameras: &[CameraId], span: TimeSpan) -> Result<Vec<Coverage>, StoreError> {
        self.0.coverage(cameras, span)
    }
}

impl RoadGraphStore for Sealing {
    fn put_road_graph(&self, graph: RoadGraph) -> Result<(), StoreError> {
        self.0.put_road_graph(graph)
    }
    fn road_graph(&self) -> Result<Option<Arc<RoadGraph>>, StoreError> {
        self.0.road_graph()
    }
}

impl CorrectionStore for Sealing {
    fn correct(&self, correction: &Correction) -> Result<bool, StoreError> {
        self.0.correct(correction)
    }
    fn corrections_of(&self, sightings: &[SightingId]) -> Result<Vec<Correction>, StoreError> {
        self.0.corrections_of(sightings)
    }
    fn corrections_in(&self, began: TimeSpan) -> Result<Vec<Correction>, StoreError> {
        self.0.corrections_in(began)
    }
}

macro_rules! contract_suite {
    ($name:ident, $factory:expr) => {
        mod $name {
            contract_suite!(@tests $factory;
                a_sighting_comes_back_as_it_went_in,
                a_final_sighting_replaces_a_provisional_one_and_never_changes,
                recording_twice_is_recording_once,
                the_later_of_a_batch_replaces_the_earlier,
                each_of_a_large_batch_is_accounted_for,
                pictures_come_back_by_their_digest,
                what_does_not_belong_together_is_refused_whole,
                a_batch_over_midnight_is_kept_whole,
                provisional_sightings_are_found_only_when_asked_for,
                a_search_over_midnight_finds_what_was_captured_later_than_it_began,
                what_never_became_final_is_found,
                pages_follow_each_other_in_both_orders,
                ties_are_broken_by_the_id,
                an_area_without_cameras_matches_nothing,
                patterns_are_matched_on_the_text,
                a_limit_of_zero_tells_whether_there_are_any,
                alerts_are_logged_once_a_stage_with_rising_cursors,
                the_latest_alert_of_each_entry_is_known,
                what_was_done_about_an_alert_is_logged_once,
                patrol_units_are_kept_in_order,
                alerts_of_different_days_stand_in_the_order_of_logging,
                the_watch_list_is_kept_in_order,
                the_cameras_are_kept_in_order,
                many_cameras_are_kept_at_once_or_none,
                what_is_not_a_number_is_refused,
                a_lattice_is_kept_nearly,
                a_misread_plate_is_found_and_said_to_be_one,
                every_passage_of_a_span_is_visited_once,
                an_empty_store_answers,
                coverage_grows_and_is_found_by_camera_and_time,
                coverage_is_kept_whole_or_not_at_all,
                a_road_graph_takes_the_place_of_the_one_before,
                corrections_stand_beside_each_other,
            );
        }
    };
    (@tests $factory:expr; $($test:ident),+ $(,)?) => {
        $(#[test]
        fn $test() {
            let (store, _folder) = $factory;
            super::$test(&store);
        })+
    };
}

contract_suite!(durable, {
    let folder = tempfile::tempdir().unwrap();
    (guiji_store::Store::open(crate::common::settings(folder.path())).unwrap(), folder)
});
contract_suite!(sealed, {
    let folder = tempfile::tempdir().unwrap();
    (crate::Sealing::open(folder.path()), folder)
});
contract_suite!(in_memory, (guiji_store::MemoryStore::new(), ()));

fn a_sighting_comes_back_as_it_went_in(store: &dyn AnyStore) {
    let mut plateless = sighting("k2", 2, at(20), PlateState::NotRead);
    plateless.vehicle = Vehicle { class: None, colour: None };
    plateless.direction = None;
    let all = [
        sighting("k1", 1, at(10), plate("浙J12345")),
        plateless,
        sighting("k3", 3, at(30), PlateState::Unreadable),
        sighting("k1", 4, at(-40), plate("浙JD12345")),
    ];
    let receipt = store.record(&all.clone().map(plain)).unwrap();
    assert_eq!(receipt, Receipt { kept: vec![Kept::New; 4], alerts: Vec::new() });
    for sighting in all {
        assert_eq!(store.get(sighting.id).unwrap(), Some(sighting));
    }
}

fn a_final_sighting_replaces_a_provisional_one_and_never_changes(store: &dyn AnyStore) {
    let last = sighting("k1", 1, at(10), plate("浙J12345"));
    let mut first = provisional(&last);
    first.plate = plate("浙J12346");
    first.captured = time(at(11));
    store.record(&[plain(first.clone())]).unwrap();
    assert_eq!(store.get(last.id).unwrap(), Some(first.clone()));
    first.frames = 99;
    store.record(&[plain(first.clone())]).unwrap();
    assert_eq!(store.get(last.id).unwrap(), Some(first.clone()));

    store.record(&[plain(last.clone())]).unwrap();
    assert_eq!(store.get(last.id).unwrap(), Some(last.clone()));
    let mut changed = last.clone();
    changed.frames = 1;
    store.record(&[plain(first), plain(changed)]).unwrap();
    assert_eq!(store.get(last.id).unwrap(), Some(last.clone()));

    // And it is found by its new plate and time alone.
    let mut query = SightingQuery::all_in(TimeSpan::ALL, 10);
    query.provisional = true;
    assert_eq!(store.search(&query).unwrap().sightings, [last]);
    query.plate = Some(PlatePattern::parse("浙J12346").unwrap());
    assert!(store.search(&query).unwrap().sightings.is_empty());
}

fn recording_twice_is_recording_once(store: &dyn AnyStore) {
    let sighting = sighting("k1", 1, at(10), plate("浙J12345"));
    let mut item = with_pictures(sighting, &[(EvidenceKind::Plate, noise(1, 500))]);
    item.alerts = vec![alert(&item.sighting, "w1", AlertStage::Confirmed)];
    assert_eq!(store.record(std::slice::from_ref(&item)).unwrap().alerts.len(), 1);
    let again = store.record(std::slice::from_ref(&item)).unwrap();
    assert_eq!(again, Receipt { kept: vec![Kept::Present], alerts: Vec::new() });
    let found = store.search(&SightingQuery::all_in(TimeSpan::ALL, 10)).unwrap();
    assert_eq!(found, SightingPage { sightings: vec![(*item.sighting).clone()], more: false });
    assert_eq!(store.alerts_after(0, 10).unwrap().len(), 1);
}

fn the_later_of_a_batch_replaces_the_earlier(store: &dyn AnyStore) {
    let last = sighting("k1", 1, at(10), plate("浙J12345"));
    let late = provisional(&last);
    let batch = [plain(provisional(&last)), plain(last.clone()), plain(late)];
    assert_eq!(store.record(&batch).unwrap().kept, [Kept::New, Kept::Replaced, Kept::Present]);
    assert_eq!(store.get(last.id).unwrap(), Some(last));
}

/// A chunk of an import as it may come: over several days, partly there already, with one twice.
fn each_of_a_large_batch_is_accounted_for(store: &dyn AnyStore) {
    let all: Vec<_> = (0..1000)
        .map(|i| sighting("k1", i, at((i as i64 % 3) * 86_400 + i as i64), plate("浙J12345")))
        .collect();
    let there: Vec<_> = all.iter().step_by(7).cloned().map(plain).collect();
    let begun: Vec<_> = all.iter().skip(1).step_by(7).map(|s| plain(provisional(s))).collect();
    store.record(&there).unwrap();
    store.record(&begun).unwrap();
    let batch: Vec<_> = all.iter().chain(&all[..1]).cloned().map(plain).collect();
    let expected = |i: usize| match i % 7 {
        _ if i == 1000 => Kept::Present,
        0 => Kept::Present,
        1 => Kept::Replaced,
        _ => Kept::New,
    };
    let receipt = store.record(&batch).unwrap();
    assert_eq!(receipt.kept, (0..=1000).map(expected).collect::<Vec<_>>());
    let found = store.search(&SightingQuery::all_in(TimeSpan::ALL, 2000)).unwrap().sightings;
    assert_eq!(found.len(), 1000);
    assert_eq!(store.record(&batch).unwrap().kept, [Kept::Present; 1001]);
}

fn pictures_come_back_by_their_digest(store: &dyn AnyStore) {
    let pictures = [
        (EvidenceKind::Plate, noise(1, 900)),
        (EvidenceKind::Vehicle, noise(2, 5000)),
        (EvidenceKind::Frame, noise(3, 70_000)),
        (EvidenceKind::Frame, Vec::new()),
    ];
    // The same picture as two kinds, and of two sightings.
    let twice = [(EvidenceKind::Plate, noise(4, 10)), (EvidenceKind::Vehicle, noise(4, 10))];
    let items = [
        with_pictures(sighting("k1", 1, at(10), plate("浙J12345")), &pictures),
        with_pictures(sighting("k1", 2, at(20), plate("浙J12345")), &twice),
        with_pictures(sighting("k1", 3, at(-20), plate("浙J12345")), &twice),
    ];
    store.record(&items).unwrap();
    for (_, bytes) in pictures.iter().chain(&twice) {
        assert_eq!(store.evidence(&digest(bytes)).unwrap().as_ref(), Some(bytes));
    }
    assert_eq!(store.evidence(&digest(b"something else")).unwrap(), None);
}

fn what_does_not_belong_together_is_refused_whole(store: &dyn AnyStore) {
    let right = plain(sighting("k1", 1, at(10), plate("浙J12345")));
    let picture = [(EvidenceKind::Plate, noise(1, 50))];
    let other = sighting("k1", 2, at(20), PlateState::NotRead);
    let mut missing = with_pictures(other.clone(), &picture);
    missing.pictures.clear();
    let mut wrong = with_pictures(other.clone(), &picture);
    wrong.pictures = vec![Arc::from(noise(2, 50))];
    let mut stray = plain(other);
    stray.alerts = vec![alert(&right.sighting, "w1", AlertStage::Confirmed)];
    for item in [missing, wrong, stray] {
        let error = store.record(&[right.clone(), item]).unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
        assert_eq!(store.get(right.sighting.id).unwrap(), None);
    }
}

fn a_batch_over_midnight_is_kept_whole(store: &dyn AnyStore) {
    let batch: Vec<_> = (-3..3)
        .map(|i| {
            let sighting = sighting("k1", 1, at(i * 10 + 1), plate("浙J12345"));
            let mut item = with_pictures(sighting, &[(EvidenceKind::Plate, noise(i as u64, 300))]);
            item.alerts = vec![alert(&item.sighting, "w1", AlertStage::Confirmed)];
            item
        })
        .rev() // the later day first
        .collect();
    let Receipt { kept, alerts } = store.record(&batch).unwrap();
    assert_eq!(kept, [Kept::New; 6]);
    let ids: Vec<_> = alerts.iter().map(|a| a.id.sighting).collect();
    assert_eq!(ids, batch.iter().map(|item| item.sighting.id).collect::<Vec<_>>());
    assert!(alerts.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
    for item in &batch {
        assert_eq!(store.get(item.sighting.id).unwrap().as_ref(), Some(&*item.sighting));
        let digest = item.sighting.evidence[0].digest;
        assert_eq!(store.evidence(&digest).unwrap().as_deref(), Some(&*item.pictures[0]));
    }
    assert_eq!(store.alerts_after(0, 100).unwrap(), alerts);
}

fn provisional_sightings_are_found_only_when_asked_for(store: &dyn AnyStore) {
    let sighting = provisional(&sighting("k1", 1, at(10), plate("浙J12345")));
    store.record(&[plain(sighting.clone())]).unwrap();
    let mut query = SightingQuery::all_in(TimeSpan::ALL, 10);
    assert!(store.search(&query).unwrap().sightings.is_empty());
    query.provisional = true;
    assert_eq!(store.search(&query).unwrap().sightings, [sighting]);
}

fn what_never_became_final_is_found(store: &dyn AnyStore) {
    let mut all: Vec<_> =
        (0..7).map(|i| sighting("k1", i, at((i as i64 - 3) * 40_000), plate("浙J12345"))).collect();
    let begun: Vec<_> = all.iter().map(|s| plain(provisional(s))).collect();
    store.record(&begun).unwrap();
    let ended = [all.remove(5), all.remove(2)].map(plain);
    store.record(&ended).unwrap();
    let page = |after, limit| store.unfinished(after, limit).unwrap();
    let left: Vec<_> = all.iter().map(provisional).collect();
    assert_eq!(page(None, 100), left);
    assert_eq!(page(None, 2), left[..2]);
    assert_eq!(page(Some(left[1].id), 2), left[2..4]);
    assert_eq!(page(Some(left[4].id), 2), []);
}

fn a_search_over_midnight_finds_what_was_captured_later_than_it_began(store: &dyn AnyStore) {
    // Began one second before midnight, captured one second after; and one that stood for two days.
    let late = sighting("k1", 1, at(-1), plate("浙J12345"));
    let mut parked = sighting("k1", 2, at(-10), plate("浙J12345"));
    parked.captured = time(at(2 * 86_400));
    store.record(&[plain(late.clone()), plain(parked.clone())]).unwrap();
    let find = |from, to| {
        let span = TimeSpan::new(at(from), at(to)).unwrap();
        store.search(&SightingQuery::all_in(span, 10)).unwrap().sightings
    };
    assert_eq!(find(0, 10), [late]);
    assert_eq!(find(-10, -1), []);
    assert_eq!(find(86_400, 3 * 86_400), [parked]);
}

fn pages_follow_each_other_in_both_orders(store: &dyn AnyStore) {
    let mut all: Vec<_> = (0..25)
        .map(|i| {
            sighting(["k1", "k2"][i % 2], i as u64, at((i as i64 - 12) * 7), plate("浙J12345"))
        })
        .collect();
    store.record(&all.iter().cloned().map(plain).collect::<Vec<_>>()).unwrap();
    for order in [SortOrder::OldestFirst, SortOrder::NewestFirst] {
        all.sort_by_key(|s| (s.captured.at, s.id));
        if order == SortOrder::NewestFirst {
            all.reverse();
        }
        let mut query = SightingQuery::all_in(TimeSpan::ALL, 10);
        query.order = order;
        let mut found = Vec::new();
        loop {
            let page = store.search(&query).unwrap();
            assert!(page.sightings.len() == 10 || !page.more);
            found.extend(page.sightings);
            query.after = found.last().map(|s: &Sighting| (s.captured.at, s.id));
            if !page.more {
                break;
            }
        }
        assert_eq!(found, all);
    }
}

fn ties_are_broken_by_the_id(store: &dyn AnyStore) {
    let mut all: Vec<_> = (0..8)
        .map(|i| {
            let mut s = sighting("k1", i, at(-(i as i64)), plate("浙J12345"));
            s.captured = time(at(5));
            s
        })
        .collect();
    store.record(&all.iter().cloned().map(plain).collect::<Vec<_>>()).unwrap();
    all.sort_by_key(|s| s.id);
    let mut query = SightingQuery::all_in(TimeSpan::at(at(5)), 3);
    let first = store.search(&query).unwrap();
    assert_eq!((first.sightings.as_slice(), first.more), (&all[..3], true));
    query.after = Some((at(5), all[2].id));
    query.limit = 5;
    let rest = store.search(&query).unwrap();
    assert_eq!((rest.sightings.as_slice(), rest.more), (&all[3..], false));
}

fn an_area_without_cameras_matches_nothing(store: &dyn AnyStore) {
    store.record(&[plain(sighting("k1", 1, at(10), plate("浙J12345")))]).unwrap();
    let mut query = SightingQuery::all_in(TimeSpan::ALL, 10);
    query.cameras = Some(Vec::new());
    assert!(store.search(&query).unwrap().sightings.is_empty());
    query.cameras = Some(vec![CameraId::new("k9").unwrap()]);
    assert!(store.search(&query).unwrap().sightings.is_empty());
    query.cameras = Some(vec![CameraId::new("k9").unwrap(), CameraId::new("k1").unwrap()]);
    assert_eq!(store.search(&query).unwrap().sightings.len(), 1);
}

fn patterns_are_matched_on_the_text(store: &dyn AnyStore) {
    let texts = ["浙J12345", "浙JD12345", "浙A12345", "苏J12345", "浙J99999"];
    let batch: Vec<_> = (0u64..)
        .zip(texts)
        .map(|(i, text)| plain(sighting("k1", i, at(i as i64), plate(text))))
        .chain([plain(sighting("k1", 77, at(77), PlateState::Unreadable))])
        .collect();
    store.record(&batch).unwrap();
    for (pattern, expected) in [
        ("浙J*", &["浙J12345", "浙JD12345", "浙J99999"][..]),
        ("浙?12345", &["浙J12345", "浙A12345"]),
        ("*345", &["浙J12345", "浙JD12345", "浙A12345", "苏J12345"]),
        ("[浙苏]J12345", &["浙J12345", "苏J12345"]),
        ("浙J12345", &["浙J12345"]),
        ("京*", &[]),
        ("*", &texts),
    ] {
        let mut query = SightingQuery::all_in(TimeSpan::ALL, 10);
        query.plate = Some(PlatePattern::parse(pattern).unwrap());
        let page = store.search(&query).unwrap();
        let found: Vec<_> =
            page.sightings.iter().map(|s| s.plate_text().unwrap().as_str()).collect();
        assert_eq!(found, expected, "{pattern}");
    }
}

fn a_limit_of_zero_tells_whether_there_are_any(store: &dyn AnyStore) {
    let query = SightingQuery::all_in(TimeSpan::ALL, 0);
    let empty = SightingPage { sightings: Vec::new(), more: false };
    assert_eq!(store.search(&query).unwrap(), empty);
    store.record(&[plain(sighting("k1", 1, at(10), plate("浙J12345")))]).unwrap();
    assert_eq!(store.search(&query).unwrap(), SightingPage { more: true, ..empty });
    assert_eq!(store.alerts_after(0, 0).unwrap(), []);
}

fn alerts_are_logged_once_a_stage_with_rising_cursors(store: &dyn AnyStore) {
    let last = sighting("k1", 1, at(10), plate("浙J12345"));
    let with = |sighting: Sighting, alerts: &[(&str, AlertStage)]| Recorded {
        alerts: alerts.iter().map(|(entry, stage)| alert(&sighting, entry, *stage)).collect(),
        ..plain(sighting)
    };
    use AlertStage::{Confirmed, Provisional, Withdrawn};
    let first = store
        .record(&[with(provisional(&last), &[("w1", Provisional), ("w2", Provisional)])])
        .unwrap()
        .alerts;
    assert_eq!(first.len(), 2);
    assert!(first[0].cursor >= 1 && first[0].cursor < first[1].cursor);
    assert_eq!(first[0], Alert { cursor: first[0].cursor, ..alert(&last, "w1", Provisional) });

    let again = store
        .record(&[with(
            last.clone(),
            &[("w2", Provisional), ("w1", Confirmed), ("w2", Withdrawn), ("w1", Confirmed)],
        )])
        .unwrap()
        .alerts;
    let stages: Vec<_> = again.iter().map(|a| (a.id.entry.as_str(), a.stage)).collect();
    assert_eq!(stages, [("w1", Confirmed), ("w2", Withdrawn)]);
    assert!(first[1].cursor < again[0].cursor && again[0].cursor < again[1].cursor);

    let log: Vec<_> = first.into_iter().chain(again).collect();
    assert_eq!(store.alerts_after(0, 10).unwrap(), log);
    assert_eq!(store.alerts_after(log[1].cursor, 1).unwrap(), log[2..3]);
    assert_eq!(store.alerts_after(log[3].cursor, 10).unwrap(), []);
    assert_eq!(store.alerts_after(u64::MAX, 10).unwrap(), []);
    assert_eq!(store.last_cursor().unwrap(), log[3].cursor);
    // An alert may still come with a sighting that is final already.
    assert_eq!(store.record(&[with(last, &[("w3", Confirmed)])]).unwrap().alerts.len(), 1);
}

fn the_latest_alert_of_each_entry_is_known(store: &dyn AnyStore) {
    let one = sighting("k1", 1, at(10), plate("浙J12345"));
    let other = sighting("k1", 2, at(10), plate("浙J12345"));
    for (sighting, entry, stage) in [
        (&one, "w2", AlertStage::Provisional),
        (&one, "w1", AlertStage::Provisional),
        (&other, "w1", AlertStage::Provisional),
        (&one, "w2", AlertStage::Withdrawn),
    ] {
        let alerts = vec![alert(sighting, entry, stage)];
        store.record(&[Recorded { alerts, ..plain(provisional(sighting)) }]).unwrap();
    }
    let silent = sighting("k1", 3, at(10), plate("浙J12345"));
    let later = sighting("k1", 4, at(90_000), plate("浙J12345"));
    let alerts = vec![alert(&later, "w1", AlertStage::Confirmed)];
    store.record(&[plain(silent.clone()), Recorded { alerts, ..plain(later.clone()) }]).unwrap();
    let latest = |sightings: &[SightingId]| {
        let alerts = store.alerts_of(sightings).unwrap();
        alerts.iter().map(|a| (a.id.entry.to_string(), a.stage)).collect::<Vec<_>>()
    };
    let of_one = [("w1".into(), AlertStage::Provisional), ("w2".into(), AlertStage::Withdrawn)];
    assert_eq!(latest(&[one.id]), of_one);
    assert_eq!(latest(&[silent.id, SightingId::from_u128(0)]), []);
    assert_eq!(latest(&[]), []);
    let both = store.alerts_of(&[later.id, one.id, silent.id, one.id]).unwrap();
    let mut ids: Vec<_> = both.iter().map(|a| (a.id.sighting, a.id.entry.as_str())).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, [(one.id, "w1"), (one.id, "w2"), (later.id, "w1")]);
}

fn what_was_done_about_an_alert_is_logged_once(store: &dyn AnyStore) {
    use AlertStage::{Acknowledged, Confirmed, EscalatedToNeighbours};
    // Of a vehicle with pictures, which need not be given again.
    let seen = sighting("k1", 1, at(10), plate("浙J12345"));
    let item = with_pictures(seen.clone(), &[(EvidenceKind::Plate, b"plate".to_vec())]);
    let unit = PatrolUnitId::new("east").unwrap();
    let first = Alert { units: vec![unit.clone()], ..alert(&seen, "w1", Confirmed) };
    let second = alert(&seen, "w2", Confirmed);
    let logged = store.record(&[Recorded { alerts: vec![first, second], ..item }]).unwrap().alerts;
    let [first, other] = <[Alert; 2]>::try_from(logged).unwrap();
    let up = Alert { stage: EscalatedToNeighbours, raised: at(70), ..first.clone() };
    let taken = Alert {
        stage: Acknowledged,
        acknowledgement: Some(Acknowledgement {
            officer: "Wang".into(),
            unit: Some(unit),
            note: "at the bridge".into(),
        }),
        ..up.clone()
    };
    let up = store.append(&up).unwrap().unwrap();
    let taken = store.append(&taken).unwrap().unwrap();
    assert!(other.cursor < up.cursor && up.cursor < taken.cursor);
    let late = Acknowledgement { officer: "Li".into(), unit: None, note: String::new() };
    let late = Alert { acknowledgement: Some(late), ..taken.clone() };
    assert_eq!(store.append(&late).unwrap(), None, "the first counts");
    let stranger = AlertId { entry: WatchEntryId::new("w3").unwrap(), ..first.id.clone() };
    assert_eq!(store.append(&Alert { id: stranger.clone(), ..taken.clone() }).unwrap(), None);
    let never = sighting("k1", 2, at(90_000), plate("浙J12345"));
    assert_eq!(store.append(&alert(&never, "w1", Acknowledged)).unwrap(), None);

    assert_eq!(store.alert_history(&first.id).unwrap(), [first.clone(), up.clone(), taken.clone()]);
    assert_eq!(store.alert_history(&stranger).unwrap(), []);
    assert_eq!(store.last_cursor().unwrap(), taken.cursor);
    assert_eq!(store.alerts_after(other.cursor, 9).unwrap(), [up, taken]);
    // Findings alone: a confirmed alert stays confirmed for who asks what became of the sighting.
    assert_eq!(store.alerts_of(&[seen.id]).unwrap(), [first, other.clone()]);
}

fn patrol_units_are_kept_in_order(store: &dyn AnyStore) {
    let id = |id: &str| PatrolUnitId::new(id).unwrap();
    let point = |lat, lon| GeoPoint::new(lat, lon).unwrap();
    let east = PatrolUnit {
        id: id("east"),
        name: "East ring, night".into(),
        duty: PatrolDuty::Patrol,
        cameras: ["k1", "k2"].map(|id| CameraId::new(id).unwrap()).to_vec(),
        area: Some(GeoArea::Circle { centre: point(28.1, 121.3), radius_m: 1234.5678 }),
        shifts: vec![DailyHours::new(1320, 360).unwrap(), DailyHours::new(0, 1440).unwrap()],
        neighbours: vec![id("desk")],
    };
    let (south_west, north_east) = (point(28.0, 121.0), point(28.2, 121.4));
    let desk = PatrolUnit {
        id: id("desk"),
        name: "Duty desk".into(),
        duty: PatrolDuty::ControlRoom,
        cameras: Vec::new(),
        area: Some(GeoArea::Rectangle { south_west, north_east }),
        shifts: Vec::new(),
        neighbours: Vec::new(),
    };
    store.put_unit(&PatrolUnit { name: "old".into(), ..east.clone() }).unwrap();
    store.put_unit(&east).unwrap();
    store.put_unit(&desk).unwrap();
    assert_eq!(store.units().unwrap(), [desk.clone(), east.clone()]);
    let own = PatrolUnit { neighbours: vec![id("east")], ..east.clone() };
    assert!(matches!(store.put_unit(&own), Err(StoreError::Invalid(_))));
    assert!(store.remove_unit(&east.id).unwrap() && !store.remove_unit(&east.id).unwrap());
    assert_eq!(store.units().unwrap(), [desk]);
}

fn alerts_of_different_days_stand_in_the_order_of_logging(store: &dyn AnyStore) {
    let mut log = Vec::new();
    for (i, day) in [3, 1, 2, 1, 3].into_iter().enumerate() {
        let sighting = sighting("k1", i as u64, at(day * 86_400), plate("浙J12345"));
        let alerts = vec![alert(&sighting, "w1", AlertStage::Confirmed)];
        log.extend(store.record(&[Recorded { alerts, ..plain(sighting) }]).unwrap().alerts);
    }
    assert_eq!(store.alerts_after(0, 10).unwrap(), log);
    assert_eq!(store.alerts_after(log[1].cursor, 2).unwrap(), log[2..4]);
}

fn the_watch_list_is_kept_in_order(store: &dyn AnyStore) {
    let mut second = entry("w2");
    second.target = WatchTarget::Pattern(PlatePattern::parse("浙J?12*").unwrap());
    second.cameras = vec![CameraId::new("k1").unwrap(), CameraId::new("k2").unwrap()];
    second.threshold = 0.875;
    store.put_entry(&second).unwrap();
    store.put_entry(&entry("w10")).unwrap();
    assert_eq!(store.entries().unwrap(), [entry("w10"), second.clone()]);
    second.reason = "found".into();
    second.target = WatchTarget::Description;
    second.vehicle = VehicleDescription {
        class: Some(VehicleClass::Truck),
        colour: Some(VehicleColour::White),
        heading: Some(Heading::Receding),
        course: Some(CompassPoint::SouthWest),
    };
    second.area = Some(GeoArea::Rectangle {
        south_west: GeoPoint::new(28.5, 121.0).unwrap(),
        north_east: GeoPoint::new(28.75, 121.5).unwrap(),
    });
    let weekend = Weekdays::of([Weekday::Saturday, Weekday::Sunday]);
    second.hours = Some(DailyHours::new(1380, 300).unwrap().on(weekend));
    second.approval = Some(Approval { by: "chief".into(), at: at(1) });
    store.put_entry(&second).unwrap();
    assert_eq!(store.entries().unwrap()[1], second);
    assert_eq!(store.entry(&second.id).unwrap().as_ref(), Some(&second));
    assert_eq!(store.entry(&WatchEntryId::new("none").unwrap()).unwrap(), None);
    let after = |id: Option<&str>, limit| {
        let id = id.map(|id| WatchEntryId::new(id).unwrap());
        store.entries_after(id.as_ref(), limit).unwrap()
    };
    assert_eq!(after(None, 1), [entry("w10")]);
    assert_eq!(after(Some("w10"), 9), [second.clone()]);
    assert_eq!(after(Some("w2"), 9), []);
    // All or none.
    let wrong = WatchEntry { threshold: f32::NAN, ..entry("w4") };
    assert!(store.put_entries(&[entry("w3"), wrong]).is_err());
    assert_eq!(store.entries().unwrap().len(), 2);
    assert!(store.remove_entry(&second.id).unwrap());
    assert!(!store.remove_entry(&second.id).unwrap());
    assert_eq!(store.entries().unwrap(), [entry("w10")]);
}

fn the_cameras_are_kept_in_order(store: &dyn AnyStore) {
    let mut second = camera("k2");
    second.credentials =
        Some(Credentials { username: "admin".into(), password: "p@ss 'word\"".into() });
    second.bearing_deg = None;
    second.transport = Transport::Udp;
    second.pace = Pace::AsFastAsPossible;
    second.policy = DecodePolicy::KeyframeOnly;
    second.recorded_at = Some(at(5));
    second.lanes = Some(3);
    second.substream = Some(StreamAddress::new("rtsp://h/low").unwrap());
    second.onvif = Some(OnvifAddress::new("http://h/onvif/device_service").unwrap());
    second.enabled = false;
    store.put_camera(&second).unwrap();
    store.put_camera(&camera("k1")).unwrap();
    assert_eq!(store.cameras().unwrap(), [camera("k1"), second.clone()]);
    second.credentials = None;
    store.put_camera(&second).unwrap();
    assert_eq!(store.cameras().unwrap()[1], second);
    assert!(store.remove_camera(&second.id).unwrap());
    assert!(!store.remove_camera(&second.id).unwrap());
    assert_eq!(store.cameras().unwrap(), [camera("k1")]);
}

fn many_cameras_are_kept_at_once_or_none(store: &dyn AnyStore) {
    let mut moved = camera("k1");
    store.put_camera(&moved).unwrap();
    moved.position = GeoPoint::new(28.7, 121.5).unwrap();
    let many = [camera("k2"), moved.clone()];
    store.put_cameras(&many).unwrap();
    assert_eq!(store.cameras().unwrap(), [moved.clone(), camera("k2")]);
    let wrong = Camera { analysed_fps_max: f64::NAN, ..camera("k4") };
    assert!(store.put_cameras(&[camera("k3"), wrong]).is_err());
    assert_eq!(store.cameras().unwrap(), [moved, camera("k2")]);
    store.put_cameras(&[]).unwrap();
}

fn what_is_not_a_number_is_refused(store: &dyn AnyStore) {
    for change in [
        |c: &mut Camera| c.bearing_deg = Some(f64::NAN),
        |c: &mut Camera| c.analysed_fps_max = f64::INFINITY,
        |c: &mut Camera| c.analysed_fps_max = 0.0,
    ] {
        let mut wrong = camera("k1");
        change(&mut wrong);
        assert!(matches!(store.put_camera(&wrong), Err(StoreError::Invalid(_))));
    }
    let wrong = WatchEntry { threshold: f32::NAN, ..entry("w1") };
    assert!(matches!(store.put_entry(&wrong), Err(StoreError::Invalid(_))));
    assert!(store.cameras().unwrap().is_empty() && store.entries().unwrap().is_empty());
}

fn a_misread_plate_is_found_and_said_to_be_one(store: &dyn AnyStore) {
    let certain = |text: &str| match plate(text) {
        PlateState::Read(read) => {
            let lattice = Lattice::certain(&read.text);
            PlateState::Read(FusedPlate { lattice, ..read })
        }
        state => state,
    };
    // The lattice of `plate` gives each next character of the alphabet 0.0625, so that this may have been 浙J12345.
    let misread = sighting("k1", 1, at(10), plate("浙J12344"));
    let right = sighting("k1", 2, at(20), plate("浙J12345"));
    let again = sighting("k2", 3, at(86_400), plate("浙J12345"));
    let others = [
        sighting("k1", 4, at(30), certain("浙J12344")), // read without a doubt
        sighting("k1", 5, at(40), plate("浙J11234")),   // in too many places
        provisional(&sighting("k1", 6, at(50), plate("浙J12345"))),
        sighting("k1", 7, at(60), PlateState::Unreadable),
        sighting("k1", 8, at(20 * 86_400), plate("浙J12345")), // too late
    ];
    let all = [&misread, &right, &again].into_iter().chain(&others);
    store.record(&all.cloned().map(plain).collect::<Vec<_>>()).unwrap();
    let mut query = LikelyQuery {
        plate: PlateText::parse("浙J12345").unwrap(),
        span: TimeSpan::new(at(0), at(10 * 86_400)).unwrap(),
        cameras: None,
        hours: None,
        read_as: ReadAs::Any,
        limit: LikelyQuery::LIMIT_DEFAULT,
        stop: Stop::default(),
    };
    let likely = store.likely(&query).unwrap();
    let shown: Vec<_> = likely.iter().map(|l| (l.sighting.id, l.misread)).collect();
    assert_eq!(shown, [(again.id, false), (right.id, false), (misread.id, true)]);
    assert_eq!(likely[2].sighting, misread);
    let (sure, unsure) = (0.875_f32.powi(7), 0.875_f32.powi(6) * 0.0625);
    assert!((likely[0].probability - sure).abs() < 1e-5, "{likely:?}");
    assert!((likely[2].probability - unsure).abs() < 1e-5, "{likely:?}");
    for (read_as, answers) in [(ReadAs::Sought, &likely[..2]), (ReadAs::Another, &likely[2..])] {
        let query = LikelyQuery { read_as, ..query.clone() };
        assert_eq!(store.likely(&query).unwrap(), answers);
    }
    query.limit = 1;
    assert_eq!(store.likely(&query).unwrap(), likely[..1]);
    // The limit is on what the cameras saw, not on what is left of the others.
    query.cameras = Some(vec![CameraId::new("k1").unwrap()]);
    assert_eq!(store.likely(&query).unwrap(), likely[1..2]);
    let texts = ["浙J12345", "浙J12344", "浙J00000"].map(|text| PlateText::parse(text).unwrap());
    let times = |cameras: Option<&[CameraId]>, span, most| {
        store.times_read(&texts, span, cameras, most).unwrap()
    };
    assert_eq!(times(None, query.span, 9), [2, 2, 0]);
    assert_eq!(times(None, TimeSpan::ALL, 9), [3, 2, 0]);
    assert_eq!(times(None, TimeSpan::ALL, 1), [1, 1, 0]);
    assert_eq!(times(query.cameras.as_deref(), query.span, 9), [1, 2, 0]);
    assert_eq!(times(Some(&[]), query.span, 9), [0, 0, 0]);
    query.limit = 0;
    assert_eq!(store.likely(&query).unwrap(), []);
}

/// Whatever the probabilities: a candidate loses at most a sixteenth of what it or its position has left.
fn a_lattice_is_kept_nearly(store: &dyn AnyStore) {
    let state = plate_with("浙J12345", [0.83, 0.111, 0.0317, 0.0009]);
    let sighting = sighting("k1", 1, at(10), state);
    store.record(&[plain(sighting.clone())]).unwrap();
    let kept = store.get(sighting.id).unwrap().unwrap();
    let (PlateState::Read(was), PlateState::Read(is)) = (&sighting.plate, &kept.plate) else {
        panic!("{kept:?}");
    };
    assert_eq!((&is.text, is.confidence, is.reads), (&was.text, was.confidence, was.reads));
    for (was, is) in was.lattice.positions().iter().zip(is.lattice.positions()) {
        for candidate in was.candidates() {
            let (p, q) = (candidate.probability, is.probability(candidate.character));
            assert!((p - q).abs() <= p.min(1.0 - p) / 16.0, "{p} {q}");
        }
    }
}

fn every_passage_of_a_span_is_visited_once(store: &dyn AnyStore) {
    const DAY: i64 = 86_400;
    let mut plateless = sighting("k2", 2, at(20), PlateState::NotRead);
    plateless.vehicle = Vehicle { class: None, colour: None };
    let mut unjudged = sighting("k3", 3, at(DAY + 5), plate("浙J12345"));
    unjudged.vehicle = Vehicle { class: None, colour: None };
    let all = [
        sighting("k1", 1, at(10), plate("浙J12345")),
        plateless,
        unjudged,
        sighting("k1", 4, at(DAY + 9), plate("浙JD12345")),
        sighting("k2", 5, at(2 * DAY - 1), plate("浙J12345")),
        provisional(&sighting("k1", 6, at(2 * DAY + 9), plate("浙J99999"))),
    ];
    // In two batches, so that a day is sealed in part and loose in part where sealing comes between.
    store.record(&all[..3].iter().cloned().map(plain).collect::<Vec<_>>()).unwrap();
    store.record(&all[3..].iter().cloned().map(plain).collect::<Vec<_>>()).unwrap();
    for (first, last) in [(i64::MIN, i64::MAX), (at(10).as_nanos() + 1, at(DAY + 9).as_nanos())] {
        let span =
            TimeSpan::new(Timestamp::from_nanos(first), Timestamp::from_nanos(last)).unwrap();
        let mut visited = Vec::new();
        store
            .passages(span, &mut |p| {
                visited.push((p.at, p.camera.clone(), p.plate.clone(), p.class, p.colour));
            })
            .unwrap();
        visited.sort();
        let wanted = all.iter().filter(|s| {
            s.stage == SightingStage::Final
                && s.plate_text().is_some()
                && span.contains(s.captured.at)
        });
        let mut wanted: Vec<_> = wanted
            .map(|s| {
                let Vehicle { class, colour } = s.vehicle;
                let plate = s.plate_text().unwrap().clone();
                (s.captured.at, s.camera.clone(), plate, class.map(|c| c.0), colour.map(|c| c.0))
            })
            .collect();
        wanted.sort();
        assert_eq!(visited, wanted);
        assert!(visited.len() >= 2, "{visited:?}");
    }
}

fn an_empty_store_answers(store: &dyn AnyStore) {
    assert_eq!(store.record(&[]).unwrap(), Receipt::default());
    assert_eq!(store.get(SightingId::from_u128(u128::MAX)).unwrap(), None);
    assert_eq!((store.last_cursor().unwrap(), store.alerts_after(0, 9).unwrap()), (0, vec![]));
    assert_eq!(store.evidence(&Digest([0; 32])).unwrap(), None);
}

fn coverage(camera: &str, first: i64, last: i64, state: CoverageState) -> Coverage {
    Coverage {
        camera: CameraId::new(camera).unwrap(),
        span: TimeSpan::new(at(first), at(last)).unwrap(),
        state,
        cause: "because".into(),
    }
}

fn coverage_grows_and_is_found_by_camera_and_time(store: &dyn AnyStore) {
    use CoverageState::{Blind, Seeing};
    let (a, b) = (coverage("k1", 0, 10, Seeing), coverage("k1", 10, 20, Blind));
    let (c, longer) = (coverage("k2", 5, 90, Seeing), coverage("k1", 0, 12, Seeing));
    let kept = store.keep_coverage(&[c.clone(), b.clone(), a.clone(), a.clone()]).unwrap();
    assert_eq!(kept, [Kept::New, Kept::New, Kept::New, Kept::Present]);
    assert_eq!(store.keep_coverage(&[longer.clone(), a]).unwrap(), [Kept::Replaced, Kept::Present]);
    let ids = ["k2", "k1", "k3", "k1"].map(|id| CameraId::new(id).unwrap());
    let found = |first, last, cameras: &[CameraId]| {
        store.coverage(cameras, TimeSpan::new(at(first), at(last)).unwrap()).unwrap()
    };
    assert_eq!(found(0, 100, &ids), [longer.clone(), b.clone(), c.clone()]);
    assert_eq!(found(12, 12, &ids), [longer, b.clone(), c.clone()], "ends are included");
    assert_eq!(found(13, 100, &ids[..1]), std::slice::from_ref(&c));
    assert_eq!(found(20, 40, &ids), [b, c]);
    assert_eq!(found(91, 100, &ids), []);
    assert_eq!(found(0, 100, &[]), []);
}

fn coverage_is_kept_whole_or_not_at_all(store: &dyn AnyStore) {
    let right = coverage("k1", 0, 10, CoverageState::Unknown);
    let wrong = Coverage { cause: "a\nb".into(), ..coverage("k1", 50, 60, CoverageState::Blind) };
    let error = store.keep_coverage(&[right.clone(), wrong]).unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(store.coverage(&[right.camera], TimeSpan::ALL).unwrap(), []);
}

fn a_road_graph_takes_the_place_of_the_one_before(store: &dyn AnyStore) {
    assert_eq!(store.road_graph().unwrap(), None);
    let graph = |length_m| {
        let node = |lat, lon| GeoPoint::new(lat, lon).unwrap();
        let edge = RoadEdge { from: 0, to: 1, length_m, limit_kmh: Some(70.0), one_way: true };
        RoadGraph::new(vec![node(29.1, 121.4), node(29.2, 121.5)], vec![edge]).unwrap()
    };
    for length_m in [14_750.5, 15_000.25] {
        store.put_road_graph(graph(length_m)).unwrap();
        assert_eq!(store.road_graph().unwrap().as_deref(), Some(&graph(length_m)));
    }
    let (one, other) = (store.road_graph().unwrap().unwrap(), store.road_graph().unwrap().unwrap());
    assert!(Arc::ptr_eq(&one, &other), "as long as no other is put, the same one");
}

fn corrections_stand_beside_each_other(store: &dyn AnyStore) {
    let seen = |track, day: i64| sighting("k1", track, at(day * 86_400), PlateState::NotRead).id;
    let correction = |sighting, plate: &str, secs| Correction {
        sighting,
        plate: PlateText::parse(plate).unwrap(),
        at: at(secs),
        officer: "Wang".into(),
        case_number: "C1".into(),
        reason: "read from the frame".into(),
    };
    let first = correction(seen(1, 0), "浙J12345", 100);
    let second = correction(seen(1, 0), "浙J12346", 50);
    let other = correction(seen(2, 3), "浙J12345", 10);
    assert!(store.correct(&other).unwrap());
    assert!(store.correct(&first).unwrap());
    assert!(
        !store.correct(&Correction { at: at(200), ..first.clone() }).unwrap(),
        "the same again"
    );
    assert!(store.correct(&second).unwrap());
    assert!(store.correct(&Correction { at: at(200), ..first.clone() }).unwrap(), "after another");
    let again = Correction { at: at(200), ..first.clone() };
    let ids = [seen(2, 3), seen(1, 0), seen(9, 9)];
    let all = [first, second, again, other.clone()];
    assert_eq!(store.corrections_of(&ids).unwrap(), all);
    assert_eq!(store.corrections_in(TimeSpan::ALL).unwrap(), all);
    let later = TimeSpan::new(at(86_400), at(3 * 86_400)).unwrap();
    assert_eq!(store.corrections_in(later).unwrap(), std::slice::from_ref(&other));
    let blank = Correction { reason: " ".into(), ..other };
    assert!(matches!(store.correct(&blank).unwrap_err(), StoreError::Invalid(_)));
}

fn any_sighting() -> impl Strategy<Value = Sighting> {
    let choice = |n: usize| 0..n;
    (
        (choice(3), 0..12u64, -3..3i64, choice(20)),
        (0..3i64, choice(8), choice(5), choice(4), any::<bool>()),
    )
        .prop_map(|((camera, track, day, second), (late, text, class, colour, last))| {
            let texts = [
                "浙J12345",
                "浙J12346",
                "浙JD12345",
                "浙A00001",
                "苏E5K888",
                "粤B12345",
                "浙J99999",
            ];
            let state = texts.get(text).map_or(PlateState::NotRead, |text| plate(text));
            let started = at(day * 43_200 + second as i64);
            let mut s = sighting(["k1", "k2", "k3"][camera], track, started, state);
            s.captured = time(at(day * 43_200 + second as i64 + late * 43_200));
            s.vehicle.class = VehicleClass::ALL.get(class).map(|class| (*class, 0.5));
            s.vehicle.colour = VehicleColour::ALL[..3].get(colour).map(|colour| (*colour, 0.5));
            if !last {
                s.stage = SightingStage::Provisional;
            }
            s
        })
}

fn any_hours() -> impl Strategy<Value = Option<DailyHours>> {
    let hours =
        (0u16..1440, 1u16..=1440).prop_filter_map("no hours", |(a, b)| DailyHours::new(a, b).ok());
    prop_oneof![3 => Just(None), 1 => hours.prop_map(Some)]
}

prop_compose! {
    fn any_query()(
        pattern in prop::option::of(prop::sample::select(vec![
            "浙J12345", "浙J*", "*5", "?J[1D]*", "京*", "*", "浙A0000?",
        ])),
        a in -150_000i64..150_000, b in -150_000i64..150_000, all: bool,
        cameras in prop::option::of(prop::collection::vec(
            prop::sample::select(vec!["k1", "k2", "k3", "k4"]), 0..3)),
        classes in prop::collection::vec(prop::sample::select(VehicleClass::ALL), 0..3),
        colours in prop::collection::vec(prop::sample::select(VehicleColour::ALL), 0..3),
        provisional: bool, newest: bool, limit in 0usize..9, hours in any_hours(),
    ) -> SightingQuery {
        SightingQuery {
            plate: pattern.map(|p| PlatePattern::parse(p).unwrap()),
            span: if all { TimeSpan::ALL } else { TimeSpan::new(at(a.min(b)), at(a.max(b))).unwrap() },
            cameras: cameras.map(|c| c.into_iter().map(|c| CameraId::new(c).unwrap()).collect()),
            classes, colours, provisional,
            order: if newest { SortOrder::NewestFirst } else { SortOrder::OldestFirst },
            after: None,
            hours, limit, stop: Stop::default(),
        }
    }
}

prop_compose! {
    fn any_likely_query()(
        text in prop::sample::select(vec!["浙J12345", "浙J12346", "浙J12347", "浙JD12345", "浙J12355", "粤B12345"]),
        a in -150_000i64..150_000, b in -150_000i64..150_000, all: bool, limit in 0usize..9,
        cameras in prop::option::of(prop::collection::vec(prop::sample::select(vec!["k1", "k2", "nowhere"]), 0..3)),
        hours in any_hours(), read_as in prop::sample::select(vec![ReadAs::Any, ReadAs::Sought, ReadAs::Another]),
    ) -> LikelyQuery {
        let span = TimeSpan::new(at(a.min(b)), at(a.max(b))).unwrap();
        LikelyQuery {
            plate: PlateText::parse(text).unwrap(), span: if all { TimeSpan::ALL } else { span },
            cameras: cameras.map(|c| c.into_iter().map(|c| CameraId::new(c).unwrap()).collect()),
            hours, read_as, limit, stop: Stop::default(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The indexes change nothing: every page of every query is what filtering everything gives.
    #[test]
    fn the_durable_stores_answer_as_the_one_in_memory(
        batches in prop::collection::vec(prop::collection::vec(any_sighting(), 1..30), 1..5),
        queries in prop::collection::vec(any_query(), 20),
        sought in prop::collection::vec(any_likely_query(), 10),
    ) {
        let folder = tempfile::tempdir().unwrap();
        // One read connection: days take it from each other all the time.
        let settings = StoreSettings { readers_max: 1, ..settings(folder.path()) };
        let (durable, memory) = (Store::open(settings).unwrap(), MemoryStore::new());
        let folder = tempfile::tempdir().unwrap();
        let sealed = Sealing::open(folder.path());
        for batch in batches {
            let batch: Vec<_> = batch.into_iter().map(plain).collect();
            let receipt = memory.record(&batch).unwrap();
            prop_assert_eq!(&durable.record(&batch).unwrap(), &receipt);
            prop_assert_eq!(&sealed.record(&batch).unwrap(), &receipt);
        }
        for mut query in queries {
            for _ in 0..6 {
                let page = memory.search(&query).unwrap();
                prop_assert_eq!(&durable.search(&query).unwrap(), &page, "{:?}", query);
                prop_assert_eq!(&sealed.search(&query).unwrap(), &page, "sealed {:?}", query);
                let Some(last) = page.sightings.last() else { break };
                query.after = Some((last.captured.at, last.id));
            }
        }
        for query in sought {
            let likely = memory.likely(&query).unwrap();
            prop_assert_eq!(&durable.likely(&query).unwrap(), &likely, "{:?}", query);
            prop_assert_eq!(&sealed.likely(&query).unwrap(), &likely, "sealed {:?}", query);
            let texts = [query.plate.clone(), PlateText::parse("浙J12346").unwrap()];
            let times = |store: &dyn LikelySearch| {
                store.times_read(&texts, query.span, query.cameras.as_deref(), query.limit).unwrap()
            };
            prop_assert_eq!(times(&durable), times(&memory), "{:?}", query);
            prop_assert_eq!(times(&sealed), times(&memory), "sealed {:?}", query);
        }
        for store in [&durable, &sealed.0] {
            prop_assert!(store.check().unwrap().is_sound());
        }
        // What is opened again is the same.
        drop(sealed);
        let sealed = Sealing::open(folder.path());
        let query = SightingQuery { provisional: true, ..SightingQuery::all_in(TimeSpan::ALL, 1000) };
        prop_assert_eq!(sealed.search(&query).unwrap(), memory.search(&query).unwrap());
    }
}
