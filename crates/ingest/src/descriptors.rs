use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::IngestError;

/// Open files of one session: its connection, two sockets over UDP, and what GStreamer wakes itself with.
const PER_SESSION: u64 = 12;
/// What the rest of the process may need: store, API, clients, libraries.
const BESIDES: u64 = 512;

/// Makes room for this many cameras at once: raises the soft limit of open files to the hard one where it is too low.
///
/// # Errors
/// When the hard limit is too low, too; the error names the number that is needed.
pub fn make_room_for(sessions: usize) -> Result<(), IngestError> {
    let needed = (sessions as u64).saturating_mul(PER_SESSION).saturating_add(BESIDES);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let fits = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if fits(current) {
        return Ok(());
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_ok() && fits(maximum) {
        return Ok(());
    }
    Err(IngestError::TooFewFiles { sessions, needed, limit: maximum.unwrap_or(u64::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_are_refused_with_the_number_needed() {
        make_room_for(1).unwrap();
        let Some(hard) = getrlimit(Resource::Nofile).maximum else { return };
        make_room_for((hard.saturating_sub(BESIDES) / PER_SESSION) as usize).unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(hard));
        let error = make_room_for(hard as usize).unwrap_err().to_string();
        assert!(error.contains(&(hard * PER_SESSION + BESIDES).to_string()), "{error}");
    }
}
