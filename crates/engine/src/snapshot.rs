//! What the store keeps and the alert path needs in memory: swapped whole when it has changed.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use guiji_domain::StoreError;
use tracing::{info, warn};

type Read<T> = Box<dyn Fn() -> Result<T, StoreError> + Send + Sync>;

/// A value as it was at the last reading.
pub(crate) struct Snapshot<T: ?Sized> {
    /// For the log: "watch-list".
    what: &'static str,
    read: Read<Arc<T>>,
    value: RwLock<Arc<T>>,
    /// Whether a change could not be read. Held while reading, so that no older value takes the place of a newer one.
    stale: Mutex<bool>,
}

impl<T: ?Sized> Snapshot<T> {
    /// Reads it for the first time.
    pub(crate) fn new(
        what: &'static str,
        read: impl Fn() -> Result<Arc<T>, StoreError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let value = RwLock::new(read()?);
        Ok(Self { what, read: Box::new(read), value, stale: Mutex::new(false) })
    }

    /// Takes over what changed. When it cannot be read, the old value stays until [`Snapshot::tend`] can.
    pub(crate) fn reload(&self) -> Result<(), StoreError> {
        self.reload_into(&mut self.stale.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reload_into(&self, stale: &mut bool) -> Result<(), StoreError> {
        *stale = true;
        let fresh = (self.read)()?;
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        *stale = false;
        Ok(())
    }

    /// Reads what could not be read before; to be called about once a second.
    pub(crate) fn tend(&self) {
        let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
        if *stale {
            match self.reload_into(&mut stale) {
                Ok(()) => info!(what = self.what, "what was changed is in force now"),
                Err(error) => {
                    warn!(what = self.what, %error, "what was changed is still not in force");
                }
            }
        }
    }

    pub(crate) fn value(&self) -> Arc<T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
