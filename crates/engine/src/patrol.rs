//! The patrol units as the alert path sees them: a snapshot that is swapped whole.

use std::sync::{Arc, PoisonError, RwLock};

use guiji_domain::{PatrolUnit, PatrolUnits, StoreError};

/// Routes alerts to the units as they were at the last [`PatrolBook::reload`].
pub struct PatrolBook {
    list: Arc<dyn PatrolUnits>,
    units: RwLock<Arc<[PatrolUnit]>>,
}

impl PatrolBook {
    /// Loads the units.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(list: Arc<dyn PatrolUnits>) -> Result<Self, StoreError> {
        let units = RwLock::new(list.units()?.into());
        Ok(Self { list, units })
    }

    /// Takes over what changed: in effect for the next alert when it returns.
    ///
    /// # Errors
    /// When the units cannot be read; the old snapshot then stays in force.
    pub fn reload(&self) -> Result<(), StoreError> {
        let fresh = self.list.units()?.into();
        *self.units.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(crate) fn units(&self) -> Arc<[PatrolUnit]> {
        self.units.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
