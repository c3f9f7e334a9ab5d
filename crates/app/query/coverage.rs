//! `guiji query coverage`: what a camera could see.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use guiji_api::client::Client;
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_domain::{Clock as _, CoverageState};

use super::{Window, found, json_line, line, pb_time, word};
use crate::clock::SystemClock;

/// Arguments of `guiji query coverage`. Without times: the last day.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// The camera.
    camera: String,
    #[command(flatten)]
    window: Window,
}

impl Asked {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<ExitCode> {
        let [start, end] = self.window.ends()?;
        let end = end.unwrap_or_else(|| SystemClock.now());
        let start = start.unwrap_or_else(|| end.minus(Duration::from_secs(86_400)));
        let mut request = pb::ListCoverageRequest {
            camera: format!("cameras/{}", self.camera),
            start_time: Some(timestamp_to_pb(start)),
            end_time: Some(timestamp_to_pb(end)),
            page_size: 1000,
            ..Default::default()
        };
        let mut any = false;
        loop {
            let page = client.coverage(request.clone()).await?;
            any |= !page.coverage.is_empty();
            for interval in &page.coverage {
                if json { json_line(interval)? } else { line(row(interval))? }
            }
            if page.next_page_token.is_empty() {
                if !json {
                    line(format!(
                        "seeing {:.1} %, blind {:.1} %, unknown {:.1} %",
                        100.0 * page.seeing_ratio,
                        100.0 * page.blind_ratio,
                        100.0 * page.unknown_ratio
                    ))?;
                }
                return Ok(found(any));
            }
            request.page_token = page.next_page_token;
        }
    }
}

fn row(interval: &pb::Coverage) -> String {
    let time = |time: &Option<pb::Timestamp>| time.as_ref().map(pb_time).unwrap_or_default();
    let state = word::<CoverageState>(interval.state);
    let (start, end) = (time(&interval.start_time), time(&interval.end_time));
    format!("{start}  {end}  {state:<8}  {}", interval.cause)
}
