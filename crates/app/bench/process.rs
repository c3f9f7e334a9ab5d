//! What Linux tells of a process: CPU time by thread, memory, number of threads and of open files.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Clock ticks a second in /proc: 100 on every architecture Linux runs on today (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

/// A look at a process.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// CPU seconds by thread: id and name.
    cpu_s: BTreeMap<(u32, String), f64>,
    /// CPU seconds of the whole process, threads that have ended included.
    total_s: f64,
    pub(super) threads: usize,
    pub(super) rss_mb: f64,
    pub(super) files: usize,
}

impl Look {
    pub(super) fn at(pid: u32) -> Result<Self> {
        let read = |path: String| {
            fs::read_to_string(&path).with_context(|| format!("read {path}: is the server gone?"))
        };
        let (_, total_s) = parse_stat(&read(format!("/proc/{pid}/stat"))?).unwrap_or_default();
        let mut look = Self { total_s, ..Self::default() };
        let folder = format!("/proc/{pid}/task");
        for entry in fs::read_dir(&folder).with_context(|| format!("read {folder}"))?.flatten() {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let id = entry.file_name().to_string_lossy().parse().unwrap_or(0);
            if let Some((name, cpu_s)) = parse_stat(&text) {
                look.cpu_s.insert((id, name), cpu_s);
            }
        }
        look.threads = look.cpu_s.len();
        let files = format!("/proc/{pid}/fd");
        look.files = fs::read_dir(&files).with_context(|| format!("read {files}"))?.count();
        look.rss_mb = rss_mb(&read(format!("/proc/{pid}/status"))?).unwrap_or(0.0);
        Ok(look)
    }
}

/// Name and CPU seconds out of a `stat` line. The name stands in brackets and may itself hold brackets and blanks.
fn parse_stat(text: &str) -> Option<(String, f64)> {
    let (head, rest) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((name.to_owned(), (user + system) / TICKS_PER_S))
}

fn rss_mb(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kb| kb / 1024.0)
}

/// CPU seconds between two looks, by what threads do.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ByThread {
    /// RTSP sessions and their supervisors.
    pub(super) receive: f64,
    /// The decode pool, and what GStreamer's receivers do from the jitter buffer on: decoding, looking, scaling.
    pub(super) stream: f64,
    /// Detection, tracking, reading.
    pub(super) perception: f64,
    /// The store and its writers.
    pub(super) store: f64,
    /// All else, threads that have ended in between included.
    pub(super) other: f64,
}

impl ByThread {
    pub(super) fn between(before: &Look, after: &Look) -> Self {
        let mut sums = Self::default();
        for ((id, name), cpu) in &after.cpu_s {
            let earlier = before.cpu_s.get(&(*id, name.clone())).copied().unwrap_or(0.0);
            *sums.of(name) += (cpu - earlier).max(0.0);
        }
        let total = after.total_s - before.total_s;
        sums.other += (total - sums.total()).max(0.0);
        sums
    }

    pub(super) fn total(&self) -> f64 {
        self.receive + self.stream + self.perception + self.store + self.other
    }

    fn of(&mut self, name: &str) -> &mut f64 {
        let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
        if begins(&["guiji-decode", "rtpjitter", "queue"]) {
            &mut self.stream
        } else if begins(&["rtspsrc", "guiji-camera", "udpsrc", "rtpsession", "pool-", "task"]) {
            &mut self.receive
        } else if begins(&["perception"]) {
            &mut self.perception
        } else if begins(&["recorder", "guiji-segment", "audit", "store"]) {
            &mut self.store
        } else {
            &mut self.other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let line = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0";
        assert_eq!(parse_stat(line), Some(("a (b) c".to_owned(), 3.0)));
        assert_eq!(parse_stat("nonsense"), None);
        assert_eq!(rss_mb("VmPeak: 1 kB\nVmRSS:\t  2048 kB\n"), Some(2.0));
    }

    #[test]
    fn time_is_split_by_what_threads_do() {
        let look = |entries: &[(u32, &str, f64)], total_s| Look {
            cpu_s: entries.iter().map(|(id, name, s)| ((*id, (*name).to_owned()), *s)).collect(),
            total_s,
            ..Look::default()
        };
        let before = look(&[(1, "guiji", 1.0), (2, "perception-0", 5.0)], 6.0);
        let after = look(
            &[
                (1, "guiji", 1.5),
                (2, "perception-0", 7.0),
                (3, "guiji-decode-0", 4.0),
                (4, "guiji-cameras", 0.25),
                (5, "recorder", 0.5),
            ],
            // A thread that has ended took the remaining second.
            14.25,
        );
        let split = ByThread::between(&before, &after);
        let right =
            ByThread { receive: 0.25, stream: 4.0, perception: 2.0, store: 0.5, other: 1.5 };
        assert_eq!(split, right);
        assert_eq!(split.total(), 8.25);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let look = Look::at(std::process::id()).unwrap();
        assert!(look.threads >= 1 && look.rss_mb > 0.0 && look.files >= 3);
        assert!(Look::at(u32::MAX).is_err());
    }
}
