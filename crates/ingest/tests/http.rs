//! HTTP: what GStreamer gives for nothing.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, and takes helpers for something else

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use common::*;
use guiji_domain::{Camera, CameraState, Pace, StatusReason};

/// Answers every request with this, one after another.
fn serve(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, answer) = (connection.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                drop(connection.write_all(&answer)); // the client may have gone
            });
        }
    });
    format!("http://{address}/stream.ts")
}

#[test]
fn mpeg_ts_is_played() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    make_clip(&path, 50, &format!("{H264} ! h264parse ! mpegtsmux"));
    let body = std::fs::read(path).unwrap();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    let sink = Recorder::new();
    let camera = Camera { pace: Pace::AsFastAsPossible, ..camera(&serve(answer)) };
    let _stream = open(&camera, &sink);
    sink.wait_status(CameraState::Ended, Some(StatusReason::EndOfStream));
    assert_eq!(sink.frames().len(), 50);
}

#[test]
fn refusals_have_names() {
    for (status, state, reason) in [
        ("401 Unauthorized", CameraState::Refused, StatusReason::NotAuthorised),
        ("403 Forbidden", CameraState::Refused, StatusReason::NotAuthorised),
        ("404 Not Found", CameraState::Misconfigured, StatusReason::NotFound),
        ("503 Service Unavailable", CameraState::Refused, StatusReason::Other),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let sink = Recorder::new();
        let login = credentials("operator", "pa55-word");
        let _stream = open(&Camera { credentials: login, ..camera(&serve(answer.into())) }, &sink);
        sink.wait("a failure", |it| it.statuses.iter().any(|s| s.retry_at.is_some()));
        let told = sink.statuses().into_iter().find(|it| it.retry_at.is_some()).unwrap();
        assert_eq!((told.state, told.reason), (state, Some(reason)), "{status}: {told:?}");
        assert!(
            !told.detail.contains("pa55-word") && !told.detail.contains("operator"),
            "{told:?}"
        );
    }
}

#[test]
fn nobody_there_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sink = Recorder::new();
    let _stream = open(&camera(&format!("http://127.0.0.1:{port}/x.ts")), &sink);
    sink.wait_status(CameraState::Connecting, Some(StatusReason::Unreachable));
}
