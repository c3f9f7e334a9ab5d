//! Sightings as a county makes them: 1131 cameras, 30,000 plates, in order of time.

use guiji_domain::{Camera, CameraId, EvidenceKind, GeoPoint, Recorded};

use crate::values;

pub(crate) const PLATES: u64 = 30_000;
const CAMERAS: u64 = 1131;

/// Number `n` of the plates.
pub(crate) fn text(n: u64) -> String {
    let letter = |k: u64| b"ABCDEFGHJKLMNPQRSTUVWXYZ"[(k % 24) as usize] as char;
    format!("浙{}{}{:04}", letter(n / 7), letter(n), n % 10_000)
}

/// All cameras, on a grid some 500 m wide.
pub(crate) fn cameras() -> anyhow::Result<Vec<Camera>> {
    let camera = |n: u64| {
        let position =
            GeoPoint::new(28.5 + 0.005 * (n / 34) as f64, 121.2 + 0.005 * (n % 34) as f64)?;
        Ok(Camera { id: CameraId::new(&format!("k{n}"))?, position, ..values::camera("k") })
    };
    (0..CAMERAS).map(camera).collect()
}

/// The next sightings whenever asked.
#[derive(Default)]
pub(crate) struct Traffic(u64);

impl Traffic {
    /// So many sightings, 2.7 s apart, each with pictures of these kinds and sizes in bytes.
    pub(crate) fn batch(
        &mut self,
        size: usize,
        pictures: &[(EvidenceKind, usize)],
    ) -> Vec<Recorded> {
        (0..size).map(|_| self.sighting(pictures)).collect()
    }

    fn sighting(&mut self, pictures: &[(EvidenceKind, usize)]) -> Recorded {
        let n = self.0;
        self.0 += 1;
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let started = values::at((n * 27 / 10) as i64);
        let plate = values::plate(&text(random % PLATES));
        let seen = values::sighting(&format!("k{}", random % CAMERAS), n, started, plate);
        let made: Vec<_> = pictures
            .iter()
            .zip(0..)
            .map(|((kind, length), k)| (*kind, values::noise(n * 3 + k, *length)))
            .collect();
        values::with_pictures(seen, &made)
    }
}
