//! A camera down to the bytes: a small RTSP server that sends a recorded clip for ever, and lets a test spoil what it
//! sends, packet by packet. It is what a sound server of GStreamer cannot be: wrong.
#![allow(dead_code, unreachable_pub)] // each user needs its own part
#![allow(clippy::unwrap_used)] // test code, and clippy.toml does not know it

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;

/// Bytes of a packet's payload at most.
const PAYLOAD_MAX: usize = 1400;
/// Ticks of the RTP clock a second.
pub const CLOCK_RATE: u32 = 90_000;

/// An encoded clip: access units, each a list of NAL units.
pub struct Clip {
    pub h265: bool,
    pub fps: u32,
    pub units: Vec<Vec<Vec<u8>>>,
}

impl Clip {
    /// Encodes `seconds` of a moving picture.
    pub fn encode(encoder: &str, size: (u32, u32), fps: u32, seconds: u32) -> Arc<Self> {
        gst::init().unwrap();
        let h265 = encoder.starts_with("x265");
        let name = if h265 { "h265" } else { "h264" };
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers={} pattern=ball \
             ! video/x-raw,format=I420,width={},height={},framerate={fps}/1 ! {encoder} \
             ! {name}parse config-interval=-1 ! video/x-{name},stream-format=byte-stream,alignment=au \
             ! appsink name=units sync=false",
            fps * seconds,
            size.0,
            size.1
        ));
        let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("units").unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut units = Vec::new();
        while let Ok(sample) = sink.pull_sample() {
            let bytes = sample.buffer().unwrap().map_readable().unwrap();
            units.push(nal_units(&bytes));
        }
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(units.len(), (fps * seconds) as usize);
        Arc::new(Self { h265, fps, units })
    }
}

/// Splits a byte stream (Annex B) at its start codes.
fn nal_units(bytes: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<_> = (0..bytes.len().saturating_sub(3))
        .filter(|at| bytes[*at..].starts_with(&[0, 0, 1]))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let unit = &bytes[start + 3..end];
            let length = unit.iter().rposition(|it| *it != 0).map_or(0, |last| last + 1);
            unit[..length].to_vec()
        })
        .filter(|unit| !unit.is_empty())
        .collect()
}

/// The payloads of a NAL unit: itself, or fragments (RFC 6184, section 5.8; RFC 7798, section 4.4.3).
pub fn fragments(nal: &[u8], h265: bool) -> Vec<Vec<u8>> {
    if nal.len() <= PAYLOAD_MAX {
        return vec![nal.to_vec()];
    }
    let (kind, indicator, body) = if h265 {
        ((nal[0] >> 1) & 0x3f, vec![(nal[0] & 0x81) | (49 << 1), nal[1]], &nal[2..])
    } else {
        (nal[0] & 0x1f, vec![(nal[0] & 0xe0) | 28], &nal[1..])
    };
    let parts: Vec<_> = body.chunks(PAYLOAD_MAX - 3).collect();
    let fragment = |(number, part): (usize, &&[u8])| {
        let start = if number == 0 { 0x80 } else { 0 };
        let end = if number + 1 == parts.len() { 0x40 } else { 0 };
        [&indicator, &[start | end | kind][..], part].concat()
    };
    parts.iter().enumerate().map(fragment).collect()
}

/// What is about to be sent for one unit; a test may change all of it.
pub struct Sending {
    /// Number of the unit in this connection, from 0.
    pub number: usize,
    /// Number of the connection, from 0.
    pub connection: usize,
    pub payloads: Vec<Vec<u8>>,
    /// Which of them is lost on the way, though it has its sequence number.
    pub lost: Vec<bool>,
    /// RTP time stamp.
    pub ticks: u32,
    /// How often it is sent.
    pub times: usize,
    /// The connection is cut after this.
    pub hang_up: bool,
    /// Nothing is sent any more, and no request answered: the peer is gone without a word.
    pub vanish: bool,
}

pub type Mischief = dyn Fn(&mut Sending) + Send + Sync;

/// Serves until it is dropped.
pub struct Wire {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

struct Serving {
    clip: Arc<Clip>,
    mischief: Box<Mischief>,
    connections: Arc<AtomicUsize>,
}

impl Wire {
    pub fn sound(clip: &Arc<Clip>) -> Self {
        Self::start(0, clip, |_| {})
    }

    /// `port` 0 takes any.
    pub fn start(
        port: u16,
        clip: &Arc<Clip>,
        mischief: impl Fn(&mut Sending) + Send + Sync + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("wire")
            .enable_all()
            .build()
            .unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let serving = Arc::new(Serving {
            clip: Arc::clone(clip),
            mischief: Box::new(mischief),
            connections: Arc::clone(&connections),
        });
        let listener = runtime.block_on(async {
            loop {
                // The port of one just dropped may be busy for a moment.
                match TcpListener::bind(("127.0.0.1", port)).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let serving = Arc::clone(&serving);
                tokio::spawn(async move {
                    // A client that goes is no concern of ours.
                    drop(serving.serve(socket).await);
                });
            }
        });
        Self { port, connections, runtime: Some(runtime) }
    }

    pub fn address(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// Where packets go.
enum Way {
    Interleaved,
    Datagrams(UdpSocket, SocketAddr),
}

impl Serving {
    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        let peer = socket.peer_addr()?;
        let mut inbox = Vec::new();
        let mut way = Way::Interleaved;
        loop {
            let Some(request) = Request::next(&mut socket, &mut inbox).await? else {
                return Ok(());
            };
            let mut answer = Vec::new();
            let mut body = String::new();
            match request.method.as_str() {
                "DESCRIBE" => {
                    body = self.description();
                    answer.push("Content-Type: application/sdp".to_owned());
                }
                "SETUP" => {
                    let transport = request.headers.get("transport").cloned().unwrap_or_default();
                    if let Some(ports) = transport.split("client_port=").nth(1) {
                        let digits: String =
                            ports.chars().take_while(char::is_ascii_digit).collect();
                        let to = SocketAddr::new(peer.ip(), digits.parse().unwrap_or(9));
                        let from = UdpSocket::bind("127.0.0.1:0").await?;
                        let port = from.local_addr()?.port();
                        answer.push(format!(
                            "Transport: RTP/AVP;unicast;client_port={digits}-{};server_port={port}-{}",
                            to.port() + 1,
                            port.wrapping_add(1)
                        ));
                        way = Way::Datagrams(from, to);
                    } else {
                        answer.push("Transport: RTP/AVP/TCP;unicast;interleaved=0-1".to_owned());
                    }
                }
                _ => {}
            }
            answer.push(format!(
                "CSeq: {}",
                request.headers.get("cseq").cloned().unwrap_or_default()
            ));
            answer.push("Session: 17;timeout=60".to_owned());
            answer
                .push("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER".to_owned());
            answer.push(format!("Content-Length: {}", body.len()));
            let text = format!("RTSP/1.0 200 OK\r\n{}\r\n\r\n{body}", answer.join("\r\n"));
            socket.write_all(text.as_bytes()).await?;
            if request.method == "PLAY" {
                return self.play(socket, inbox, way).await;
            }
        }
    }

    fn description(&self) -> String {
        let name = if self.clip.h265 { "H265" } else { "H264" };
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=wire\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
             m=video 0 RTP/AVP 96\r\na=rtpmap:96 {name}/{CLOCK_RATE}\r\na=control:track1\r\n"
        )
    }

    async fn play(
        &self,
        mut socket: TcpStream,
        mut inbox: Vec<u8>,
        way: Way,
    ) -> std::io::Result<()> {
        let connection = self.connections.fetch_add(1, SeqCst);
        let clip = Arc::clone(&self.clip);
        let mut beat = tokio::time::interval(Duration::from_secs(1) / clip.fps);
        let mut sequence = 0u16;
        for number in 0.. {
            loop {
                tokio::select! {
                    _ = beat.tick() => break,
                    request = Request::next(&mut socket, &mut inbox) => {
                        let Some(request) = request? else { return Ok(()) };
                        let cseq = request.headers.get("cseq").cloned().unwrap_or_default();
                        let text = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: 17\r\n\r\n");
                        socket.write_all(text.as_bytes()).await?;
                        if request.method == "TEARDOWN" {
                            return Ok(());
                        }
                    }
                }
            }
            let unit = &clip.units[number % clip.units.len()];
            let payloads: Vec<_> = unit.iter().flat_map(|nal| fragments(nal, clip.h265)).collect();
            let mut sending = Sending {
                number,
                connection,
                lost: vec![false; payloads.len()],
                payloads,
                ticks: (number as u32).wrapping_mul(CLOCK_RATE / clip.fps),
                times: 1,
                hang_up: false,
                vanish: false,
            };
            (self.mischief)(&mut sending);
            if sending.vanish {
                std::future::pending::<()>().await;
            }
            for _ in 0..sending.times {
                send(&mut socket, &way, &sending, &mut sequence).await?;
            }
            if sending.hang_up {
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn send(
    socket: &mut TcpStream,
    way: &Way,
    sending: &Sending,
    sequence: &mut u16,
) -> std::io::Result<()> {
    let mut stream = Vec::new();
    let last = sending.payloads.len().saturating_sub(1);
    for (number, payload) in sending.payloads.iter().enumerate() {
        let marker = if number == last { 0x80 } else { 0 };
        let mut packet = vec![0x80, 96 | marker];
        packet.extend(sequence.to_be_bytes());
        packet.extend(sending.ticks.to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        packet.extend(payload);
        *sequence = sequence.wrapping_add(1);
        if sending.lost.get(number).copied().unwrap_or(false) {
            continue;
        }
        match way {
            Way::Interleaved => {
                stream.extend([b'$', 0]);
                stream.extend((packet.len() as u16).to_be_bytes());
                stream.extend(packet);
            }
            Way::Datagrams(from, to) => drop(from.send_to(&packet, to).await),
        }
    }
    socket.write_all(&stream).await
}

struct Request {
    method: String,
    headers: HashMap<String, String>,
}

impl Request {
    /// The next request, without body; interleaved reports of the client are passed over. None at the end. May be
    /// cancelled: what came stays in `inbox`.
    async fn next(socket: &mut TcpStream, inbox: &mut Vec<u8>) -> std::io::Result<Option<Self>> {
        loop {
            while inbox.first() == Some(&b'$') && inbox.len() >= 4 {
                let length = 4 + usize::from(u16::from_be_bytes([inbox[2], inbox[3]]));
                if inbox.len() < length {
                    break;
                }
                inbox.drain(..length);
            }
            if inbox.first() != Some(&b'$')
                && let Some(end) = inbox.windows(4).position(|it| it == b"\r\n\r\n")
            {
                let text = String::from_utf8_lossy(&inbox[..end]).into_owned();
                inbox.drain(..end + 4);
                let mut lines = text.lines();
                let method = lines.next().and_then(|it| it.split(' ').next()).unwrap_or_default();
                let headers = lines.filter_map(|line| line.split_once(": "));
                let headers = headers.map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()));
                return Ok(Some(Self { method: method.to_owned(), headers: headers.collect() }));
            }
            if socket.read_buf(inbox).await? == 0 {
                return Ok(None);
            }
        }
    }
}
