use std::time::Duration;

use crate::fusion::FusionSettings;
use crate::tracker::TrackerSettings;

/// What makes a passage, what is read of it and when it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct PassageSettings {
    /// Following.
    pub tracker: TrackerSettings,
    /// Fusing reads.
    pub fusion: FusionSettings,
    /// Narrower vehicles are not read, pixels: their plate would be a quarter of this.
    pub read_vehicle_width_min_px: f32,
    /// Most reads asked for in one frame.
    pub reads_a_frame_max: usize,
    /// Most reads asked for of one vehicle.
    pub reads_a_track_max: u32,
    /// Margin around the vehicle's box in which the plate is looked for, as a share of its size.
    pub region_margin: f32,
    /// A provisional sighting needs this fused confidence ...
    pub provisional_confidence_min: f32,
    /// ... and a plate at least this wide in some frame, pixels.
    pub provisional_plate_width_min_px: f32,
    /// Frames that a vehicle without a read plate must be seen in.
    pub frames_min: u32,
    /// Mean detector score that it must have.
    pub score_mean_min: f32,
    /// How long it must be seen if it moves. Twice this long, two frames are enough.
    pub moving_duration_min: Duration,
    /// How long it must be seen if it does not move.
    pub still_duration_min: Duration,
    /// A final sighting is held back until this long after the vehicle was last seen, and two tracks of one plate
    /// within this time are one passage.
    pub merge_within: Duration,
    /// A vehicle that stands still is told after this time, without waiting for it to leave.
    pub still_told_after: Duration,
    /// A vehicle that stands where one was told of before is not told again until it went unseen for this long;
    /// one that leaves is told again when it was last told longer ago than this.
    pub parked_after: Duration,
    /// Most ended passages held back; beyond it the oldest is told early.
    pub held_max: usize,
    /// Most still vehicles remembered; beyond it the longest unseen is forgotten.
    pub still_max: usize,
}

impl Default for PassageSettings {
    fn default() -> Self {
        Self {
            tracker: TrackerSettings::default(),
            fusion: FusionSettings::default(),
            read_vehicle_width_min_px: 100.0,
            reads_a_frame_max: 4,
            reads_a_track_max: 16,
            region_margin: 0.06,
            provisional_confidence_min: 0.8,
            provisional_plate_width_min_px: 50.0,
            frames_min: 3,
            score_mean_min: 0.35,
            moving_duration_min: Duration::from_millis(250),
            still_duration_min: Duration::from_secs(1),
            merge_within: Duration::from_secs(3),
            still_told_after: Duration::from_secs(60),
            parked_after: Duration::from_secs(600),
            held_max: 64,
            still_max: 64,
        }
    }
}
