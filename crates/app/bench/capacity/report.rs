//! What a trial's counts amount to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::process::ByThread;

/// Counts of a trial.
#[derive(Debug, Clone, Default)]
pub(super) struct Raw {
    pub(super) streams: usize,
    pub(super) wall_s: f64,
    /// Of the pictures that were sent, the share received, of the stream that fares worst.
    pub(super) received_min: f64,
    pub(super) cpu: ByThread,
    pub(super) threads: usize,
    pub(super) rss_mb: f64,
    /// Pure decoding of a picture, CPU seconds.
    pub(super) decode_s: f64,
    pub(super) decoded: f64,
    pub(super) analysed: f64,
    pub(super) detect_s: f64,
    pub(super) read_s: f64,
    pub(super) drops: BTreeMap<String, f64>,
    /// Passages wholly within the window.
    pub(super) passages: usize,
    /// Of these, found.
    pub(super) found: usize,
    /// Of these, found by `full` offline.
    pub(super) full_found: usize,
    /// Of these, found live too.
    pub(super) found_of_full: usize,
    /// Found with the right plate.
    pub(super) exact: usize,
    pub(super) alert_ms: Vec<f64>,
}

/// CPU seconds a second and stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Stages {
    pub(super) receive: f64,
    /// Unpacking, parsing, the gate, scaling: what the streams' threads do besides decoding.
    pub(super) gate_parse: f64,
    /// Pictures decoded, times what pure decoding of one costs.
    pub(super) decode: f64,
    pub(super) detect: f64,
    pub(super) read: f64,
    pub(super) store: f64,
    pub(super) other: f64,
}

/// The figures of one load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    pub(super) streams: usize,
    /// Whether nothing fell behind: pictures received and not dropped.
    pub(super) kept_up: bool,
    /// Share of the sent pictures that the worst stream received.
    pub(super) received_min: f64,
    /// Of the pictures meant for analysis, the share that a newer one displaced.
    pub(super) displaced: f64,
    /// Of the pictures that were to be decoded, the share that went away because decoding was behind.
    pub(super) shed: f64,
    pub(super) drops: BTreeMap<String, f64>,
    pub(super) passages: usize,
    pub(super) full_found: usize,
    /// Found here, of those that `full` finds offline; 1 without any.
    pub(super) passages_found_ratio: f64,
    /// Found here, of those that took place.
    pub(super) truth_found_ratio: f64,
    /// Right to the last character, of those found.
    pub(super) plate_exact_ratio: f64,
    pub(super) alerts: usize,
    pub(super) alert_p50_ms: f64,
    pub(super) alert_p95_ms: f64,
    pub(super) alert_p99_ms: f64,
    /// CPU seconds for a second of a stream, by stage.
    pub(super) cpu: Stages,
    pub(super) cpu_total: f64,
    /// CPU of it all, over that of decoding and inference.
    pub(super) cpu_over_floor: f64,
    /// Share of the core in use.
    pub(super) core_use: f64,
    /// Streams of which one core could decode every picture and do nothing else.
    pub(super) decode_limit_streams: f64,
    pub(super) threads: usize,
    pub(super) rss_mb: f64,
    pub(super) rss_mb_per_stream: f64,
}

/// Least share of `full`'s passages that a load must find.
pub(super) const FOUND_MIN: f64 = 0.98;
/// Least share of pictures that must arrive: a second of 50 may be cut by the window's ends.
const RECEIVED_MIN: f64 = 0.98;
/// Greatest share of displaced pictures, and of those not decoded in time.
const DISPLACED_MAX: f64 = 0.02;
/// Frames a second of the streams, for the decode limit.
const FPS: f64 = 25.0;

impl Raw {
    pub(super) fn figures(mut self) -> Figures {
        let stream_s = (self.streams as f64 * self.wall_s).max(f64::MIN_POSITIVE);
        let decode = (self.decoded * self.decode_s).min(self.cpu.stream);
        // Wall times of the two show how the threads' CPU time is shared out.
        let detect_share = ratio(self.detect_s, self.detect_s + self.read_s);
        let stages = Stages {
            receive: self.cpu.receive / stream_s,
            gate_parse: (self.cpu.stream - decode) / stream_s,
            decode: decode / stream_s,
            detect: self.cpu.perception * detect_share / stream_s,
            read: self.cpu.perception * (1.0 - detect_share) / stream_s,
            store: self.cpu.store / stream_s,
            other: self.cpu.other / stream_s,
        };
        let dropped = |reason| self.drops.get(reason).copied().unwrap_or(0.0);
        let share = |lost: f64, kept: f64| if lost > 0.0 { lost / (kept + lost) } else { 0.0 };
        let displaced = share(dropped("newer_frame"), self.analysed);
        let shed = share(dropped("decoder_behind"), self.decoded);
        self.alert_ms.sort_by(f64::total_cmp);
        Figures {
            streams: self.streams,
            kept_up: self.received_min >= RECEIVED_MIN && displaced.max(shed) <= DISPLACED_MAX,
            received_min: self.received_min,
            displaced,
            shed,
            drops: self.drops,
            passages: self.passages,
            full_found: self.full_found,
            passages_found_ratio: ratio(self.found_of_full as f64, self.full_found as f64),
            truth_found_ratio: ratio(self.found as f64, self.passages as f64),
            plate_exact_ratio: ratio(self.exact as f64, self.found as f64),
            alerts: self.alert_ms.len(),
            alert_p50_ms: percentile(&self.alert_ms, 50),
            alert_p95_ms: percentile(&self.alert_ms, 95),
            alert_p99_ms: percentile(&self.alert_ms, 99),
            cpu: stages,
            cpu_total: self.cpu.total() / stream_s,
            cpu_over_floor: ratio(self.cpu.total(), decode + self.cpu.perception),
            core_use: self.cpu.total() / self.wall_s.max(f64::MIN_POSITIVE),
            decode_limit_streams: 1.0 / (self.decode_s * FPS).max(f64::MIN_POSITIVE),
            threads: self.threads,
            rss_mb: self.rss_mb,
            rss_mb_per_stream: self.rss_mb / self.streams.max(1) as f64,
        }
    }
}

impl Figures {
    /// Whether the load is borne: nothing falls behind, and what `full` finds is found.
    pub(super) fn holds(&self) -> bool {
        self.kept_up && self.passages_found_ratio >= FOUND_MIN
    }

    /// The figures as people read them.
    pub(super) fn table(&self) -> String {
        let Self { streams, cpu, .. } = self;
        let mut text = format!(
            "{streams} streams: {}\n  received {:.1} % of the worst stream, displaced {:.1} %, not decoded in time {:.1} %, core {:.0} % in use\n",
            if self.holds() { "held" } else { "NOT held" },
            self.received_min * 100.0,
            self.displaced * 100.0,
            self.shed * 100.0,
            self.core_use * 100.0,
        );
        text += &format!(
            "  passages {}: found {:.1} % of the truth, {:.1} % of what `full` finds ({}); plates exact {:.1} %\n",
            self.passages,
            self.truth_found_ratio * 100.0,
            self.passages_found_ratio * 100.0,
            self.full_found,
            self.plate_exact_ratio * 100.0,
        );
        text += &format!(
            "  alerts {}: p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms\n",
            self.alerts, self.alert_p50_ms, self.alert_p95_ms, self.alert_p99_ms
        );
        text += "  CPU, ms a second and stream:";
        for (name, value) in cpu.named() {
            text += &format!(" {name} {:.1},", value * 1e3);
        }
        text += &format!(
            " all {:.1}; {:.2} x (decode + inference)\n",
            self.cpu_total * 1e3,
            self.cpu_over_floor
        );
        text += &format!(
            "  {} threads, {:.0} MB ({:.1} a stream); pure decoding at full rate: {:.1} streams a core\n",
            self.threads, self.rss_mb, self.rss_mb_per_stream, self.decode_limit_streams
        );
        let drops = self.drops.iter().filter(|(_, count)| **count > 0.0);
        for (reason, count) in drops {
            text += &format!("  dropped {count:.0}: {reason}\n");
        }
        text
    }
}

impl Stages {
    pub(super) fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("receive", self.receive),
            ("gate/parse", self.gate_parse),
            ("decode", self.decode),
            ("detect", self.detect),
            ("read", self.read),
            ("store", self.store),
            ("other", self.other),
        ]
    }
}

/// 1 of none.
fn ratio(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of } else { 1.0 }
}

/// Nearest rank; of values in rising order.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let place = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(place).copied().unwrap_or(0.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn raw() -> Raw {
        Raw {
            streams: 4,
            wall_s: 10.0,
            received_min: 0.99,
            cpu: ByThread { receive: 0.4, stream: 5.0, perception: 3.0, store: 0.2, other: 0.2 },
            threads: 30,
            rss_mb: 200.0,
            decode_s: 0.004,
            decoded: 1000.0,
            analysed: 300.0,
            detect_s: 2.0,
            read_s: 1.0,
            drops: [("newer_frame".to_owned(), 3.0)].into(),
            passages: 50,
            found: 49,
            full_found: 48,
            found_of_full: 48,
            exact: 47,
            alert_ms: (1..=100).rev().map(f64::from).collect(),
        }
    }

    #[test]
    fn stages_add_up_to_the_whole() {
        let figures = raw().figures();
        let sum: f64 = figures.cpu.named().iter().map(|(_, value)| value).sum();
        assert!((sum - 8.8 / 40.0).abs() < 1e-12 && (figures.cpu_total - sum).abs() < 1e-12);
        assert_eq!(figures.cpu.decode, 0.1); // 1000 pictures of 4 ms, over 40 stream-seconds
        assert!((figures.cpu.detect / figures.cpu.read - 2.0).abs() < 1e-9);
        assert!((figures.cpu_over_floor - 8.8 / 7.0).abs() < 1e-9);
        assert_eq!(figures.decode_limit_streams, 10.0);
    }

    #[test]
    fn a_load_is_held_only_when_all_is_well() {
        assert!(raw().figures().holds());
        assert!(!Raw { received_min: 0.9, ..raw() }.figures().holds());
        assert!(!Raw { found_of_full: 46, ..raw() }.figures().holds());
        let drops: BTreeMap<_, _> = [("newer_frame".to_owned(), 30.0)].into();
        assert!(!Raw { drops, ..raw() }.figures().holds());
        // Pictures beyond the analysed rate are meant to be passed over.
        let drops: BTreeMap<_, _> = [("rate_limit".to_owned(), 3000.0)].into();
        assert!(Raw { drops, ..raw() }.figures().holds());
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let figures = raw().figures();
        assert_eq!(
            (figures.alert_p50_ms, figures.alert_p95_ms, figures.alert_p99_ms),
            (50.0, 95.0, 99.0)
        );
        assert_eq!(percentile(&[], 99), 0.0);
        assert_eq!(percentile(&[7.0], 99), 7.0);
    }
}
