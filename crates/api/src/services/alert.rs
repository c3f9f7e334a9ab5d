use std::sync::Arc;
use std::time::{Duration, Instant};

use guiji_domain::{Alert, InvalidValue, PatrolUnitId};
use tonic::{Request, async_trait};

use super::acknowledge::{check_unit, unit_of_request};
use super::forecast::Awaited;
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
        call.stream(
            begun.map(|following| move |core, sink| send_alerts(core, sink, reach, following)),
        )
        .await
    }

    async fn acknowledge_alert(
        &self,
        request: Request<pb::AcknowledgeAlertRequest>,
    ) -> Answer<pb::AcknowledgeAlertResponse> {
        let mut call = Call::new(&self.core, Method::AcknowledgeAlert, &request);
        let answer = self.acknowledge(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn list_deliveries(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> Answer<pb::ListDeliveriesResponse> {
        let mut call = Call::new(&self.core, Method::ListDeliveries, &request);
        let answer = self.list_deliveries(&mut call, request.into_inner()).await;
        call.end(answer).await
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

    /// What is to be sent.
    async fn begin_alerts(
        &self,
        call: &mut Call,
        request: pb::StreamAlertsRequest,
    ) -> Result<Following, Problem> {
        call.admit(CallKind::Stream, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let heartbeat = request
            .heartbeat_interval
            .as_ref()
            .and_then(|interval| wrong.take("heartbeat_interval", heartbeat(interval)));
        let unit = unit_of_request(&mut wrong, &request.patrol_unit);
        let Some(start) = request.start else {
            wrong.add("start", "is required: give after_cursor, from_now or from_beginning");
            return Err(wrong.done().err().unwrap_or(Problem::field("start", "is required")));
        };
        wrong.done()?;
        let whose =
            unit.as_ref().map_or_else(String::new, |unit| format!(" for patrolUnits/{unit}"));
        call.asks(match start {
            Start::AfterCursor(cursor) => format!("after {cursor}{whose}"),
            Start::FromNow(_) => format!("from now{whose}"),
            Start::FromBeginning(_) => format!("from the beginning{whose}"),
        });
        let wanted = unit.clone();
        let end = move |parts: &ApiParts| {
            if let Some(unit) = &wanted {
                check_unit(parts, unit)?;
            }
            Ok(parts.alerts.last_cursor()?)
        };
        let end = self.core.blocking("find the end of the alert log", end).await?;
        let cursor = match start {
            Start::AfterCursor(cursor) if cursor > end => {
                return Err(Problem::BeyondEnd { field: "after_cursor", end });
            }
            Start::AfterCursor(cursor) => cursor,
            Start::FromNow(_) => end,
            Start::FromBeginning(_) => 0,
        };
        Ok(Following { cursor, heartbeat, unit })
    }
}

/// What a stream sends.
struct Following {
    /// What comes after this place in the log.
    cursor: u64,
    /// A heartbeat whenever nothing else was sent for so long.
    heartbeat: Option<Duration>,
    /// Only what names this unit.
    unit: Option<PatrolUnitId>,
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
    following: Following,
) -> Result<(), StreamEnd> {
    use pb::stream_alerts_response::Event;
    const BATCH: usize = 64;
    let Following { mut cursor, heartbeat, unit } = following;
    let mut awaited = Awaited::default();
    core.passages.keep_learnt();
    let mut wake = core.parts.alert_wake.clone();
    sink.send(beat(&core, cursor), 0).await?;
    // From the last message, whatever else is logged meanwhile that is not for this client: its cursor must move on.
    let mut told = Instant::now();
    loop {
        // Seen before reading, so that what is logged while we read wakes us again.
        wake.borrow_and_update();
        let (after, reach, unit) = (cursor, reach.clone(), unit.clone());
        let (reading, waiting_for) = (Arc::clone(&core), std::mem::take(&mut awaited));
        let read = move |parts: &ApiParts| {
            let (view, mut awaited) = (reach.view(parts), waiting_for);
            let alerts = parts.alerts.alerts_after(after, BATCH)?;
            let last = alerts.last().map(|alert| alert.cursor);
            let concerns = |a: &&Alert| unit.as_ref().is_none_or(|unit| a.units.contains(unit));
            let seen = alerts.iter().filter(concerns);
            let seen = seen.filter(|alert| view.sees(&alert.camera, alert.captured.at));
            let mut events: Vec<_> = seen
                .map(|alert| {
                    let forecast = awaited.forecast(&reading, &view, alert);
                    Event::Alert(pb::Alert { forecast, ..alert_to_pb(alert) })
                })
                .collect();
            // Alerts first: what did not come can wait for what did.
            if last.is_none() {
                let redrawn = awaited.redraw(&reading, &view)?;
                events.extend(redrawn.into_iter().map(Event::Redrawn));
            }
            Ok((events, last, awaited))
        };
        let (events, last, left) = core.blocking("read the alert log", read).await?;
        awaited = left;
        for event in events {
            sink.send(pb::StreamAlertsResponse { event: Some(event) }, 1).await?;
            told = Instant::now();
        }
        cursor = last.unwrap_or(cursor);
        let silence = heartbeat.map(|interval| interval.saturating_sub(told.elapsed()));
        if silence == Some(Duration::ZERO) {
            sink.send(beat(&core, cursor), 0).await?;
            told = Instant::now();
        }
        if last.is_some() {
            continue;
        }
        tokio::select! {
            () = pause(awaited.due().map(|due| due.since(core.parts.clock.now()))) => {}
            changed = wake.changed() => changed.map_err(|_| Problem::Draining)?,
            // Read once more, then it beats.
            () = pause(silence) => {}
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
