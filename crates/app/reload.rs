//! SIGHUP: the `[[camera]]` tables of the configuration are read again, and only what changed in them is touched.
//!
//! As at the start, the file wins over what was edited through the API for the cameras that it names; cameras that
//! were registered through the API alone stay. A file with anything wrong in it changes nothing.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use guiji_domain::{AuditDone, AuditEntry, AuditLog, Camera, CameraControl, CameraId, Clock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::config::Config;

/// What is to be done with one camera.
#[derive(Debug, PartialEq)]
enum Step {
    Add(Box<Camera>),
    Change(Box<Change>),
    Remove(CameraId),
}

#[derive(Debug, PartialEq)]
struct Change {
    before: Camera,
    after: Camera,
}

/// How the cameras that run become those that the file names now; `before` are those that it named until now.
fn plan(before: &[Camera], now: &[Camera], running: &[Camera]) -> Vec<Step> {
    let find = |cameras: &[Camera], id: &CameraId| cameras.iter().find(|c| c.id == *id).cloned();
    let gone = before.iter().filter(|old| find(now, &old.id).is_none());
    // Removed first: they make room for the new ones.
    let removed =
        gone.filter(|old| find(running, &old.id).is_some()).map(|old| Step::Remove(old.id.clone()));
    let kept = now.iter().filter_map(|camera| match find(running, &camera.id) {
        None => Some(Step::Add(Box::new(camera.clone()))),
        Some(known) if known == *camera => None,
        Some(before) => Some(Step::Change(Box::new(Change { before, after: camera.clone() }))),
    });
    removed.chain(kept).collect()
}

/// Keeps in the audit what the configuration does to the cameras.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Recorder {
    /// Notes what the file changes in the registry at the start.
    pub(crate) fn at_start(&self, registered: &[Camera], configured: &[Camera]) {
        for step in plan(&[], configured, registered) {
            self.record(&Told(&step).to_string(), "at the start", "Ok");
        }
    }

    fn record(&self, told: &str, when: &str, outcome: &str) {
        let entry = AuditEntry {
            at: self.clock.now(),
            // Whoever may write the file; no call has this name.
            method: "Configuration/Cameras".to_owned(),
            officer: "configuration".to_owned(),
            question: format!("{told}, {when}"),
            results: 1,
            outcome: outcome.to_owned(),
            ..AuditEntry::default()
        };
        let told = entry.clone();
        let done: AuditDone = Box::new(move |done| {
            if let Err(error) = done {
                error!(%error, entry = ?told, "the audit record of a change of cameras is only here");
            }
        });
        self.audit.submit(entry, done);
    }
}

fn apply(cameras: &dyn CameraControl, recorder: &Recorder, steps: Vec<Step>) {
    for step in steps {
        let told = format!("{}", Told(&step));
        let done = match step {
            Step::Add(camera) => cameras.register(*camera),
            Step::Change(change) => cameras.update(&change.before, change.after),
            Step::Remove(id) => cameras.remove(&id),
        };
        let outcome = done.as_ref().map_or_else(ToString::to_string, |()| "Ok".to_owned());
        recorder.record(&told, "read again", &outcome);
        match done {
            Ok(()) => info!("configuration read again: {told}"),
            Err(error) => error!(%error, "configuration read again: not {told}"),
        }
    }
}

/// What a step does, in words.
struct Told<'a>(&'a Step);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Step::Add(camera) => write!(f, "camera {} added: {}", camera.id, camera.address),
            Step::Change(change) => {
                let Change { before, after } = &**change;
                write!(f, "camera {} changed: {}", after.id, before.changes_to(after))
            }
            Step::Remove(id) => write!(f, "camera {id} removed"),
        }
    }
}

/// Hears the signal from now on, which would end the process otherwise.
///
/// # Errors
/// When the system does not let us.
pub(crate) fn listen() -> Result<Signal> {
    signal(SignalKind::hangup()).context("listen for SIGHUP")
}

/// Reads the file again at each signal, until stopped.
pub(crate) async fn follow(
    mut hangup: Signal,
    file: Option<PathBuf>,
    mut named: Vec<Camera>,
    (cameras, recorder): (Arc<dyn CameraControl>, Recorder),
    stopped: impl Future<Output = ()>,
) {
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            heard = hangup.recv() => if heard.is_none() { return },
        }
        let Some(file) = &file else {
            warn!("SIGHUP, but there is no configuration file to read again");
            continue;
        };
        let config = match Config::load(file) {
            Ok(config) => config,
            Err(error) => {
                error!("nothing is changed: {error:#}");
                continue;
            }
        };
        let running: Vec<_> = cameras.list().into_iter().map(|(camera, _)| camera).collect();
        let steps = plan(&named, &config.cameras, &running);
        info!(steps = steps.len(), "configuration read again; only its cameras take effect");
        named = config.cameras;
        let (cameras, recorder) = (cameras.clone(), recorder.clone());
        let applied = move || apply(&*cameras, &recorder, steps);
        if let Err(error) = tokio::task::spawn_blocking(applied).await {
            error!(%error, "the change of cameras failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn cameras(names: &[(&str, &str)]) -> Vec<Camera> {
        let table = |(id, path): &(&str, &str)| {
            format!(
                "[[camera]]\nid = {id:?}\nlat = 29.1\nlon = 121.4\naddress = \"rtsp://h/{path}\"\n"
            )
        };
        let text: String = names.iter().map(table).collect();
        Config::parse(&text, Path::new(".")).unwrap().cameras
    }

    #[test]
    fn only_what_changed_is_touched() {
        let before = cameras(&[("k1", "a"), ("k2", "a"), ("k3", "a")]);
        let mut running = before.clone();
        running.extend(cameras(&[("api", "x")]));
        assert_eq!(plan(&before, &before, &running), []);
        let now = cameras(&[("k1", "a"), ("k2", "b"), ("k4", "a")]);
        assert_eq!(
            plan(&before, &now, &running),
            [
                Step::Remove(before[2].id.clone()),
                Step::Change(Box::new(Change { before: before[1].clone(), after: now[1].clone() })),
                Step::Add(Box::new(now[2].clone())),
            ]
        );
        // Somebody removed it through the API before: there is nothing left to remove.
        assert_eq!(plan(&before[2..], &[], &running[..2]), []);
    }
}
