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
}

/// Loads the clips and begins to serve them.
///
/// # Errors
/// When a clip cannot be read or the port is taken.
pub fn serve_load(
    streams: &[LoadStream],
    port: u16,
    clock: &dyn Clock,
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
        });
        let next = film.due_ns.partition_point(|due| *due < phase);
        reels.push(Reel { film, next, zero: i128::from(now) - i128::from(phase) }.wound());
    }
    server.spawn("pacer", move || pace(&shared, reels))?;
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
fn pace(shared: &Shared, mut reels: Vec<Reel>) {
    let mut queue: BinaryHeap<_> =
        reels.iter().enumerate().map(|(index, reel)| Reverse((reel.due(), index))).collect();
    while let Some(Reverse((due, index))) = queue.pop() {
        if !shared.sleep_until(due) {
            return;
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
    fn zero_lies_the_phase_before_now() {
        assert_eq!(zero_of(Timestamp::from_secs(10), 4_000_000_000), 6_000_000_000);
    }
}
