use guiji_domain::{BBox, FusedPlate, PlateRead};

use crate::fusion::similarity;

/// A vehicle in the frame that was read, with what is known of its plate.
pub(super) struct Owner<'a> {
    pub(super) bbox: BBox,
    pub(super) plate: Option<&'a FusedPlate>,
}

/// From this likeness on, a read speaks for a known plate.
pub(super) const SAME_PLATE: f32 = 0.4;
/// How much better a plate must sit on another vehicle to be that one's.
const BETTER_ELSEWHERE: f32 = 1.25;
/// Below this a plate sits too oddly to be this vehicle's.
const FIT_MIN: f32 = 0.02;

/// Which of the plates found is this vehicle's: the one that sits where plates sit, agrees with earlier reads, and
/// does not sit better on, or agree with, another vehicle in the frame.
pub(super) fn choose(reads: &[PlateRead], own: &Owner<'_>, others: &[Owner<'_>]) -> Option<usize> {
    let score = |read: &PlateRead| -> Option<f32> {
        let plate = read.corners.bbox()?;
        let fit = fit(&plate, &own.bbox);
        if fit < FIT_MIN {
            return None;
        }
        let like = |owner: &Owner<'_>| owner.plate.map(|p| similarity(&p.lattice, &read.lattice));
        let own_likeness = like(own);
        if own_likeness.is_none_or(|l| l < SAME_PLATE) {
            let elsewhere = others.iter().any(|other| {
                self::fit(&plate, &other.bbox) > BETTER_ELSEWHERE * fit
                    || like(other).is_some_and(|l| l >= SAME_PLATE)
            });
            if elsewhere {
                return None;
            }
        }
        let consistency = own_likeness.map_or(1.0, |l| 0.15 + 0.85 * l);
        let detected = 0.3 + 0.7 * read.detector_score.clamp(0.0, 1.0);
        Some(fit * consistency * detected)
    };
    (0..reads.len())
        .filter_map(|i| Some((i, score(&reads[i])?)))
        .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
        .map(|(i, _)| i)
}

/// How well a plate sits on a vehicle, 0 to 1: in the middle, in the lower half, of a plausible width.
fn fit(plate: &BBox, vehicle: &BBox) -> f32 {
    if vehicle.width() <= 0.0 || vehicle.height() <= 0.0 {
        return 0.0;
    }
    let centre = plate.centre();
    let u = (centre.x - vehicle.x1()) / vehicle.width();
    let v = (centre.y - vehicle.y1()) / vehicle.height();
    if !(-0.05..=1.05).contains(&u) || !(-0.05..=1.1).contains(&v) {
        return 0.0;
    }
    let bell = |x: f32, sd: f32| (-(x / sd).powi(2) / 2.0).exp();
    let ratio = plate.width() / vehicle.width();
    let plausible = if (0.06..=0.6).contains(&ratio) { 1.0 } else { 0.3 };
    bell(u - 0.5, 0.28) * bell(v - 0.75, 0.25) * plausible
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fusion::{FusionSettings, PlateFusion};
    use crate::testing::{plain_lattice, read_at, read_of};

    fn plate(text: &str) -> FusedPlate {
        let mut fusion = PlateFusion::new(FusionSettings::default());
        fusion.add(&read_of(plain_lattice(text, 0.98), None));
        fusion.plate().unwrap()
    }

    fn read(text: &str, x: f32, y: f32) -> PlateRead {
        let bbox = BBox::new(x - 40.0, y - 12.0, x + 40.0, y + 12.0).unwrap();
        read_at(plain_lattice(text, 0.98), bbox, None)
    }

    const A: &str = "浙J12345";
    const B: &str = "苏B6789K";

    #[test]
    fn each_of_two_overlapping_vehicles_gets_its_own_plate() {
        // The far vehicle is half hidden by the near one; both plates lie in both boxes.
        let far = Owner { bbox: BBox::new(200.0, 100.0, 500.0, 400.0).unwrap(), plate: None };
        let near = Owner { bbox: BBox::new(340.0, 180.0, 680.0, 500.0).unwrap(), plate: None };
        let reads = [read(A, 350.0, 330.0), read(B, 510.0, 420.0)];
        assert_eq!(choose(&reads, &far, &[]), Some(0));
        assert_eq!(choose(&reads, &far, std::slice::from_ref(&near)), Some(0));
        assert_eq!(choose(&reads, &near, std::slice::from_ref(&far)), Some(1));
        // With only the neighbour's plate in sight there is nothing to choose.
        assert_eq!(choose(&reads[1..], &far, std::slice::from_ref(&near)), None);
    }

    #[test]
    fn a_known_plate_is_recognised_wherever_it_sits() {
        let (a, b) = (plate(A), plate(B));
        let bbox = BBox::new(200.0, 100.0, 500.0, 400.0).unwrap();
        let own = Owner { bbox, plate: Some(&a) };
        let reads = [read(B, 350.0, 330.0), read(A, 300.0, 370.0)];
        assert_eq!(choose(&reads, &own, &[]), Some(1));
        let stranger = Owner { bbox, plate: None };
        let neighbour =
            Owner { bbox: BBox::new(900.0, 0.0, 1000.0, 90.0).unwrap(), plate: Some(&b) };
        assert_eq!(choose(&reads[..1], &stranger, &[neighbour]), None);
    }

    #[test]
    fn a_sign_beside_the_vehicle_is_not_its_plate() {
        let own = Owner { bbox: BBox::new(200.0, 100.0, 500.0, 400.0).unwrap(), plate: None };
        assert_eq!(choose(&[read(A, 205.0, 110.0)], &own, &[]), None);
        assert_eq!(choose(&[read(A, 600.0, 330.0)], &own, &[]), None);
        assert_eq!(choose(&[], &own, &[]), None);
    }
}
