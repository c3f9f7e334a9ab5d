//! Many streams from few clips, for measuring how much a server bears.
//!
//! Each clip is read once, into memory; every stream plays it in a loop from a place of its own. One thread paces
//! all of them, nothing is decoded or parsed, and time stamps run on over the loop's seam. Running times are instants
//! of capture, as for all clips served here, so RTCP sender reports carry the true wall clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use guiji_domain::{CameraId, Clock, Timestamp};
use serde::{Deserialize, Serialize};

use crate::SceneError;
use crate::encode::Codec;
use crate::reader::{Unit, UnitReader};
use crate::serve::{AtEnd, Channel, SceneServer, ServeOptions, ServedClip, Shared, StartRule};
use crate::truth::write_json;

/// One stream of a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadStream {
    /// Path of the stream: `rtsp://HOST:PORT/ID`.
    pub id: String,
    /// The clip; several streams may play the same.
    pub file: PathBuf,
    /// How far into the clip it begins, milliseconds.
    pub phase_ms: u64,
}

/// When a stream shows what: its clip's pts 0 was captured at `zero_ns`, and every `length_ns` after that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadTimes {
    /// The stream.
    pub id: String,
    /// Nanoseconds since the Unix epoch.
    pub zero_ns: i64,
    /// Length of the clip, nanoseconds.
    pub length_ns: u64,
    /// Pictures in the clip.
    pub frames: usize,
    /// The longest time from a keyframe to the next, over the loop's seam too, nanoseconds.
    pub keyframe_ns: u64,
}

/// How the server keeps its own pace: a line a second. Where it does not, a client that misses pictures is not to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoadPace {
    /// When it was written, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// Units that were due.
    pub units: u64,
    /// Of these, sent more than [`LoadPace::LATE_MS`] late.
    pub late: u64,
    /// The latest of them, milliseconds.
    pub latest_ms: u64,
}

impl LoadPace {
    /// A unit sent later than this is late: five pictures at 25 a second.
    pub const LATE_MS: u64 = 200;

    fn note(&mut self, late_ns: u64) {
        let late_ms = late_ns / 1_000_000;
        self.units += 1;
        self.late += u64::from(late_ms > Self::LATE_MS);
        self.latest_ms = self.latest_ms.max(late_ms);
    }
}

/// A clip in memory.
struct Film {
    codec: Codec,
    units: Vec<Unit>,
    /// When each unit is sent: in decoding order, so never before its predecessor.
    due_ns: Vec<u64>,
    length_ns: u64,
}

impl Film {
    fn read(file: &Path) -> Result<Self, SceneError> {
        let mut reader = UnitReader::open(file)?;
        let (mut units, mut due_ns, mut latest) = (Vec::new(), Vec::new(), 0);
        while let Some(unit) = reader.next()? {
            latest = unit.pts.nseconds().max(latest);
            due_ns.push(latest);
            units.push(unit);
        }
        if units.len() < 2 || latest == 0 {
            return Err(SceneError::media(file.display().to_string())(
                "has less than two pictures",
            ));
        }
        // The last picture lasts as long as the others on average.
        let length_ns = latest + latest / (units.len() as u64 - 1);
        Ok(Self { codec: reader.codec, units, due_ns, length_ns })
    }

    /// The longest time from a keyframe to the next.
    fn keyframe_ns(&self) -> u64 {
        let keys: Vec<u64> =
            self.units.iter().filter(|it| it.is_key).map(|it| it.pts.nseconds()).collect();
        let seam = match (keys.first(), keys.last()) {
            (Some(first), Some(last)) => self.length_ns - last + first,
            _ => self.length_ns,
        };
        keys.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).fold(seam, u64::max)
    }
}

/// Loads the clips and begins to serve them; `told` hears once a second how the pace is kept.
///
/// # Errors
/// When a clip cannot be read or the port is taken.
pub fn serve_load(
    streams: &[LoadStream],
    port: u16,
    clock: Arc<dyn Clock>,
    told: impl FnMut(LoadPace) + Send + 'static,
) -> Result<(SceneServer, Vec<LoadTimes>), SceneError> {
    gstreamer::init().map_err(SceneError::media("rtsp server"))?;
    let mut films: HashMap<&Path, Arc<Film>> = HashMap::new();
    let (mut channels, mut playing) = (Vec::new(), Vec::new());
    for stream in streams {
        let film = match films.get(stream.file.as_path()) {
            Some(film) => film.clone(),
            None => {
                let film = Arc::new(Film::read(&stream.file)?);
                films.insert(&stream.file, film.clone());
                film
            }
        };
        let clip = ServedClip { id: CameraId::new(&stream.id)?, file: stream.file.clone() };
        channels.push(Arc::new(Channel::new(clip, film.codec)));
        playing.push(film);
    }
    let options = ServeOptions { port, start: StartRule::AtOnce, at_end: AtEnd::Loop, login: None };
    let mut server = SceneServer::listen(channels, &options)?;
    let shared = server.shared();
    let (now, utc) = (shared.now(), clock.now());
    let mut reels = Vec::new();
    let mut times = Vec::new();
    for (stream, film) in streams.iter().zip(playing) {
        let phase = stream.phase_ms * 1_000_000 % film.length_ns;
        times.push(LoadTimes {
            id: stream.id.clone(),
            zero_ns: zero_of(utc, phase),
            length_ns: film.length_ns,
            frames: film.units.len(),
            keyframe_ns: film.keyframe_ns(),
        });
        let next = film.due_ns.partition_point(|due| *due < phase);
        reels.push(Reel { film, next, zero: i128::from(now) - i128::from(phase) }.wound());
    }
    server.spawn("pacer", move || pace(&shared, reels, &*clock, told))?;
    Ok((server, times))
}

/// Writes where each stream is, for whoever knows the truth about its clip.
///
/// # Errors
/// When the file cannot be written.
pub fn save_times(file: &Path, times: &[LoadTimes]) -> Result<(), SceneError> {
    write_json(file, &times)
}

fn zero_of(now: Timestamp, phase_ns: u64) -> i64 {
    now.minus(Duration::from_nanos(phase_ns)).as_nanos()
}

/// A stream's place in its clip.
struct Reel {
    film: Arc<Film>,
    next: usize,
    /// Clock ticks at this round's pts 0; before the clock's own 0 perhaps.
    zero: i128,
}

impl Reel {
    /// At the clip's end, back to its beginning.
    fn wound(mut self) -> Self {
        self.wind();
        self
    }

    fn wind(&mut self) {
        if self.next >= self.film.units.len() {
            self.next = 0;
            self.zero += i128::from(self.film.length_ns);
        }
    }

    fn ticks(&self, at_ns: u64) -> u64 {
        u64::try_from(self.zero + i128::from(at_ns)).unwrap_or(0)
    }

    fn due(&self) -> u64 {
        self.ticks(self.film.due_ns.get(self.next).copied().unwrap_or(0))
    }
}

/// Sends every unit of every stream when it is due, until the server stops.
fn pace(shared: &Shared, mut reels: Vec<Reel>, clock: &dyn Clock, mut told: impl FnMut(LoadPace)) {
    const EVERY_NS: u64 = 1_000_000_000;
    let (mut second, mut telling) = (LoadPace::default(), shared.now() + EVERY_NS);
    let mut queue: BinaryHeap<_> =
        reels.iter().enumerate().map(|(index, reel)| Reverse((reel.due(), index))).collect();
    while let Some(Reverse((due, index))) = queue.pop() {
        if !shared.sleep_until(due) {
            return;
        }
        let now = shared.now();
        second.note(now.saturating_sub(due));
        if now >= telling {
            told(LoadPace { at_ns: clock.now().as_nanos(), ..std::mem::take(&mut second) });
            telling = now + EVERY_NS;
        }
        let (Some(reel), Some(channel)) = (reels.get_mut(index), shared.cameras.get(index)) else {
            continue;
        };
        if let Some(unit) = reel.film.units.get(reel.next) {
            channel.send(unit, reel.ticks(unit.pts.nseconds()));
        }
        reel.next += 1;
        reel.wind();
        queue.push(Reverse((reel.due(), index)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn film(frames: u64) -> Arc<Film> {
        let units = (0..frames)
            .map(|i| Unit {
                buffer: gstreamer::Buffer::new(),
                pts: gstreamer::ClockTime::from_mseconds(i * 40),
                is_key: i == 0,
            })
            .collect();
        let due_ns = (0..frames).map(|i| i * 40_000_000).collect();
        Arc::new(Film { codec: Codec::H264, units, due_ns, length_ns: frames * 40_000_000 })
    }

    #[test]
    fn a_reel_runs_on_over_the_seam() {
        gstreamer::init().unwrap();
        let mut reel = Reel { film: film(3), next: 2, zero: -40_000_000 }.wound();
        let mut dues = Vec::new();
        for _ in 0..5 {
            dues.push(reel.due() / 1_000_000);
            reel.next += 1;
            reel.wind();
        }
        assert_eq!(dues, [40, 80, 120, 160, 200]);
    }

    #[test]
    fn the_end_of_a_clip_is_its_beginning() {
        gstreamer::init().unwrap();
        let reel = Reel { film: film(3), next: 3, zero: 0 }.wound();
        assert_eq!((reel.next, reel.due()), (0, 120_000_000));
    }

    #[test]
    fn the_longest_time_between_keyframes_counts_over_the_seam() {
        gstreamer::init().unwrap();
        let keys = |at: &[usize]| {
            let mut film = Arc::into_inner(film(10)).unwrap();
            film.units.iter_mut().enumerate().for_each(|(i, it)| it.is_key = at.contains(&i));
            film.keyframe_ns() / 40_000_000
        };
        assert_eq!(keys(&[0, 5]), 5);
        assert_eq!(keys(&[0, 2]), 8);
        assert_eq!(keys(&[0]), 10);
        assert_eq!(keys(&[]), 10);
    }

    #[test]
    fn lateness_is_counted_by_the_second() {
        let mut pace = LoadPace::default();
        for late_ms in [0, 3, LoadPace::LATE_MS, LoadPace::LATE_MS + 1] {
            pace.note(late_ms * 1_000_000);
        }
        let right = LoadPace { at_ns: 0, units: 4, late: 1, latest_ms: LoadPace::LATE_MS + 1 };
        assert_eq!(pace, right);
    }

    #[test]
    fn zero_lies_the_phase_before_now() {
        assert_eq!(zero_of(Timestamp::from_secs(10), 4_000_000_000), 6_000_000_000);
    }
}
