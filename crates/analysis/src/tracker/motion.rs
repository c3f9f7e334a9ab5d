use guiji_domain::BBox;

/// One quantity and its rate, by a Kalman filter with white-noise acceleration (Bar-Shalom, Li, Kirubarajan 2001,
/// section 6.2): time is in seconds and steps may be of any length.
#[derive(Debug, Clone, Copy)]
struct Axis {
    value: f32,
    rate: f32,
    /// Covariance: value, value × rate, rate.
    cov: [f32; 3],
}

impl Axis {
    fn new(value: f32, value_sd: f32, rate_sd: f32) -> Self {
        Self { value, rate: 0.0, cov: [value_sd * value_sd, 0.0, rate_sd * rate_sd] }
    }

    /// `acceleration_sd` is the standard deviation of the rate's change in a second.
    fn predict(&mut self, dt_s: f32, acceleration_sd: f32) {
        let q = acceleration_sd * acceleration_sd;
        let [vv, vr, rr] = self.cov;
        self.value += self.rate * dt_s;
        self.cov = [
            vv + 2.0 * dt_s * vr + dt_s * dt_s * rr + q * dt_s.powi(3) / 3.0,
            vr + dt_s * rr + q * dt_s * dt_s / 2.0,
            rr + q * dt_s,
        ];
    }

    fn correct(&mut self, measured: f32, sd: f32) {
        let [vv, vr, rr] = self.cov;
        let s = vv + sd * sd;
        let (gain_v, gain_r) = (vv / s, vr / s);
        let innovation = measured - self.value;
        self.value += gain_v * innovation;
        self.rate += gain_r * innovation;
        self.cov = [(1.0 - gain_v) * vv, (1.0 - gain_v) * vr, rr - gain_r * vr];
    }

    /// Squared distance of a measurement in standard deviations.
    fn surprise(&self, measured: f32, sd: f32) -> f32 {
        (measured - self.value).powi(2) / (self.cov[0] + sd * sd)
    }
}

/// Where a vehicle is and how it moves in the picture: centre, and logarithm of width and height, each with a rate.
/// Logarithms, because a vehicle in perspective grows by a share a second, and a size stays positive.
#[derive(Debug, Clone)]
pub(super) struct Motion {
    x: Axis,
    y: Axis,
    ln_w: Axis,
    ln_h: Axis,
}

/// Standard deviation of a detector's centre, in box sizes, and of its size, as a share.
const CENTRE_SD: f32 = 0.04;
const SIZE_SD: f32 = 0.08;
/// What the first box says about the rates: box sizes a second, shares a second.
const RATE_SD: f32 = 2.5;
const GROWTH_SD: f32 = 0.5;
/// How rates change, in box sizes and shares a second, over a second.
const ACCELERATION_SD: f32 = 2.0;
const GROWTH_CHANGE_SD: f32 = 0.8;

impl Motion {
    pub(super) fn new(bbox: &BBox) -> Self {
        let (c, size) = (bbox.centre(), size(bbox));
        Self {
            x: Axis::new(c.x, CENTRE_SD * size, RATE_SD * size),
            y: Axis::new(c.y, CENTRE_SD * size, RATE_SD * size),
            ln_w: Axis::new(ln(bbox.width()), SIZE_SD, GROWTH_SD),
            ln_h: Axis::new(ln(bbox.height()), SIZE_SD, GROWTH_SD),
        }
    }

    pub(super) fn predict(&mut self, dt_s: f32) {
        let size = self.size();
        self.x.predict(dt_s, ACCELERATION_SD * size);
        self.y.predict(dt_s, ACCELERATION_SD * size);
        self.ln_w.predict(dt_s, GROWTH_CHANGE_SD);
        self.ln_h.predict(dt_s, GROWTH_CHANGE_SD);
        // A size that ran away in a long blind stretch would match anything.
        for axis in [&mut self.ln_w, &mut self.ln_h] {
            axis.value = axis.value.clamp(0.0, 12.0);
        }
    }

    pub(super) fn correct(&mut self, bbox: &BBox) {
        let (c, size) = (bbox.centre(), size(bbox));
        self.x.correct(c.x, CENTRE_SD * size);
        self.y.correct(c.y, CENTRE_SD * size);
        self.ln_w.correct(ln(bbox.width()), SIZE_SD);
        self.ln_h.correct(ln(bbox.height()), SIZE_SD);
    }

    /// The expected box. `None` when it has left all reason.
    pub(super) fn bbox(&self) -> Option<BBox> {
        let (w, h) = (self.ln_w.value.exp() / 2.0, self.ln_h.value.exp() / 2.0);
        BBox::new(self.x.value - w, self.y.value - h, self.x.value + w, self.y.value + h)
    }

    /// How unlikely a box is: squared standard deviations summed over centre (2) and size (2).
    pub(super) fn surprise(&self, bbox: &BBox) -> (f32, f32) {
        let (c, size) = (bbox.centre(), size(bbox));
        let centre =
            self.x.surprise(c.x, CENTRE_SD * size) + self.y.surprise(c.y, CENTRE_SD * size);
        let sizes = self.ln_w.surprise(ln(bbox.width()), SIZE_SD)
            + self.ln_h.surprise(ln(bbox.height()), SIZE_SD);
        (centre, sizes)
    }

    /// Uncertainty of the expected centre, in box sizes.
    pub(super) fn uncertainty(&self) -> f32 {
        ((self.x.cov[0] + self.y.cov[0]) / 2.0).sqrt() / self.size()
    }

    fn size(&self) -> f32 {
        ((self.ln_w.value + self.ln_h.value) / 2.0).exp()
    }
}

fn size(bbox: &BBox) -> f32 {
    (bbox.width().max(1.0) * bbox.height().max(1.0)).sqrt()
}

fn ln(pixels: f32) -> f32 {
    pixels.max(1.0).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32) -> BBox {
        BBox::new(x, 100.0, x + 100.0, 180.0).unwrap()
    }

    #[test]
    fn learns_a_speed_whatever_the_rate_of_frames() {
        for fps in [25.0, 12.5, 5.0, 3.0] {
            let mut motion = Motion::new(&at(0.0));
            for i in 1..=(fps * 2.0) as u32 {
                motion.predict(1.0 / fps);
                motion.correct(&at(150.0 * i as f32 / fps));
            }
            assert!((motion.x.rate - 150.0).abs() < 15.0, "{fps} fps: {}", motion.x.rate);
        }
    }

    #[test]
    fn stands_still_between_equal_times() {
        let mut motion = Motion::new(&at(0.0));
        motion.predict(0.0);
        assert_eq!(motion.bbox(), Motion::new(&at(0.0)).bbox());
    }
}
