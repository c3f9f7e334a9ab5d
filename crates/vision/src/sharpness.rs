//! How much detail a crop holds.

use crate::pixels::luma;
use crate::rectify::Strip;

/// Ratio of the Laplacian's variance to the brightness' variance at which a crop counts as half sharp. A focused
/// plate at the reader's size has 0.3 to 2, one that is blurred over two of its characters' strokes below 0.05.
const HALF_SHARP: f32 = 0.15;
/// Standard deviation of brightness, 0 to 255, at which contrast counts half: below it noise is most of what is seen.
const HALF_CONTRAST: f32 = 12.0;

/// Sharpness, 0 (flat or blurred) to 1: the variance of the 4-neighbour Laplacian divided by the variance of the
/// brightness (so that a dim plate is not blamed for being dim), saturating, times a factor that falls to 0 with
/// vanishing contrast (so that noise on a flat surface is not taken for detail).
///
/// Source: variance of Laplacian as a focus measure, Pech-Pacheco et al. 2000; the normalisation is ours.
pub(crate) fn sharpness(strip: &Strip) -> f32 {
    let (w, h) = (strip.width, strip.height);
    if w < 3 || h < 3 {
        return 0.0;
    }
    let grey: Vec<f32> = strip.pixels.iter().map(|p| luma(*p)).collect();
    let inner = (1..h - 1).flat_map(|y| (1..w - 1).map(move |x| y * w + x));
    let laplacian = inner
        .clone()
        .map(|i| 4.0 * grey[i] - grey[i - 1] - grey[i + 1] - grey[i - w] - grey[i + w]);
    let detail = variance(laplacian);
    let contrast = variance(inner.map(|i| grey[i]));
    if contrast <= f32::EPSILON {
        return 0.0;
    }
    let ratio = detail / contrast;
    let seen = contrast / (contrast + HALF_CONTRAST * HALF_CONTRAST);
    (ratio / (ratio + HALF_SHARP) * seen).clamp(0.0, 1.0)
}

fn variance(values: impl Iterator<Item = f32>) -> f32 {
    let (mut n, mut sum, mut squares) = (0.0f64, 0.0, 0.0);
    for value in values.map(f64::from) {
        n += 1.0;
        sum += value;
        squares += value * value;
    }
    if n == 0.0 { 0.0 } else { (squares / n - (sum / n) * (sum / n)).max(0.0) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vertical strokes, blurred over `blur` pixels, with this contrast.
    fn strokes(blur: usize, contrast: f32) -> Strip {
        let (width, height) = (160, 48);
        let stroke = |x: i64| if x.rem_euclid(16) < 5 { contrast } else { 0.0 };
        let column = |x: i64| {
            let reach = blur as i64;
            let sum: f32 = (-reach..=reach).map(|d| stroke(x + d)).sum();
            60.0 + sum / (2 * reach + 1) as f32
        };
        let row: Vec<_> = (0..width as i64).map(|x| [column(x); 3]).collect();
        Strip { width, height, pixels: row.repeat(height) }
    }

    #[test]
    fn blur_lowers_it_step_by_step() {
        let measured: Vec<_> = [0, 1, 2, 4].map(|blur| sharpness(&strokes(blur, 150.0))).to_vec();
        assert!(measured.windows(2).all(|w| w[0] > w[1] + 0.05), "{measured:?}");
        assert!(measured[0] > 0.6 && measured[3] < 0.3, "{measured:?}");
    }

    #[test]
    fn dim_is_not_blurred_and_flat_is_nothing() {
        let (bright, dim) = (sharpness(&strokes(1, 150.0)), sharpness(&strokes(1, 60.0)));
        assert!((bright - dim).abs() < 0.15, "{bright} {dim}");
        assert_eq!(sharpness(&strokes(0, 0.0)), 0.0);
        assert!(sharpness(&strokes(0, 2.0)) < 0.05);
        assert_eq!(sharpness(&Strip { width: 2, height: 2, pixels: vec![[9.0; 3]; 4] }), 0.0);
    }
}
