//! What is given up when analysis cannot keep up with the cameras.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// How much is being given up: each level includes those before it. Cameras that somebody waits for (an alert, an
/// analyst) and recordings played as fast as possible give up nothing; sightings are never given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// Nothing.
    Normal,
    /// Frames: at most four a second of each camera are analysed.
    FewerLooks,
    /// Pictures: streams decode what cannot be done without ([`guiji_domain::Feedback::sparing`]).
    FewerPictures,
}

impl Load {
    const ALL: [Self; 3] = [Self::Normal, Self::FewerLooks, Self::FewerPictures];
}

/// The level in force, for whoever gives something up.
#[derive(Debug, Default)]
pub(crate) struct LoadLevel(AtomicU8);

impl LoadLevel {
    pub(crate) fn get(&self) -> Load {
        Load::ALL.get(usize::from(self.0.load(Relaxed))).copied().unwrap_or(Load::FewerPictures)
    }

    fn set(&self, load: Load) {
        self.0.store(load as u8, Relaxed);
    }
}

/// Decides on the level, by the share of frames that are lost because newer ones come first.
#[derive(Debug, Default)]
pub(crate) struct LoadWatch {
    seen: (u64, u64),
    behind: u32,
    calm: u32,
}

/// A share of lost frames that is too much, and one that is nothing. Between them the level stays.
const LOST_TOO_MANY: f64 = 0.10;
const LOST_NONE: f64 = 0.02;
/// Seconds in a row until more is given up: a burst of passages is none of it.
const BEHIND_FOR: u32 = 3;
/// Seconds in a row until less is given up: what was given up is what made it calm.
const CALM_FOR: u32 = 30;

impl LoadWatch {
    /// To be called once a second with the frames analysed and lost so far. True when the level has changed.
    pub(crate) fn sample(&mut self, level: &LoadLevel, analysed: u64, lost: u64) -> bool {
        let before = std::mem::replace(&mut self.seen, (analysed, lost));
        let (analysed, lost) = (analysed.saturating_sub(before.0), lost.saturating_sub(before.1));
        let share = lost as f64 / (analysed + lost).max(1) as f64;
        self.behind = if share > LOST_TOO_MANY { self.behind + 1 } else { 0 };
        self.calm = if share < LOST_NONE { self.calm + 1 } else { 0 };
        let now = level.get();
        let next = match now {
            Load::Normal | Load::FewerLooks if self.behind >= BEHIND_FOR => {
                Load::ALL[now as usize + 1]
            }
            Load::FewerLooks | Load::FewerPictures if self.calm >= CALM_FOR => {
                Load::ALL[now as usize - 1]
            }
            _ => return false,
        };
        (self.behind, self.calm) = (0, 0);
        level.set(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_given_up_step_by_step_and_less_after_a_while() {
        let (level, mut watch) = (LoadLevel::default(), LoadWatch::default());
        let (mut analysed, mut lost) = (0, 0);
        let mut seconds = |count: u32, lost_a_second: u64| {
            for _ in 0..count {
                analysed += 100;
                lost += lost_a_second;
                watch.sample(&level, analysed, lost);
            }
            level.get()
        };
        assert_eq!(seconds(100, 1), Load::Normal);
        assert_eq!(seconds(2, 50), Load::Normal, "a burst");
        assert_eq!(seconds(1, 0), Load::Normal);
        assert_eq!(seconds(3, 50), Load::FewerLooks);
        assert_eq!(seconds(20, 5), Load::FewerLooks, "neither too many nor none");
        assert_eq!(seconds(3, 50), Load::FewerPictures);
        assert_eq!(seconds(100, 50), Load::FewerPictures, "there is no more to give up");
        assert_eq!(seconds(29, 0), Load::FewerPictures);
        assert_eq!(seconds(1, 0), Load::FewerLooks);
        assert_eq!(seconds(30, 0), Load::Normal);
        assert_eq!(seconds(100, 0), Load::Normal);
    }
}
