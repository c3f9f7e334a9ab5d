//! From one core's figures to a county's: plain multiplication, its assumptions written out.

use serde::Serialize;

/// Cameras of the county's own net, and with those of the communities.
const COUNTIES: [(usize, &str); 2] =
    [(1131, "the county's own cameras"), (8215, "with those of communities and shops")];

/// What of a core may be planned with: the rest is for busy hours, restarts and the system.
const USABLE: f64 = 0.7;
/// Cores of an ordinary rack server.
const CORES_A_SERVER: usize = 32;
/// Cameras send at this rate, Mb/s.
const MBIT_S: f64 = 4.0;

/// What a number of cameras needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Plan {
    cameras: usize,
    which: &'static str,
    cores: usize,
    servers: usize,
    memory_gb: f64,
    video_gbit_s: f64,
}

/// The plans and what they rest on.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Planned {
    /// None where no stream is borne.
    plans: Vec<Plan>,
    assumptions: Vec<String>,
}

/// Cores and servers for the two counties; nothing where no stream is borne.
pub(super) fn planned(streams_per_core: usize, rss_mb_per_stream: f64) -> Planned {
    let counties: &[(usize, &str)] = if streams_per_core == 0 { &[] } else { &COUNTIES[..] };
    let plans = counties
        .iter()
        .map(|(cameras, which)| {
            let cores = (*cameras as f64 / (streams_per_core as f64 * USABLE)).ceil() as usize;
            Plan {
                cameras: *cameras,
                which,
                cores,
                servers: cores.div_ceil(CORES_A_SERVER),
                memory_gb: *cameras as f64 * rss_mb_per_stream / 1024.0,
                video_gbit_s: *cameras as f64 * MBIT_S / 1000.0,
            }
        })
        .collect();
    let assumptions = [
        format!("all cameras as these clips (1080p25, {MBIT_S} Mb/s, this idle share) at once"),
        "cores like this one, and as many processes as cores, so that N cores bear N times as much"
            .to_owned(),
        format!(
            "{:.0} % of each core planned with, servers of {CORES_A_SERVER} cores, no failover",
            USABLE * 100.0
        ),
        format!(
            "memory shared by streams (models, caches) counted with every {streams_per_core} streams anew"
        ),
    ];
    Planned { plans, assumptions: assumptions.into() }
}

impl Planned {
    pub(super) fn text(&self) -> String {
        if self.plans.is_empty() {
            return "no plan: one core does not bear one stream of this load\n".into();
        }
        let mut text = String::from("plan:\n");
        for Plan { cameras, which, cores, servers, memory_gb, video_gbit_s } in &self.plans {
            text += &format!(
                "  {cameras} cameras ({which}): {cores} cores, {servers} servers of {CORES_A_SERVER} cores, \
                 {memory_gb:.0} GB of memory, {video_gbit_s:.1} Gb/s of video\n",
            );
        }
        text + "  assuming " + &self.assumptions.join(";\n  ") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_become_cores_and_servers() {
        let text = planned(40, 10.24).text();
        // 1131 / 28 = 40.4, 8215 / 28 = 293.4.
        assert!(text.contains("41 cores, 2 servers of 32 cores, 11 GB"), "{text}");
        assert!(text.contains("294 cores, 10 servers"), "{text}");
    }

    #[test]
    fn nothing_borne_is_no_plan() {
        assert!(planned(0, 1.0).text().starts_with("no plan"));
    }
}
