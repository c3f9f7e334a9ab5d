//! The way in for days that are over: it must change nothing but the speed.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use guiji_domain::*;
use guiji_store::{Bulk, BulkReport, MemoryStore, Store, StoreSettings};
use proptest::prelude::*;

/// Long after every day of these tests.
fn later() -> Timestamp {
    at(100 * 86_400)
}

fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(StoreSettings { seal_days: 0, ..settings(folder.path()) }).unwrap()
}

fn all(store: &dyn SightingStore) -> Vec<Sighting> {
    let query = SightingQuery { provisional: true, ..SightingQuery::all_in(TimeSpan::ALL, 10_000) };
    store.search(&query).unwrap().sightings
}

#[derive(Debug, Clone)]
enum Step {
    Record(Vec<(u64, bool)>),
    Bulk(Vec<u64>),
    Seal,
    Reopen,
}

/// Sighting `n` is always the same; numbers lie over three days and are not in the order of time.
fn numbered(n: u64) -> Sighting {
    let started = at((n % 3) as i64 * 86_400 + (n * 37 % 50) as i64);
    let texts = ["浙J12345", "浙J12346", "苏E5K888"];
    let state =
        if n.is_multiple_of(5) { PlateState::NotRead } else { plate(texts[n as usize % 3]) };
    sighting(["k1", "k2"][n as usize % 2], n, started, state)
}

fn any_step() -> impl Strategy<Value = Step> {
    let number = 0_u64..40;
    prop_oneof![
        1 => prop::collection::vec((number.clone(), any::<bool>()), 1..8).prop_map(Step::Record),
        3 => prop::collection::vec(number, 1..20).prop_map(Step::Bulk),
        1 => Just(Step::Seal),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever was there, live, sealed or provisional, the outcome is that of recording.
    #[test]
    fn it_does_what_recording_does(steps in prop::collection::vec(any_step(), 1..8)) {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, memory) = (open(&folder), MemoryStore::new());
        for step in steps {
            match step {
                Step::Record(numbers) => {
                    let batch: Vec<_> = numbers
                        .into_iter()
                        .map(|(n, last)| plain(if last { numbered(n) } else { provisional(&numbered(n)) }))
                        .collect();
                    prop_assert_eq!(store.record(&batch).unwrap(), memory.record(&batch).unwrap());
                }
                Step::Bulk(numbers) => {
                    let sightings: Vec<_> = numbers.into_iter().map(numbered).collect();
                    let batch: Vec<_> = sightings.iter().cloned().map(plain).collect();
                    let kept = memory.record(&batch).unwrap().kept;
                    let mut bulk = store.begin_bulk(later());
                    bulk.push(&sightings).unwrap();
                    let report = bulk.commit().unwrap();
                    for kind in [Kept::New, Kept::Replaced, Kept::Present] {
                        let count = kept.iter().filter(|kept| **kept == kind).count() as u64;
                        prop_assert_eq!(report.count(kind), count, "{:?}: {:?}", kind, report);
                    }
                }
                Step::Seal => drop(store.seal_days(later()).unwrap()),
                Step::Reopen => {
                    drop(store);
                    store = open(&folder);
                }
            }
            prop_assert_eq!(all(&store), all(&memory));
        }
        for n in 0..40 {
            let id = numbered(n).id;
            prop_assert_eq!(store.get(id).unwrap(), memory.get(id).unwrap());
        }
        let check = store.check().unwrap();
        prop_assert!(check.is_sound(), "{:?}", check);
    }
}

#[test]
fn what_does_not_belong_there_is_refused_and_nothing_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let good = numbered(1);
    let picture = with_pictures(numbered(4), &[(EvidenceKind::Plate, noise(1, 50))]);
    let mut bulk = store.begin_bulk(at(2 * 86_400 + 10));
    for (wrong, fix) in [
        (provisional(&numbered(3)), "provisional"),
        ((*picture.sighting).clone(), "pictures"),
        (numbered(5), "not over"), // of the third day, which is today
    ] {
        assert!(!bulk.takes(&wrong) && bulk.takes(&good));
        let error = bulk.push([&good, &wrong]).unwrap_err();
        assert!(matches!(&error, StoreError::Invalid(_)), "{error}");
        assert!(error.to_string().contains(fix), "{error}");
    }
    assert_eq!(bulk.commit().unwrap(), BulkReport::default());
    assert!(all(&store).is_empty());
}

#[test]
fn nothing_is_there_before_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let sightings: Vec<_> = (0..30).map(numbered).collect();
    let mut bulk = store.begin_bulk(later());
    bulk.push(&sightings).unwrap();
    assert!(all(&store).is_empty());
    drop(bulk);
    assert!(all(&store).is_empty());
    let mut bulk = store.begin_bulk(later());
    bulk.push(&sightings[..10]).unwrap();
    assert_eq!(bulk.commit().unwrap().new, 10);
    bulk.push(&sightings).unwrap();
    let report = bulk.commit().unwrap();
    assert_eq!((report.new, report.present, report.segments), (30, 10, 6));
    assert_eq!(all(&store).len(), 30);
}

/// One thread records what another takes in: provisional forms, final ones, in between. Each is there once, and final.
#[test]
fn others_may_write_the_same_sightings_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let sightings: Vec<_> = (0..600).map(numbered).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for some in sightings.chunks(7).cycle() {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let first: Vec<_> = some.iter().map(|s| plain(provisional(s))).collect();
                store.record(&first).unwrap();
                let last: Vec<_> = some.iter().take(3).cloned().map(plain).collect();
                store.record(&last).unwrap();
            }
        });
        for some in sightings.chunks(60) {
            let mut bulk: Bulk<'_> = store.begin_bulk(later());
            // It gives up after a few tries, and may be asked again.
            let committed = (0..50).find_map(|_| {
                bulk.push(some).unwrap();
                bulk.commit().ok()
            });
            assert!(committed.is_some());
        }
        done.store(true, Ordering::SeqCst);
    });
    let found = all(&store);
    assert_eq!(found.len(), 600);
    assert!(found.iter().all(|sighting| sighting.stage == SightingStage::Final));
    let check = store.check().unwrap();
    assert!(check.is_sound(), "{check:?}");
}
