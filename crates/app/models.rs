//! Loading the models that a configuration names.

use anyhow::Result;
use guiji_vision::{Vision, VisionSettings};

use crate::config::Config;

/// The models, digests checked, each run once. `reader` names another plate reader than the manifest's first.
pub(crate) fn load(config: &Config, workers: usize, reader: Option<String>) -> Result<Vision> {
    let vision = Vision::load(&VisionSettings {
        manifest: config.manifest.clone(),
        cache_dir: config.models_cache.clone(),
        runtime_library: None,
        workers,
        thresholds: Default::default(),
        plate_reader: reader,
    })?;
    vision.warm_up()?;
    Ok(vision)
}
