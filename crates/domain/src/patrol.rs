use crate::vehicle::words;
use crate::{
    CameraId, DailyHours, GeoArea, GeoPoint, InvalidValue, PatrolUnitId, StoreError, Timestamp,
};

/// Who goes out when a watched vehicle passes, or who sees to it that somebody does.
#[derive(Debug, Clone, PartialEq)]
pub struct PatrolUnit {
    /// Unique name.
    pub id: PatrolUnitId,
    /// For people: "East ring, night".
    pub name: String,
    /// What it is there for.
    pub duty: PatrolDuty,
    /// Cameras of its area, besides those that stand in [`Self::area`].
    pub cameras: Vec<CameraId>,
    /// Where its area lies. With neither cameras nor an area, it is everywhere.
    pub area: Option<GeoArea>,
    /// Its shifts; none means always.
    pub shifts: Vec<DailyHours>,
    /// Who is asked when it does not answer.
    pub neighbours: Vec<PatrolUnitId>,
}

/// What a unit is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatrolDuty {
    /// Told of alerts as they are raised.
    Patrol,
    /// Told of alerts that no patrol answered.
    ControlRoom,
}
words!(PatrolDuty, "duty", Patrol => "patrol", ControlRoom => "control_room");

impl PatrolUnit {
    /// Most units of a server.
    pub const COUNT_MAX: usize = 1000;
    /// Most cameras named by one unit.
    pub const CAMERAS_MAX: usize = 2000;
    /// Most shifts of a unit.
    pub const SHIFTS_MAX: usize = 10;
    /// Most neighbours of a unit.
    pub const NEIGHBOURS_MAX: usize = 20;

    /// # Errors
    /// When the name is blank or over-long, a list is over-long, or the unit is its own neighbour.
    pub fn checked(self) -> Result<Self, InvalidValue> {
        let blank = self.name.trim().is_empty();
        if blank || self.name.chars().count() > 200 || self.name.chars().any(char::is_control) {
            let fix = "is required: 1 to 200 printable characters";
            return Err(InvalidValue::new("unit name", &self.name, fix));
        }
        for (what, count, most) in [
            ("cameras", self.cameras.len(), Self::CAMERAS_MAX),
            ("shifts", self.shifts.len(), Self::SHIFTS_MAX),
            ("neighbours", self.neighbours.len(), Self::NEIGHBOURS_MAX),
        ] {
            if count > most {
                return Err(InvalidValue::new(what, count, format!("give at most {most}")));
            }
        }
        if self.neighbours.contains(&self.id) {
            let fix = "is its own neighbour: name other units, or none";
            return Err(InvalidValue::new("unit", &self.id, fix));
        }
        Ok(self)
    }

    /// Whether a camera is in its area. Of a camera whose place is not known, only its name counts.
    pub fn covers(&self, camera: &CameraId, place: Option<&GeoPoint>) -> bool {
        (self.cameras.is_empty() && self.area.is_none())
            || self.cameras.contains(camera)
            || self.area.zip(place).is_some_and(|(area, place)| area.contains(place))
    }

    /// Whether it is on duty.
    pub fn on_duty(&self, at: Timestamp) -> bool {
        self.shifts.is_empty() || self.shifts.iter().any(|shift| shift.contains(at))
    }
}

/// Somebody deals with an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Who.
    pub officer: String,
    /// For which unit.
    pub unit: Option<PatrolUnitId>,
    /// In words; may be empty.
    pub note: String,
}

/// Keeps patrol units.
pub trait PatrolUnits: Send + Sync {
    /// Enters or replaces. Durable when it returns.
    ///
    /// # Errors
    /// When the unit cannot be kept or the medium fails.
    fn put_unit(&self, unit: &PatrolUnit) -> Result<(), StoreError>;

    /// Removes; false when there was none. Alerts keep its name.
    ///
    /// # Errors
    /// When the medium fails.
    fn remove_unit(&self, id: &PatrolUnitId) -> Result<bool, StoreError>;

    /// All units, ordered by id.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn units(&self) -> Result<Vec<PatrolUnit>, StoreError>;
}
