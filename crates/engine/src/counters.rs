//! Counters that many threads raise and one reader copies.

/// A struct of atomic counters and its plain snapshot.
macro_rules! counters {
    ($(#[$outer:meta])* $atomic:ident, $plain:ident { $($(#[$doc:meta])* $field:ident),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Default)]
        pub(crate) struct $atomic { $($(#[$doc])* pub(crate) $field: std::sync::atomic::AtomicU64),+ }

        $(#[$outer])*
        /// A snapshot.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $plain { $($(#[$doc])* pub $field: u64),+ }

        impl $atomic {
            /// The counters as they stand.
            pub(crate) fn counts(&self) -> $plain {
                $plain { $($field: self.$field.load(std::sync::atomic::Ordering::Relaxed)),+ }
            }
        }
    };
}
pub(crate) use counters;
