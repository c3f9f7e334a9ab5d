//! What fuzzers call with any bytes: nothing here may panic or be taken for whole, whatever comes. Not part of the
//! interface.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::audit::parse_line;
use crate::bundle::verify_archive;
use crate::codec::{decode_alert, decode_sighting, encode_sighting};
use crate::segment::{BlockCache, Segment, check};

/// A stored record: a sighting or an alert. One that is understood is written back and understood again.
pub fn record(data: &[u8]) {
    drop(decode_alert(1, data));
    if let Ok(sighting) = decode_sighting(data) {
        let again = decode_sighting(&encode_sighting(&sighting));
        // Compared as text: there may be a number that is none, and so unequal to itself.
        assert_eq!(again.ok().map(|again| format!("{again:?}")), Some(format!("{sighting:?}")));
    }
}

/// A line of the audit.
pub fn audit(data: &[u8]) {
    parse_line(&String::from_utf8_lossy(data));
}

/// A bundle of evidence, which a made-up one never is.
pub fn bundle(data: &[u8]) {
    if let Ok(report) = verify_archive(data, &[7; 32]) {
        assert!(!report.faults.is_empty(), "a made-up bundle was taken for a sealed one");
    }
}

/// A sealed day, in a file of this name, which is written over: opened, and read whole.
pub fn segment(path: &Path, data: &[u8]) {
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(data));
    if written.is_err() {
        return;
    }
    if let Ok(segment) = Segment::open(path, &Arc::new(BlockCache::new(1 << 16))) {
        drop(check(&segment, &mut |_| Ok(()), &mut |error| drop(error)));
    }
}
