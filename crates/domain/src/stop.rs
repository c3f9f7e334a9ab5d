use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::StoreError;

/// Tells work that nobody waits for its answer any more. Cloning shares it. It is how something is asked, not a part of
/// what is asked: any two are equal.
#[derive(Debug, Clone, Default)]
pub struct Stop(Option<Arc<AtomicBool>>);

impl Stop {
    /// One that can be raised; the default one never is.
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// From now on nobody waits.
    pub fn raise(&self) {
        if let Some(raised) = &self.0 {
            raised.store(true, Ordering::Relaxed);
        }
    }

    /// Goes on, unless nobody waits any more.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] once it was raised.
    pub fn check(&self, doing: &'static str) -> Result<(), StoreError> {
        match &self.0 {
            Some(raised) if raised.load(Ordering::Relaxed) => Err(StoreError::Stopped { doing }),
            _ => Ok(()),
        }
    }
}

impl PartialEq for Stop {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_it_hears_of_it() {
        let stop = Stop::new();
        let shared = stop.clone();
        assert!(shared.check("search").is_ok());
        stop.raise();
        let stopped = shared.check("search").unwrap_err();
        assert_eq!(stopped.to_string(), "search: nobody waits for the answer any more");
        Stop::default().raise();
        assert!(Stop::default().check("search").is_ok());
    }
}
