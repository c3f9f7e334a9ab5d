use std::fmt;
use std::str::FromStr;

use guiji_domain::InvalidValue;

/// What somebody does, and so which calls they may make; the table is in `method.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Investigates: searches, follows vehicles, keeps the watch-list.
    Analyst,
    /// Acts on alerts: sees them, their sightings and pictures, and where cameras stand.
    Patrol,
    /// A program: brings cameras and sightings in, takes alerts out.
    Integrator,
    /// An analyst who may also see data older than 90 days.
    Supervisor,
    /// Keeps the cameras running. Sees no vehicles: who runs the system need not know who drove where.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Analyst, Self::Patrol, Self::Integrator, Self::Supervisor, Self::Admin];

    /// The role's name in tokens and in the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Analyst => "analyst",
            Self::Patrol => "patrol",
            Self::Integrator => "integrator",
            Self::Supervisor => "supervisor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            InvalidValue::new("role", text, format!("use one of {names}"))
        })
    }
}
