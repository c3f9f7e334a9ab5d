//! Loading the models that a configuration names.

use anyhow::Result;
use guiji_vision::{Vision, VisionSettings};

use crate::config::Config;

/// Models other than the manifest's first of their role, by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    pub(crate) plate_detector: Option<String>,
    pub(crate) plate_reader: Option<String>,
}

/// The models, digests checked, each run once.
pub(crate) fn load(config: &Config, workers: usize, chosen: Chosen) -> Result<Vision> {
    let vision = Vision::load(&VisionSettings {
        manifest: config.manifest.clone(),
        cache_dir: config.models_cache.clone(),
        runtime_library: None,
        workers,
        thresholds: Default::default(),
        plate_detector: chosen.plate_detector,
        plate_reader: chosen.plate_reader,
    })?;
    vision.warm_up()?;
    Ok(vision)
}
