use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use guiji_domain::{PixelFormat, SharedPicture};
use std::sync::Arc;

use crate::picture::{Crop, MappedPicture};

/// Makes detector-sized pictures from full ones, straight from I420 to packed RGB or BGR: each output line is made
/// from the input lines it needs, nothing is converted at full size.
pub(crate) struct Scaler {
    converter: gst_video::VideoConverter,
    made_for: (gst_video::VideoInfo, Crop),
    out: gst_video::VideoInfo,
    pool: gst::BufferPool,
}

impl Scaler {
    /// For full pictures of this format (`info` is the stream's, without the strides of a single buffer) and crop.
    pub(crate) fn new(
        info: &gst_video::VideoInfo,
        crop: Crop,
        size: (u32, u32),
        format: PixelFormat,
    ) -> Result<Self, gst::glib::BoolError> {
        let format = match format {
            PixelFormat::Bgr => gst_video::VideoFormat::Bgr,
            PixelFormat::Rgb | PixelFormat::I420 => gst_video::VideoFormat::Rgb,
        };
        // The converter changes neither frame rate nor interlacing, and insists on hearing so.
        let out = gst_video::VideoInfo::builder(format, size.0, size.1)
            .fps(info.fps())
            .interlace_mode(info.interlace_mode())
            .build()?;
        let mut config = gst_video::VideoConverterConfig::new();
        config.set_src_x(crop.x as i32);
        config.set_src_y(crop.y as i32);
        config.set_src_width(Some(crop.width as i32));
        config.set_src_height(Some(crop.height as i32));
        // Two taps an axis, the plain bilinear scaling that detectors are trained with. Weighing all pixels that
        // fall together would be smoother and costs 4.2 ms instead of 1.25 ms from 1920x1080 to 416x416.
        config.set_resampler_method(gst_video::VideoResamplerMethod::Linear);
        config.set_resampler_taps(2);
        config.set_chroma_mode(gst_video::VideoChromaMode::None);
        config.set_dither_method(gst_video::VideoDitherMethod::None);
        config.set_threads(1);
        let converter = gst_video::VideoConverter::new(info, &out, Some(config))?;
        let pool = gst_video::VideoBufferPool::new();
        let mut pool_config = pool.config();
        pool_config.set_params(Some(&out.to_caps()?), out.size() as u32, 0, 0);
        pool.set_config(pool_config)?;
        pool.set_active(true)?;
        Ok(Self { converter, made_for: (info.clone(), crop), out, pool: pool.upcast() })
    }

    /// Whether it was made for such pictures.
    pub(crate) fn fits(&self, info: &gst_video::VideoInfo, crop: Crop) -> bool {
        self.made_for.1 == crop && &self.made_for.0 == info
    }

    pub(crate) fn scale(
        &mut self,
        full: &MappedPicture,
    ) -> Result<SharedPicture, gst::glib::BoolError> {
        let failed = |_| gst::glib::bool_error!("no memory for a detector picture");
        let buffer = self.pool.acquire_buffer(None).map_err(failed)?;
        let mut small = gst_video::VideoFrame::from_buffer_writable(buffer, &self.out)
            .map_err(|_| gst::glib::bool_error!("a detector picture cannot be written"))?;
        self.converter.frame(full.frame(), &mut small);
        let small = MappedPicture::map(small.into_buffer(), &self.out)
            .ok_or_else(|| gst::glib::bool_error!("a detector picture cannot be read"))?;
        Ok(Arc::new(small))
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        // Pictures still held by the engine keep the pool alive until they return.
        if let Err(error) = self.pool.set_active(false) {
            tracing::debug!(%error, "a pool of detector pictures does not stop");
        }
    }
}
