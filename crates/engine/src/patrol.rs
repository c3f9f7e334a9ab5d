//! The patrol units as the alert path sees them: a snapshot that is swapped whole.

use std::sync::Arc;

use guiji_domain::{PatrolUnit, PatrolUnits, StoreError};

use crate::snapshot::Snapshot;

/// Routes alerts to the units as they were at the last [`PatrolBook::reload`].
pub struct PatrolBook(Snapshot<[PatrolUnit]>);

impl PatrolBook {
    /// Loads the units.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(list: Arc<dyn PatrolUnits>) -> Result<Self, StoreError> {
        Snapshot::new("patrol units", move || Ok(list.units()?.into())).map(Self)
    }

    /// Takes over what changed: in effect for the next alert when it returns.
    ///
    /// # Errors
    /// When the units cannot be read; the old snapshot then stays in force until a running engine, which tries again
    /// once a second, can read them.
    pub fn reload(&self) -> Result<(), StoreError> {
        self.0.reload()
    }

    pub(crate) fn tend(&self) {
        self.0.tend();
    }

    pub(crate) fn units(&self) -> Arc<[PatrolUnit]> {
        self.0.value()
    }
}
