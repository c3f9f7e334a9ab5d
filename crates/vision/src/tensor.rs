//! Pictures as a model wants them: layout, order of channels, normalisation; buffers used again and again.

use serde::Deserialize;

use crate::pixels::{Bgr, View};
use crate::rectify::Strip;

/// Order of the axes of a batch of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Layout {
    /// Batch, channel, row, column.
    #[serde(rename = "NCHW")]
    Nchw,
    /// Batch, row, column, channel.
    #[serde(rename = "NHWC")]
    Nhwc,
}

/// Order of the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Channels {
    /// Blue, green, red.
    Bgr,
    /// Red, green, blue.
    Rgb,
}

/// What a number of the tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Element {
    /// A byte as it is in the picture.
    Uint8,
    /// `(byte - mean) / std`.
    Float32,
}

/// How bytes of a picture become numbers of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PictureSpec {
    pub(crate) layout: Layout,
    pub(crate) channels: Channels,
    pub(crate) element: Element,
    /// `number = byte * factor + offset`, per channel in the tensor's order.
    factor: [f32; 3],
    offset: [f32; 3],
}

impl PictureSpec {
    /// `number = (byte - mean) / std`, mean and deviation per channel in the tensor's order.
    pub(crate) fn new(
        layout: Layout,
        channels: Channels,
        element: Element,
        mean: [f32; 3],
        std: [f32; 3],
    ) -> Result<Self, String> {
        if std.iter().any(|s| !s.is_normal()) || mean.iter().any(|m| !m.is_finite()) {
            return Err("mean and std must be numbers, and std not 0".into());
        }
        if element == Element::Uint8 && (mean != [0.0; 3] || std != [1.0; 3]) {
            return Err(
                "an input of bytes takes pixels as they are: mean must be 0 and std 1".into()
            );
        }
        let offset = std::array::from_fn(|c| -mean[c] / std[c]);
        Ok(Self { layout, channels, element, factor: std.map(|s| 1.0 / s), offset })
    }

    fn in_order(&self, [b, g, r]: Bgr) -> [f32; 3] {
        match self.channels {
            Channels::Bgr => [b, g, r],
            Channels::Rgb => [r, g, b],
        }
    }
}

/// The numbers, in the element type of the model.
pub(crate) enum Numbers {
    Uint8(Vec<u8>),
    Float32(Vec<f32>),
}

/// A batch of pictures of one size, filled row by row.
pub(crate) struct PictureBatch {
    spec: PictureSpec,
    fill: f32,
    count: usize,
    width: usize,
    height: usize,
    pub(crate) numbers: Numbers,
}

impl PictureBatch {
    /// An empty batch; [`Self::reset`] gives it a size. `fill` is the grey, 0 to 255, of what no picture covers.
    pub(crate) fn new(spec: PictureSpec, fill: f32) -> Self {
        let numbers = match spec.element {
            Element::Uint8 => Numbers::Uint8(Vec::new()),
            Element::Float32 => Numbers::Float32(Vec::new()),
        };
        Self { spec, fill, count: 0, width: 0, height: 0, numbers }
    }

    /// Sets the size and fills everything with the filling grey. Keeps the memory.
    pub(crate) fn reset(&mut self, count: usize, width: usize, height: usize) {
        (self.count, self.width, self.height) = (count, width, height);
        let plane = width * height;
        let grey: [f32; 3] =
            std::array::from_fn(|c| self.fill * self.spec.factor[c] + self.spec.offset[c]);
        match &mut self.numbers {
            Numbers::Uint8(v) => {
                v.clear();
                v.resize(count * plane * 3, self.fill.round() as u8);
            }
            Numbers::Float32(v) => {
                v.clear();
                for _ in 0..count {
                    match self.spec.layout {
                        Layout::Nchw => grey.iter().for_each(|g| v.resize(v.len() + plane, *g)),
                        Layout::Nhwc => (0..plane).for_each(|_| v.extend(grey)),
                    }
                }
            }
        }
    }

    /// Sizes of the axes, in the order of the layout.
    pub(crate) fn shape(&self) -> [usize; 4] {
        match self.spec.layout {
            Layout::Nchw => [self.count, 3, self.height, self.width],
            Layout::Nhwc => [self.count, self.height, self.width, 3],
        }
    }

    /// Puts pixels into a row of a picture of the batch, from column `x` on. What lies outside is cut off.
    pub(crate) fn put_row(&mut self, index: usize, x: usize, y: usize, row: &[Bgr]) {
        self.put(index, x, y, row.iter().copied());
    }

    /// Puts a whole picture, its top left pixel at that of the tensor.
    pub(crate) fn put_strip(&mut self, index: usize, strip: &Strip) {
        strip.rows().enumerate().for_each(|(y, row)| self.put_row(index, 0, y, row));
    }

    /// Puts a packed picture as it is, its top left pixel at column `x` of row `y`. False when the picture is planar
    /// or does not fit.
    pub(crate) fn put_packed(&mut self, index: usize, x: usize, y: usize, view: &View<'_>) -> bool {
        let (width, height) = (view.width() as usize, view.height() as usize);
        if index >= self.count || x + width > self.width || y + height > self.height {
            return false;
        }
        for row in 0..height {
            let Some((bytes, is_bgr)) = view.packed_row(row) else { return false };
            let same_order = is_bgr == (self.spec.channels == Channels::Bgr);
            if let (Numbers::Uint8(numbers), Layout::Nhwc, true) =
                (&mut self.numbers, self.spec.layout, same_order)
            {
                let start = ((index * self.height + y + row) * self.width + x) * 3;
                numbers[start..start + bytes.len()].copy_from_slice(bytes);
                continue;
            }
            let pixels = bytes.as_chunks::<3>().0.iter();
            if is_bgr {
                self.put(index, x, y + row, pixels.map(|p| p.map(f32::from)));
            } else {
                self.put(index, x, y + row, pixels.map(|[r, g, b]| [*b, *g, *r].map(f32::from)));
            }
        }
        true
    }

    fn put(&mut self, index: usize, x: usize, y: usize, row: impl Iterator<Item = Bgr>) {
        if index >= self.count || y >= self.height {
            return;
        }
        let spec = self.spec;
        let plane = self.width * self.height;
        let (start, pixel_step, channel_step) = match spec.layout {
            Layout::Nchw => (index * plane * 3 + y * self.width, 1, plane),
            Layout::Nhwc => ((index * plane + y * self.width) * 3, 3, 1),
        };
        let places = (x..self.width).map(|x| start + x * pixel_step);
        match &mut self.numbers {
            Numbers::Uint8(numbers) => {
                for (at, pixel) in places.zip(row) {
                    for (c, value) in spec.in_order(pixel).into_iter().enumerate() {
                        numbers[at + c * channel_step] = value.round() as u8; // saturates
                    }
                }
            }
            Numbers::Float32(numbers) => {
                for (at, pixel) in places.zip(row) {
                    for (c, value) in spec.in_order(pixel).into_iter().enumerate() {
                        numbers[at + c * channel_step] = value * spec.factor[c] + spec.offset[c];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::tests::painted;
    use guiji_domain::{OwnedPicture, Picture, PixelFormat};

    fn floats(batch: &PictureBatch) -> &[f32] {
        match &batch.numbers {
            Numbers::Float32(v) => v,
            Numbers::Uint8(_) => panic!("bytes"),
        }
    }

    #[test]
    fn floats_are_normalised_in_planes() {
        let spec = PictureSpec::new(
            Layout::Nchw,
            Channels::Bgr,
            Element::Float32,
            [10.0, 20.0, 30.0],
            [2.0, 4.0, 5.0],
        )
        .unwrap();
        let mut batch = PictureBatch::new(spec, 114.0);
        batch.reset(2, 3, 2);
        assert_eq!(batch.shape(), [2, 3, 2, 3]);
        let picture = painted(3, 2, |x, y| [130, 100 + x as u8, 50 + y as u8]);
        assert!(batch.put_packed(1, 0, 0, &View::of(&picture).unwrap()));
        let numbers = floats(&batch);
        assert_eq!([numbers[0], numbers[6], numbers[12].round()], [52.0, 23.5, 17.0]); // grey 114
        assert_eq!(numbers[18..24], [20.0, 20.0, 20.0, 20.5, 20.5, 20.5]); // blue
        assert_eq!(numbers[24..27], [20.0, 20.25, 20.5]); // green, first row
        assert_eq!(numbers[30..36], [20.0; 6]); // red
    }

    #[test]
    fn bytes_are_copied_whatever_the_order() {
        let spec = |channels| {
            PictureSpec::new(Layout::Nhwc, channels, Element::Uint8, [0.0; 3], [1.0; 3]).unwrap()
        };
        let rgb = painted(2, 1, |x, _| [1, 2, 3 + x as u8]);
        let bgr = OwnedPicture::new(PixelFormat::Bgr, 2, 1, vec![vec![3, 2, 1, 4, 2, 1]]).unwrap();
        for picture in [&rgb, &bgr] {
            for (channels, expected) in
                [(Channels::Bgr, [3, 2, 1, 4, 2, 1]), (Channels::Rgb, [1, 2, 3, 1, 2, 4])]
            {
                let mut batch = PictureBatch::new(spec(channels), 0.0);
                batch.reset(1, 2, 1);
                assert!(batch.put_packed(0, 0, 0, &View::of(picture).unwrap()));
                assert!(matches!(&batch.numbers, Numbers::Uint8(v) if v[..] == expected));
            }
        }
    }

    #[test]
    fn what_does_not_fit_or_is_planar_is_not_taken_as_packed() {
        let spec =
            PictureSpec::new(Layout::Nhwc, Channels::Bgr, Element::Uint8, [0.0; 3], [1.0; 3])
                .unwrap();
        let mut batch = PictureBatch::new(spec, 114.0);
        batch.reset(1, 4, 4);
        let small = painted(2, 2, |_, _| [9; 3]);
        assert!(batch.put_packed(0, 2, 1, &View::of(&small).unwrap()));
        let Numbers::Uint8(bytes) = &batch.numbers else { panic!() };
        assert_eq!(bytes[(4 + 1) * 3..(4 + 4) * 3], [114, 114, 114, 9, 9, 9, 9, 9, 9]);
        assert!(!batch.put_packed(0, 3, 0, &View::of(&small).unwrap()));
        let planar = crate::pixels::tests::as_i420(&painted(4, 4, |_, _| [0; 3]));
        assert_eq!(planar.format(), PixelFormat::I420);
        assert!(!batch.put_packed(0, 0, 0, &View::of(&planar).unwrap()));
        batch.put_row(9, 9, 9, &[[0.0; 3]; 9]); // beyond: nothing happens
    }
}
