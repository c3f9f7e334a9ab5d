//! Logs and metrics.

use std::io::IsTerminal as _;

use guiji_delivery::ReceiverHealth;
use guiji_domain::{CameraControl as _, CameraState, StatusReason};
use guiji_engine::{Cameras, EngineCounts};
use tracing_subscriber::EnvFilter;

/// Sends structured logs to standard error: for people at a terminal, as JSON elsewhere. `GUIJI_LOG` filters.
pub(crate) fn init_logs() {
    let filter = EnvFilter::try_from_env("GUIJI_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().flatten_event(true).init();
    }
}

/// The metrics in Prometheus' text format. Labels stay few: a camera's own figures are in `CameraService`.
pub(crate) fn render_metrics(counts: &EngineCounts, cameras: &Cameras) -> String {
    let (perception, recorder, intake) = (counts.perception(), counts.recorder(), counts.intake());
    let (load, totals) = (cameras.load(), cameras.stream_totals());
    let wishes = counts.wishes();
    let cameras = cameras.list();
    let mut page = Page::default();

    page.head("guiji_cameras", "gauge", "Cameras by state.");
    for state in CameraState::ALL {
        let count = cameras.iter().filter(|(_, health)| health.status.state == *state).count();
        page.line("guiji_cameras", &format!("{{state=\"{state}\"}}"), count as f64);
    }
    page.head("guiji_camera_reasons", "gauge", "Cameras by the reason of their state.");
    for reason in StatusReason::ALL {
        let count = cameras.iter().filter(|(_, h)| h.status.reason == Some(*reason)).count();
        page.line("guiji_camera_reasons", &format!("{{reason=\"{reason}\"}}"), count as f64);
    }
    let partly = cameras.iter().filter(|(_, health)| !health.blind_time.is_zero()).count();
    page.head(
        "guiji_cameras_partly_blind",
        "gauge",
        "Cameras whose policy leaves times between two pictures of which nothing is known.",
    );
    page.line("guiji_cameras_partly_blind", "", partly as f64);
    let dense = cameras.iter().filter(|(_, health)| health.keyframes.dense).count();
    page.head(
        "guiji_cameras_dense",
        "gauge",
        "Cameras decoded densely: their keyframes are far apart, and nothing else sees between them.",
    );
    page.line("guiji_cameras_dense", "", dense as f64);
    let judged = cameras.iter().filter(|(_, health)| health.reads.is_some()).count();
    page.head(
        "guiji_cameras_reads_judged",
        "gauge",
        "Cameras of which it is known how many plates are usual at this hour of the week.",
    );
    page.line("guiji_cameras_reads_judged", "", judged as f64);
    let ratios: Vec<_> = cameras.iter().filter_map(|(_, h)| Some(h.reads?.ratio())).collect();
    page.head(
        "guiji_cameras_read_ratio",
        "gauge",
        "Of these, cameras that read at most so many of the usual plates.",
    );
    for most in ["0.1", "0.2", "0.4", "0.6", "0.8", "1.0"] {
        let bound = most.parse().unwrap_or(f64::INFINITY);
        let count = ratios.iter().filter(|ratio| **ratio <= bound).count();
        page.line("guiji_cameras_read_ratio", &format!("{{le=\"{most}\"}}"), count as f64);
    }
    page.counter("guiji_units_total", "Encoded access units received.", totals.units);
    page.counter("guiji_keyframes_total", "Of these, keyframes.", totals.keyframes);
    page.counter("guiji_stream_bytes_total", "Bytes of encoded video.", totals.bytes);
    page.counter("guiji_frames_decoded_total", "Pictures decoded.", totals.decoded);
    page.counter("guiji_keyframes_decoded_total", "Of these, keyframes.", totals.decoded_keyframes);
    page.counter("guiji_connects_total", "Connections tried.", totals.connects);
    page.counter(
        "guiji_units_dense_total",
        "Units decoded only because keyframes are far apart and nothing else sees between them.",
        totals.dense,
    );
    page.counters(
        "guiji_keyframe_wishes_total",
        "Wishes for keyframes, by what became of them.",
        "outcome",
        &[("taken", wishes.taken), ("failed", wishes.failed), ("late", wishes.late)],
    );

    page.counter("guiji_frames_analysed_total", "Pictures analysed.", perception.analysed);
    page.counter(
        "guiji_frames_still_total",
        "Of these, pictures without a change: not searched.",
        perception.still,
    );
    page.counter(
        "guiji_frames_standing_total",
        "And pictures of views looked at a moment ago, in which only vehicles stand or every plate is read: not searched.",
        perception.standing,
    );
    page.counter(
        "guiji_frames_asked_total",
        "Keyframes of views that move without vehicles and pictures of substreams, asking whether there is one.",
        perception.asked,
    );
    page.counters(
        "guiji_wakes_total",
        "Times that a sleeping view was decoded whole again, by what showed it.",
        "by",
        &[
            ("keyframe", totals.woken_by_view),
            ("glimpse", totals.woken_by_glimpse),
            ("sizes", totals.woken_by_size),
            ("substream", totals.woken_by_substream),
        ],
    );
    page.counter(
        "guiji_glimpses_total",
        "Units of sleeping views decoded out of their order, between keyframes.",
        totals.glimpses,
    );
    page.counter(
        "guiji_turned_away_total",
        "Times that decoding stopped until the next keyframe: every vehicle in view was known and drove away.",
        totals.turned_away,
    );
    page.counter(
        "guiji_substream_frames_decoded_total",
        "Pictures of substreams decoded, to watch views in place of main streams; not among the others.",
        totals.substream_decoded,
    );
    page.counters(
        "guiji_frames_dropped_total",
        "Pictures dropped, by reason.",
        "reason",
        &[
            ("newer_frame", perception.replaced),
            ("analysis_behind", perception.given_up),
            ("camera_closed", perception.late),
            ("model_failed", perception.failed),
            ("rate_limit", totals.skipped),
            ("decoder_behind", totals.shed),
        ],
    );
    page.head(
        "guiji_load_level",
        "gauge",
        "What is given up because analysis cannot keep up: 0 nothing, 1 frames, 2 pictures as well.",
    );
    page.line("guiji_load_level", "", f64::from(load as u8));
    page.counter("guiji_batches_total", "Detector batches run.", perception.batches);
    page.seconds("guiji_detect_seconds_total", "Time in vehicle detection.", perception.detect_ns);
    page.seconds("guiji_read_seconds_total", "Time in plate reading.", perception.read_ns);
    page.counter(
        "guiji_frames_searched_total",
        "Whole frames searched for plates, no vehicle having been found in them.",
        perception.searched,
    );
    page.counter(
        "guiji_plate_led_total",
        "Detections of vehicles that only their plate gave away.",
        perception.plate_led,
    );
    page.counter("guiji_plate_regions_total", "Regions searched for plates.", perception.regions);
    page.counter("guiji_plate_reads_total", "Plates read.", perception.plates);
    page.counter("guiji_panics_total", "Panics caught.", perception.panics);

    page.counter("guiji_sightings_total", "Final sightings stored.", intake.finals);
    page.counter(
        "guiji_sightings_provisional_total",
        "Provisional sightings stored.",
        intake.provisional,
    );
    page.counter("guiji_alerts_total", "Alerts logged.", intake.alerts);
    page.counter("guiji_alerts_acknowledged_total", "Alerts acknowledged.", intake.acknowledged);
    page.counter(
        "guiji_alerts_escalated_total",
        "Times that an alert went up a level because nobody had acknowledged it.",
        intake.escalated,
    );
    page.counter("guiji_pictures_total", "Evidence pictures stored.", intake.pictures);
    page.counter(
        "guiji_pictures_failed_total",
        "Evidence pictures not encoded.",
        recorder.pictures_failed,
    );
    page.counter("guiji_store_retries_total", "Failed tries to store.", recorder.retries);
    page.counter("guiji_sightings_lost_total", "Sightings lost. Must be 0.", recorder.lost);
    page.0
}

/// How the receivers of alerts are doing; `end` is the end of the alert log.
pub(crate) fn render_receivers(end: u64, receivers: &[ReceiverHealth]) -> String {
    let mut page = Page::default();
    type Figure = (&'static str, &'static str, &'static str, fn(&ReceiverHealth, u64) -> u64);
    let figures: [Figure; 5] = [
        ("guiji_receiver_delivered_total", "counter", "Alerts taken.", |r, _| r.delivered),
        ("guiji_receiver_failures_total", "counter", "Failed tries.", |r, _| r.failed),
        ("guiji_receiver_refused", "gauge", "Refused alerts, tried again.", |r, _| r.aside as u64),
        ("guiji_receiver_waiting", "gauge", "Log places not dealt with.", |r, end| {
            end.saturating_sub(r.reached)
        }),
        ("guiji_receiver_panics_total", "counter", "Panics caught.", |r, _| r.panics),
    ];
    for (name, kind, help, get) in figures {
        if !receivers.is_empty() {
            page.head(name, kind, help);
        }
        for health in receivers {
            let labels = format!("{{receiver=\"{}\"}}", health.receiver);
            page.line(name, &labels, get(health, end) as f64);
        }
    }
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        self.0 += &format!("{name}{labels} {value}\n");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(name, "", value as f64);
    }

    /// One for each value of a label.
    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, "counter", help);
        for (value, count) in values {
            self.line(name, &format!("{{{label}=\"{value}\"}}"), *count as f64);
        }
    }

    fn seconds(&mut self, name: &str, help: &str, nanos: u64) {
        self.head(name, "counter", help);
        self.line(name, "", nanos as f64 / 1e9);
    }
}
