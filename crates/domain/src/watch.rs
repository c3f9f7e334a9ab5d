use crate::vehicle::words;
use crate::{
    Acknowledgement, AlertId, CameraId, CaptureTime, GeoArea, GeoPoint, Heading, InvalidValue,
    Lattice, PatrolUnitId, PlatePattern, PlateState, PlateText, Sighting, SightingId, Timestamp,
    VehicleClass, VehicleColour, WatchEntryId,
};

/// A plate, pattern or description to be watched for (布控), by whose right, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchEntry {
    /// Unique name.
    pub id: WatchEntryId,
    /// What rings.
    pub target: WatchTarget,
    /// The case it belongs to.
    pub case_number: String,
    /// Why it is watched for.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When it was entered.
    pub created: Timestamp,
    /// When it ends. There is no entry without an end.
    pub expires: Timestamp,
    /// Rings when the probability of a match is at least this, above 0 and at most 1.
    pub threshold: f32,
    /// Only at these cameras; empty means everywhere.
    pub cameras: Vec<CameraId>,
    /// Only at cameras that stand there.
    pub area: Option<GeoArea>,
    /// What the vehicle must look like besides.
    pub vehicle: VehicleDescription,
    /// Only at these hours.
    pub hours: Option<DailyHours>,
    /// Who agreed. Without it, an entry that [needs it](Self::needs_approval) is not in force.
    pub approval: Option<Approval>,
}

/// A second person's agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who: somebody else than the owner.
    pub by: String,
    /// When. The entry is in force from then on.
    pub at: Timestamp,
}

/// Looks and movement of a vehicle; what is `None` may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VehicleDescription {
    /// What kind.
    pub class: Option<VehicleClass>,
    /// The colour of its body.
    pub colour: Option<VehicleColour>,
    /// How it moves through the picture.
    pub heading: Option<Heading>,
    /// Where it drives to, at cameras whose bearing is known.
    pub course: Option<CompassPoint>,
}

/// One of eight directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CompassPoint {
    /// 0 degrees.
    North,
    /// 45 degrees.
    NorthEast,
    /// 90 degrees.
    East,
    /// 135 degrees.
    SouthEast,
    /// 180 degrees.
    South,
    /// 225 degrees.
    SouthWest,
    /// 270 degrees.
    West,
    /// 315 degrees.
    NorthWest,
}
words!(
    CompassPoint, "course",
    North => "north", NorthEast => "north-east", East => "east", SouthEast => "south-east", South => "south",
    SouthWest => "south-west", West => "west", NorthWest => "north-west",
);

impl CompassPoint {
    /// Whether a course may be meant. Courses are known to 45 degrees either way, and drivers do not follow a needle.
    pub fn fits(self, course_deg: f32) -> bool {
        const APART_MAX: f32 = 67.5;
        let apart = (course_deg - 45.0 * self as u8 as f32).rem_euclid(360.0);
        apart.min(360.0 - apart) <= APART_MAX
    }
}

impl VehicleDescription {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The probability that a sighting fits. A class or colour that was seen with the share p of the evidence has the
    /// probability p, and each other one an equal part of the rest. `unseen` stands for what was not seen at all.
    pub fn probability(&self, sighting: &Sighting, unseen: f32) -> f32 {
        fn share<T: PartialEq>(
            wanted: Option<T>,
            seen: Option<(T, f32)>,
            kinds: usize,
            unseen: f32,
        ) -> f32 {
            match (wanted, seen) {
                (None, _) => 1.0,
                (Some(_), None) => unseen,
                (Some(wanted), Some((value, p))) if wanted == value => p,
                (Some(_), Some((_, p))) => (1.0 - p).max(0.0) / (kinds - 1) as f32,
            }
        }
        let class = share(self.class, sighting.vehicle.class, VehicleClass::ALL.len(), unseen);
        let colour = share(self.colour, sighting.vehicle.colour, VehicleColour::ALL.len(), unseen);
        let heading = match (self.heading, sighting.direction) {
            (None, _) => 1.0,
            (Some(_), None) => unseen,
            (Some(wanted), Some(seen)) => f32::from(u8::from(wanted == seen.heading)),
        };
        let course = match (self.course, sighting.direction.and_then(|seen| seen.course_deg)) {
            (None, _) => 1.0,
            (Some(_), None) => unseen,
            (Some(wanted), Some(seen)) => f32::from(u8::from(wanted.fits(seen))),
        };
        class * colour * heading * course
    }
}

impl std::fmt::Display for VehicleDescription {
    /// `white truck approaching`; `vehicle` where no class is said.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(colour) = self.colour {
            write!(f, "{colour} ")?;
        }
        f.write_str(self.class.map_or("vehicle", VehicleClass::as_str))?;
        if let Some(heading) = self.heading {
            write!(f, " {heading}")?;
        }
        match self.course {
            Some(course) => write!(f, " going {course}"),
            None => Ok(()),
        }
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weekday {
    /// The first.
    Monday,
    /// The second.
    Tuesday,
    /// The third.
    Wednesday,
    /// The fourth.
    Thursday,
    /// The fifth.
    Friday,
    /// The sixth.
    Saturday,
    /// The seventh.
    Sunday,
}
words!(
    Weekday, "weekday",
    Monday => "mon", Tuesday => "tue", Wednesday => "wed", Thursday => "thu", Friday => "fri", Saturday => "sat",
    Sunday => "sun",
);

/// Days of the week, one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Weekdays(u8);

impl Weekdays {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// These days; every day when there are none.
    pub fn of(days: impl IntoIterator<Item = Weekday>) -> Self {
        let bits = days.into_iter().fold(0, |bits, day| bits | 1 << day as u8);
        Self::from_bits(bits).unwrap_or(Self::ALL)
    }

    /// From [`Self::bits`]; `None` when it says no day or more than there are.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits > 0 && bits <= Self::ALL.0).then_some(Self(bits))
    }

    /// A bit for each day, Monday's the lowest.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether a day is one of them.
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << day as u8) != 0
    }

    /// The days.
    pub fn days(self) -> impl Iterator<Item = Weekday> {
        Weekday::ALL.iter().copied().filter(move |day| self.contains(*day))
    }
}

/// Hours of the day in China Standard Time (UTC+8, all year), from the first minute on and before the last; over
/// midnight when the last is before the first. On every day, or on the days of the week on which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DailyHours {
    from: u16,
    until: u16,
    days: Weekdays,
}

impl DailyHours {
    const MINUTES: u16 = 24 * 60;

    /// From and until, in minutes after midnight.
    ///
    /// # Errors
    /// When a minute is not of the day or both are the same.
    pub fn new(from: u16, until: u16) -> Result<Self, InvalidValue> {
        if from >= Self::MINUTES || until > Self::MINUTES || from == until {
            return Err(InvalidValue::new(
                "hours",
                format!("{from} to {until}"),
                "are minutes after midnight, 0 to 1439 and another one up to 1440",
            ));
        }
        Ok(Self { from, until, days: Weekdays::ALL })
    }

    /// Only when they begin on these days.
    #[must_use]
    pub fn on(self, days: Weekdays) -> Self {
        Self { days, ..self }
    }

    /// The days on which they begin.
    pub fn days(&self) -> Weekdays {
        self.days
    }

    /// The first minute after midnight.
    pub fn from(&self) -> u16 {
        self.from
    }

    /// The minute after the last.
    pub fn until(&self) -> u16 {
        self.until
    }

    /// Whether a time is among them.
    pub fn contains(&self, at: Timestamp) -> bool {
        const NANOS_A_MINUTE: i64 = 60_000_000_000;
        const CHINA: i64 = 8 * 60;
        let minutes = at.as_nanos().div_euclid(NANOS_A_MINUTE).saturating_add(CHINA);
        let minute = minutes.rem_euclid(i64::from(Self::MINUTES)) as u16;
        let today = minutes.div_euclid(i64::from(Self::MINUTES));
        let begun = if self.from < self.until {
            (self.from..self.until).contains(&minute).then_some(today)
        } else if minute >= self.from {
            Some(today)
        } else {
            (minute < self.until).then_some(today - 1)
        };
        // The first of January 1970 was a Thursday.
        begun.is_some_and(|day| {
            let weekday = Weekday::ALL[(day + Weekday::Thursday as i64).rem_euclid(7) as usize];
            self.days.contains(weekday)
        })
    }
}

impl std::fmt::Display for DailyHours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [from, until] = [self.from, self.until].map(|m| format!("{:02}:{:02}", m / 60, m % 60));
        write!(f, "{from} to {until} China time")
    }
}

impl WatchEntry {
    /// The threshold where none is asked for: more likely than not.
    pub const THRESHOLD_DEFAULT: f32 = 0.5;
    /// Longest life of an entry.
    pub const DAYS_MAX: i64 = 366;

    /// # Errors
    /// When a required text is blank or over-long, the end is not after the beginning or too far away, or the
    /// threshold is out of range.
    pub fn checked(self) -> Result<Self, InvalidValue> {
        for (what, text) in
            [("case number", &self.case_number), ("reason", &self.reason), ("owner", &self.owner)]
        {
            if text.trim().is_empty()
                || text.chars().count() > 200
                || text.chars().any(char::is_control)
            {
                return Err(InvalidValue::new(
                    what,
                    text,
                    "is required: 1 to 200 printable characters",
                ));
            }
        }
        if self.expires <= self.created {
            return Err(InvalidValue::new(
                "expiry",
                self.expires,
                "lies before the entry's creation: give a later time",
            ));
        }
        if self.expires.since(self.created).as_secs() > Self::DAYS_MAX as u64 * 86_400 {
            return Err(InvalidValue::new(
                "expiry",
                self.expires,
                "an entry lives at most 366 days: renew it later",
            ));
        }
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return Err(InvalidValue::new(
                "threshold",
                self.threshold,
                "a probability above 0 and at most 1",
            ));
        }
        if let WatchTarget::Plate(plate) = &self.target
            && plate.kinds().is_empty()
        {
            return Err(InvalidValue::new(
                "plate",
                plate,
                "fits no kind of plate: check it, or watch a pattern with ?",
            ));
        }
        if self.target == WatchTarget::Description
            && self.vehicle.class.is_none()
            && self.vehicle.colour.is_none()
        {
            return Err(InvalidValue::new(
                "vehicle",
                self.vehicle,
                "would ring for every vehicle: name a class or a colour",
            ));
        }
        if let Some(approval) = &self.approval
            && approval.by == self.owner
        {
            return Err(InvalidValue::new(
                "approval",
                &approval.by,
                "is for a second person: the owner cannot give it",
            ));
        }
        Ok(self)
    }

    /// Whether it concerns many people's vehicles, so that a second person must agree.
    pub fn needs_approval(&self) -> bool {
        !matches!(self.target, WatchTarget::Plate(_))
    }

    /// Whether it is in force at that time and camera, which stands at `place`. Where that is not known, an entry for an
    /// area is not.
    pub fn applies(&self, camera: &CameraId, place: Option<&GeoPoint>, at: Timestamp) -> bool {
        let since = match &self.approval {
            Some(approval) => self.created.max(approval.at),
            None if self.needs_approval() => return false,
            None => self.created,
        };
        since <= at
            && at < self.expires
            && (self.cameras.is_empty() || self.cameras.contains(camera))
            && self.area.is_none_or(|area| place.is_some_and(|place| area.contains(place)))
            && self.hours.is_none_or(|hours| hours.contains(at))
    }

    /// The probability that the vehicle of a sighting is meant, whenever and wherever it was seen. What was not seen
    /// of a vehicle does not speak against a plate that was read, and not for a mere description.
    pub fn probability(&self, sighting: &Sighting) -> f32 {
        let (plate, unseen) = match (&self.target, &sighting.plate) {
            (WatchTarget::Description, _) => (1.0, 0.0),
            (target, PlateState::Read(plate)) => (target.probability(&plate.lattice), 1.0),
            (_, PlateState::Unreadable | PlateState::NotRead) => (0.0, 1.0),
        };
        if plate > 0.0 { plate * self.vehicle.probability(sighting, unseen) } else { 0.0 }
    }
}

/// What a watch-list entry waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WatchTarget {
    /// One plate.
    Plate(PlateText),
    /// Every plate that matches.
    Pattern(PlatePattern),
    /// Every vehicle that looks as described, whatever its plate, read or not.
    Description,
}

impl WatchTarget {
    /// The probability that the plate behind the lattice is meant.
    pub fn probability(&self, lattice: &Lattice) -> f32 {
        match self {
            Self::Plate(text) => lattice.probability(text),
            Self::Pattern(pattern) => pattern.probability(lattice),
            Self::Description => 1.0,
        }
    }
}

impl std::fmt::Display for WatchTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plate(plate) => plate.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
            Self::Description => f.write_str("any plate"),
        }
    }
}

/// A sighting that matches a watch-list entry.
///
/// The log is append-only: a provisional alert is followed by a corrected, confirmed or withdrawn one with the same id
/// and a later cursor, and any of them by what was done about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Which sighting rang which entry.
    pub id: AlertId,
    /// Place in the alert log, rising from 1. 0 until the store has given it.
    pub cursor: u64,
    /// How sure it is, or what was done about it.
    pub stage: AlertStage,
    /// When it was raised.
    pub raised: Timestamp,
    /// The camera.
    pub camera: CameraId,
    /// Capture time of the sighting.
    pub captured: CaptureTime,
    /// The plate as read, kept beside what was asked for; `None` when a description rang and no plate was read.
    pub read: Option<PlateText>,
    /// What the entry watches for, as it stood then.
    pub target: WatchTarget,
    /// The case, as it stood then.
    pub case_number: String,
    /// The probability that the sighting is truly meant.
    pub probability: f32,
    /// The patrol units that it is for. An escalated alert is for those that are asked now, an acknowledged or withdrawn
    /// one for all that were told.
    pub units: Vec<PatrolUnitId>,
    /// Who deals with it, when it is acknowledged.
    pub acknowledgement: Option<Acknowledgement>,
    /// Which alert it repeats: the same plate, entry and camera shortly before or after.
    pub repeat: Option<Repeat>,
}

/// That an alert says nothing new about where the vehicle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// The confirmed alert that rang first.
    pub of: AlertId,
    /// The how-manieth repetition, from 1.
    pub number: u32,
}

impl Alert {
    /// The sighting that rang.
    pub fn sighting(&self) -> SightingId {
        self.id.sighting
    }
}

/// How sure an alert is, or what was done about it. Each stage is logged once at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertStage {
    /// From a provisional sighting: the vehicle is still in view.
    Provisional,
    /// The final sighting matches.
    Confirmed,
    /// It does not match after all: a later read says so, or the final sighting.
    Withdrawn,
    /// Somebody deals with it.
    Acknowledged,
    /// Nobody acknowledged it in time: the neighbouring units are asked.
    EscalatedToNeighbours,
    /// Neither did they: the control room is asked.
    EscalatedToControlRoom,
    /// It still matches, but the plate is read otherwise than the provisional alert said. Once at most: what is read
    /// otherwise once more, the confirmed alert says.
    Corrected,
}

impl AlertStage {
    /// Whether somebody may yet be told otherwise, since the vehicle is in view.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Provisional | Self::Corrected)
    }

    /// Whether it says how sure the alert is, and not what was done about it.
    pub fn is_finding(self) -> bool {
        matches!(self, Self::Provisional | Self::Corrected | Self::Confirmed | Self::Withdrawn)
    }
}
words!(
    AlertStage, "alert stage",
    Provisional => "provisional", Confirmed => "confirmed", Withdrawn => "withdrawn",
    Acknowledged => "acknowledged", EscalatedToNeighbours => "escalated_to_neighbours",
    EscalatedToControlRoom => "escalated_to_control_room", Corrected => "corrected",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_fits_its_neighbours_over_north_too() {
        for (point, course, fits) in [
            (CompassPoint::North, 0.0, true),
            (CompassPoint::North, 60.0, true),
            (CompassPoint::North, 300.0, true),
            (CompassPoint::North, 90.0, false),
            (CompassPoint::SouthWest, 225.0, true),
            (CompassPoint::SouthWest, 45.0, false),
            (CompassPoint::NorthWest, 20.0, true),
        ] {
            assert_eq!(point.fits(course), fits, "{point} {course}");
        }
    }

    #[test]
    fn hours_are_of_china_and_may_go_over_midnight() {
        let at = |hour: i64, minute: i64| Timestamp::from_secs((hour - 8) * 3600 + minute * 60);
        let day = DailyHours::new(7 * 60, 19 * 60).unwrap();
        let night = DailyHours::new(22 * 60 + 30, 5 * 60).unwrap();
        let whole = DailyHours::new(0, 1440).unwrap();
        for (hour, minute, by_day, by_night) in [
            (6, 59, false, false),
            (7, 0, true, false),
            (18, 59, true, false),
            (19, 0, false, false),
            (22, 30, false, true),
            (0, 0, false, true),
            (4, 59, false, true),
            (5, 0, false, false),
        ] {
            let at = at(hour, minute);
            assert_eq!(
                (day.contains(at), night.contains(at)),
                (by_day, by_night),
                "{hour}:{minute}"
            );
            assert!(whole.contains(at));
        }
        // 5 January 1970 was a Monday.
        let on = |day: i64, hour: i64| Timestamp::from_secs(((4 + day) * 24 + hour - 8) * 3600);
        let weekend = Weekdays::of([Weekday::Saturday, Weekday::Sunday]);
        let nights = DailyHours::new(22 * 60, 6 * 60).unwrap().on(weekend);
        let duties: Vec<_> = (0..8)
            .flat_map(|day| [(day, 3), (day, 23)])
            .filter(|(d, h)| nights.contains(on(*d, *h)))
            .collect();
        // The first is what is left of the Sunday before.
        assert_eq!(duties, [(0, 3), (5, 23), (6, 3), (6, 23), (7, 3)]);
        assert_eq!(Weekdays::of([]), Weekdays::ALL);
        assert_eq!(Weekdays::from_bits(weekend.bits()), Some(weekend));
        assert_eq!((Weekdays::from_bits(0), Weekdays::from_bits(0x80)), (None, None));
        for (from, until) in [(5, 5), (1440, 3), (0, 1441)] {
            assert!(DailyHours::new(from, until).is_err());
        }
    }
}
