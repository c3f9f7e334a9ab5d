//! A clip that costs next to nothing to serve and to receive: for counting sessions, not pixels.

use std::path::Path;

use crate::SceneError;
use crate::canvas::Canvas;
use crate::encode::{Codec, Encoder, EncoderSpec, Rate};

const SIZE: (usize, usize) = (160, 120);
const FPS: f64 = 5.0;
const SECONDS: f64 = 10.0;

/// Writes ten seconds of a bar that wanders: 160x120 at 5 pictures a second, one keyframe, some 25 kbit/s.
///
/// # Errors
/// When the encoder fails or the file cannot be written.
pub fn small_clip(file: &Path) -> Result<(), SceneError> {
    let spec = EncoderSpec {
        codec: Codec::H264,
        rate: Rate::Bitrate { kbit_s: 25 },
        gop_s: SECONDS,
        b_frames: 0,
        preset: "superfast".to_owned(),
        zero_latency: true,
    };
    let (width, height) = SIZE;
    let mut encoder = Encoder::open(file, width, height, FPS, &spec)?;
    let mut canvas = Canvas::new(width, height);
    for number in 0..(FPS * SECONDS) as usize {
        for row in canvas.planes[0].chunks_exact_mut(width) {
            for (x, pixel) in row.iter_mut().enumerate() {
                let bar = (x + width - number * 3 % width) % width < 24;
                *pixel = if bar { 200 } else { 60 + (x / 2) as u8 };
            }
        }
        encoder.push(&canvas)?;
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::UnitReader;

    #[test]
    fn it_is_small_and_has_one_keyframe() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("small.mp4");
        small_clip(&file).unwrap();
        let mut reader = UnitReader::open(&file).unwrap();
        let (mut units, mut keys, mut bytes) = (0, 0, 0);
        while let Some(unit) = reader.next().unwrap() {
            units += 1;
            keys += usize::from(unit.is_key);
            bytes += unit.buffer.size();
        }
        assert_eq!((units, keys), (50, 1));
        assert!(bytes < 60_000, "{bytes} bytes in ten seconds");
    }
}
