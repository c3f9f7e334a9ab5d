use std::sync::Arc;
use std::time::Duration;

use guiji_domain::{Alert, InvalidValue};
use tonic::{Request, async_trait};

use super::{Answer, Messages, Services};
use crate::ApiParts;
use crate::auth::{Method, Reach};
use crate::call::{Call, CallKind, Core, Sink, StreamEnd};
use crate::convert::{alert_to_pb, duration_from_pb, timestamp_to_pb};
use crate::error::Problem;
use crate::page_token::{PageScope, garbled_place};
use crate::pb;
use crate::pb::stream_alerts_request::Start;
use crate::violations::{Violations, page_size};

#[async_trait]
impl pb::alert_service_server::AlertService for Services {
    async fn list_alerts(
        &self,
        request: Request<pb::ListAlertsRequest>,
    ) -> Answer<pb::ListAlertsResponse> {
        let mut call = Call::new(&self.core, Method::ListAlerts, &request);
        let answer = self.list_alerts(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    type StreamAlertsStream = Messages<pb::StreamAlertsResponse>;

    async fn stream_alerts(
        &self,
        request: Request<pb::StreamAlertsRequest>,
    ) -> Answer<Self::StreamAlertsStream> {
        let mut call = Call::new(&self.core, Method::StreamAlerts, &request);
        let begun = self.begin_alerts(&mut call, request.into_inner()).await;
        let reach = call.reach();
        call.stream(begun.map(|(cursor, heartbeat)| {
            move |core, sink| send_alerts(core, sink, reach, cursor, heartbeat)
        }))
        .await
    }
}

impl Services {
    async fn list_alerts(
        &self,
        call: &mut Call,
        request: pb::ListAlertsRequest,
    ) -> Result<pb::ListAlertsResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let scope = PageScope::of("alerts", &request.after_cursor);
        let limit = wrong.take("page_size", page_size(request.page_size)).unwrap_or(1);
        let token = &request.page_token;
        let place = wrong.take("page_token", scope.open(token)).flatten();
        let cursor = place.and_then(|place| {
            let cursor = <[u8; 8]>::try_from(place).map(u64::from_be_bytes);
            wrong.take("page_token", cursor.map_err(|_| garbled_place(token)))
        });
        wrong.done()?;
        let cursor = cursor.unwrap_or(request.after_cursor);
        call.asks(format!("after {cursor}"));
        let reach = call.reach();
        // One more than asked for tells whether there is another page.
        let found = move |parts: &ApiParts| seen_alerts(parts, &reach, cursor, limit + 1);
        let mut alerts = self.core.blocking("list alerts", found).await?;
        let more = alerts.len() > limit;
        alerts.truncate(limit);
        call.found(alerts.len());
        let last = alerts.last().filter(|_| more);
        Ok(pb::ListAlertsResponse {
            next_page_token: last
                .map_or_else(String::new, |last| scope.seal(&last.cursor.to_be_bytes())),
            alerts: alerts.iter().map(alert_to_pb).collect(),
        })
    }

    /// The cursor to begin after, and how often to send a heartbeat.
    async fn begin_alerts(
        &self,
        call: &mut Call,
        request: pb::StreamAlertsRequest,
    ) -> Result<(u64, Option<Duration>), Problem> {
        call.admit(CallKind::Stream, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let heartbeat = request
            .heartbeat_interval
            .as_ref()
            .and_then(|interval| wrong.take("heartbeat_interval", heartbeat(interval)));
        let Some(start) = request.start else {
            wrong.add("start", "is required: give after_cursor, from_now or from_beginning");
            return Err(wrong.done().err().unwrap_or(Problem::field("start", "is required")));
        };
        wrong.done()?;
        call.asks(match start {
            Start::AfterCursor(cursor) => format!("after {cursor}"),
            Start::FromNow(_) => "from now".into(),
            Start::FromBeginning(_) => "from the beginning".into(),
        });
        let end = |parts: &ApiParts| Ok(parts.alerts.last_cursor()?);
        let end = self.core.blocking("find the end of the alert log", end).await?;
        match start {
            Start::AfterCursor(cursor) if cursor > end => {
                Err(Problem::BeyondEnd { field: "after_cursor", end })
            }
            Start::AfterCursor(cursor) => Ok((cursor, heartbeat)),
            Start::FromNow(_) => Ok((end, heartbeat)),
            Start::FromBeginning(_) => Ok((0, heartbeat)),
        }
    }
}

/// The first alerts after a cursor that may be seen; blocking.
fn seen_alerts(
    parts: &ApiParts,
    reach: &Reach,
    mut cursor: u64,
    limit: usize,
) -> Result<Vec<Alert>, Problem> {
    let view = reach.view(parts);
    let mut seen = Vec::new();
    loop {
        let batch = parts.alerts.alerts_after(cursor, limit)?;
        let ended = batch.len() < limit;
        cursor = batch.last().map_or(cursor, |last| last.cursor);
        seen.extend(batch.into_iter().filter(|a| view.sees(&a.camera, a.captured.at)));
        if ended || seen.len() >= limit {
            seen.truncate(limit);
            return Ok(seen);
        }
    }
}

fn heartbeat(interval: &prost_types::Duration) -> Result<Duration, InvalidValue> {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(300);
    let interval = duration_from_pb(interval)?;
    if (SHORTEST..=LONGEST).contains(&interval) {
        Ok(interval)
    } else {
        Err(InvalidValue::new("interval", format!("{interval:?}"), "use 1 s to 300 s"))
    }
}

/// Follows the log. The log is read only as fast as the client takes alerts: what waits, waits on disk.
async fn send_alerts(
    core: Arc<Core>,
    sink: Sink<pb::StreamAlertsResponse>,
    reach: Reach,
    mut cursor: u64,
    heartbeat: Option<Duration>,
) -> Result<(), StreamEnd> {
    use pb::stream_alerts_response::Event;
    const BATCH: usize = 64;
    let mut wake = core.parts.alert_wake.clone();
    sink.send(beat(&core, cursor), 0).await?;
    loop {
        // Seen before reading, so that what is logged while we read wakes us again.
        wake.borrow_and_update();
        let (after, reach) = (cursor, reach.clone());
        let read = move |parts: &ApiParts| {
            Ok((parts.alerts.alerts_after(after, BATCH)?, reach.view(parts)))
        };
        let (alerts, view) = core.blocking("read the alert log", read).await?;
        for alert in &alerts {
            if view.sees(&alert.camera, alert.captured.at) {
                let event = Some(Event::Alert(alert_to_pb(alert)));
                sink.send(pb::StreamAlertsResponse { event }, 1).await?;
            }
            cursor = alert.cursor;
        }
        if !alerts.is_empty() {
            continue;
        }
        tokio::select! {
            changed = wake.changed() => changed.map_err(|_| Problem::Draining)?,
            () = pause(heartbeat) => sink.send(beat(&core, cursor), 0).await?,
        }
    }
}

fn beat(core: &Core, cursor: u64) -> pb::StreamAlertsResponse {
    let server_time = Some(timestamp_to_pb(core.parts.clock.now()));
    let heartbeat = pb::Heartbeat { cursor, server_time };
    pb::StreamAlertsResponse {
        event: Some(pb::stream_alerts_response::Event::Heartbeat(heartbeat)),
    }
}

async fn pause(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}
