//! Reading pixels of any [`Picture`] as blue, green and red, at fractional places and at other sizes, without
//! converting more of the picture than is asked for.

use guiji_domain::{BBox, Picture, PixelFormat};

/// Blue, green, red, each 0 to 255.
pub(crate) type Bgr = [f32; 3];

/// Bytes of one plane; a pixel is `step` bytes.
#[derive(Clone, Copy)]
struct Plane<'a> {
    bytes: &'a [u8],
    stride: usize,
    step: usize,
    width: usize,
    height: usize,
}

impl<'a> Plane<'a> {
    /// `None` when the picture breaks its promise about the size of the plane.
    fn of(picture: &'a dyn Picture, index: usize) -> Option<Self> {
        let (row_bytes, rows) =
            picture.format().plane_size(index, picture.width(), picture.height());
        let (bytes, stride) = (picture.plane(index), picture.stride(index));
        let step = if picture.format() == PixelFormat::I420 { 1 } else { 3 };
        let whole = row_bytes > 0
            && rows > 0
            && stride >= row_bytes
            && bytes.len() >= stride * (rows - 1) + row_bytes;
        whole.then_some(Self { bytes, stride, step, width: row_bytes / step, height: rows })
    }

    fn row(&self, y: usize) -> &'a [u8] {
        let start = y * self.stride;
        &self.bytes[start..start + self.width * self.step]
    }

    /// The four neighbours of a place and the shares of the right and lower ones. Beyond the edge the edge goes on.
    fn neighbours(&self, x: f32, y: f32) -> ([usize; 4], f32, f32) {
        let x = (x - 0.5).clamp(0.0, (self.width - 1) as f32);
        let y = (y - 0.5).clamp(0.0, (self.height - 1) as f32);
        let (x0, y0) = (x as usize, y as usize);
        let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
        let at = |x, y| y * self.stride + x * self.step;
        ([at(x0, y0), at(x1, y0), at(x0, y1), at(x1, y1)], x - x0 as f32, y - y0 as f32)
    }

    fn bilinear<const C: usize>(&self, x: f32, y: f32) -> [f32; C] {
        let (at, fx, fy) = self.neighbours(x, y);
        std::array::from_fn(|c| {
            let [a, b, d, e] = at.map(|i| f32::from(self.bytes[i + c]));
            let (top, bottom) = (a + (b - a) * fx, d + (e - d) * fx);
            top + (bottom - top) * fy
        })
    }
}

/// A picture's planes, checked once, so that reading cannot run over.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    planes: Planes<'a>,
    width: u32,
    height: u32,
}

#[derive(Clone, Copy)]
enum Planes<'a> {
    Yuv { y: Plane<'a>, u: Plane<'a>, v: Plane<'a> },
    Packed { pixels: Plane<'a>, order: Order },
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Bgr,
    Rgb,
}

impl<'a> View<'a> {
    /// `None` when the picture is empty or breaks its promise about the size of its planes.
    pub(crate) fn of(picture: &'a dyn Picture) -> Option<Self> {
        let plane = |index| Plane::of(picture, index);
        let planes = match picture.format() {
            PixelFormat::I420 => Planes::Yuv { y: plane(0)?, u: plane(1)?, v: plane(2)? },
            PixelFormat::Rgb => Planes::Packed { pixels: plane(0)?, order: Order::Rgb },
            PixelFormat::Bgr => Planes::Packed { pixels: plane(0)?, order: Order::Bgr },
        };
        Some(Self { planes, width: picture.width(), height: picture.height() })
    }

    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    pub(crate) fn height(&self) -> u32 {
        self.height
    }

    /// A row of a packed picture, three bytes a pixel, and whether they are blue, green, red (else red, green,
    /// blue). `None` for planar pictures.
    pub(crate) fn packed_row(&self, y: usize) -> Option<(&'a [u8], bool)> {
        match &self.planes {
            Planes::Packed { pixels, order } if y < pixels.height => {
                Some((pixels.row(y), *order == Order::Bgr))
            }
            _ => None,
        }
    }

    /// The colour at a place (pixel centres at halves), interpolated between the four neighbours.
    pub(crate) fn bilinear(&self, x: f32, y: f32) -> Bgr {
        match &self.planes {
            Planes::Yuv { y: luma, u, v } => {
                let [l] = luma.bilinear(x, y);
                let ([u], [v]) = (u.bilinear(x / 2.0, y / 2.0), v.bilinear(x / 2.0, y / 2.0));
                yuv_to_bgr(l, u, v)
            }
            Planes::Packed { pixels, order } => in_order(pixels.bilinear(x, y), *order),
        }
    }

    /// The region scaled to `width` x `height`, row by row from the top: the mean of the covered area where it
    /// shrinks, interpolation where it grows. Each axis is scaled apart. Nothing is kept but two rows.
    pub(crate) fn scaled_rows(
        &self,
        region: &BBox,
        width: usize,
        height: usize,
        mut take: impl FnMut(usize, &[Bgr]),
    ) {
        let mut row = vec![[0.0; 3]; width];
        match &self.planes {
            Planes::Yuv { y: luma, u, v } => {
                let half = region.scaled(0.5, 0.5);
                let mut luma = PlaneScaler::<1>::new(luma, region, width, height);
                let mut u = PlaneScaler::<1>::new(u, &half, width, height);
                let mut v = PlaneScaler::<1>::new(v, &half, width, height);
                for out_y in 0..height {
                    let chroma = u.row(out_y).iter().zip(v.row(out_y));
                    for ((out, l), (u, v)) in row.iter_mut().zip(luma.row(out_y)).zip(chroma) {
                        *out = yuv_to_bgr(*l, *u, *v);
                    }
                    take(out_y, &row);
                }
            }
            Planes::Packed { pixels, order } => {
                let mut scaler = PlaneScaler::<3>::new(pixels, region, width, height);
                for out_y in 0..height {
                    for (out, pixel) in row.iter_mut().zip(scaler.row(out_y).as_chunks::<3>().0) {
                        *out = in_order(*pixel, *order);
                    }
                    take(out_y, &row);
                }
            }
        }
    }

    /// The pixels of a whole-number region as red, green, blue bytes, unscaled: what an encoder wants.
    pub(crate) fn rgb_bytes(&self, x: usize, y: usize, width: usize, height: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(width * height * 3);
        for row in y..y + height {
            match &self.planes {
                Planes::Yuv { y: luma, u, v } => {
                    let (luma, u, v) = (luma.row(row), u.row(row / 2), v.row(row / 2));
                    for column in x..x + width {
                        out.extend(yuv_to_rgb_bytes(luma[column], u[column / 2], v[column / 2]));
                    }
                }
                Planes::Packed { pixels, order } => {
                    let bytes = &pixels.row(row)[x * 3..(x + width) * 3];
                    match order {
                        Order::Rgb => out.extend_from_slice(bytes),
                        Order::Bgr => {
                            out.extend(
                                bytes.as_chunks::<3>().0.iter().flat_map(|[b, g, r]| [r, g, b]),
                            );
                        }
                    }
                }
            }
        }
        out
    }
}

fn in_order([a, b, c]: [f32; 3], order: Order) -> Bgr {
    match order {
        Order::Bgr => [a, b, c],
        Order::Rgb => [c, b, a],
    }
}

/// ITU-R BT.601, limited range: luma 16 to 235, chroma 16 to 240 around 128.
fn yuv_to_bgr(y: f32, u: f32, v: f32) -> Bgr {
    let (y, u, v) = (1.164_384 * (y - 16.0), u - 128.0, v - 128.0);
    [
        (y + 2.017_232 * u).clamp(0.0, 255.0),
        (y - 0.391_762 * u - 0.812_968 * v).clamp(0.0, 255.0),
        (y + 1.596_027 * v).clamp(0.0, 255.0),
    ]
}

/// The same in whole numbers, 8 fractional bits, for whole pictures.
fn yuv_to_rgb_bytes(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (298 * (i32::from(y) - 16) + 128, i32::from(u) - 128, i32::from(v) - 128);
    let byte = |value: i32| (value >> 8).clamp(0, 255) as u8;
    [byte(y + 409 * v), byte(y - 100 * u - 208 * v), byte(y + 516 * u)]
}

/// Which source samples make each sample of a scaled axis, and with which shares.
struct Taps {
    /// Of each output sample: first source sample, and where its weights begin and end.
    spans: Vec<(usize, usize, usize)>,
    weights: Vec<f32>,
}

impl Taps {
    /// Scales `from..to` of an axis of `len` samples to `out` samples.
    fn new(len: usize, from: f32, to: f32, out: usize) -> Self {
        let mut taps =
            Self { spans: Vec::with_capacity(out), weights: Vec::with_capacity(out * 2) };
        let step = (to - from) / out as f32;
        let last = len - 1;
        for i in 0..out {
            let begin = taps.weights.len();
            if step > 1.0 {
                let (low, high) = (from + i as f32 * step, from + (i + 1) as f32 * step);
                let (low, high) = (low.clamp(0.0, last as f32), high.clamp(0.0, len as f32));
                let first = low as usize;
                let end = (high.ceil() as usize).clamp(first + 1, len);
                for source in first..end {
                    let share = high.min((source + 1) as f32) - low.max(source as f32);
                    taps.weights.push(share.max(1e-6));
                }
                let sum: f32 = taps.weights[begin..].iter().sum();
                taps.weights[begin..].iter_mut().for_each(|w| *w /= sum);
                taps.spans.push((first, begin, taps.weights.len()));
            } else {
                let at = (from + (i as f32 + 0.5) * step - 0.5).clamp(0.0, last as f32);
                let first = (at as usize).min(last.saturating_sub(1));
                taps.weights.push(1.0 - (at - first as f32));
                if last > 0 {
                    taps.weights.push(at - first as f32);
                }
                taps.spans.push((first, begin, taps.weights.len()));
            }
        }
        taps
    }
}

/// Scales one plane of `C` interleaved channels, row by row from the top.
struct PlaneScaler<'a, const C: usize> {
    plane: Plane<'a>,
    columns: Taps,
    rows: Taps,
    /// The two source rows last scaled across: neighbouring output rows share at most one or two.
    cache: [(Option<usize>, Vec<f32>); 2],
    out: Vec<f32>,
}

impl<'a, const C: usize> PlaneScaler<'a, C> {
    fn new(plane: &Plane<'a>, region: &BBox, width: usize, height: usize) -> Self {
        Self {
            plane: *plane,
            columns: Taps::new(plane.width, region.x1(), region.x2(), width),
            rows: Taps::new(plane.height, region.y1(), region.y2(), height),
            cache: std::array::from_fn(|_| (None, vec![0.0; width * C])),
            out: vec![0.0; width * C],
        }
    }

    fn row(&mut self, y: usize) -> &[f32] {
        let (first, begin, end) = self.rows.spans[y];
        self.out.fill(0.0);
        for (source, weight_at) in (first..).zip(begin..end) {
            let (cached, scaled) = &mut self.cache[source % 2];
            if *cached != Some(source) {
                *cached = Some(source);
                scale_row::<C>(self.plane.row(source), &self.columns, scaled);
            }
            let weight = self.rows.weights[weight_at];
            for (out, value) in self.out.iter_mut().zip(scaled.iter()) {
                *out += value * weight;
            }
        }
        &self.out
    }
}

fn scale_row<const C: usize>(source: &[u8], columns: &Taps, out: &mut [f32]) {
    let source = source.as_chunks::<C>().0;
    for (out, (first, begin, end)) in out.as_chunks_mut::<C>().0.iter_mut().zip(&columns.spans) {
        let mut sum = [0.0; C];
        let weights = &columns.weights[*begin..*end];
        for (pixel, weight) in source[*first..*first + weights.len()].iter().zip(weights) {
            for (sum, value) in sum.iter_mut().zip(pixel) {
                *sum += f32::from(*value) * weight;
            }
        }
        *out = sum;
    }
}

/// Perceived brightness of a colour, 0 to 255 (BT.601 luma).
pub(crate) fn luma([b, g, r]: Bgr) -> f32 {
    0.114 * b + 0.587 * g + 0.299 * r
}

/// Hue in degrees 0 to 360 (0 for greys), saturation and value 0 to 1.
pub(crate) fn hsv([b, g, r]: Bgr) -> (f32, f32, f32) {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let range = max - min;
    let hue = if range <= f32::EPSILON {
        0.0
    } else if max == r {
        ((g - b) / range).rem_euclid(6.0)
    } else if max == g {
        (b - r) / range + 2.0
    } else {
        (r - g) / range + 4.0
    };
    (hue * 60.0, if max > 0.0 { range / max } else { 0.0 }, max / 255.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use guiji_domain::OwnedPicture;
    use proptest::prelude::*;

    /// A picture from a function of the pixel's column and row.
    pub(crate) fn painted(
        width: u32,
        height: u32,
        colour: impl Fn(u32, u32) -> [u8; 3],
    ) -> OwnedPicture {
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| colour(x, y));
        OwnedPicture::rgb(width, height, pixels.collect()).unwrap()
    }

    /// The same in I420, limited range, chroma averaged over two by two pixels.
    pub(crate) fn as_i420(rgb: &OwnedPicture) -> OwnedPicture {
        let (w, h) = (rgb.width() as usize, rgb.height() as usize);
        let at = |x: usize, y: usize| {
            let i = (y.min(h - 1) * w + x.min(w - 1)) * 3;
            [0, 1, 2].map(|c| f32::from(rgb.plane(0)[i + c]))
        };
        let luma = |[r, g, b]: [f32; 3]| 16.0 + 0.256_788 * r + 0.504_129 * g + 0.097_906 * b;
        let u = |[r, g, b]: [f32; 3]| 128.0 - 0.148_223 * r - 0.290_993 * g + 0.439_216 * b;
        let v = |[r, g, b]: [f32; 3]| 128.0 + 0.439_216 * r - 0.367_788 * g - 0.071_427 * b;
        let y = (0..h * w).map(|i| luma(at(i % w, i / w)).round() as u8).collect();
        let chroma = |f: &dyn Fn([f32; 3]) -> f32| {
            let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
            (0..cw * ch)
                .map(|i| {
                    let (x, y) = (i % cw * 2, i / cw * 2);
                    let sum = f(at(x, y)) + f(at(x + 1, y)) + f(at(x, y + 1)) + f(at(x + 1, y + 1));
                    (sum / 4.0).round() as u8
                })
                .collect()
        };
        let planes = vec![y, chroma(&u), chroma(&v)];
        OwnedPicture::new(PixelFormat::I420, rgb.width(), rgb.height(), planes).unwrap()
    }

    fn scaled(picture: &OwnedPicture, region: BBox, width: usize, height: usize) -> Vec<Bgr> {
        let mut all = Vec::new();
        View::of(picture).unwrap().scaled_rows(&region, width, height, |y, row| {
            assert_eq!(all.len(), y * width);
            all.extend_from_slice(row);
        });
        all
    }

    fn whole(picture: &OwnedPicture) -> BBox {
        BBox::new(0.0, 0.0, picture.width() as f32, picture.height() as f32).unwrap()
    }

    #[test]
    fn the_same_colours_come_out_of_every_format() {
        for colour in [[255, 255, 255], [0, 0, 0], [200, 30, 40], [20, 90, 200], [240, 200, 20]] {
            let rgb = painted(10, 7, |_, _| colour);
            let bgr = painted(10, 7, |_, _| [colour[2], colour[1], colour[0]]);
            let bgr =
                OwnedPicture::new(PixelFormat::Bgr, 10, 7, vec![bgr.plane(0).to_vec()]).unwrap();
            for picture in [&rgb, &bgr, &as_i420(&rgb)] {
                let view = View::of(picture).unwrap();
                let near =
                    |got: Bgr| (0..3).all(|c| (got[c] - f32::from(colour[2 - c])).abs() < 3.0);
                assert!(near(view.bilinear(4.3, 2.9)), "{colour:?} {:?}", view.bilinear(4.3, 2.9));
                assert!(scaled(picture, whole(picture), 4, 3).into_iter().all(near));
                let bytes = view.rgb_bytes(3, 1, 4, 5);
                assert_eq!(bytes.len(), 4 * 5 * 3);
                assert!(bytes.chunks(3).all(|p| (0..3).all(|c| p[c].abs_diff(colour[c]) <= 3)));
            }
        }
    }

    #[test]
    fn shrinking_takes_the_mean_of_the_area() {
        let stripes = painted(64, 32, |x, _| if x % 2 == 0 { [0; 3] } else { [255; 3] });
        for pixel in scaled(&stripes, whole(&stripes), 16, 8) {
            assert!((pixel[0] - 127.5).abs() < 0.1, "{pixel:?}");
        }
    }

    #[test]
    fn growing_interpolates() {
        let ramp = painted(16, 4, |x, _| [x as u8 * 10; 3]);
        let out = scaled(&ramp, whole(&ramp), 64, 4);
        assert!(out[..64].windows(2).all(|w| w[1][0] >= w[0][0]));
        assert!((out[32][0] - 76.25).abs() < 0.1, "{:?}", out[32]);
    }

    #[test]
    fn hue_saturation_value() {
        assert_eq!(hsv([0.0, 0.0, 255.0]), (0.0, 1.0, 1.0));
        assert_eq!(hsv([255.0, 0.0, 0.0]), (240.0, 1.0, 1.0));
        assert_eq!(hsv([128.0, 128.0, 128.0]).1, 0.0);
        assert_eq!(hsv([0.0; 3]), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_picture_that_breaks_its_promise_is_refused() {
        struct Short;
        impl Picture for Short {
            fn format(&self) -> PixelFormat {
                PixelFormat::Rgb
            }
            fn width(&self) -> u32 {
                4
            }
            fn height(&self) -> u32 {
                4
            }
            fn plane(&self, _: usize) -> &[u8] {
                &[0; 47]
            }
            fn stride(&self, _: usize) -> usize {
                12
            }
        }
        assert!(View::of(&Short).is_none());
    }

    proptest! {
        #[test]
        fn no_region_or_place_runs_over(
            w in 1u32..20, h in 1u32..20, x in -50f32..50.0, y in -50f32..50.0,
            dx in 0f32..50.0, dy in 0f32..50.0, out_w in 1usize..20, out_h in 1usize..20,
        ) {
            let rgb = painted(w, h, |x, y| [(x * 7) as u8, (y * 11) as u8, 128]);
            for picture in [&rgb, &as_i420(&rgb)] {
                let out = scaled(picture, BBox::new(x, y, x + dx, y + dy).unwrap(), out_w, out_h);
                prop_assert_eq!(out.len(), out_w * out_h);
                prop_assert!(out.iter().flatten().all(|v| (0.0..=255.01).contains(v)));
                let place = View::of(picture).unwrap().bilinear(x, y);
                prop_assert!(place.iter().all(|v| (0.0..=255.01).contains(v)));
            }
        }
    }
}
