use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;
use guiji_domain::{Frame, Picture, View};

use crate::afterimage::Views;
use crate::gate::Purpose;
use crate::link::{Line, Progress};
use crate::mailbox::Event;
use crate::moments::Moment;
use crate::picture::MappedPicture;
use crate::scaler::Scaler;
use crate::tally::count;

/// Why a picture became no frame.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// The media framework says so, in its words.
    Refused(String),
    /// The connection must end.
    SinkPanicked,
}

/// Makes frames of decoded pictures and hands them to the sink, on the decoding thread.
pub(crate) struct Delivery {
    line: Arc<Line>,
    progress: Arc<Progress>,
    limit: RateLimit,
    format: Option<(gst::Caps, gst_video::VideoInfo)>,
    scaler: Option<Scaler>,
    views: Views,
}

impl Delivery {
    /// `views`: what is known of the view.
    pub(crate) fn new(line: Arc<Line>, progress: Arc<Progress>, mut views: Views) -> Self {
        let limit = RateLimit::new(line.camera.analysed_fps_max);
        views.interrupted();
        Self { line, progress, limit, format: None, scaler: None, views }
    }

    /// What it has learnt of the view, at its end.
    pub(crate) fn forget(&mut self) -> Views {
        std::mem::take(&mut self.views)
    }

    /// Takes a decoded picture. `judge` is told whether the view has changed, where that is asked for, and says
    /// whether to deliver it, and as what.
    ///
    /// # Errors
    /// When the framework refuses the picture, or the sink panicked (which is reported).
    pub(crate) fn picture(
        &mut self,
        buffer: gst::Buffer,
        caps: gst::Caps,
        moment: &Moment,
        judge: impl FnOnce(bool) -> Option<View>,
    ) -> Result<(), Undelivered> {
        let info = self.format_of(caps)?;
        count(&self.line.tally.decoded);
        if self.progress.picture_came() {
            self.line.mailbox.post(Event::FirstPicture);
        }
        let glimpse = moment.purpose == Purpose::Glimpse;
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) && !glimpse {
            self.line.complain(&self.progress);
        }
        // A keyframe that is only looked at comes again if it is to be delivered.
        let in_time = match moment.purpose {
            Purpose::Refer => return Ok(()),
            Purpose::Base | Purpose::Check | Purpose::Glimpse => true,
            Purpose::Deliver | Purpose::Watch => self.limit.admits(moment.running),
        };
        // A keyframe that is not delivered is looked at all the same: it proves what was believed of its group.
        let watched = moment.purpose == Purpose::Watch;
        let looked_at = in_time || (watched && moment.key);
        if !looked_at {
            count(&self.line.tally.skipped);
            return Ok(());
        }
        let Some(full) = MappedPicture::map(buffer, &info) else {
            self.line.complain(&self.progress);
            return Ok(());
        };
        let view = match moment.purpose {
            Purpose::Watch | Purpose::Check => judge(self.views.whole(moment.running, &full)),
            Purpose::Glimpse => judge(self.views.glimpse(&full)),
            Purpose::Base => {
                self.views.base(&full);
                None
            }
            Purpose::Deliver | Purpose::Refer => Some(View::Unknown),
        };
        let Some(view) = view else { return Ok(()) };
        if !in_time {
            count(&self.line.tally.skipped);
            return Ok(());
        }
        let small = self.scaler_for(&info, &full)?.scale(&full).map_err(framework)?;
        let frame = Frame {
            camera: self.line.camera.id.clone(),
            captured: moment.captured,
            stream: self.line.stream,
            pts: moment.running,
            full: Arc::new(full),
            small,
            view,
        };
        self.progress.delivering.store(true, Relaxed);
        let outcome = self.line.outlet.frame(frame);
        self.progress.delivered();
        outcome.map_err(|panic| {
            self.line.panicked(panic);
            Undelivered::SinkPanicked
        })
    }

    fn format_of(&mut self, caps: gst::Caps) -> Result<gst_video::VideoInfo, Undelivered> {
        if let Some((known, info)) = &self.format
            && *known == caps
        {
            return Ok(info.clone());
        }
        let info = gst_video::VideoInfo::from_caps(&caps).map_err(framework)?;
        let size = (info.width(), info.height());
        if let Some((_, before)) = &self.format
            && (before.width(), before.height()) != size
        {
            let event = Event::Resized((before.width(), before.height()), size);
            self.line.mailbox.post(event);
        }
        self.format = Some((caps, info.clone()));
        Ok(info)
    }

    fn scaler_for(
        &mut self,
        info: &gst_video::VideoInfo,
        full: &MappedPicture,
    ) -> Result<&mut Scaler, Undelivered> {
        if !self.scaler.as_ref().is_some_and(|it| it.fits(info, full.crop())) {
            let settings = &self.line.settings;
            tracing::debug!(camera = %self.line.camera.id, width = full.width(), height = full.height(), "new picture size");
            let scaler = Scaler::new(info, full.crop(), settings.small_size, settings.small_format);
            self.scaler = Some(scaler.map_err(framework)?);
        }
        self.scaler.as_mut().ok_or_else(|| Undelivered::Refused("no scaler".to_owned()))
    }
}

fn framework(error: gst::glib::BoolError) -> Undelivered {
    Undelivered::Refused(format!("a picture cannot be prepared: {error}"))
}

/// At most so many pictures a second of stream time.
#[derive(Debug)]
struct RateLimit {
    interval: Option<Duration>,
    due: Option<Duration>,
}

impl RateLimit {
    /// No limit when the rate is not a positive number.
    fn new(pictures_a_second: f64) -> Self {
        let interval = Some(pictures_a_second)
            .filter(|rate| rate.is_finite() && *rate > 0.0)
            .and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        Self { interval, due: None }
    }

    /// Keeps to the beat: a picture that comes a little early (time stamps of networks shake) takes the beat that it
    /// belongs to, so the rate holds on average and no beat is lost.
    fn admits(&mut self, pts: Duration) -> bool {
        let Some(interval) = self.interval else { return true };
        let due = self.due.unwrap_or(pts);
        // Further back than a beat is a break in the time stamps, not an early picture.
        let broken = due.saturating_sub(pts) > interval.saturating_mul(2);
        if pts + interval / 8 < due && !broken {
            return false;
        }
        let late = pts.saturating_sub(due) > interval;
        self.due = Some(if late || broken { pts } else { due }.saturating_add(interval));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admitted(rate: f64, ms: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut limit = RateLimit::new(rate);
        ms.into_iter().filter(|ms| limit.admits(Duration::from_millis(*ms))).collect()
    }

    #[test]
    fn rates() {
        let stream = || (0..25).map(|n| n * 40);
        assert_eq!(admitted(12.5, stream()).len(), 13);
        assert_eq!(admitted(10.0, stream()).len(), 10);
        assert_eq!(admitted(25.0, stream()).len(), 25);
        assert_eq!(admitted(1000.0, stream()).len(), 25);
        for no_limit in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300] {
            let kept = admitted(no_limit, stream()).len();
            assert_eq!(kept, 25, "{no_limit}");
        }
    }

    #[test]
    fn shaking_time_stamps_lose_no_beat() {
        let shaken = (0..50).map(|n| 40 * n + n * 7919 % 9);
        assert_eq!(admitted(12.5, shaken).len(), 25);
    }

    #[test]
    fn a_pause_or_a_break_begins_a_new_beat() {
        assert_eq!(admitted(10.0, [0, 5000, 5040, 5100]), [0, 5000, 5100]);
        assert_eq!(admitted(10.0, [5000, 5040, 0, 40, 100]), [5000, 0, 100]);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate(rate in 1.0f64..30.0, steps in prop::collection::vec(1u64..200, 1..200)) {
            let mut now = 0;
            let kept = admitted(rate, steps.iter().map(|step| { now += step; now })).len();
            prop_assert!(kept as f64 <= now as f64 / 1000.0 * rate + 2.0);
        }
    }
}
