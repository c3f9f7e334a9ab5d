use std::fmt;

use gstreamer as gst;

use crate::IngestError;

/// Whether anything works without an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Every installation needs it.
    Always,
    /// Only some addresses need it.
    HttpOnly,
}

/// An element of GStreamer that is not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingElement {
    /// Its name: `avdec_h264`.
    pub element: &'static str,
    /// The plugin that holds it: `libav`.
    pub plugin: &'static str,
    /// The Debian package that holds the plugin: `gstreamer1.0-libav`.
    pub package: &'static str,
    /// Whether anything works without.
    pub need: Need,
}

impl fmt::Display for MissingElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { element, plugin, package, .. } = self;
        write!(f, "element {element} of plugin {plugin}: install {package}")
    }
}

const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";

/// Element, plugin, Debian package, need.
const ELEMENTS: &[(&str, &str, &str, Need)] = &[
    ("filesrc", "coreelements", "libgstreamer1.0-0", Need::Always),
    ("capsfilter", "coreelements", "libgstreamer1.0-0", Need::Always),
    ("parsebin", "playback", BASE, Need::Always),
    ("videoconvert", "videoconvertscale", BASE, Need::Always),
    ("appsink", "app", BASE, Need::Always),
    ("rtspsrc", "rtsp", GOOD, Need::Always),
    ("udpsrc", "udp", GOOD, Need::Always),
    ("rtpbin", "rtpmanager", GOOD, Need::Always),
    ("rtph264depay", "rtp", GOOD, Need::Always),
    ("rtph265depay", "rtp", GOOD, Need::Always),
    ("qtdemux", "isomp4", GOOD, Need::Always),
    ("matroskademux", "matroska", GOOD, Need::Always),
    ("tsdemux", "mpegtsdemux", BAD, Need::Always),
    ("h264parse", "videoparsersbad", BAD, Need::Always),
    ("h265parse", "videoparsersbad", BAD, Need::Always),
    ("avdec_h264", "libav", "gstreamer1.0-libav", Need::Always),
    ("avdec_h265", "libav", "gstreamer1.0-libav", Need::Always),
    ("souphttpsrc", "soup", GOOD, Need::HttpOnly),
    ("hlsdemux", "hls", BAD, Need::HttpOnly),
];

/// The elements that are not installed, those for HTTP included. Empty when all is well.
///
/// # Errors
/// When GStreamer does not start at all.
pub fn missing_elements() -> Result<Vec<MissingElement>, IngestError> {
    gst::init().map_err(|error| IngestError::Init(error.to_string()))?;
    Ok(ELEMENTS
        .iter()
        .filter(|(element, ..)| gst::ElementFactory::find(element).is_none())
        .map(|&(element, plugin, package, need)| MissingElement { element, plugin, package, need })
        .collect())
}

/// Starts GStreamer and checks that what every camera needs is there.
pub(crate) fn require_elements() -> Result<(), IngestError> {
    let missing: Vec<_> =
        missing_elements()?.into_iter().filter(|it| it.need == Need::Always).collect();
    let (major, minor, ..) = gst::version();
    if (major, minor) < (1, 22) {
        return Err(IngestError::TooOld { found: format!("{major}.{minor}") });
    }
    if missing.is_empty() { Ok(()) } else { Err(IngestError::Missing(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_element_says_what_to_install() {
        let missing = MissingElement {
            element: "avdec_h264",
            plugin: "libav",
            package: "gstreamer1.0-libav",
            need: Need::Always,
        };
        let error = IngestError::Missing(vec![missing]).to_string();
        assert_eq!(
            error,
            "GStreamer lacks element avdec_h264 of plugin libav: install gstreamer1.0-libav"
        );
    }

    #[test]
    fn the_table_names_real_elements_of_the_plugins_it_says() {
        gst::init().unwrap();
        for (element, plugin, ..) in ELEMENTS {
            if let Some(factory) = gst::ElementFactory::find(element) {
                use gst::prelude::*;
                assert_eq!(factory.plugin().unwrap().plugin_name(), *plugin, "{element}");
            }
        }
    }
}
