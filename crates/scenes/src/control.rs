//! The `serve` command: a server, and a person or a test that steers it by lines of text.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use guiji_domain::{CameraId, Clock, Timestamp};
use guiji_scenes::{AtEnd, Fault, SceneServer, ServeOptions, ServedClip, StartRule, StoryTruth};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// A composed story's folder
    #[arg(long, required_unless_present = "clip")]
    dir: Option<PathBuf>,
    /// A video file, served under its name without the ending; may be repeated
    #[arg(long)]
    clip: Vec<PathBuf>,
    /// Port on 127.0.0.1; 0 takes a free one, which is printed
    #[arg(long, default_value_t = 8554)]
    port: u16,
    /// Start the story when so many cameras are watched
    #[arg(long, default_value_t = 1)]
    start_when_clients: usize,
    /// Start so many seconds after the first client at the latest
    #[arg(long, default_value_t = 20.0)]
    patience: f64,
    /// Start now, clients or not
    #[arg(long, conflicts_with = "start_when_clients")]
    start_now: bool,
    /// Begin again at the end
    #[arg(long = "loop")]
    again: bool,
    /// End the program when every clip has ended
    #[arg(long, conflicts_with = "again")]
    exit_at_end: bool,
    /// Ask clients for this user name
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// And this password
    #[arg(long, env = "GUIJI_SCENES_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // a program of its own: here its time enters
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Timestamp::EPOCH.plus(since)
    }
}

/// Serves until told to quit. Prints one line for each event: `serving URL`, `started NANOSECONDS`, `ended`.
pub(crate) fn serve(args: &ServeArgs) -> Result<()> {
    let mut story = None;
    let mut clips = Vec::new();
    if let Some(folder) = &args.dir {
        let truth = StoryTruth::load(folder).context("load the story; compose it first")?;
        for camera in &truth.cameras {
            clips.push(ServedClip {
                id: CameraId::new(&camera.id)?,
                file: folder.join(&camera.clip),
            });
        }
        // What an earlier serving left would be taken for this one's start.
        let truth = StoryTruth { started_ns: None, ..truth };
        truth.save(folder)?;
        story = Some((folder, truth));
    }
    for file in &args.clip {
        let name = file.file_stem().and_then(|n| n.to_str()).context("name of the clip")?;
        clips.push(ServedClip { id: CameraId::new(name)?, file: file.clone() });
    }
    let options = ServeOptions {
        port: args.port,
        start: if args.start_now {
            StartRule::AtOnce
        } else {
            StartRule::Watched {
                cameras: args.start_when_clients.max(1),
                patience: Duration::try_from_secs_f64(args.patience).context("read --patience")?,
            }
        },
        at_end: if args.again { AtEnd::Loop } else { AtEnd::Silence },
        login: args.user.clone().zip(args.password.clone()),
    };
    let ids: Vec<_> = clips.iter().map(|c| c.id.clone()).collect();
    let server = SceneServer::start(clips, &options, Arc::new(SystemClock))?;
    for id in &ids {
        println!("serving {}", server.url(id));
    }
    let (lines, input) = sync_channel::<String>(16);
    // Blocked on standard input, it ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let mut is_started = false;
    loop {
        match input.recv_timeout(Duration::from_millis(100)) {
            Ok(line) if line.trim() == "quit" => return Ok(()),
            Ok(line) => {
                if let Err(error) = obey(&server, &line) {
                    eprintln!("{error:#}");
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // No one steers: a service in the background.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(100)),
        }
        if let Some(started) = server.started().filter(|_| !is_started) {
            is_started = true;
            if let Some((folder, truth)) = &mut story {
                truth.started_ns = Some(started.as_nanos());
                truth.save(folder)?;
            }
            println!("started {}", started.as_nanos());
        }
        if args.exit_at_end && server.has_ended() {
            println!("ended");
            return Ok(());
        }
    }
}

fn obey(server: &SceneServer, line: &str) -> Result<()> {
    let Some((word, id)) = line.trim().split_once(' ') else {
        bail!("say: down ID, freeze ID, up ID or quit");
    };
    let fault = match word {
        "down" => Fault::Down,
        "freeze" => Fault::Frozen,
        "up" => Fault::None,
        _ => bail!("{word}: say down, freeze, up or quit"),
    };
    if !server.set_fault(&CameraId::new(id.trim())?, fault) {
        bail!("no camera is called {id}");
    }
    Ok(())
}
