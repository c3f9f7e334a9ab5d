//! From one core's figures to a county's: plain multiplication, its assumptions written out.

/// Cameras of the county's own net, and with those of the communities.
const COUNTIES: [(usize, &str); 2] =
    [(1131, "the county's own cameras"), (8215, "with those of communities and shops")];

/// What of a core may be planned with: the rest is for busy hours, restarts and the system.
const USABLE: f64 = 0.7;
/// Cores of an ordinary rack server.
const CORES_A_SERVER: usize = 32;
/// Cameras send at this rate, Mb/s.
const MBIT_S: f64 = 4.0;

/// Cores and servers for the two counties; nothing where no stream is borne.
pub(super) fn text(streams_per_core: usize, rss_mb_per_stream: f64) -> String {
    if streams_per_core == 0 {
        return "no plan: one core does not bear one stream of this load\n".into();
    }
    let mut text = String::from("plan:\n");
    for (cameras, which) in COUNTIES {
        let cores = (cameras as f64 / (streams_per_core as f64 * USABLE)).ceil() as usize;
        text += &format!(
            "  {cameras} cameras ({which}): {cores} cores, {} servers of {CORES_A_SERVER} cores, {:.0} GB of memory, \
             {:.1} Gb/s of video\n",
            cores.div_ceil(CORES_A_SERVER),
            cameras as f64 * rss_mb_per_stream / 1024.0,
            cameras as f64 * MBIT_S / 1000.0,
        );
    }
    text + &format!(
        "  assuming: all cameras as these clips (1080p25, {MBIT_S} Mb/s, this idle share) at once; cores like this one, \
         and as many\n  processes as cores, so that N cores bear N times as much; {:.0} % of each core planned with; no \
         failover. Memory\n  shared by streams (models, caches) is counted with every {streams_per_core} streams anew.\n",
        USABLE * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_become_cores_and_servers() {
        let text = text(40, 10.24);
        // 1131 / 28 = 40.4, 8215 / 28 = 293.4.
        assert!(text.contains("41 cores, 2 servers of 32 cores, 11 GB"), "{text}");
        assert!(text.contains("294 cores, 10 servers"), "{text}");
    }

    #[test]
    fn nothing_borne_is_no_plan() {
        assert!(text(0, 1.0).starts_with("no plan"));
    }
}
