//! The watch-list as the matching path sees it: a snapshot that is swapped whole.

use std::sync::{Arc, PoisonError, RwLock};

use guiji_analysis::watch::WatchMatcher;
use guiji_domain::{StoreError, Watchlist};

/// Matches against the watch-list as it was at the last [`WatchBook::reload`].
pub struct WatchBook {
    list: Arc<dyn Watchlist>,
    matcher: RwLock<Arc<WatchMatcher>>,
}

impl WatchBook {
    /// Loads the list.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn load(list: Arc<dyn Watchlist>) -> Result<Self, StoreError> {
        let matcher = RwLock::new(Arc::new(WatchMatcher::new(list.entries()?)));
        Ok(Self { list, matcher })
    }

    /// Takes over what changed: in effect for the next sighting when it returns.
    ///
    /// # Errors
    /// When the list cannot be read; the old snapshot then stays in force.
    pub fn reload(&self) -> Result<(), StoreError> {
        let fresh = Arc::new(WatchMatcher::new(self.list.entries()?));
        *self.matcher.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(crate) fn matcher(&self) -> Arc<WatchMatcher> {
        self.matcher.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
