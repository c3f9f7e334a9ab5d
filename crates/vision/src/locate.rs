//! Finds where in a frame a cut-out was taken from: coarsely on small copies, then to the pixel.

use image::{GrayImage, RgbImage, imageops};

/// A rectangle of whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// The shorter side of the cut-out on the coarse copy, pixels.
const COARSE_SIDE: u32 = 16;
/// Places of the coarse search that are looked at closely.
const CANDIDATES: usize = 8;
/// The least correlation (Pearson's, of brightness) of a place that is believed. The same picture encoded twice has
/// more than 0.98; another picture of the same street far less.
const CORRELATION_MIN: f64 = 0.95;
/// About so many pixels are compared for each place.
const SAMPLES: u32 = 2500;

/// Where the cut-out lies in the frame; `None` when nothing in the frame looks like it.
pub(crate) fn locate(frame: &RgbImage, cut_out: &RgbImage) -> Option<Place> {
    let (frame, cut_out) = (imageops::grayscale(frame), imageops::grayscale(cut_out));
    let (width, height) = cut_out.dimensions();
    if width > frame.width() || height > frame.height() || width.min(height) < COARSE_SIDE {
        return None;
    }
    let factor = width.min(height) / COARSE_SIDE;
    let (small_frame, small) = (shrunk(&frame, factor), shrunk(&cut_out, factor));
    let mut coarse: Vec<(u64, u32, u32)> = Vec::new();
    for y in 0..=small_frame.height() - small.height().min(small_frame.height()) {
        for x in 0..=small_frame.width() - small.width().min(small_frame.width()) {
            coarse.push((difference(&small_frame, &small, x, y), x, y));
        }
    }
    coarse.sort_unstable();
    let mut best: Option<(f64, u32, u32)> = None;
    for (_, x, y) in coarse.into_iter().take(CANDIDATES) {
        let around = |at: u32, limit: u32| {
            let middle = at * factor;
            middle.saturating_sub(factor)..=(middle + factor).min(limit)
        };
        for y in around(y, frame.height() - height) {
            for x in around(x, frame.width() - width) {
                let correlation = correlation(&frame, &cut_out, x, y);
                if best.is_none_or(|(most, ..)| correlation > most) {
                    best = Some((correlation, x, y));
                }
            }
        }
    }
    let (correlation, x, y) = best?;
    (correlation >= CORRELATION_MIN).then_some(Place { x, y, width, height })
}

/// Each pixel the mean of a square; what is left over at the right and below is cut off.
fn shrunk(picture: &GrayImage, factor: u32) -> GrayImage {
    let count = factor * factor;
    GrayImage::from_fn(picture.width() / factor, picture.height() / factor, |x, y| {
        let square = (0..count).map(|i| (x * factor + i % factor, y * factor + i / factor));
        let sum: u32 = square.map(|(x, y)| u32::from(picture.get_pixel(x, y).0[0])).sum();
        image::Luma([(sum / count) as u8]) // a mean of bytes is a byte
    })
}

/// The sum of absolute differences at a place.
fn difference(frame: &GrayImage, part: &GrayImage, left: u32, top: u32) -> u64 {
    let pixels = part.enumerate_pixels();
    pixels
        .map(|(x, y, pixel)| match frame.get_pixel_checked(left + x, top + y) {
            Some(there) => u64::from(pixel.0[0].abs_diff(there.0[0])),
            None => 255,
        })
        .sum()
}

/// Pearson's correlation of brightness over samples of the part; 0 when one of the two is flat.
fn correlation(frame: &GrayImage, part: &GrayImage, left: u32, top: u32) -> f64 {
    let step = ((part.width() * part.height() / SAMPLES).isqrt()).max(1) as usize;
    let (mut n, mut sa, mut sb, mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for y in (0..part.height()).step_by(step) {
        for x in (0..part.width()).step_by(step) {
            let Some(there) = frame.get_pixel_checked(left + x, top + y) else { continue };
            let (a, b) = (f64::from(part.get_pixel(x, y).0[0]), f64::from(there.0[0]));
            n += 1.0;
            sa += a;
            sb += b;
            saa += a * a;
            sbb += b * b;
            sab += a * b;
        }
    }
    let (va, vb) = (n * saa - sa * sa, n * sbb - sb * sb);
    if va <= 0.0 || vb <= 0.0 { 0.0 } else { (n * sab - sa * sb) / (va * vb).sqrt() }
}
