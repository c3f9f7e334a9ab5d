/// How often something was right, of late: what it must have shown before anything is left out on its word.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Score {
    heard: f32,
    missed: f32,
}

/// What older verdicts weigh after a new one: a memory of some twenty.
const FORGETTING: f32 = 0.95;
/// So many right ones of all prove it.
const SHARE_MIN: f32 = 0.9;

impl Score {
    /// A vehicle came: whether it was announced.
    pub(crate) fn note(&mut self, heard: bool) {
        self.heard *= FORGETTING;
        self.missed *= FORGETTING;
        *if heard { &mut self.heard } else { &mut self.missed } += 1.0;
    }

    /// Whether there were so many, weighed.
    pub(crate) fn is_judged(self, weight_min: f32) -> bool {
        self.heard + self.missed >= weight_min
    }

    /// Whether nine of ten were announced, of at least so many, weighed.
    pub(crate) fn is_proven(self, weight_min: f32) -> bool {
        let Self { heard, missed } = self;
        self.is_judged(weight_min) && heard >= SHARE_MIN * (heard + missed)
    }
}

/// The hours of a day: by night the noise of a view is another.
pub(crate) const HOURS: usize = 24;
