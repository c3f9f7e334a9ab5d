//! The same rows and the same questions for PostgreSQL 15.
//!
//! A cluster of its own in the temporary folder, with a partition a day and the indexes that the questions want. It is
//! spoken to by `psql`, one process for a whole session: questions are prepared statements, and their times are those
//! that `\timing` shows, from sending to the last row received. Rows come by `COPY` from files that are written before
//! the time is taken: nothing of making or parsing them on our side counts. It need not find out whether it has a
//! sighting already, which ours does.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use guiji_county::County;
use guiji_domain::{Camera, PlateState, PlateText, Sighting};

use super::questions::{self, Answers, Asked, LIKELY, PAGE, POINTS_MAX, Picker};
use super::store::{Parts, StoreFigures, per_s};

/// Where the packages of Debian and others put version 15.
const BIN_FOLDERS: [&str; 3] =
    ["/usr/lib/postgresql/15/bin", "/usr/pgsql-15/bin", "/usr/local/pgsql/bin"];
/// Who runs it when we are root, as whom it refuses to.
const USER: &str = "postgres";
/// As a machine of this size is set up; durable, as it comes.
const SETTINGS: [&str; 8] = [
    "listen_addresses=''",
    "shared_buffers=1GB",
    "effective_cache_size=8GB",
    "work_mem=64MB",
    "maintenance_work_mem=512MB",
    "max_wal_size=2GB",
    "random_page_cost=1.1",
    "jit=off",
];

/// A running cluster; stopped and removed when dropped.
pub(super) struct Server {
    bin: PathBuf,
    folder: PathBuf,
}

impl Server {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When PostgreSQL 15 is not installed or does not start; the message says which package to install.
    pub(super) fn start() -> Result<Self> {
        let bin =
            BIN_FOLDERS.map(PathBuf::from).into_iter().find(|bin| bin.join("initdb").is_file());
        let Some(bin) = bin else {
            bail!(
                "PostgreSQL 15 is not installed (looked in {}): install the packages `postgresql` and \
                 `postgresql-contrib`, or leave out --baseline",
                BIN_FOLDERS.join(", ")
            );
        };
        let folder =
            std::env::temp_dir().join(format!("guiji-bench-postgres-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.with_context(|| format!("make {}", folder.display()))?;
        let server = Self { bin, folder };
        if is_root() {
            let folder = &server.folder;
            succeed(Command::new("chown").arg(USER).arg(folder), "give the folder to postgres")?;
        }
        let data = server.folder.join("data");
        succeed(
            server
                .command("initdb")
                .args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
                .arg(&data),
            "make a cluster of PostgreSQL",
        )?;
        let mut options = format!("-k {}", server.folder.display());
        SETTINGS.iter().try_for_each(|setting| write!(options, " -c {setting}"))?;
        succeed(
            server
                .command("pg_ctl")
                .args(["-w", "-s", "-o", &options, "-l"])
                .arg(server.folder.join("log"))
                .arg("-D")
                .arg(&data)
                .arg("start"),
            "start PostgreSQL",
        )?;
        Ok(server)
    }

    /// A program of the installation, as the user who may run it.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", USER, "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.current_dir(&self.folder).env("LC_ALL", "C.UTF-8");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.join("data");
        if data.join("postmaster.pid").exists() {
            let mut stop = self.command("pg_ctl");
            stop.args(["-w", "-s", "-m", "immediate", "-D"]).arg(&data).arg("stop");
            if let Err(error) = succeed(&mut stop, "stop PostgreSQL") {
                tracing::warn!(%error, "a PostgreSQL is left running");
                return;
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "cannot remove a cluster of PostgreSQL");
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Runs a program to its end.
fn succeed(command: &mut Command, doing: &str) -> Result<()> {
    // Not by pipes: a server that is started holds on to them.
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .with_context(|| format!("{doing}: run {program}"))?;
    if !status.success() {
        bail!("{doing}: {program} ended with {status}");
    }
    Ok(())
}

/// One connection, held by a `psql`.
struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    errors: PathBuf,
}

impl Session {
    const END: &'static str = "-- end --";

    fn open(server: &Server, name: &str) -> Result<Self> {
        let errors = server.folder.join(format!("{name}.errors"));
        let mut child = Command::new(server.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER, "-h"])
            .arg(&server.folder)
            .arg("postgres")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .context("run psql")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.context("psql has no pipes")?;
        let mut session = Self { child, stdin, stdout: BufReader::new(stdout), errors };
        session.run("\\timing on\nSET client_min_messages = warning;")?;
        Ok(session)
    }

    /// Runs statements; how many rows they gave, and the time they took by `\timing`.
    fn run(&mut self, statements: &str) -> Result<(usize, Duration)> {
        let (rows, took) = self.rows(statements)?;
        Ok((rows.len(), took))
    }

    fn rows(&mut self, statements: &str) -> Result<(Vec<String>, Duration)> {
        // A failed write is told by what psql says.
        let end = Self::END;
        let written =
            writeln!(self.stdin, "{statements}\n\\echo '{end}'").and_then(|()| self.stdin.flush());
        let (mut rows, mut took) = (Vec::new(), Duration::ZERO);
        let mut line = String::new();
        loop {
            line.clear();
            if self.stdout.read_line(&mut line)? == 0 {
                let said = fs::read_to_string(&self.errors).unwrap_or_default();
                bail!("psql has ended: {said}{written:?}");
            }
            let text = line.trim_end_matches('\n');
            match text.strip_prefix("Time: ") {
                _ if text == Self::END => return Ok((rows, took)),
                Some(time) => {
                    let ms = time.split_once(' ').and_then(|(ms, _)| ms.parse::<f64>().ok());
                    took += Duration::from_secs_f64(ms.context("a time of psql")? / 1e3);
                }
                None => rows.push(text.to_owned()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It ends with its input, and with the server at the latest.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Times are nanoseconds, as ours. What a sighting has beyond the keys is in columns of its own, the lattice in a byte
/// a probability as ours.
const TABLES: &str = "
CREATE EXTENSION pg_trgm;
CREATE EXTENSION fuzzystrmatch;
CREATE TABLE plate (id int NOT NULL, text text NOT NULL);
CREATE TABLE camera (id int NOT NULL, name text NOT NULL);
CREATE TABLE sighting (
    id uuid NOT NULL, captured bigint NOT NULL, uncertainty int NOT NULL, first bigint NOT NULL, last bigint NOT NULL,
    camera int NOT NULL, plate int, frames int NOT NULL, reads int, confidence real, class_share real, colour_share real,
    course real, class smallint, colour smallint, heading smallint, kind smallint, lattice bytea
) PARTITION BY RANGE (captured);";

const INDEXES: &str = "
ALTER TABLE plate ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON plate (text text_pattern_ops);
CREATE INDEX ON plate USING gin (text gin_trgm_ops);
ALTER TABLE sighting ADD PRIMARY KEY (id, captured);
CREATE INDEX ON sighting (plate, captured);
CREATE INDEX ON sighting (camera, captured);";

/// Rendered rows, in files.
struct Loader {
    folder: PathBuf,
    plates: HashMap<PlateText, usize>,
    cameras: HashMap<String, usize>,
    lines: String,
    new_plates: String,
}

impl Loader {
    fn new(folder: &Path, cameras: &[Camera]) -> Self {
        let cameras = cameras.iter().zip(0..).map(|(camera, id)| (camera.id.to_string(), id));
        Self {
            folder: folder.to_owned(),
            plates: HashMap::new(),
            cameras: cameras.collect(),
            lines: String::new(),
            new_plates: String::new(),
        }
    }

    /// Writes rows to files and gives the statements that copy them.
    fn statements(&mut self, sightings: &[Sighting]) -> Result<String> {
        self.lines.clear();
        self.new_plates.clear();
        for sighting in sightings {
            self.render(sighting)?;
        }
        let plates = self.file("plates", &self.new_plates)?;
        let sightings = self.file("sightings", &self.lines)?;
        Ok(format!("COPY plate FROM '{plates}'; COPY sighting FROM '{sightings}';"))
    }

    fn file(&self, name: &str, lines: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, lines)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?; // another user reads it
        Ok(path.display().to_string())
    }

    fn render(&mut self, sighting: &Sighting) -> Result<()> {
        let null = || "\\N".to_owned();
        let camera = self.cameras.get(sighting.camera.as_str()).context("an unknown camera")?;
        let (mut plate, mut reads, mut confidence, mut kind, mut lattice) =
            (null(), null(), null(), null(), null());
        if let PlateState::Read(read) = &sighting.plate {
            let next = self.plates.len();
            let id = *self.plates.entry(read.text.clone()).or_insert_with(|| next);
            if id == next {
                writeln!(self.new_plates, "{id}\t{}", read.text)?;
            }
            plate = id.to_string();
            reads = read.reads.to_string();
            confidence = read.confidence.to_string();
            kind = read.kind.map_or_else(null, |kind| (kind as u8).to_string());
            lattice = "\\\\x".to_owned();
            for position in read.lattice.positions() {
                write!(lattice, "{:02x}", position.candidates().len())?;
                for candidate in position.candidates() {
                    let character = candidate.character.map_or(255, |c| c.index() as u8);
                    write!(
                        lattice,
                        "{character:02x}{:02x}",
                        (candidate.probability * 255.0) as u8
                    )?;
                }
            }
        }
        let share = |share: Option<f32>| share.map_or_else(null, |share| share.to_string());
        let code = |code: Option<u8>| code.map_or_else(null, |code| code.to_string());
        writeln!(
            self.lines,
            "{:032x}\t{}\t{}\t{}\t{}\t{camera}\t{plate}\t{}\t{reads}\t{confidence}\t{}\t{}\t{}\t{}\t{}\t{}\t{kind}\t{lattice}",
            sighting.id.as_u128(),
            sighting.captured.at.as_nanos(),
            sighting.captured.uncertainty.as_micros(),
            sighting.span.first().as_nanos(),
            sighting.span.last().as_nanos(),
            sighting.frames,
            share(sighting.vehicle.class.map(|(_, share)| share)),
            share(sighting.vehicle.colour.map(|(_, share)| share)),
            share(sighting.direction.and_then(|direction| direction.course_deg)),
            code(sighting.vehicle.class.map(|(class, _)| class as u8)),
            code(sighting.vehicle.colour.map(|(colour, _)| colour as u8)),
            code(sighting.direction.map(|direction| direction.heading as u8)),
        )?;
        Ok(())
    }
}

/// Loads and asks as `guiji bench store` does its own store.
pub(super) fn bench(server: &Server, county: &County) -> Result<StoreFigures> {
    let folder = server.folder.join("rows");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let mut session = Session::open(server, "session")?;
    session.run(TABLES)?;
    session.run(&partitions(county)?)?;
    let mut loader = Loader::new(&folder, county.cameras());
    for (name, id) in &loader.cameras {
        session.run(&format!("INSERT INTO camera VALUES ({id}, '{name}');"))?;
    }

    let mut parts = Parts::of(county);
    let (mut took, mut rows) = (Duration::ZERO, 0);
    session.run("BEGIN;")?;
    loop {
        let chunk = parts.over();
        if chunk.is_empty() {
            break;
        }
        let statements = loader.statements(&chunk)?;
        let begun = Instant::now();
        session.run(&statements)?;
        took += begun.elapsed();
        rows += chunk.len();
    }
    // Indexes are made when the rows are there, as its manual advises.
    let begun = Instant::now();
    session.run("COMMIT;")?;
    session.run(INDEXES)?;
    let import_per_s = per_s(rows, took + begun.elapsed());
    session.run("ANALYZE;")?;

    let (ingest_per_s, asked_meanwhile_per_s) =
        ingest(server, &mut session, &mut loader, &mut parts)?;
    session.run("VACUUM ANALYZE;")?;
    let (size, _) = session.rows(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class
         WHERE relkind = 'r' AND (relname IN ('plate', 'camera') OR relname LIKE 'sighting%');",
    )?;
    let bytes: f64 = size.first().context("no size")?.parse()?;
    let cameras = county.cameras();
    let asked = parts.asked();
    let ids = loader.cameras.clone();
    let total = county.settings().sightings;
    Ok(StoreFigures {
        rows: total,
        import_per_s,
        ingest_per_s,
        asked_meanwhile_per_s,
        answers: questions::ask(&mut Asking::new(session, cameras, ids)?, &asked)?,
        bytes_per_sighting: bytes / total as f64,
    })
}

/// A partition for each UTC day.
fn partitions(county: &County) -> Result<String> {
    const DAY: i64 = 86_400_000_000_000;
    let settings = county.settings();
    let first = i64::from(settings.start.utc_day());
    let mut statements = String::from("CREATE TABLE sighting_other PARTITION OF sighting DEFAULT;");
    for day in first..=first + i64::from(settings.days) {
        let (from, to) = (day * DAY, (day + 1) * DAY);
        writeln!(
            statements,
            "CREATE TABLE sighting_{day} PARTITION OF sighting FOR VALUES FROM ({from}) TO ({to});"
        )?;
    }
    Ok(statements)
}

/// The last day, a transaction a chunk, while another session asks.
fn ingest(
    server: &Server,
    session: &mut Session,
    loader: &mut Loader,
    parts: &mut Parts<'_>,
) -> Result<(f64, f64)> {
    let cameras = parts.cameras();
    let mut asking =
        Asking::new(Session::open(server, "asking")?, cameras, loader.cameras.clone())?;
    let (count, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut chunk = parts.live();
    let mut picker = Picker::of(chunk.len() as u64);
    chunk.iter().for_each(|sighting| picker.look(sighting));
    let asked = picker.asked();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> Result<()> {
            for asked in asked.iter().cycle() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                asking.trajectory(asked)?;
                asking.wildcard(asked)?;
                asking.area(asked)?;
                asking.fuzzy(asked)?;
                count.fetch_add(4, Ordering::SeqCst);
            }
            Ok(())
        });
        let mut load = || -> Result<(f64, f64)> {
            let (mut took, mut rows) = (Duration::ZERO, 0);
            let whole = Instant::now();
            while !chunk.is_empty() {
                let statements = loader.statements(&chunk)?;
                let begun = Instant::now();
                session.run(&format!("BEGIN; {statements} COMMIT;"))?;
                took += begun.elapsed();
                rows += chunk.len();
                chunk = parts.live();
            }
            let whole = whole.elapsed().as_secs_f64().max(1e-9);
            Ok((per_s(rows, took), count.load(Ordering::SeqCst) as f64 / whole))
        };
        let loaded = load();
        ended.store(true, Ordering::SeqCst);
        match thread.join() {
            Ok(asked) => asked.and(loaded),
            Err(_) => bail!("the thread that asks has panicked"),
        }
    })
}

struct Asking<'a> {
    session: Session,
    cameras: &'a [Camera],
    ids: HashMap<String, usize>,
}

impl<'a> Asking<'a> {
    fn new(
        mut session: Session,
        cameras: &'a [Camera],
        ids: HashMap<String, usize>,
    ) -> Result<Self> {
        // It cannot weigh lattices, and ranks by text; the threshold finds two wrong characters.
        session.run(&format!(
            "SET pg_trgm.similarity_threshold = 0.2;
             PREPARE trajectory(text) AS SELECT * FROM sighting
                 WHERE plate = (SELECT id FROM plate WHERE text = $1) ORDER BY captured, id LIMIT {POINTS_MAX};
             PREPARE wildcard(text) AS SELECT s.*, p.text FROM plate p JOIN sighting s ON s.plate = p.id
                 WHERE p.text LIKE $1 ORDER BY s.captured DESC, s.id DESC LIMIT {PAGE};
             PREPARE area(int[], bigint, bigint) AS SELECT * FROM sighting
                 WHERE camera = ANY ($1) AND captured BETWEEN $2 AND $3 ORDER BY captured, id LIMIT {PAGE};
             PREPARE fuzzy(text) AS SELECT s.*, p.text FROM plate p JOIN sighting s ON s.plate = p.id
                 WHERE p.text % $1 AND levenshtein_less_equal(p.text, $1, 2) <= 2
                 ORDER BY similarity(p.text, $1) DESC, s.captured DESC LIMIT {LIKELY};"
        ))?;
        Ok(Self { session, cameras, ids })
    }
}

impl Answers for Asking<'_> {
    fn trajectory_rows(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        self.session.run(&format!("EXECUTE trajectory('{}');", asked.plate))
    }

    fn wildcard(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        self.session.run(&format!(
            "EXECUTE wildcard('{}');",
            asked.pattern().replace('?', "_").replace('*', "%")
        ))
    }

    fn area(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        let (cameras, span) = asked.area(self.cameras)?;
        let ids = cameras.iter().filter_map(|camera| self.ids.get(camera.as_str()));
        let ids: Vec<_> = ids.map(ToString::to_string).collect();
        let (first, last) = (span.first().as_nanos(), span.last().as_nanos());
        self.session.run(&format!("EXECUTE area('{{{}}}', {first}, {last});", ids.join(",")))
    }

    fn fuzzy(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        self.session.run(&format!("EXECUTE fuzzy('{}');", asked.plate))
    }
}
