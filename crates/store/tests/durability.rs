//! Acknowledged means kept: real processes are killed in the middle of their work, and what the disk would hold after
//! a power cut is opened. `GUIJI_STORE_KILLS` sets the number of rounds.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use guiji_domain::*;
use guiji_store::{Durability, Store, StoreSettings};

const FOLDER: &str = "GUIJI_STORE_TEST_FOLDER";
const TASK: &str = "GUIJI_STORE_TEST_TASK";
const FROM: &str = "GUIJI_STORE_TEST_FROM";
const FROM_TAKEN_IN: &str = "GUIJI_STORE_FROM_TAKEN_IN";
const FULL: &str = "POWERLOSS_FULL";

fn rounds(default: usize) -> usize {
    std::env::var("GUIJI_STORE_KILLS").map_or(default, |n| n.parse().unwrap())
}

/// Item `n` of the work: always the same, so that the parent knows what must be there. Every seventh lies in the
/// day before.
fn item(n: u64) -> Recorded {
    let started = at(n as i64 / 10 - if n.is_multiple_of(7) { 86_400 } else { 0 });
    let sighting = sighting("k1", n, started, plate("浙J12345"));
    let kinds = [EvidenceKind::Plate, EvidenceKind::Frame];
    let pictures: Vec<_> =
        kinds.iter().zip(0..).map(|(kind, i)| (*kind, noise(n * 2 + i, 700))).collect();
    let mut item = with_pictures(sighting, &pictures);
    if n.is_multiple_of(3) {
        item.alerts = vec![alert(&item.sighting, "w1", AlertStage::Confirmed)];
    }
    item
}

/// Not a test by itself: what the killed process does.
#[test]
fn child_process() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    match std::env::var(TASK).unwrap().as_str() {
        "append" => append(&folder, Durability::Full),
        "append-and-seal" => append_and_seal(&folder),
        "append-and-take-in" => append_and_take_in(&folder),
        "append-unsafely" => append(&folder, Durability::UnsafeNoSync),
        "fill" => fill_the_disk(&folder, Path::new(&std::env::var_os(FULL).unwrap())),
        task => panic!("unknown task {task}"),
    }
}

/// Appends for ever, while days are sealed again and again.
fn append_and_seal(folder: &Path) {
    let settings = StoreSettings { pack_bytes_max: 20_000, seal_days: 0, ..settings(folder) };
    let store = Store::open(settings).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| append_to(&store));
        loop {
            store.seal_days(at(30 * 86_400)).unwrap();
        }
    });
}

/// Sightings that come in at once with others of their day: a few days before those that are appended.
const TAKEN_IN: u64 = 40;

fn taken_in(n: u64) -> Sighting {
    let started = at(-10 * 86_400 + (n % 2) as i64 * 86_400 + n as i64 / 10);
    sighting("k9", n, started, plate("苏E5K888"))
}

/// Appends for ever, while days that are over come in at once.
fn append_and_take_in(folder: &Path) {
    let settings = StoreSettings { pack_bytes_max: 20_000, seal_days: 0, ..settings(folder) };
    let store = Store::open(settings).unwrap();
    let from: u64 = std::env::var(FROM_TAKEN_IN).unwrap().parse().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| append_to(&store));
        for n in (from..).step_by(TAKEN_IN as usize) {
            let sightings: Vec<_> = (n..n + TAKEN_IN).map(taken_in).collect();
            let mut bulk = store.begin_bulk(at(30 * 86_400));
            bulk.push(&sightings).unwrap();
            bulk.commit().unwrap();
            std::io::stdout().write_all(format!("\ntaken {n}\n").as_bytes()).unwrap();
        }
    });
}

/// Appends for ever, three final sightings and a provisional one a batch, and says what was acknowledged.
fn append(folder: &Path, durability: Durability) {
    let store = Store::open(StoreSettings {
        durability,
        pack_bytes_max: 20_000, // so that packs follow each other
        ..settings(folder)
    })
    .unwrap();
    append_to(&store);
}

fn append_to(store: &Store) {
    let mut n: u64 = std::env::var(FROM).unwrap().parse().unwrap();
    loop {
        let mut batch: Vec<_> = (n..n + 3).map(item).collect();
        batch.push(plain(provisional(&item(n + 3).sighting)));
        let alerts = store.record(&batch).unwrap().alerts;
        let cursors: Vec<_> = alerts.iter().map(|a| a.cursor.to_string()).collect();
        // One write: a line is whole or not there.
        let line = format!("\nack {n} {}\n", cursors.join(","));
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        n += 3;
    }
}

/// Everything that was acknowledged, over all processes.
#[derive(Default)]
struct Acknowledged {
    /// Batches, by their first item.
    batches: Vec<u64>,
    /// Alerts by cursor.
    alerts: BTreeMap<u64, SightingId>,
    /// How many sightings came in at once.
    taken_in: u64,
}

impl Acknowledged {
    fn next(&self) -> u64 {
        self.batches.last().map_or(0, |n| n + 3)
    }

    fn add(&mut self, line: &str) {
        if let Some(n) = line.strip_prefix("taken ") {
            self.taken_in = n.parse::<u64>().unwrap() + TAKEN_IN;
        }
        let Some(("ack", rest)) = line.split_once(' ') else { return };
        let (n, cursors) = rest.split_once(' ').unwrap();
        let n: u64 = n.parse().unwrap();
        self.batches.push(n);
        let rang = (n..n + 3).map(item).flat_map(|item| item.alerts);
        // A retry of what a killed process had committed, but not said, logs no alert again.
        for (cursor, alert) in cursors.split(',').filter(|c| !c.is_empty()).zip(rang) {
            let cursor: u64 = cursor.parse().unwrap();
            let last = self.alerts.last_key_value().map_or(0, |(cursor, _)| *cursor);
            assert!(cursor > last, "cursor {cursor} after {last}");
            self.alerts.insert(cursor, alert.sighting());
        }
    }

    /// What is missing in the store, in words; nothing, if all is well.
    fn missing(&self, store: &Store) -> Vec<String> {
        let mut missing = Vec::new();
        let logged: BTreeMap<_, _> = store
            .alerts_after(0, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|a| (a.cursor, a.id.sighting))
            .collect();
        for batch in &self.batches {
            for n in *batch..batch + 3 {
                let item = item(n);
                if store.get(item.sighting.id).unwrap().as_ref() != Some(&*item.sighting) {
                    missing.push(format!("sighting {n}"));
                }
                for (evidence, picture) in item.sighting.evidence.iter().zip(&item.pictures) {
                    if store.evidence(&evidence.digest).unwrap().as_deref() != Some(&**picture) {
                        missing.push(format!("a picture of sighting {n}"));
                    }
                }
                if let Some(alert) = item.alerts.first()
                    && !logged.values().any(|id| *id == alert.sighting())
                {
                    missing.push(format!("the alert of sighting {n}"));
                }
            }
            if store.get(item(batch + 3).sighting.id).unwrap().is_none() {
                missing.push(format!("provisional sighting {}", batch + 3));
            }
        }
        for n in 0..self.taken_in {
            if store.get(taken_in(n).id).unwrap() != Some(taken_in(n)) {
                missing.push(format!("sighting {n} that came in at once"));
            }
        }
        for (cursor, id) in &self.alerts {
            if logged.get(cursor) != Some(id) {
                missing.push(format!("alert {cursor}"));
            }
        }
        missing
    }
}

fn child(folder: &Path, task: &str, from: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(TASK, task)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped());
    command
}

/// Lets the child work for a random while after its first acknowledgement, kills it, and takes down what it said.
fn kill_at_random(command: &mut Command, acknowledged: &mut Acknowledged) {
    let mut child: Child = command.spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let (say, heard) = mpsc::sync_channel(1);
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line.unwrap();
            if line.starts_with("ack ") {
                say.try_send(()).ok(); // the first one is waited for
            }
            lines.push(line);
        }
        lines
    });
    let random = RandomState::new().build_hasher().finish();
    // One round in five is killed while it opens the store.
    if !random.is_multiple_of(5) {
        heard.recv_timeout(Duration::from_secs(60)).expect("the child acknowledges something");
    }
    std::thread::sleep(Duration::from_micros(random % 60_000));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap().iter().for_each(|line| acknowledged.add(line));
}

/// Opens and compares.
fn assert_kept(folder: &Path, acknowledged: &Acknowledged) {
    let store = Store::open(settings(folder)).unwrap();
    let missing = acknowledged.missing(&store);
    assert!(missing.is_empty(), "lost of {} batches: {missing:?}", acknowledged.batches.len());
    // The batch that was cut off, over two days at times, is there whole or not at all.
    let next = acknowledged.next();
    let there = (next..next + 3)
        .map(item)
        .filter(|i| store.get(i.sighting.id).unwrap().as_ref() == Some(&*i.sighting))
        .count();
    assert!(there == 0 || there == 3, "{there} of 3 sightings from {next} on");
    let report = store.check().unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// Kills at random, as many times as asked for: a new store after each fifty, since everything in it is looked at
/// after each kill. The task, and what must have happened in one of them beside batches: on a busy machine the child may
/// be killed too early for it fifty times.
fn kill_again_and_again(task: &str, happened: impl Fn(&Path, &Acknowledged) -> bool) {
    const IN_ONE_STORE: usize = 50;
    let mut left = rounds(20);
    let mut has_happened = false;
    while left > 0 {
        let folder = tempfile::tempdir().unwrap();
        let mut acknowledged = Acknowledged::default();
        let some = left.min(IN_ONE_STORE);
        left -= some;
        for _ in 0..some {
            let mut command = child(folder.path(), task, acknowledged.next());
            command.env(FROM_TAKEN_IN, acknowledged.taken_in.to_string());
            kill_at_random(&mut command, &mut acknowledged);
            assert_kept(folder.path(), &acknowledged);
        }
        assert!(acknowledged.batches.len() >= 10, "{}", acknowledged.batches.len());
        has_happened |= happened(folder.path(), &acknowledged);
    }
    assert!(has_happened);
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    kill_again_and_again("append", |_, _| true);
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_while_days_are_sealed() {
    kill_again_and_again("append-and-seal", |folder, _| segments(folder) >= 2);
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_while_days_come_in_at_once() {
    kill_again_and_again("append-and-take-in", |_, acknowledged| acknowledged.taken_in > 0);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut_while_days_come_in_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("store");
    std::fs::create_dir(&root).unwrap();
    let mut acknowledged = Acknowledged::default();
    for _ in 0..rounds(10) {
        let from = acknowledged.taken_in.to_string();
        let variables = [(FROM_TAKEN_IN, from.as_str())];
        cut_power_with(&root, "append-and-take-in", &variables, &mut acknowledged);
        assert_kept(&root, &acknowledged);
    }
    assert!(acknowledged.batches.len() >= 5, "{}", acknowledged.batches.len());
}

/// How many days have a segment.
fn segments(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder.join("sightings")).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "seg"))
        .count()
}

/// The library that `cargo test` builds from examples/powerloss.rs.
fn powerloss() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let library = deps.parent().unwrap().parent().unwrap().join("examples/libpowerloss.so");
    assert!(library.is_file(), "run `cargo build -p guiji-store --example powerloss` first");
    library
}

/// Makes the folder what the disk holds after the power cut.
fn restore(shadow: &Path, relative: &str, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let names = std::fs::read_to_string(shadow.join("dirs").join(format!("%{relative}")));
    for line in names.unwrap_or_default().lines() {
        let [name, key, kind] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let path = folder.join(name);
        if kind == "d" {
            let below =
                if relative.is_empty() { name.into() } else { format!("{relative}%{name}") };
            restore(shadow, &below, &path);
        } else if std::fs::copy(shadow.join("data").join(key), &path).is_err() {
            std::fs::write(&path, []).unwrap(); // a name without content
        }
    }
}

/// One round: work, kill, power cut. The folder then holds what was durable.
fn cut_power(root: &Path, task: &str, acknowledged: &mut Acknowledged) {
    cut_power_with(root, task, &[], acknowledged);
}

fn cut_power_with(
    root: &Path,
    task: &str,
    variables: &[(&str, &str)],
    acknowledged: &mut Acknowledged,
) {
    let shadow = tempfile::tempdir().unwrap();
    let mut command = child(root, task, acknowledged.next());
    command
        .envs(variables.iter().copied())
        .env("LD_PRELOAD", powerloss())
        .env("POWERLOSS_ROOT", root)
        .env("POWERLOSS_SHADOW", shadow.path());
    kill_at_random(&mut command, acknowledged);
    if !shadow.path().join("ready").exists() {
        return; // killed before its first instruction: the folder is as it was
    }
    std::fs::remove_dir_all(root).unwrap();
    restore(shadow.path(), "", root);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("store");
    std::fs::create_dir(&root).unwrap();
    let mut acknowledged = Acknowledged::default();
    for _ in 0..rounds(10) {
        cut_power(&root, "append", &mut acknowledged);
        assert_kept(&root, &acknowledged);
    }
    assert!(acknowledged.batches.len() >= 5, "{}", acknowledged.batches.len());
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut_while_days_are_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("store");
    std::fs::create_dir(&root).unwrap();
    let mut acknowledged = Acknowledged::default();
    let mut sealed = 0;
    for _ in 0..rounds(10) {
        cut_power(&root, "append-and-seal", &mut acknowledged);
        assert_kept(&root, &acknowledged);
        sealed = sealed.max(segments(&root));
    }
    assert!(acknowledged.batches.len() >= 5, "{}", acknowledged.batches.len());
    assert!(sealed >= 1, "no day was sealed");
}

/// The layer can tell: a store that does not sync loses what it acknowledged.
#[test]
fn a_store_that_does_not_sync_is_caught() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("store");
    std::fs::create_dir(&root).unwrap();
    let mut acknowledged = Acknowledged::default();
    while acknowledged.batches.is_empty() {
        cut_power(&root, "append-unsafely", &mut acknowledged);
    }
    let lost = match Store::open(settings(&root)) {
        Ok(store) => !acknowledged.missing(&store).is_empty(),
        Err(_) => true,
    };
    assert!(lost);
}

#[test]
fn a_full_disk_acknowledges_nothing_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("store");
    let mut command = child(&root, "fill", 0);
    command
        .env("LD_PRELOAD", powerloss())
        .env("POWERLOSS_ROOT", &root)
        .env(FULL, folder.path().join("full"));
    let output = command.output().unwrap();
    let [said, erred] = [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out));
    assert!(output.status.success(), "{said}{erred}");
    let store = Store::open(settings(&root)).unwrap();
    assert!(store.check().unwrap().is_sound());
    assert_eq!(
        store.search(&SightingQuery::all_in(TimeSpan::ALL, 100)).unwrap().sightings.len(),
        21
    );
}

fn fill_the_disk(folder: &Path, flag: &Path) {
    let store = Store::open(StoreSettings { seal_days: 0, ..settings(folder) }).unwrap();
    let batch = |n: u64| (n..n + 7).map(item).collect::<Vec<_>>();
    let assert_full = |result: Result<Receipt, StoreError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
    };
    store.record(&batch(0)).unwrap();
    for _ in 0..2 {
        std::fs::write(flag, []).unwrap();
        // With pictures over two days, in one day without, in a day of its own.
        assert_full(store.record(&batch(7)));
        let today = sighting("k2", 1, at(1), PlateState::NotRead);
        assert_full(store.record(&[plain(today)]));
        let elsewhere = sighting("k1", 1, at(40 * 86_400), PlateState::NotRead);
        assert_full(store.record(&[plain(elsewhere)]));
        let error = store.put_camera(&camera("k1")).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        let error = store.seal_days(at(30 * 86_400)).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        // What is there can be read.
        assert_eq!(store.get(item(3).sighting.id).unwrap().as_ref(), Some(&*item(3).sighting));
        assert_eq!(store.get(item(8).sighting.id).unwrap(), None);
        std::fs::remove_file(flag).unwrap();
    }
    assert!(!store.record(&batch(7)).unwrap().alerts.is_empty());
    store.record(&batch(14)).unwrap();
    store.put_camera(&camera("k1")).unwrap();
    assert_eq!(store.seal_days(at(30 * 86_400)).unwrap().sightings, 21);
    assert!(store.check().unwrap().is_sound());
}
