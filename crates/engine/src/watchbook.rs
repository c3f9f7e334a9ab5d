//! The watch-list as the matching path sees it: a snapshot that is swapped whole.

use std::sync::Arc;

use guiji_analysis::watch::WatchMatcher;
use guiji_domain::{StoreError, Watchlist};

use crate::snapshot::Snapshot;

/// Matches against the watch-list as it was at the last [`WatchBook::reload`].
pub struct WatchBook(Snapshot<WatchMatcher>);

impl WatchBook {
    /// Loads the list.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn load(list: Arc<dyn Watchlist>) -> Result<Self, StoreError> {
        let read = move || Ok(Arc::new(WatchMatcher::new(list.entries()?)));
        Snapshot::new("watch-list", read).map(Self)
    }

    /// Takes over what changed: in effect for the next sighting when it returns.
    ///
    /// # Errors
    /// When the list cannot be read; the old snapshot then stays in force until a running engine, which tries again once
    /// a second, can read it.
    pub fn reload(&self) -> Result<(), StoreError> {
        self.0.reload()
    }

    pub(crate) fn tend(&self) {
        self.0.tend();
    }

    pub(crate) fn matcher(&self) -> Arc<WatchMatcher> {
        self.0.value()
    }
}
