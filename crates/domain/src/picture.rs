use std::sync::Arc;

/// How the pixels of a [`Picture`] lie in memory; all 8 bits a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Three planes Y, U, V; U and V at half width and half height (rounded up). BT.601/709 limited range.
    I420,
    /// One plane, three bytes a pixel in the order red, green, blue.
    Rgb,
    /// One plane, three bytes a pixel in the order blue, green, red.
    Bgr,
}

impl PixelFormat {
    /// How many planes a picture of this format has.
    pub fn planes(self) -> usize {
        match self {
            Self::I420 => 3,
            Self::Rgb | Self::Bgr => 1,
        }
    }

    /// Bytes in a row of a plane (without padding) and rows of a plane, for a picture of this size.
    pub fn plane_size(self, plane: usize, width: u32, height: u32) -> (usize, usize) {
        let (w, h) = (width as usize, height as usize);
        match (self, plane) {
            (Self::Rgb | Self::Bgr, _) => (w * 3, h),
            (Self::I420, 0) => (w, h),
            (Self::I420, _) => (w.div_ceil(2), h.div_ceil(2)),
        }
    }
}

/// Pixels by handle: a decoder's own memory, mapped, or a buffer of ours. Reading never copies.
///
/// Implementations promise that for `plane < format().planes()`, `plane(i)` holds at least
/// `stride(i) * (rows - 1) + row_bytes` bytes, as [`PixelFormat::plane_size`] counts them.
pub trait Picture: Send + Sync {
    /// Layout of the samples.
    fn format(&self) -> PixelFormat;
    /// Columns.
    fn width(&self) -> u32;
    /// Rows.
    fn height(&self) -> u32;
    /// The bytes of a plane, rows `stride` bytes apart.
    fn plane(&self, index: usize) -> &[u8];
    /// Distance in bytes between the starts of two rows of a plane.
    fn stride(&self, index: usize) -> usize;
}

/// A picture that several owners hold.
pub type SharedPicture = Arc<dyn Picture>;

/// A picture in memory of ours, rows packed without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedPicture {
    format: PixelFormat,
    width: u32,
    height: u32,
    planes: Vec<Vec<u8>>,
}

impl OwnedPicture {
    /// From packed planes. `None` when the number or the sizes of the planes do not fit, or a side is zero.
    pub fn new(format: PixelFormat, width: u32, height: u32, planes: Vec<Vec<u8>>) -> Option<Self> {
        let fits = width > 0
            && height > 0
            && planes.len() == format.planes()
            && planes.iter().enumerate().all(|(i, plane)| {
                let (row, rows) = format.plane_size(i, width, height);
                plane.len() == row * rows
            });
        fits.then_some(Self { format, width, height, planes })
    }

    /// A copy of any picture: when it must outlive the decoder's pool.
    pub fn copy_of(picture: &dyn Picture) -> Self {
        let (format, width, height) = (picture.format(), picture.width(), picture.height());
        let copy_plane = |index| {
            let (row, rows) = format.plane_size(index, width, height);
            let (bytes, stride) = (picture.plane(index), picture.stride(index));
            let mut copy = Vec::with_capacity(row * rows);
            for y in 0..rows {
                copy.extend_from_slice(&bytes[y * stride..y * stride + row]);
            }
            copy
        };
        Self { format, width, height, planes: (0..format.planes()).map(copy_plane).collect() }
    }

    /// A packed RGB picture. `None` when `pixels` is not `width * height * 3` bytes.
    pub fn rgb(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        Self::new(PixelFormat::Rgb, width, height, vec![pixels])
    }
}

impl Picture for OwnedPicture {
    fn format(&self) -> PixelFormat {
        self.format
    }
    fn width(&self) -> u32 {
        self.width
    }
    fn height(&self) -> u32 {
        self.height
    }
    fn plane(&self, index: usize) -> &[u8] {
        &self.planes[index]
    }
    fn stride(&self, index: usize) -> usize {
        self.format.plane_size(index, self.width, self.height).0
    }
}
