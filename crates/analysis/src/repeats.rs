//! Alerts that say nothing new about where a vehicle is.
//!
//! The same plate read anew at the same camera for the same entry, within a time of a confirmed alert, is a repetition:
//! a track that was lost and found, a vehicle that waits in the picture. It is marked, never left out. Another camera is
//! never a repetition, and neither is the same camera after the time, which is counted from the alert that rang, so that a
//! vehicle which stays rings again. Only a confirmed alert can be repeated: a provisional one may yet be withdrawn.
//! What rang is remembered; after a restart the end of the log [recalls](Repeats::recall) it.

use std::collections::HashMap;
use std::time::Duration;

use guiji_domain::{
    Alert, AlertId, AlertStage, CameraId, PlateText, Repeat, Timestamp, WatchEntryId,
};

/// Alerts remembered; when there are more, those raised longest ago are forgotten, and their repetitions ring.
pub const REMEMBERED_MAX: usize = 10_000;

type Key = (WatchEntryId, CameraId, PlateText);

/// The alerts that may be repeated.
#[derive(Debug)]
pub struct Repeats {
    within: Duration,
    rung: HashMap<Key, Rung>,
}

#[derive(Debug, Clone)]
struct Rung {
    id: AlertId,
    captured: Timestamp,
    raised: Timestamp,
    repeated: Vec<AlertId>,
}

fn key(alert: &Alert) -> Option<Key> {
    Some((alert.id.entry.clone(), alert.camera.clone(), alert.read.clone()?))
}

impl Repeats {
    /// Captures so far apart, before or after, are repetitions; zero for none.
    pub fn new(within: Duration) -> Self {
        Self { within, rung: HashMap::new() }
    }

    /// Marks those alerts of a batch that are repetitions, and gives what is to be [noted](Self::note) once they are
    /// logged: alerts that never were must not silence others.
    pub fn mark<'a>(&self, alerts: impl Iterator<Item = &'a mut Alert>) -> Marked {
        let mut fresh: HashMap<Key, Rung> = HashMap::new();
        if self.within.is_zero() {
            return Marked(fresh);
        }
        for alert in alerts.filter(|a| a.stage.is_finding() && a.stage != AlertStage::Withdrawn) {
            let Some(key) = key(alert) else { continue };
            let captured = alert.captured.at;
            let known = fresh.get(&key).or_else(|| self.rung.get(&key));
            let near = known.filter(|rung| rung.captured.abs_diff(captured) <= self.within);
            match near.cloned() {
                Some(rung) if rung.id == alert.id => {}
                Some(mut rung) => {
                    let known = rung.repeated.iter().position(|id| *id == alert.id);
                    let place = known.unwrap_or_else(|| {
                        rung.repeated.push(alert.id.clone());
                        rung.repeated.len() - 1
                    });
                    let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
                    alert.repeat = Some(Repeat { of: rung.id.clone(), number });
                    fresh.insert(key, rung);
                }
                None if alert.stage == AlertStage::Confirmed => {
                    let (id, raised) = (alert.id.clone(), alert.raised);
                    fresh.insert(key, Rung { id, captured, raised, repeated: Vec::new() });
                }
                None => {}
            }
        }
        Marked(fresh)
    }

    /// Remembers what was logged.
    pub fn note(&mut self, marked: Marked) {
        self.rung.extend(marked.0);
        self.forget();
    }

    /// Remembers an alert of the log, to be given in the log's order.
    pub fn recall(&mut self, alert: &Alert) {
        let Some(key) = key(alert).filter(|_| alert.stage.is_finding()) else { return };
        match &alert.repeat {
            Some(repeat) => {
                if let Some(rung) = self.rung.get_mut(&key).filter(|rung| rung.id == repeat.of)
                    && !rung.repeated.contains(&alert.id)
                {
                    rung.repeated.push(alert.id.clone());
                }
            }
            None if alert.stage == AlertStage::Confirmed => {
                let (id, captured, raised) = (alert.id.clone(), alert.captured.at, alert.raised);
                self.rung.insert(key, Rung { id, captured, raised, repeated: Vec::new() });
                self.forget();
            }
            None => {}
        }
    }

    fn forget(&mut self) {
        if self.rung.len() > REMEMBERED_MAX {
            let mut raised: Vec<_> = self.rung.values().map(|rung| rung.raised).collect();
            let middle = raised.len() / 2;
            let (_, oldest_kept, _) = raised.select_nth_unstable(middle);
            let oldest_kept = *oldest_kept;
            self.rung.retain(|_, rung| rung.raised > oldest_kept);
        }
    }
}

/// What the alerts of a batch teach, once they are logged.
#[derive(Debug)]
#[must_use]
pub struct Marked(HashMap<Key, Rung>);

#[cfg(test)]
mod tests {
    use guiji_domain::{CaptureTime, ClockSource, SightingId, WatchTarget};
    use proptest::prelude::*;

    use super::*;

    const WITHIN: i64 = 30;

    fn alert((sighting, entry, camera, plate, at): (u128, u8, u8, u8, i64)) -> Alert {
        let at = Timestamp::from_secs(at);
        Alert {
            id: AlertId {
                sighting: SightingId::from_u128(sighting),
                entry: WatchEntryId::new(&format!("w{entry}")).unwrap(),
            },
            cursor: 0,
            stage: AlertStage::Confirmed,
            raised: at,
            camera: CameraId::new(&format!("k{camera}")).unwrap(),
            captured: CaptureTime { at, uncertainty: Duration::ZERO, source: ClockSource::Stated },
            read: PlateText::parse(&format!("浙J1234{plate}")).ok(),
            target: WatchTarget::Description,
            case_number: "A-1".into(),
            probability: 0.9,
            units: Vec::new(),
            acknowledgement: None,
            repeat: None,
        }
    }

    proptest! {
        /// Whatever comes in whatever batches: a repetition names an alert that rang, of the same plate, entry and
        /// camera, near in time; what rings is no such; repetitions are counted without a gap; nothing is left out.
        #[test]
        fn only_what_is_at_the_same_place_at_the_same_time_is_a_repetition(
            passages in prop::collection::vec((0..2u8, 0..3u8, 0..2u8, 0..200i64), 1..60),
            cuts in prop::collection::vec(1..10usize, 1..30),
        ) {
            let mut repeats = Repeats::new(Duration::from_secs(WITHIN as u64));
            let mut alerts: Vec<_> = passages
                .into_iter()
                .enumerate()
                .map(|(i, (entry, camera, plate, at))| alert((i as u128, entry, camera, plate, at)))
                .collect();
            let (mut rest, mut cuts) = (&mut alerts[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let size = cuts.next().unwrap_or(1).min(rest.len());
                let (batch, later) = rest.split_at_mut(size);
                let marked = repeats.mark(batch.iter_mut());
                repeats.note(marked);
                rest = later;
            }
            // After a restart, the log teaches the same.
            let mut recalled = Repeats::new(Duration::from_secs(WITHIN as u64));
            alerts.iter().for_each(|alert| recalled.recall(alert));
            let mut next: Vec<_> = (0..12)
                .map(|i| alert((1000 + i as u128, (i % 2) as u8, (i / 2 % 3) as u8, (i / 6) as u8, 150)))
                .collect();
            let mut again = next.clone();
            drop(repeats.mark(next.iter_mut()));
            drop(recalled.mark(again.iter_mut()));
            prop_assert_eq!(next, again);
            let mut counts: HashMap<&AlertId, u32> = HashMap::new();
            let mut last: HashMap<Key, &Alert> = HashMap::new();
            for alert in &alerts {
                let key = key(alert).unwrap();
                let near = last
                    .get(&key)
                    .filter(|rung| rung.captured.at.abs_diff(alert.captured.at).as_secs() <= WITHIN as u64);
                match (&alert.repeat, near) {
                    (Some(repeat), Some(rung)) => {
                        prop_assert_eq!(&repeat.of, &rung.id);
                        prop_assert_eq!(&rung.camera, &alert.camera);
                        let count = counts.entry(&rung.id).or_default();
                        *count += 1;
                        prop_assert_eq!(repeat.number, *count);
                    }
                    (None, None) => {
                        last.insert(key, alert);
                    }
                    (marked, near) => prop_assert!(false, "{:?} beside {:?}", marked, near),
                }
            }
        }
    }

    #[test]
    fn what_was_not_logged_or_may_be_withdrawn_silences_nothing() {
        let mut repeats = Repeats::new(Duration::from_secs(30));
        let mark = |repeats: &Repeats, alert: &mut Alert| repeats.mark(std::iter::once(alert));
        let first = alert((1, 0, 0, 0, 100));
        let mut provisional = Alert { stage: AlertStage::Provisional, ..first.clone() };
        let marked = mark(&repeats, &mut provisional);
        repeats.note(marked);
        // Its store failed.
        drop(mark(&repeats, &mut first.clone()));
        let mut second = alert((2, 0, 0, 0, 105));
        let marked = mark(&repeats, &mut second);
        assert_eq!(second.repeat, None);
        repeats.note(marked);
        let mut third = Alert { stage: AlertStage::Provisional, ..alert((3, 0, 0, 0, 110)) };
        let marked = mark(&repeats, &mut third);
        let expected = Some(Repeat { of: second.id.clone(), number: 1 });
        assert_eq!(third.repeat, expected);
        repeats.note(marked);
        // The same alert, confirmed, is the same repetition.
        let mut confirmed = alert((3, 0, 0, 0, 111));
        drop(mark(&repeats, &mut confirmed));
        assert_eq!(confirmed.repeat, expected);
        let mut none = alert((4, 0, 0, 0, 111));
        drop(mark(&Repeats::new(Duration::ZERO), &mut none));
        assert_eq!(none.repeat, None);
    }
}
