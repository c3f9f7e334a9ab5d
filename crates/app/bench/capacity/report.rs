//! What a trial's counts amount to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::process::ByThread;
use super::reference::DecodeCost;

/// Counts of a trial.
#[derive(Debug, Clone, Default)]
pub(super) struct Raw {
    pub(super) streams: usize,
    pub(super) wall_s: f64,
    /// Of the pictures that were sent, the share received, of the stream that fares worst.
    pub(super) received_min: f64,
    /// How the process that serves the streams fared.
    pub(super) served: Served,
    /// Share of the time in which the truth has no vehicle in view.
    pub(super) idle: f64,
    pub(super) cpu: ByThread,
    pub(super) threads: usize,
    pub(super) rss_mb: f64,
    /// Pure decoding of a picture.
    pub(super) decode: DecodeCost,
    pub(super) decoded: f64,
    /// Of these, keyframes.
    pub(super) decoded_keys: f64,
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
    /// What was not found, to be looked into.
    pub(super) missed: Vec<Missed>,
}

/// A passage that was not found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Missed {
    pub(super) stream: String,
    pub(super) plate: String,
    /// When the vehicle came into view, UTC.
    pub(super) from: String,
}

/// The process that serves the streams, in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Served {
    /// Share of its core in use.
    pub(super) core_use: f64,
    /// Of the units that were due, the share sent late by its own clock.
    pub(super) late: f64,
    /// The latest of them.
    pub(super) latest_ms: u64,
}

impl Served {
    /// Whether what the engine missed can be laid at its own door.
    fn kept_pace(&self) -> bool {
        self.core_use <= SERVER_CORE_MAX && self.late <= SERVER_LATE_MAX
    }
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
    /// Length of the window.
    pub(super) seconds: f64,
    /// Share of the time in which the truth has no vehicle in view.
    pub(super) idle: f64,
    /// Whether nothing fell behind: pictures received and not dropped.
    pub(super) kept_up: bool,
    /// Share of the sent pictures that the worst stream received.
    pub(super) received_min: f64,
    /// Whether the streams were served in time; if not, the trial says nothing about the engine.
    pub(super) server_kept_pace: bool,
    pub(super) server: Served,
    /// Of the pictures meant for analysis, the share that a newer one displaced.
    pub(super) displaced: f64,
    /// Of the pictures that were to be decoded, the share that went away because decoding was behind.
    pub(super) shed: f64,
    pub(super) drops: BTreeMap<String, f64>,
    pub(super) passages: usize,
    pub(super) full_found: usize,
    /// Found here, of those that `full` finds offline. Of none there is no ratio, here and below.
    pub(super) passages_found_ratio: Option<f64>,
    /// Found here, of those that took place.
    pub(super) truth_found_ratio: Option<f64>,
    /// Found by `full` offline, of those that took place.
    pub(super) full_truth_ratio: Option<f64>,
    /// Right to the last character, of those found.
    pub(super) plate_exact_ratio: Option<f64>,
    pub(super) missed: Vec<Missed>,
    pub(super) alerts: usize,
    pub(super) alert_p50_ms: Option<f64>,
    pub(super) alert_p95_ms: Option<f64>,
    pub(super) alert_p99_ms: Option<f64>,
    /// CPU seconds for a second of a stream, by stage.
    pub(super) cpu: Stages,
    pub(super) cpu_total: f64,
    /// CPU of it all, over that of decoding and inference.
    pub(super) cpu_over_floor: Option<f64>,
    /// Pure decoding of a keyframe and of another picture, CPU milliseconds.
    pub(super) decode_key_ms: f64,
    pub(super) decode_delta_ms: f64,
    /// Pictures decoded a second and stream, and of these keyframes.
    pub(super) decoded_fps: f64,
    pub(super) decoded_keys_fps: f64,
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
/// Of a core, what the server of the streams may use: beyond it, it is a limit of its own.
const SERVER_CORE_MAX: f64 = 0.95;
/// Of its units, the greatest share that it may send late.
const SERVER_LATE_MAX: f64 = 0.01;
/// Frames a second of the streams, for the decode limit.
const FPS: f64 = 25.0;

impl Raw {
    pub(super) fn figures(mut self) -> Figures {
        let stream_s = (self.streams as f64 * self.wall_s).max(f64::MIN_POSITIVE);
        let deltas = (self.decoded - self.decoded_keys).max(0.0);
        let decode = (self.decoded_keys * self.decode.key_s + deltas * self.decode.delta_s)
            .min(self.cpu.stream);
        // Wall times of the two show how the threads' CPU time is shared out.
        let detect_share = ratio(self.detect_s, self.detect_s + self.read_s).unwrap_or(1.0);
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
            seconds: self.wall_s,
            idle: self.idle,
            kept_up: self.received_min >= RECEIVED_MIN && displaced.max(shed) <= DISPLACED_MAX,
            received_min: self.received_min,
            server_kept_pace: self.served.kept_pace(),
            server: self.served,
            displaced,
            shed,
            drops: self.drops,
            passages: self.passages,
            full_found: self.full_found,
            passages_found_ratio: ratio(self.found_of_full as f64, self.full_found as f64),
            truth_found_ratio: ratio(self.found as f64, self.passages as f64),
            full_truth_ratio: ratio(self.full_found as f64, self.passages as f64),
            plate_exact_ratio: ratio(self.exact as f64, self.found as f64),
            missed: self.missed,
            alerts: self.alert_ms.len(),
            alert_p50_ms: percentile(&self.alert_ms, 50),
            alert_p95_ms: percentile(&self.alert_ms, 95),
            alert_p99_ms: percentile(&self.alert_ms, 99),
            cpu: stages,
            cpu_total: self.cpu.total() / stream_s,
            cpu_over_floor: ratio(self.cpu.total(), decode + self.cpu.perception),
            decode_key_ms: self.decode.key_s * 1e3,
            decode_delta_ms: self.decode.delta_s * 1e3,
            decoded_fps: self.decoded / stream_s,
            decoded_keys_fps: self.decoded_keys / stream_s,
            core_use: self.cpu.total() / self.wall_s.max(f64::MIN_POSITIVE),
            decode_limit_streams: 1.0 / (self.decode.frame_s * FPS).max(f64::MIN_POSITIVE),
            threads: self.threads,
            rss_mb: self.rss_mb,
            rss_mb_per_stream: self.rss_mb / self.streams.max(1) as f64,
        }
    }
}

impl Figures {
    /// Whether the load is borne: nothing falls behind, and what `full` finds is found. Where nothing was to be found,
    /// or the streams were not served in time, nothing is proven.
    pub(super) fn holds(&self) -> bool {
        self.kept_up
            && self.server_kept_pace
            && self.passages_found_ratio.is_some_and(|found| found >= FOUND_MIN)
    }

    /// Why it is not borne, in words.
    fn verdict(&self) -> &'static str {
        match self {
            _ if self.holds() => "held",
            _ if !self.server_kept_pace => {
                "NOT held, but the server of the streams was too slow itself: this says nothing about the engine"
            }
            _ if !self.kept_up => "NOT held: it fell behind",
            _ if self.passages_found_ratio.is_none() => {
                "NOT held: nothing passed that `full` finds; give more --seconds"
            }
            _ => "NOT held: passages were missed",
        }
    }

    /// The figures as people read them.
    pub(super) fn table(&self) -> String {
        let Self { streams, cpu, .. } = self;
        let mut text = format!(
            "{streams} streams for {:.0} s, no vehicle in view for {:.0} %: {}\n  received {:.1} % of the worst stream, \
             displaced {:.1} %, not decoded in time {:.1} %, core {:.0} % in use\n",
            self.seconds,
            self.idle * 100.0,
            self.verdict(),
            self.received_min * 100.0,
            self.displaced * 100.0,
            self.shed * 100.0,
            self.core_use * 100.0,
        );
        text += &format!(
            "  streams served by a core {:.0} % in use, {:.1} % of the units late, the latest {} ms\n",
            self.server.core_use * 100.0,
            self.server.late * 100.0,
            self.server.latest_ms,
        );
        text += &format!(
            "  passages {}: found {} of the truth (`full`: {}), {} of what `full` finds ({}); plates exact {}\n",
            self.passages,
            percent(self.truth_found_ratio),
            percent(self.full_truth_ratio),
            percent(self.passages_found_ratio),
            self.full_found,
            percent(self.plate_exact_ratio),
        );
        text += &format!(
            "  alerts {}: p50 {}, p95 {}, p99 {}\n",
            self.alerts,
            milliseconds(self.alert_p50_ms),
            milliseconds(self.alert_p95_ms),
            milliseconds(self.alert_p99_ms)
        );
        text += "  CPU, ms a second and stream:";
        for (name, value) in cpu.named() {
            text += &format!(" {name} {:.1},", value * 1e3);
        }
        text += &format!(
            " all {:.1}; {} x (decode + inference)\n",
            self.cpu_total * 1e3,
            self.cpu_over_floor.map_or("?".to_owned(), |it| format!("{it:.2}"))
        );
        text += &format!(
            "  decoded {:.1} pictures a second and stream, {:.2} of them keyframes; pure decoding {:.1} ms a keyframe, {:.1} ms another\n",
            self.decoded_fps, self.decoded_keys_fps, self.decode_key_ms, self.decode_delta_ms
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

/// None of none.
fn ratio(part: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| part / of)
}

/// Nearest rank; of values in rising order.
fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let place = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(place).copied()
}

fn percent(share: Option<f64>) -> String {
    share.map_or("?".to_owned(), |it| format!("{:.1} %", it * 100.0))
}

fn milliseconds(time: Option<f64>) -> String {
    time.map_or("?".to_owned(), |it| format!("{it:.0} ms"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn raw() -> Raw {
        Raw {
            streams: 4,
            wall_s: 10.0,
            received_min: 0.99,
            served: Served { core_use: 0.5, late: 0.0, latest_ms: 12 },
            idle: 0.95,
            cpu: ByThread { receive: 0.4, stream: 5.0, perception: 3.0, store: 0.2, other: 0.2 },
            threads: 30,
            rss_mb: 200.0,
            decode: DecodeCost { frame_s: 0.004, key_s: 0.01, delta_s: 0.0025 },
            decoded: 1000.0,
            decoded_keys: 200.0,
            analysed: 300.0,
            detect_s: 2.0,
            read_s: 1.0,
            drops: [("newer_frame".to_owned(), 3.0)].into(),
            passages: 50,
            found: 49,
            full_found: 48,
            found_of_full: 48,
            exact: 47,
            missed: Vec::new(),
            alert_ms: (1..=100).rev().map(f64::from).collect(),
        }
    }

    #[test]
    fn stages_add_up_to_the_whole() {
        let figures = raw().figures();
        let sum: f64 = figures.cpu.named().iter().map(|(_, value)| value).sum();
        assert!((sum - 8.8 / 40.0).abs() < 1e-12 && (figures.cpu_total - sum).abs() < 1e-12);
        // 200 pictures of 10 ms and 800 of 2.5 ms, over 40 stream-seconds.
        assert_eq!(figures.cpu.decode, 0.1);
        assert!((figures.cpu.detect / figures.cpu.read - 2.0).abs() < 1e-9);
        assert!((figures.cpu_over_floor.unwrap() - 8.8 / 7.0).abs() < 1e-9);
        assert_eq!(figures.decode_limit_streams, 10.0);
    }

    #[test]
    fn a_load_is_held_only_when_all_is_well() {
        assert!(raw().figures().holds());
        assert!(!Raw { received_min: 0.9, ..raw() }.figures().holds());
        assert!(!Raw { found_of_full: 46, ..raw() }.figures().holds());
        let drops: BTreeMap<_, _> = [("newer_frame".to_owned(), 30.0)].into();
        assert!(!Raw { drops, ..raw() }.figures().holds());
        // Of a server that is itself behind, and of an empty road, nothing is proven.
        let served = Served { late: 0.02, ..raw().served };
        let figures = Raw { served, received_min: 0.5, ..raw() }.figures();
        assert!(!figures.holds() && figures.table().contains("nothing about the engine"));
        let served = Served { core_use: 0.99, ..raw().served };
        assert!(!Raw { served, ..raw() }.figures().holds());
        let empty =
            Raw { passages: 0, full_found: 0, found: 0, found_of_full: 0, exact: 0, ..raw() };
        let figures = Raw { alert_ms: Vec::new(), ..empty }.figures();
        assert!(!figures.holds() && figures.table().contains("more --seconds"));
        assert_eq!((figures.passages_found_ratio, figures.alert_p99_ms), (None, None));
        // Pictures beyond the analysed rate are meant to be passed over.
        let drops: BTreeMap<_, _> = [("rate_limit".to_owned(), 3000.0)].into();
        assert!(Raw { drops, ..raw() }.figures().holds());
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let figures = raw().figures();
        assert_eq!(
            (figures.alert_p50_ms, figures.alert_p95_ms, figures.alert_p99_ms),
            (Some(50.0), Some(95.0), Some(99.0))
        );
        assert_eq!(percentile(&[], 99), None);
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
    }
}
