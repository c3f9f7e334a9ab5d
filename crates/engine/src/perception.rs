//! The workers: frames in, passages out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use guiji_analysis::passage::ReadWish;
use guiji_domain::{
    BBox, CameraId, Detection, Detector, Findings, Frame, PlateRead, PlateReader, SharedPicture,
    Stream, View, VisionError,
};
use tracing::{error, warn};

use crate::cameras::{CameraCell, Cells};
use crate::counters::counters;
use crate::lane::{Lane, Look, Passage};
use crate::slots::{Slots, Work};

/// What a worker needs.
pub(crate) struct Perception {
    pub(crate) slots: Arc<Slots>,
    pub(crate) cells: Arc<Cells>,
    pub(crate) detector: Arc<dyn Detector>,
    pub(crate) reader: Arc<dyn PlateReader>,
    pub(crate) passages: SyncSender<Passage>,
    pub(crate) counters: Arc<PerceptionCounters>,
    pub(crate) batch_max: usize,
    pub(crate) batch_linger: Duration,
}

counters! {
    /// What the perception path did since the start.
    PerceptionCounters, PerceptionCounts {
        /// Frames analysed.
        analysed,
        /// Of these, frames in which nothing had changed: the detector was not asked.
        still,
        /// And frames that were passed over because the view was looked at a moment ago: nothing had changed but vehicles stand
        /// there, or every vehicle's plate is read.
        standing,
        /// Frames that only asked whether a vehicle is there that was not there before.
        asked,
        /// Frames lost because a newer one of the same camera came first.
        replaced,
        /// Frames passed over because analysis could not keep up: at most four a second of a camera are taken then.
        given_up,
        /// Frames that came for a camera already closed.
        late,
        /// Frames lost because a model could not be run.
        failed,
        /// Batches run.
        batches,
        /// Nanoseconds of detection, summed over workers.
        detect_ns,
        /// Whole frames searched for plates, because no vehicle was found in them.
        searched,
        /// Detections of vehicles that only their plate gave away.
        plate_led,
        /// Regions searched for plates.
        regions,
        /// Plates read.
        plates,
        /// Nanoseconds of plate reading, summed over workers.
        read_ns,
        /// Panics caught.
        panics,
    }
}

/// A frame with everything known of it.
struct Job {
    cell: Arc<CameraCell>,
    frame: Frame,
    look: Look,
}

impl Job {
    fn is_looked_at(&self) -> bool {
        matches!(self.look, Look::Vehicles | Look::VehiclesAndPlates)
    }
}

impl Perception {
    /// Works until the slots are closed and empty.
    pub(crate) fn run(&self) {
        while let Some(batch) = self.slots.take_batch(self.batch_max, self.batch_linger) {
            let cameras: Vec<CameraId> = batch.iter().map(|(camera, _)| camera.clone()).collect();
            // What panics here is outside any single camera's work (the models): the batch is lost, not the worker.
            if catch_unwind(AssertUnwindSafe(|| self.process(batch))).is_err() {
                self.counters.panics.fetch_add(1, Relaxed);
                self.counters.failed.fetch_add(cameras.len() as u64, Relaxed);
                error!(
                    cameras = cameras.len(),
                    "analysis of a batch panicked; its frames are lost"
                );
            }
            for camera in &cameras {
                self.slots.done(camera);
            }
        }
    }

    fn process(&self, batch: Vec<(CameraId, Work)>) {
        let mut jobs = Vec::with_capacity(batch.len());
        for (camera, work) in batch {
            let Some(cell) = self.cells.get(&camera) else { continue };
            match work {
                Work::Frame(frame) => {
                    cell.taken();
                    let look = self.guarded(&cell, |lane| (Some(lane.worth(&frame)), Vec::new()));
                    jobs.push(Job { cell, frame, look: look.unwrap_or(Look::Vehicles) });
                }
                Work::Flush => self.guarded(&cell, |lane| ((), lane.finish())),
            }
        }
        if jobs.is_empty() {
            return;
        }
        self.counters.batches.fetch_add(1, Relaxed);

        let detections = self.detect(&jobs);
        let Some(detections) = self.or_count("detect", jobs.len(), detections) else { return };

        let mut wishes: Vec<(usize, ReadWish)> = Vec::new();
        for (index, (job, detections)) in jobs.iter().zip(&detections).enumerate() {
            let wished = self.observe(job, detections);
            wishes.extend(wished.into_iter().map(|wish| (index, wish)));
        }
        if wishes.is_empty() {
            return;
        }
        // Best crops first: when time is short it is the poor ones that wait for a better frame.
        wishes.sort_by(|(_, a), (_, b)| b.priority.total_cmp(&a.priority));
        let requests: Vec<(SharedPicture, _)> = wishes
            .iter()
            .map(|(index, wish)| (jobs[*index].frame.full.clone(), wish.region))
            .collect();
        let reads = timed(&self.counters.read_ns, || self.reader.read(&requests));
        self.counters.regions.fetch_add(requests.len() as u64, Relaxed);
        let Some(reads) = self.or_count("read plates", 0, reads) else { return };
        for ((index, wish), reads) in wishes.iter().zip(&reads) {
            self.take_reads(&jobs[*index], wish, reads);
        }
    }

    /// The vehicles of each frame; none, without asking the detector, where it is not to look.
    fn detect(&self, jobs: &[Job]) -> Result<Vec<Vec<Detection>>, VisionError> {
        let of = |look| jobs.iter().filter(|job| job.look == look).count() as u64;
        self.counters.still.fetch_add(of(Look::Nothing), Relaxed);
        self.counters.standing.fetch_add(of(Look::Later), Relaxed);
        let looked_at: Vec<&Job> = jobs.iter().filter(|job| job.is_looked_at()).collect();
        if looked_at.is_empty() {
            return Ok(vec![Vec::new(); jobs.len()]);
        }
        let frames: Vec<&Frame> = looked_at.iter().map(|job| &job.frame).collect();
        let found = timed(&self.counters.detect_ns, || self.detector.detect(&frames))?;
        let mut found = self.with_plate_led(looked_at, found).into_iter();
        let of = |job: &Job| if job.is_looked_at() { found.next() } else { None };
        Ok(jobs.iter().map(of).map(Option::unwrap_or_default).collect())
    }

    /// Adds the vehicles that the detector overlooked and that a plate gives away.
    fn with_plate_led(
        &self,
        jobs: Vec<&Job>,
        mut found: Vec<Vec<Detection>>,
    ) -> Vec<Vec<Detection>> {
        let due = |(index, (job, found)): (usize, (&&Job, &Vec<Detection>))| {
            let search = |lane: &mut Lane| (lane.is_worth_searching(&job.frame, found), Vec::new());
            let due = job.look == Look::VehiclesAndPlates && self.guarded(&job.cell, search);
            due.then_some(index)
        };
        let searched: Vec<usize> = jobs.iter().zip(&found).enumerate().filter_map(due).collect();
        let requests: Vec<(SharedPicture, BBox)> = searched
            .iter()
            .filter_map(|index| {
                let full = &jobs[*index].frame.full;
                let whole = BBox::new(0.0, 0.0, full.width() as f32, full.height() as f32)?;
                Some((full.clone(), whole))
            })
            .collect();
        if requests.is_empty() {
            return found;
        }
        self.counters.searched.fetch_add(requests.len() as u64, Relaxed);
        let reads = timed(&self.counters.read_ns, || self.reader.read(&requests));
        // What the detector found stands, whatever becomes of the search.
        let reads = self.or_count("search for plates", 0, reads).unwrap_or_default();
        for (index, reads) in searched.into_iter().zip(&reads) {
            let job = jobs[index];
            let led = self.guarded(&job.cell, |lane| {
                (lane.vehicles_around(&job.frame, reads, &found[index]), Vec::new())
            });
            self.counters.plate_led.fetch_add(led.len() as u64, Relaxed);
            found[index].extend(led);
        }
        found
    }

    fn observe(&self, job: &Job, detections: &[Detection]) -> Vec<ReadWish> {
        self.counters.analysed.fetch_add(1, Relaxed);
        job.cell.analysed(job.frame.captured);
        if job.look == Look::Later {
            return Vec::new(); // nobody looked: that is no sign that what stands there is gone
        }
        let findings =
            self.guarded(&job.cell, |lane| (lane.findings(&job.frame, detections), Vec::new()));
        if job.frame.view == View::Asked {
            self.counters.asked.fetch_add(1, Relaxed);
            if findings.news > 0 {
                job.cell.detected(&job.frame, findings);
                return Vec::new(); // it comes again in its turn, after the pictures before it
            }
        }
        if job.frame.stream == Stream::Substream {
            self.observe_aside(job, detections, findings);
            return Vec::new();
        }
        let (wishes, live_tracks) = self.guarded(&job.cell, |lane| {
            let (wishes, passages) = lane.observe(&job.frame, detections);
            ((wishes, lane.live_tracks()), passages)
        });
        job.cell.follows(live_tracks);
        if job.frame.view != View::Unknown {
            job.cell.detected(&job.frame, findings);
        }
        wishes
    }

    /// Of the substream. What is new in it is followed in the main stream's pictures, which come then.
    fn observe_aside(&self, job: &Job, detections: &[Detection], findings: Findings) {
        if findings.news == 0 {
            let live_tracks = self.guarded(&job.cell, |lane| {
                let passages = lane.observe_aside(&job.frame, detections);
                (lane.live_tracks(), passages)
            });
            job.cell.follows(live_tracks);
        }
        job.cell.detected(&job.frame, findings);
    }

    fn take_reads(&self, job: &Job, wish: &ReadWish, reads: &[PlateRead]) {
        self.counters.plates.fetch_add(reads.len() as u64, Relaxed);
        let colour = self.detector.body_colour(job.frame.full.as_ref(), &wish.vehicle);
        self.guarded(&job.cell, |lane| ((), lane.reads(&job.frame, wish, reads, colour)));
    }

    /// Runs one camera's decisions; a panic ends that camera's tracks and is counted. Passages go to the recorder,
    /// waiting for room: a sighting is never dropped.
    fn guarded<T: Default>(
        &self,
        cell: &CameraCell,
        decide: impl FnOnce(&mut Lane) -> (T, Vec<Passage>),
    ) -> T {
        let outcome = catch_unwind(AssertUnwindSafe(|| decide(&mut cell.lane())));
        let (value, passages) = outcome.unwrap_or_else(|_| {
            self.counters.panics.fetch_add(1, Relaxed);
            error!(camera = %cell.camera.id, "a camera's analysis panicked; its tracks are ended");
            cell.restart_lane();
            Default::default()
        });
        for passage in passages {
            if self.passages.send(passage).is_err() {
                error!(camera = %cell.camera.id, "the recorder is gone; a sighting is lost");
            }
        }
        value
    }

    fn or_count<T>(
        &self,
        doing: &'static str,
        frames: usize,
        result: Result<T, VisionError>,
    ) -> Option<T> {
        result
            .inspect_err(|error| {
                self.counters.failed.fetch_add(frames as u64, Relaxed);
                warn!(%error, doing, frames, "a model could not be run");
            })
            .ok()
    }
}

fn timed<T>(nanos: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = work();
    nanos.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
    value
}
