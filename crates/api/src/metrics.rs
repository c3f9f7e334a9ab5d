use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Scrapers answered at the same time; more wait in the listener's backlog.
const SCRAPERS_MAX: usize = 4;
/// Time for a scraper to ask and to take the answer.
const SCRAPE_MAX: Duration = Duration::from_secs(5);
/// Longest request head, bytes.
const HEAD_BYTES_MAX: usize = 8192;

/// Serves `GET /metrics` over HTTP/1.1 until `shutdown` completes. `render` writes the page in Prometheus' text format
/// and is called on a blocking thread, once a request. Check the address with [`crate::listen_address_allowed`] first.
pub async fn serve_metrics(
    listener: TcpListener,
    render: impl Fn() -> String + Send + Sync + 'static,
    shutdown: impl Future<Output = ()> + Send,
) {
    let render: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(render);
    let places = Arc::new(Semaphore::new(SCRAPERS_MAX));
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, connection) = tokio::select! {
            () = &mut shutdown => return,
            accepted = accepted => accepted,
        };
        match connection {
            Ok((stream, _)) => {
                let render = Arc::clone(&render);
                tokio::spawn(async move {
                    let _place = place;
                    match tokio::time::timeout(SCRAPE_MAX, answer(stream, render)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%error, "metrics were not delivered"),
                        Err(_) => debug!("a scraper took too long"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "metrics connection was not accepted");
                // Out of file handles, most likely: give others time to close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(
    mut stream: TcpStream,
    render: Arc<dyn Fn() -> String + Send + Sync>,
) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let mut words = head.split(|b| *b == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split(|b| *b == b'?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        (b"GET", b"/metrics") => match tokio::task::spawn_blocking(move || render()).await {
            Ok(page) => ("200 OK", page),
            Err(error) => {
                warn!(%error, "rendering metrics panicked");
                ("500 Internal Server Error", "rendering panicked: see the log\n".to_owned())
            }
        },
        (b"GET", _) => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET is answered\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// The request up to its empty line, cut at [`HEAD_BYTES_MAX`]. A body, which no GET has, is not read.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut chunk = [0; 512];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            break;
        }
        head.extend(chunk.iter().take(read));
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn scrapers_get_the_page_and_others_are_told_where_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve_metrics(listener, || "up 1\n".into(), async {
            stopped.await.unwrap_or_default();
        }));
        for (request, status, body) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "up 1\n"),
            ("GET /metrics?x=1 HTTP/1.1\r\n\r\n", "200 OK", "up 1\n"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found", "metrics are at /metrics\n"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "only GET is answered\n"),
        ] {
            let answer = ask(address, request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        }
        stop.send(()).unwrap();
        served.await.unwrap();
    }
}
