//! Programs that this one starts beside itself, and ends.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use guiji_api::client::Client;
use guiji_domain::Authority;

/// A child that ends with its owner.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints is appended to the log.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("write {}", log.display()))?;
        let errors = file.try_clone().context("share the log")?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// `guiji run` with a configuration, as a program of its own.
    pub(crate) fn server(config: &Path, log: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        Self::start("guiji run", Command::new(program).args(["run", "--config"]).arg(config), log)
    }

    /// # Errors
    /// When it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) =
            self.child.try_wait().with_context(|| format!("look after {}", self.name))?
        {
            bail!("{} ended early ({status}): see {}", self.name, self.log.display());
        }
        Ok(())
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and insists after a while.
    pub(crate) fn stop(&mut self) {
        let pid = self.child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        let deadline = Instant::now() + Duration::from_secs(25);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kill();
    }

    /// Sends it a signal: `STOP`, `CONT`, `HUP`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .context("run kill")?;
        if !status.success() {
            bail!("{} did not take the signal {name} ({status})", self.name);
        }
        Ok(())
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

/// A client of a server that is being started.
pub(crate) async fn connect(
    api: SocketAddr,
    authority: &Authority,
    server: &mut Process,
) -> Result<Client> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Client::connect(&api.to_string(), authority).await {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("wait for the API");
            }
            Err(_) => server.check()?,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Ports that nobody uses right now.
pub(crate) fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    let bind = || TcpListener::bind("127.0.0.1:0").context("find a free port");
    let listeners = (0..N).map(|_| bind()).collect::<Result<Vec<_>>>()?;
    let mut ports = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().context("find a free port")?;
    }
    Ok(ports)
}

/// The beginning of a configuration for a server of our own: the API, a store beside the file, our models.
pub(crate) fn configuration(api: SocketAddr) -> String {
    let models = std::env::current_dir().unwrap_or_default().join("models");
    format!(
        "# Written by guiji.\n[server]\nlisten = \"{api}\"\n\n[store]\ndir = \"store\"\n\n[models]\nmanifest = {:?}\n\
         cache = {:?}\n",
        models.join("manifest.toml"),
        models.join(".cache"),
    )
}
