//! Colours judged from pixels: of a plate's ground, of a vehicle's body.

use guiji_domain::{BBox, PlateColour, VehicleColour};

use crate::pixels::{Bgr, View, hsv, luma};
use crate::rectify::Strip;

/// The ground colour of an upright plate crop, with the share of the pixels that speak for it.
///
/// Each pixel votes by hue when it is saturated; characters and border are white or black and unsaturated, so a
/// coloured ground wins by the saturated pixels alone. Without enough of those the ground is the brighter or the
/// darker side of the middle brightness, whichever has more pixels, and its tint decides. A yellow-green plate has
/// its yellow left of its green. `None` when the crop has no contrast or no colour leads.
pub(crate) fn plate_colour(strip: &Strip) -> Option<(PlateColour, f32)> {
    /// A ground covers at least this share, else it is text or reflection.
    const GROUND_MIN: f32 = 0.22;
    let (w, h) = (strip.width, strip.height);
    // Without the outermost rows and columns: bumper and frame.
    let inner = (h / 8..h - h / 8).flat_map(|y| (w / 20..w - w / 20).map(move |x| (x, y)));
    let (mut blue, mut yellow, mut green, mut count) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
    let (mut yellow_left, mut green_right) = (0.0, 0.0);
    let mut pixels = Vec::new();
    for (x, y) in inner {
        let pixel = strip.pixels[y * w + x];
        let (hue, saturation, value) = hsv(pixel);
        count += 1.0;
        pixels.push(pixel);
        match hue {
            175.0..=260.0 if saturation > 0.35 && value > 0.15 => blue += 1.0,
            22.0..=68.0 if saturation > 0.35 && value > 0.25 => {
                yellow += 1.0;
                yellow_left += if x * 4 < w { 1.0 } else { 0.0 };
            }
            75.0..=170.0 if saturation > 0.15 && value > 0.2 => {
                green += 1.0;
                green_right += if x * 4 >= w { 1.0 } else { 0.0 };
            }
            _ => {}
        }
    }
    if count == 0.0 {
        return None;
    }
    let coloured = blue + yellow + green;
    let (colour, votes) =
        [(PlateColour::Blue, blue), (PlateColour::Yellow, yellow), (PlateColour::Green, green)]
            .into_iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
    if coloured / count >= GROUND_MIN {
        let both = colour == PlateColour::Green
            && yellow > green * 0.12
            && yellow_left > yellow * 0.8
            && green_right > green * 0.9;
        if both {
            return Some((PlateColour::YellowGreen, (yellow + green) / coloured));
        }
        return Some((colour, votes / coloured));
    }
    let mut sorted: Vec<_> = pixels.iter().map(|p| luma(*p)).collect();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f32| sorted[((sorted.len() - 1) as f32 * share) as usize];
    let (dark, bright) = (at(0.05), at(0.95));
    if bright - dark < 40.0 {
        return None;
    }
    let middle = (dark + bright) / 2.0;
    let is_light = sorted.iter().filter(|g| **g > middle).count() as f32 / count > 0.5;
    let ground: Vec<_> = pixels.into_iter().filter(|p| (luma(*p) > middle) == is_light).collect();
    let share = ground.len() as f32 / count;
    Some((faded(&ground, is_light), share))
}

/// The colour of a ground without saturated pixels, by what is left of its tint: at dusk and in cheap pictures blue
/// is nearly black and yellow nearly white.
fn faded(ground: &[Bgr], is_light: bool) -> PlateColour {
    const TINT_MIN: f32 = 0.07;
    let mean = |c: usize| ground.iter().map(|p| p[c]).sum::<f32>() / ground.len().max(1) as f32;
    let (b, g, r) = (mean(0), mean(1), mean(2));
    let strongest = b.max(g).max(r).max(1.0);
    match is_light {
        true if (g.min(r) - b) / strongest > TINT_MIN * 2.0 => PlateColour::Yellow,
        true => PlateColour::White,
        false if (b - r) / strongest > TINT_MIN => PlateColour::Blue,
        false => PlateColour::Black,
    }
}

/// Below this mean brightness of the whole box, 0 to 255, colours are not judged.
const NIGHT: f32 = 48.0;

/// The body colour of the vehicle in the box, with its share of the pixels looked at.
///
/// Looks at the part of the box where the body is on both front and rear views: 48 to 72 % of its height (below the
/// windows, above road and shadow) and the middle 70 % of its width. Every pixel of a 32 by 12 grid of means votes
/// by its hue when saturated, by its brightness when grey. `None` in the dark, or when the leader has less than
/// 35 %.
pub(crate) fn body_colour(view: &View<'_>, vehicle: &BBox) -> Option<(VehicleColour, f32)> {
    const SHARE_MIN: f32 = 0.35;
    let vehicle = vehicle.clipped(view.width(), view.height())?;
    if vehicle.width() < 8.0 || vehicle.height() < 8.0 {
        return None;
    }
    if mean_brightness(view, &vehicle) < NIGHT {
        return None;
    }
    let part =
        |x: f32, y: f32| (vehicle.x1() + vehicle.width() * x, vehicle.y1() + vehicle.height() * y);
    let ((x1, y1), (x2, y2)) = (part(0.15, 0.48), part(0.85, 0.72));
    let mut votes = [0.0f32; VehicleColour::ALL.len()];
    view.scaled_rows(&BBox::new(x1, y1, x2, y2)?, 32, 12, |_, row| {
        for pixel in row {
            votes[paint(hsv(*pixel)) as usize] += 1.0;
        }
    });
    let total: f32 = votes.iter().sum();
    let leader = VehicleColour::ALL.iter().zip(votes).max_by(|a, b| a.1.total_cmp(&b.1))?;
    let share = leader.1 / total.max(1.0);
    (share >= SHARE_MIN).then_some((*leader.0, share))
}

/// Mean brightness, 0 to 255, over a grid of 16 by 16 places of the box.
fn mean_brightness(view: &View<'_>, bbox: &BBox) -> f32 {
    const SIDE: usize = 16;
    let share = |i: usize| (i as f32 + 0.5) / SIDE as f32;
    let places = (0..SIDE * SIDE).map(|i| (share(i % SIDE), share(i / SIDE)));
    let brightness = places.map(|(x, y)| {
        luma(view.bilinear(bbox.x1() + bbox.width() * x, bbox.y1() + bbox.height() * y))
    });
    brightness.sum::<f32>() / (SIDE * SIDE) as f32
}

/// What a person would call the paint of this hue, saturation and value by daylight.
fn paint((hue, saturation, value): (f32, f32, f32)) -> VehicleColour {
    if value < 0.2 || (value < 0.32 && saturation < 0.4) {
        return VehicleColour::Black;
    }
    if saturation < 0.2 {
        return match value {
            v if v > 0.78 => VehicleColour::White,
            v if v > 0.5 => VehicleColour::Silver,
            _ => VehicleColour::Grey,
        };
    }
    match hue {
        h if !(16.0..335.0).contains(&h) => VehicleColour::Red,
        h if h < 45.0 => {
            if value > 0.7 && saturation > 0.55 {
                VehicleColour::Yellow
            } else {
                VehicleColour::Brown
            }
        }
        h if h < 70.0 => {
            if saturation > 0.35 {
                VehicleColour::Yellow
            } else {
                VehicleColour::Silver
            }
        }
        h if h < 170.0 => VehicleColour::Green,
        h if h < 275.0 => VehicleColour::Blue,
        _ => VehicleColour::Red,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::tests::{as_i420, painted};

    /// A plate with vertical strokes of text on a ground that may change along x.
    fn plate(ground: impl Fn(usize) -> [u8; 3], text: [u8; 3]) -> Strip {
        let (width, height) = (168, 48);
        let pixel = |i: usize| {
            let (x, y) = (i % width, i / width);
            let is_text = (10..38).contains(&y) && x % 22 > 4 && x % 22 < 12;
            let [r, g, b] = if is_text { text } else { ground(x) };
            [b, g, r].map(f32::from)
        };
        Strip { width, height, pixels: (0..width * height).map(pixel).collect() }
    }

    #[test]
    fn plates_of_every_colour() {
        let (white, black) = ([240, 240, 240], [20, 20, 20]);
        for (ground, text, expected) in [
            ([20, 60, 180], white, PlateColour::Blue),
            ([12, 30, 70], [130, 135, 140], PlateColour::Blue), // at dusk
            ([52, 56, 66], [150, 150, 150], PlateColour::Blue), // in a cheap picture
            ([200, 190, 150], black, PlateColour::Yellow),
            ([240, 180, 30], black, PlateColour::Yellow),
            ([110, 200, 140], black, PlateColour::Green),
            ([235, 235, 230], black, PlateColour::White),
            ([25, 25, 25], white, PlateColour::Black),
        ] {
            let (colour, share) = plate_colour(&plate(|_| ground, text)).unwrap();
            assert_eq!(colour, expected, "{ground:?}");
            assert!(share > 0.6, "{ground:?}: {share}");
        }
        let two = |x| if x < 40 { [240, 190, 30] } else { [90, 200, 120] };
        assert_eq!(plate_colour(&plate(two, black)).unwrap().0, PlateColour::YellowGreen);
        assert_eq!(plate_colour(&plate(|_| [90, 90, 90], [100, 100, 100])), None);
    }

    /// A car by day: sky above, glass, body, tyres on the road.
    fn car(body: [u8; 3], light: f32) -> guiji_domain::OwnedPicture {
        painted(100, 80, |x, y| {
            let inside = (10..90).contains(&x) && (10..70).contains(&y);
            let colour = match y {
                _ if !inside => [120, 120, 118],
                10..30 => [40, 50, 60],
                30..58 => body,
                _ => [30, 30, 30],
            };
            colour.map(|v: u8| (f32::from(v) * light) as u8)
        })
    }

    #[test]
    fn bodies_of_every_colour() {
        let bbox = BBox::new(10.0, 10.0, 90.0, 70.0).unwrap();
        for (body, expected) in [
            ([250, 250, 248], VehicleColour::White),
            ([160, 165, 168], VehicleColour::Silver),
            ([95, 96, 98], VehicleColour::Grey),
            ([180, 20, 30], VehicleColour::Red),
            ([230, 190, 20], VehicleColour::Yellow),
            ([30, 120, 60], VehicleColour::Green),
            ([25, 60, 150], VehicleColour::Blue),
            ([110, 75, 45], VehicleColour::Brown),
        ] {
            let picture = car(body, 1.0);
            for picture in [&picture, &as_i420(&picture)] {
                let (colour, share) = body_colour(&View::of(picture).unwrap(), &bbox).unwrap();
                assert_eq!(colour, expected, "{body:?}");
                assert!(share > 0.5);
            }
        }
        let black = car([25, 25, 27], 1.0);
        // A black car on a bright road is black; the box must not be so dark as to be night.
        let wide = BBox::new(0.0, 5.0, 100.0, 75.0).unwrap();
        assert_eq!(body_colour(&View::of(&black).unwrap(), &wide).unwrap().0, VehicleColour::Black);
    }

    #[test]
    fn night_is_not_judged() {
        let bbox = BBox::new(10.0, 10.0, 90.0, 70.0).unwrap();
        let night = car([180, 20, 30], 0.3);
        assert_eq!(body_colour(&View::of(&night).unwrap(), &bbox), None);
        let day = car([180, 20, 30], 1.0);
        let outside = BBox::new(200.0, 200.0, 300.0, 300.0).unwrap();
        assert_eq!(body_colour(&View::of(&day).unwrap(), &outside), None);
    }
}
