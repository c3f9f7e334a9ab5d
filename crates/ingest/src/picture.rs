use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use guiji_domain::{Picture, PixelFormat};

/// A picture in GStreamer's memory, mapped for as long as this lives. The buffer returns to its pool afterwards.
pub(crate) struct MappedPicture {
    frame: gst_video::VideoFrame<gst_video::video_frame::Readable>,
    format: PixelFormat,
    crop: Crop,
}

/// The visible part: x and y even, so that the chroma planes begin on a whole sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crop {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl MappedPicture {
    /// Maps the buffer. `None` when it cannot be mapped, has another format than I420, RGB or BGR, or is smaller
    /// than it says.
    pub(crate) fn map(buffer: gst::Buffer, info: &gst_video::VideoInfo) -> Option<Self> {
        let format = match info.format() {
            gst_video::VideoFormat::I420 => PixelFormat::I420,
            gst_video::VideoFormat::Rgb => PixelFormat::Rgb,
            gst_video::VideoFormat::Bgr => PixelFormat::Bgr,
            _ => return None,
        };
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, info).ok()?;
        let crop = Crop::of(&frame)?;
        let picture = Self { frame, format, crop };
        let whole = (0..format.planes()).all(|index| {
            let (row, rows) = format.plane_size(index, crop.width, crop.height);
            rows > 0 && picture.plane(index).len() >= picture.stride(index) * (rows - 1) + row
        });
        whole.then_some(picture)
    }

    pub(crate) fn frame(&self) -> &gst_video::VideoFrame<gst_video::video_frame::Readable> {
        &self.frame
    }

    pub(crate) fn crop(&self) -> Crop {
        self.crop
    }
}

impl Crop {
    fn of(frame: &gst_video::VideoFrame<gst_video::video_frame::Readable>) -> Option<Self> {
        let (x, y, width, height) = match frame.buffer().meta::<gst_video::VideoCropMeta>() {
            Some(meta) => meta.rect(),
            None => (0, 0, frame.width(), frame.height()),
        };
        let (x, y) = (x & !1, y & !1);
        let crop = Self {
            x,
            y,
            width: width.min(frame.width().checked_sub(x)?),
            height: height.min(frame.height().checked_sub(y)?),
        };
        (crop.width > 0 && crop.height > 0).then_some(crop)
    }
}

impl Picture for MappedPicture {
    fn format(&self) -> PixelFormat {
        self.format
    }
    fn width(&self) -> u32 {
        self.crop.width
    }
    fn height(&self) -> u32 {
        self.crop.height
    }
    fn plane(&self, index: usize) -> &[u8] {
        let bytes = self.frame.plane_data(index as u32).unwrap_or_default();
        let (x, y) = (self.crop.x as usize, self.crop.y as usize);
        let (x, y) = match (self.format, index) {
            (PixelFormat::Rgb | PixelFormat::Bgr, _) => (x * 3, y),
            (PixelFormat::I420, 0) => (x, y),
            (PixelFormat::I420, _) => (x / 2, y / 2),
        };
        bytes.get(y * self.stride(index) + x..).unwrap_or_default()
    }
    fn stride(&self, index: usize) -> usize {
        self.frame.plane_stride().get(index).map_or(0, |it| usize::try_from(*it).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::OwnedPicture;

    /// An I420 buffer of 6x4 with rows 16 bytes apart and 3 bytes before the first plane; Y counts up from 0 by
    /// pixel, U and V by sample from 100 and 200.
    fn strange_buffer() -> (gst::Buffer, gst_video::VideoInfo) {
        gst::init().unwrap();
        let info =
            gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 6, 4).build().unwrap();
        let mut bytes = vec![0; 3 + 16 * 8];
        for y in 0..4 {
            for x in 0..6 {
                bytes[3 + 16 * y + x] = (6 * y + x) as u8;
            }
        }
        for y in 0..2 {
            for x in 0..3 {
                bytes[3 + 16 * (4 + y) + x] = (100 + 3 * y + x) as u8;
                bytes[3 + 16 * (6 + y) + x] = (200 + 3 * y + x) as u8;
            }
        }
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            gst_video::VideoFormat::I420,
            6,
            4,
            &[3, 3 + 64, 3 + 96],
            &[16, 16, 16],
        )
        .unwrap();
        (buffer, info)
    }

    #[test]
    fn offsets_and_strides_are_honoured() {
        let (buffer, info) = strange_buffer();
        let copy = OwnedPicture::copy_of(&MappedPicture::map(buffer, &info).unwrap());
        assert_eq!(copy.plane(0), (0..24).collect::<Vec<u8>>());
        assert_eq!(copy.plane(1), (100..106).collect::<Vec<u8>>());
        assert_eq!(copy.plane(2), (200..206).collect::<Vec<u8>>());
    }

    #[test]
    fn a_crop_is_honoured() {
        let (mut buffer, info) = strange_buffer();
        gst_video::VideoCropMeta::add(buffer.get_mut().unwrap(), (3, 2, 4, 9));
        let picture = MappedPicture::map(buffer, &info).unwrap();
        assert_eq!((picture.width(), picture.height()), (4, 2));
        let copy = OwnedPicture::copy_of(&picture);
        assert_eq!(copy.plane(0), [14, 15, 16, 17, 20, 21, 22, 23]);
        assert_eq!(copy.plane(2), [204, 205]);
    }

    #[test]
    fn a_crop_outside_is_refused() {
        let (mut buffer, info) = strange_buffer();
        gst_video::VideoCropMeta::add(buffer.get_mut().unwrap(), (8, 0, 4, 4));
        assert!(MappedPicture::map(buffer, &info).is_none());
    }
}
