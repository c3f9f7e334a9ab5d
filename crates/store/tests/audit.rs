//! The audit's chain: what is recorded is found whole, and whatever is done to it afterwards is found out.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use guiji_domain::{AuditEntry, AuditLog as _, StoreError, Timestamp};
use guiji_store::{
    Audit, AuditErasure, AuditRecords, AuditReport, AuditSettings, Checkpoint, verify_audit,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// Record `n`, from 1: a day has two.
fn entry(n: u64) -> AuditEntry {
    AuditEntry {
        at: Timestamp::from_secs(1_800_000_000 + 43_200 * i64::try_from(n).unwrap()),
        method: "TrajectoryService/GetTrajectory".into(),
        officer: format!("officer {n}"),
        role: "analyst".into(),
        purpose: "寻找\n\"quoted\"".into(),
        case_number: "2026-0417".into(),
        question: format!("plate 浙J{n:05}"),
        results: n,
        outcome: "Ok".into(),
        ..AuditEntry::default()
    }
}

fn record(audit: &Audit, entry: AuditEntry) -> Result<(), StoreError> {
    record_numbered(audit, entry).map(drop)
}

fn record_numbered(audit: &Audit, entry: AuditEntry) -> Result<u64, StoreError> {
    let (told, hears) = sync_channel(1);
    audit.submit(entry, Box::new(move |done| told.send(done).unwrap()));
    hears.recv().unwrap()
}

struct Folder {
    root: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { root: TempDir::new().unwrap() }
    }

    /// With so many records, closed.
    fn of(records: u64) -> Self {
        let folder = Self::new();
        folder.add(1..=records);
        folder
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("audit")
    }

    fn export(&self) -> PathBuf {
        self.root.path().join("elsewhere.jsonl")
    }

    fn settings(&self) -> AuditSettings {
        AuditSettings {
            export: Some(self.export()),
            // The entries of these tests are half a day from each other.
            checkpoint_interval: Duration::from_secs(86_400 * 365),
            ..AuditSettings::new(self.dir())
        }
    }

    /// As somebody has it who cannot write to the place of the exported checkpoints.
    fn forging(&self) -> AuditSettings {
        AuditSettings { export: None, ..self.settings() }
    }

    fn open(&self) -> Audit {
        Audit::open(self.settings()).unwrap()
    }

    fn add(&self, numbers: impl IntoIterator<Item = u64>) {
        let audit = self.open();
        numbers.into_iter().for_each(|n| record(&audit, entry(n)).unwrap());
    }

    fn verify(&self) -> AuditReport {
        verify_audit(&self.dir(), None).unwrap()
    }

    fn broken_at(&self) -> u64 {
        self.verify().first_break.expect("nothing was found").number
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir().join(file)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn put(&self, file: &str, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.dir().join(file), text).unwrap();
    }

    fn change(&self, file: &str, change: impl FnOnce(&mut Vec<String>)) {
        let mut lines = self.lines(file);
        change(&mut lines);
        self.put(file, &lines);
    }

    fn payload_files(&self) -> Vec<String> {
        let listed = fs::read_dir(self.dir().join("payload")).unwrap();
        let mut names: Vec<_> = listed
            .map(|file| format!("payload/{}", file.unwrap().file_name().to_str().unwrap()))
            .collect();
        names.sort();
        names
    }
}

#[test]
fn what_was_recorded_is_found_whole() {
    let folder = Folder::of(3);
    folder.add(4..=7);
    let report = folder.verify();
    let expected =
        AuditReport { records: 7, checkpoints: 2, vouched_to: 7, ..AuditReport::default() };
    assert_eq!(report, expected);
    let records: Vec<_> = AuditRecords::open(&folder.dir()).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 7);
    for (n, record) in (1..).zip(&records) {
        let entry = entry(n);
        assert_eq!((record.number, record.at), (n, entry.at));
        assert_eq!(record.field("officer"), Some(entry.officer.as_str()));
        assert_eq!(record.field("question"), Some(entry.question.as_str()));
        assert_eq!(record.field("purpose"), Some(entry.purpose.as_str()));
        assert_eq!(record.field("results"), Some(n.to_string().as_str()));
        assert_eq!(record.fields().count(), 10);
    }
}

#[test]
fn nobody_else_may_read_it_or_have_it_open() {
    let folder = Folder::of(1);
    for file in ["chain", "key", "checkpoints.jsonl", folder.payload_files()[0].as_str()] {
        let mode = fs::metadata(folder.dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let _open = folder.open();
    let error = Audit::open(folder.settings()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
}

/// Written by another program, after the description of the format.
#[test]
fn the_format_is_as_described() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/audit");
    let report = verify_audit(&golden, None).unwrap();
    let told = (report.records, report.erased, report.checkpoints, report.vouched_to);
    assert_eq!(told, (3, 1, 1, 3));
    // Its second record was erased when no record told of it.
    assert_eq!(report.first_break.unwrap().number, 2);
    let records: Vec<_> = AuditRecords::open(&golden).unwrap().map(Result::unwrap).collect();
    assert_eq!(records[0].field("purpose"), Some("寻找被盗车辆"));
    assert_eq!(records[1].field("officer"), None);
    assert_eq!(records[1].field("outcome"), Some("Opened"));
}

#[test]
fn a_changed_value_is_found() {
    let folder = Folder::of(5);
    let file = &folder.payload_files()[1];
    let number: u64 = 3;
    folder.change(file, |lines| {
        let line = lines.iter_mut().find(|line| line.contains("officer 3")).unwrap();
        *line = line.replace("officer 3", "officer 8");
    });
    let report = folder.verify();
    assert_eq!(report.records, number - 1);
    let found = report.first_break.unwrap();
    assert!(found.number == number && found.what.contains("not what was recorded"), "{found:?}");
}

#[test]
fn a_deleted_record_is_found() {
    for deleted in 1..=4 {
        let folder = Folder::of(5);
        folder.change("chain", |lines| drop(lines.remove(deleted - 1)));
        assert_eq!(folder.broken_at(), deleted as u64);
    }
}

#[test]
fn exchanged_records_are_found() {
    for first in 1..=4 {
        let folder = Folder::of(5);
        folder.change("chain", |lines| lines.swap(first - 1, first));
        assert_eq!(folder.broken_at(), first as u64);
    }
}

#[test]
fn a_cut_off_end_is_found_and_not_written_over() {
    let folder = Folder::of(5);
    folder.change("chain", |lines| lines.truncate(3));
    let found = folder.verify().first_break.unwrap();
    assert!(found.number == 4 && found.what.contains("cut off"), "{found:?}");
    let error = Audit::open(folder.settings()).unwrap_err();
    assert!(error.to_string().contains("guiji audit verify"), "{error}");
    // With the folder's own checkpoints gone, those elsewhere still tell.
    fs::remove_file(folder.dir().join("checkpoints.jsonl")).unwrap();
    assert_eq!(folder.verify().first_break, None);
    let found = verify_audit(&folder.dir(), Some(&folder.export())).unwrap().first_break;
    assert_eq!(found.unwrap().number, 4);
}

#[test]
fn a_chain_written_anew_is_found_by_an_old_checkpoint() {
    let folder = Folder::of(3);
    folder.add(4..=6);
    // Somebody with all rights leaves out record 2 and writes the rest again, with a key of their own.
    fs::remove_dir_all(folder.dir()).unwrap();
    let forged = Audit::open(folder.forging()).unwrap();
    for n in [1, 3, 4, 5, 6, 7] {
        record(&forged, entry(n)).unwrap();
    }
    drop(forged);
    assert_eq!(folder.verify().first_break, None, "whole in itself");
    let found = verify_audit(&folder.dir(), Some(&folder.export())).unwrap().first_break.unwrap();
    assert!(found.number == 3 && found.what.contains("written anew"), "{found:?}");
}

#[test]
fn a_chain_written_anew_with_its_own_key_is_found_too() {
    let folder = Folder::of(6);
    let key = fs::read(folder.dir().join("key")).unwrap();
    fs::remove_dir_all(folder.dir()).unwrap();
    fs::create_dir(folder.dir()).unwrap();
    fs::write(folder.dir().join("key"), key).unwrap();
    let forged = Audit::open(folder.forging()).unwrap();
    for n in [1, 3, 4, 5, 6, 7] {
        record(&forged, entry(n)).unwrap();
    }
    drop(forged);
    assert_eq!(folder.verify().first_break, None);
    let found = verify_audit(&folder.dir(), Some(&folder.export())).unwrap().first_break.unwrap();
    assert_eq!(found.number, 6, "{found:?}");
}

#[test]
fn forged_checkpoints_are_not_believed() {
    let folder = Folder::of(4);
    let line = &folder.lines("checkpoints.jsonl")[0];
    let good: Checkpoint = serde_json::from_str(line).unwrap();
    let stranger = Folder::of(4);
    let theirs: Checkpoint = serde_json::from_str(&stranger.lines("checkpoints.jsonl")[0]).unwrap();
    let moved = Checkpoint { at: good.at + 1, ..good.clone() };
    let borrowed = Checkpoint { key: theirs.key.clone(), ..good.clone() };
    for (forged, hint) in
        [(moved, "signature is wrong"), (borrowed, "another key"), (theirs, "another key")]
    {
        folder.put("checkpoints.jsonl", &[serde_json::to_string(&forged).unwrap()]);
        let found =
            verify_audit(&folder.dir(), Some(&folder.export())).unwrap().first_break.unwrap();
        assert!(found.number == 4 && found.what.contains(hint), "{found:?}");
    }
}

#[test]
fn each_record_is_told_its_number() {
    let folder = Folder::new();
    let audit = Audit::open(folder.settings()).unwrap();
    assert_eq!([1, 2, 3].map(|n| record_numbered(&audit, entry(n)).unwrap()), [1, 2, 3]);
    drop(audit);
    let audit = Audit::open(folder.settings()).unwrap();
    assert_eq!(record_numbered(&audit, entry(4)).unwrap(), 4);
}

#[test]
fn somebodys_records_are_erased_and_nobody_elses() {
    let folder = Folder::of(7);
    let erased =
        |wanted: &AuditErasure| folder.open().erase_records(wanted, "chief", entry(20).at).unwrap();
    let of = |officer: &str| AuditErasure { officer: Some(officer.into()), case_number: None };
    assert_eq!(erased(&AuditErasure::default()), 0, "nothing wanted is nothing erased");
    assert_eq!(erased(&of("officer 9")), 0);
    assert_eq!(erased(&of("officer 3")), 1);
    assert_eq!(erased(&of("officer 3")), 0, "it has no officer any more");
    let other_case = AuditErasure { case_number: Some("x".into()), ..of("officer 4") };
    assert_eq!(erased(&other_case), 0);
    let records: Vec<_> = AuditRecords::open(&folder.dir()).unwrap().map(Result::unwrap).collect();
    for record in &records[..7] {
        let own = format!("officer {}", record.number);
        assert_eq!(record.field("officer"), (record.number != 3).then_some(own.as_str()));
        assert_eq!(record.fields().count(), if record.number == 3 { 0 } else { 10 });
    }
    let told = |name| records[7].field(name).unwrap();
    assert_eq!((told("method"), told("question")), ("Audit/Erase", "records 3"));
    assert_eq!((told("officer"), told("results"), records.len()), ("chief", "1", 8));
    let verified = || verify_audit(&folder.dir(), Some(&folder.export())).unwrap();
    let counts = |report: &AuditReport| (report.records, report.erased, report.erasures);
    assert_eq!((counts(&verified()), verified().first_break), ((8, 1, 1), None));
    let of_case = AuditErasure { officer: None, case_number: Some("2026-0417".into()) };
    assert_eq!(erased(&of_case), 6);
    // Nor can it be erased who erased.
    assert_eq!(erased(&of("chief")), 0);
    assert_eq!((counts(&verified()), verified().first_break), ((9, 7, 2), None));
    for file in &folder.payload_files()[..3] {
        let text = fs::read_to_string(folder.dir().join(file)).unwrap();
        assert!(!text.contains("officer ") && !text.contains("浙J") && !text.contains("salt"));
    }
}

#[test]
fn old_days_are_erased_whole() {
    let folder = Folder::of(7); // two records a day
    let files = || fs::read_dir(folder.dir().join("payload")).unwrap().count();
    let before = files();
    let audit = folder.open();
    let erase = |before: u64, at: u64| {
        audit.erase_days(entry(before).at, "retention", entry(at).at).unwrap()
    };
    assert_eq!(erase(1, 8), 0);
    let gone = erase(5, 8);
    assert!(gone > 0);
    assert_eq!(files(), before - gone + 1, "that it was erased is said on a day of its own");
    let verified = || verify_audit(&folder.dir(), Some(&folder.export())).unwrap();
    let report = verified();
    assert!(report.records == 8 && report.first_break.is_none(), "{report:?}");
    assert!((3..=4).contains(&report.erased), "{report:?}");
    // The record of the first erasure goes with its day, and the second says so of both.
    assert!(erase(20, 20) > 0);
    let report = verified();
    assert_eq!((report.records, report.erased, report.first_break), (9, 8, None));
    // And goes on.
    assert_eq!(record_numbered(&audit, entry(20)).unwrap(), 10);
}

#[test]
fn what_nobody_erased_on_the_record_is_found() {
    type Change = fn(&Folder);
    let cases: [(&str, u64, Change); 3] = [
        ("a file", 1, |folder| {
            fs::remove_file(folder.dir().join(&folder.payload_files()[0])).unwrap();
        }),
        ("a line", 4, |folder| {
            let files = folder.payload_files();
            folder.change(&files[2], |lines| lines.retain(|line| !line.contains("officer 4")));
        }),
        ("the record of an erasure", 2, |folder| {
            let by = AuditErasure { officer: Some("officer 2".into()), case_number: None };
            folder.open().erase_records(&by, "chief", entry(20).at).unwrap();
            fs::remove_file(folder.dir().join(folder.payload_files().last().unwrap())).unwrap();
        }),
    ];
    for (what, number, change) in cases {
        let folder = Folder::of(6);
        change(&folder);
        let found = folder.verify().first_break.unwrap_or_else(|| panic!("{what} is not missed"));
        assert_eq!(found.number, number, "{what}");
        assert!(found.what.contains("no erasure is on record"), "{what}: {found:?}");
    }
}

#[test]
fn an_unfinished_end_is_taken_back() {
    let folder = Folder::of(4);
    let whole = fs::read(folder.dir().join("chain")).unwrap();
    let line_ends: Vec<_> =
        whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    // No checkpoint yet: only a program that was killed has an unfinished end.
    fs::remove_file(folder.dir().join("checkpoints.jsonl")).unwrap();
    for cut in [line_ends[2] + 1, line_ends[3] - 1, line_ends[2]] {
        fs::write(folder.dir().join("chain"), &whole[..cut]).unwrap();
        drop(folder.open());
        let report = folder.verify();
        assert_eq!((report.records, report.first_break), (3, None), "cut at {cut}");
        fs::remove_file(folder.dir().join("checkpoints.jsonl")).unwrap();
    }
    folder.add([9]);
    let last = AuditRecords::open(&folder.dir()).unwrap().last().unwrap().unwrap();
    assert_eq!((last.number, last.field("officer")), (4, Some("officer 9")));
}

#[test]
fn checkpoints_come_by_number_and_by_time() {
    let folder = Folder::new();
    let settings = AuditSettings { checkpoint_records: 3, ..folder.settings() };
    let audit = Audit::open(settings).unwrap();
    (1..=7).for_each(|n| record(&audit, entry(n)).unwrap());
    drop(audit);
    let numbers = |file: &Path| -> Vec<u64> {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str::<Checkpoint>(line).unwrap().number).collect()
    };
    assert_eq!(numbers(&folder.export()), [3, 6, 7]);
    let folder = Folder::new();
    let settings =
        AuditSettings { checkpoint_interval: Duration::from_secs(86_400), ..folder.settings() };
    let audit = Audit::open(settings).unwrap();
    (1..=5).for_each(|n| record(&audit, entry(n)).unwrap());
    drop(audit);
    assert_eq!(numbers(&folder.export()), [3, 5]);
    let idle = Folder::new();
    let settings =
        AuditSettings { checkpoint_interval: Duration::from_millis(20), ..idle.settings() };
    let audit = Audit::open(settings).unwrap();
    record(&audit, entry(1)).unwrap();
    let sealed = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        idle.export().is_file()
    });
    assert!(sealed, "an idle audit is sealed too");
    drop(audit);
}

#[test]
fn a_group_is_written_at_once_and_everybody_hears() {
    let folder = Folder::new();
    let audit = folder.open();
    let (told, hears) = sync_channel(1000);
    for n in 1..=1000 {
        let told = told.clone();
        audit.submit(entry(n), Box::new(move |done| told.send(done.is_ok()).unwrap()));
    }
    assert!((0..1000).all(|_| hears.recv().unwrap()));
    drop(audit);
    assert_eq!(folder.verify().records, 1000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever byte of the chain or of what records say is changed, it is found, at that record or before.
    #[test]
    fn no_byte_can_be_changed(in_chain: bool, at: prop::sample::Index, mask in 1_u8..=255) {
        static WHOLE: std::sync::OnceLock<Folder> = std::sync::OnceLock::new();
        let whole = WHOLE.get_or_init(|| Folder::of(4));
        let copy = Folder::new();
        fs::create_dir_all(copy.dir().join("payload")).unwrap();
        let files = whole.payload_files();
        for file in files.iter().map(String::as_str).chain(["chain", "checkpoints.jsonl"]) {
            fs::copy(whole.dir().join(file), copy.dir().join(file)).unwrap();
        }
        let file = if in_chain { "chain" } else { files[1].as_str() };
        let path = copy.dir().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        fs::write(&path, bytes).unwrap();
        let report = copy.verify();
        // JSON writes the same value in several ways (the case of a digit), and a record whose payload has another
        // number looks erased, and is counted as such.
        let found = report.first_break.is_some() || report.erased > 0;
        prop_assert!(
            found || (!in_chain && same_values(whole, &copy)),
            "byte {at} of {file}: {report:?}"
        );
    }
}

/// Whether two audits say the same.
fn same_values(one: &Folder, other: &Folder) -> bool {
    let all = |folder: &Folder| -> Vec<Vec<(String, String)>> {
        AuditRecords::open(&folder.dir())
            .unwrap()
            .map(|record| {
                let record = record.unwrap();
                record.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            })
            .collect()
    };
    all(one) == all(other)
}

#[test]
fn what_cannot_be_written_is_not_acknowledged_and_leaves_the_chain_whole() {
    let folder = Folder::of(2);
    let payload = folder.dir().join("payload");
    let audit = folder.open();
    let aside = folder.dir().join("aside");
    fs::rename(&payload, &aside).unwrap();
    let error = record(&audit, entry(3)).unwrap_err();
    assert!(error.to_string().contains("payload"), "{error}");
    // Nobody knows what a failed disk holds: this process writes no more.
    fs::rename(&aside, &payload).unwrap();
    assert!(record(&audit, entry(4)).unwrap_err().to_string().contains("restart"));
    drop(audit);
    folder.add([5]);
    let report = folder.verify();
    assert_eq!((report.records, report.erased, report.first_break), (3, 0, None));
}
