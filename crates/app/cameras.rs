//! `guiji cameras`: the register of cameras as a table, in and out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_api::client::Client;
use guiji_api::convert::Word as _;
use guiji_api::pb;
use guiji_domain::{
    CameraId, DecodePolicy, GeoPoint, OnvifAddress, SiteId, StreamAddress, Transport,
};

use crate::query::{Connection, bare, found, json_line, line, word};

/// Arguments of `guiji cameras`.
#[derive(Debug, Args)]
pub(crate) struct CamerasArguments {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: CamerasCommand,
}

#[derive(Debug, Subcommand)]
enum CamerasCommand {
    /// The cameras and how they are.
    List,
    /// Register the cameras of a CSV file: all of them, or with anything wrong none.
    ///
    /// Columns, of which id, lat, lon and address are required: id, site (as id), name (as id), lat, lon, bearing
    /// (degrees), lanes, address, substream, onvif, policy (full, keyframe-only, ...), transport (tcp, udp), enabled
    /// (yes, no). Cameras that are registered alike already are passed over.
    Import {
        /// The file; its first line names the columns.
        file: PathBuf,
        /// Only check.
        #[arg(long)]
        check: bool,
        /// Register those that are right, even when others are wrong.
        #[arg(long)]
        keep_good: bool,
        /// The user name of all these cameras.
        #[arg(long, requires = "password_file")]
        username: Option<String>,
        /// The file that has their password.
        #[arg(long, requires = "username", value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Open a closed camera for a while; it closes by itself.
    Open {
        /// The camera's id.
        id: String,
        /// For how long from now.
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=720))]
        minutes: u64,
    },
    /// Print the register as the CSV that `import` reads, without user names and passwords.
    Export,
}

/// Cameras of a call: an answer tells of no more refusals.
const BATCH: usize = 500;

/// Runs the command.
pub(crate) fn run(arguments: CamerasArguments) -> Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(act(arguments))
}

async fn act(arguments: CamerasArguments) -> Result<ExitCode> {
    let client = arguments.connection.open().await?;
    match arguments.command {
        CamerasCommand::List => list(&client, arguments.json).await,
        CamerasCommand::Open { id, minutes } => {
            let period = Duration::from_secs(minutes * 60);
            let camera = client.open_camera(&format!("cameras/{id}"), period).await?;
            if arguments.json {
                json_line(&camera)?
            } else {
                line(crate::watch::camera_row(&camera))?
            }
            Ok(ExitCode::SUCCESS)
        }
        CamerasCommand::Export => {
            let cameras = client.cameras().await?;
            line(export(&cameras)?.trim_end())?;
            Ok(found(!cameras.is_empty()))
        }
        CamerasCommand::Import { file, check, keep_good, username, password_file } => {
            let login = username.zip(password_file).map(login).transpose()?;
            let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let (cameras, wrong) = parse(&text).with_context(|| file.display().to_string())?;
            let given =
                |(line, camera)| (line, pb::Camera { credentials: login.clone(), ..camera });
            let cameras: Vec<_> = cameras.into_iter().map(given).collect();
            import(&client, &file, (cameras, wrong), check, keep_good).await
        }
    }
}

fn login((username, file): (String, PathBuf)) -> Result<pb::Credentials> {
    let password = std::fs::read_to_string(&file)
        .with_context(|| format!("read the password file {}", file.display()))?;
    Ok(pb::Credentials { username, password: password.trim_end_matches(['\r', '\n']).to_owned() })
}

pub(crate) async fn list(client: &Client, json: bool) -> Result<ExitCode> {
    let cameras = client.cameras().await?;
    for camera in &cameras {
        if json { json_line(camera)? } else { line(crate::watch::camera_row(camera))? }
    }
    Ok(found(!cameras.is_empty()))
}

/// Asks whether all may be registered, and registers them when they may.
async fn import(
    client: &Client,
    file: &Path,
    (cameras, mut wrong): (Vec<Numbered>, Vec<String>),
    check: bool,
    keep_good: bool,
) -> Result<ExitCode> {
    let (would, present, refused) = send(client, &cameras, true).await?;
    wrong.extend(refused);
    let taken = !check && (wrong.is_empty() || keep_good);
    let registered = if taken {
        let (registered, _, refused) = send(client, &cameras, false).await?;
        // Told before, unless somebody registered another of that name in between.
        wrong
            .extend(refused.into_iter().filter(|error| !wrong.contains(error)).collect::<Vec<_>>());
        registered
    } else {
        would
    };
    let verb = if taken { "registered" } else { "would be registered" };
    line(format!("{registered} {verb}, {present} there already, {} errors", wrong.len()))?;
    wrong.iter().for_each(|error| eprintln!("{}: {error}", file.display()));
    if !(taken || check) {
        eprintln!("nothing is registered: mend the lines, or give --keep-good for the others");
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// How many were registered, how many were there, and what was refused.
async fn send(
    client: &Client,
    cameras: &[Numbered],
    only_check: bool,
) -> Result<(u64, u64, Vec<String>)> {
    let (mut registered, mut present, mut refused) = (0, 0, Vec::new());
    for batch in cameras.chunks(BATCH) {
        let messages = batch.iter().map(|(_, camera)| camera.clone()).collect();
        let answer = if only_check {
            client.check_cameras(messages).await?
        } else {
            client.import_cameras(messages).await?
        };
        registered += answer.registered_count;
        present += answer.present_count;
        for refusal in answer.refusals {
            let place = usize::try_from(refusal.index).ok().and_then(|index| batch.get(index));
            let line = place.map_or(0, |(line, _)| *line);
            let told = refusal.violations.iter();
            refused.extend(told.map(|v| format!("line {line}: {}: {}", v.field, v.description)));
        }
    }
    Ok((registered, present, refused))
}

/// A camera and the line of the file that it stands in.
type Numbered = (u64, pb::Camera);

/// The columns, in the order of an export.
const COLUMNS: [&str; 13] = [
    "id",
    "site",
    "name",
    "lat",
    "lon",
    "bearing",
    "lanes",
    "address",
    "substream",
    "onvif",
    "policy",
    "transport",
    "enabled",
];
const REQUIRED: [&str; 4] = ["id", "lat", "lon", "address"];

/// The cameras of a CSV text, and everything that is wrong with the other lines.
fn parse(text: &[u8]) -> Result<(Vec<Numbered>, Vec<String>)> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let names = reader.headers().context("line 1: cannot be read as CSV")?;
    // Spreadsheets put a mark before the first name.
    let names: Vec<String> =
        names.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
    if let Some(missing) = REQUIRED.iter().find(|name| !names.iter().any(|n| n == *name)) {
        bail!("line 1: the column {missing} is missing: the first line names the columns");
    }
    for (place, name) in names.iter().enumerate() {
        if !COLUMNS.contains(&name.as_str()) {
            bail!("line 1: the column {name:?} is unknown: use some of {}", COLUMNS.join(", "));
        }
        if names[..place].contains(name) {
            bail!("line 1: the column {name} is there twice");
        }
    }
    let (mut cameras, mut wrong) = (Vec::new(), Vec::new());
    let mut lines: HashMap<CameraId, u64> = HashMap::new();
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok((cameras, wrong)),
            Ok(true) => {
                let number = record.position().map_or(0, csv::Position::line);
                let mut row = Row { names: &names, record: &record, wrong: Vec::new() };
                let (id, camera) = row.camera();
                if let Some(id) = id
                    && let Some(first) = lines.insert(id, number)
                {
                    row.wrong.push(format!("id: is that of line {first}: give each its own"));
                }
                let errors = row.wrong;
                match camera.filter(|_| errors.is_empty()) {
                    Some(camera) => cameras.push((number, camera)),
                    None => wrong.extend(errors.iter().map(|e| format!("line {number}: {e}"))),
                }
            }
            Err(error) => {
                let number = error.position().map_or(0, csv::Position::line);
                wrong.push(match error.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
                        "line {number}: has {len} fields, the first line names {expected_len}"
                    ),
                    _ => format!("line {number}: {error}"),
                });
            }
        }
    }
}

/// A line, and what is wrong with it so far.
struct Row<'a> {
    names: &'a [String],
    record: &'a csv::StringRecord,
    wrong: Vec<String>,
}

impl Row<'_> {
    fn text(&self, column: &str) -> Option<&str> {
        let place = self.names.iter().position(|name| name == column)?;
        self.record.get(place).filter(|text| !text.is_empty())
    }

    /// The value of a column, where it has one.
    fn take<T>(
        &mut self,
        column: &str,
        make: impl FnOnce(&str) -> Result<T, guiji_domain::InvalidValue>,
    ) -> Option<T> {
        let made = make(self.text(column)?);
        made.map_err(|error| self.wrong.push(format!("{column}: {error}"))).ok()
    }

    fn number<T: std::str::FromStr>(&mut self, column: &str, example: &str) -> Option<T> {
        let text = self.text(column)?.to_owned();
        let number = text.parse().ok();
        if number.is_none() {
            self.wrong
                .push(format!("{column}: {text:?} is not right: give a number like {example}"));
        }
        number
    }

    fn camera(&mut self) -> (Option<CameraId>, Option<pb::Camera>) {
        for column in REQUIRED {
            if self.text(column).is_none() {
                self.wrong.push(format!("{column}: is empty, and every camera needs one"));
            }
        }
        let id = self.take("id", CameraId::new);
        let site = self.take("site", SiteId::new).map(|site| site.to_string());
        let name = self.text("name").map(str::to_owned);
        let lat = self.number::<f64>("lat", "29.1");
        let lon = self.number::<f64>("lon", "121.4");
        let position = lat.zip(lon).and_then(|(lat, lon)| {
            let position = GeoPoint::new(lat, lon);
            position.map_err(|error| self.wrong.push(format!("lat, lon: {error}"))).ok()
        });
        let bearing_deg = self.number::<f64>("bearing", "270");
        if let Some(bearing) = bearing_deg.filter(|bearing| !(0.0..=360.0).contains(bearing)) {
            let fix = "give degrees clockwise from north, 0 to 360";
            self.wrong.push(format!("bearing: {bearing} is not right: {fix}"));
        }
        let lane_count = self.number::<i32>("lanes", "3");
        if let Some(lanes) = lane_count.filter(|lanes| !(1..=32).contains(lanes)) {
            self.wrong.push(format!("lanes: {lanes} is not right: give 1 to 32, or nothing"));
        }
        let address = self.take("address", StreamAddress::new);
        let substream = self.take("substream", StreamAddress::new);
        let onvif = self.take("onvif", OnvifAddress::new);
        let policy = self.take("policy", str::parse::<DecodePolicy>);
        let transport = self.take("transport", str::parse::<Transport>);
        let disabled = match self.text("enabled").map(str::to_lowercase).as_deref() {
            None | Some("yes" | "true" | "1") => false,
            Some("no" | "false" | "0") => true,
            Some(other) => {
                self.wrong.push(format!("enabled: {other:?} is not right: give yes or no"));
                false
            }
        };
        let camera =
            id.as_ref().zip(position).zip(address).map(|((id, position), address)| pb::Camera {
                name: format!("cameras/{id}"),
                site: site.unwrap_or_else(|| id.to_string()),
                display_name: name.unwrap_or_else(|| id.to_string()),
                position: Some(pb::GeoPoint {
                    latitude_deg: position.lat_deg(),
                    longitude_deg: position.lon_deg(),
                }),
                bearing_deg,
                lane_count,
                stream_address: address.to_string(),
                substream_address: substream.map(|s| s.to_string()).unwrap_or_default(),
                onvif_address: onvif.map(|it| it.to_string()).unwrap_or_default(),
                decode_policy: policy.unwrap_or_default().to_pb(),
                transport: transport.unwrap_or_default().to_pb(),
                disabled,
                ..Default::default()
            });
        (id, camera)
    }
}

/// The CSV of cameras.
fn export(cameras: &[pb::Camera]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for camera in cameras {
        let place = camera.position.unwrap_or_default();
        let text = |number: Option<f64>| number.map(|n| n.to_string()).unwrap_or_default();
        writer.write_record([
            bare(&camera.name),
            &camera.site,
            &camera.display_name,
            &place.latitude_deg.to_string(),
            &place.longitude_deg.to_string(),
            &text(camera.bearing_deg),
            &camera.lane_count.map(|lanes| lanes.to_string()).unwrap_or_default(),
            &camera.stream_address,
            &camera.substream_address,
            &camera.onvif_address,
            &word::<DecodePolicy>(camera.decode_policy),
            &word::<Transport>(camera.transport),
            if camera.disabled { "no" } else { "yes" },
        ])?;
    }
    Ok(String::from_utf8(writer.into_inner().context("write the CSV")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_imported_alike() {
        let text = "\u{feff}id,lat,lon,address,name,bearing,lanes,substream,policy,enabled,site,transport,onvif\n\
            k1,29.1,121.4,rtsp://h/1,\"路口, 东\",270.5,3,rtsp://h/2,keyframe-only,no,s1,udp,http://h/o\n\
            k2,28.9,121.25,rtsp://h/3,,,,,,,,,\n";
        let (cameras, wrong) = parse(text.as_bytes()).unwrap();
        assert_eq!(wrong, [] as [&str; 0]);
        let plain = &cameras[1].1;
        assert_eq!((plain.site.as_str(), plain.display_name.as_str()), ("k2", "k2"));
        assert_eq!(cameras[0].1.lane_count, Some(3));
        assert_eq!(cameras[0].1.onvif_address, "http://h/o");
        assert_eq!(cameras[0].1.decode_policy(), pb::DecodePolicy::KeyframeOnly);
        assert!(cameras[0].1.disabled);
        let all: Vec<_> = cameras.iter().map(|(_, camera)| camera.clone()).collect();
        let (again, wrong) = parse(export(&all).unwrap().as_bytes()).unwrap();
        assert_eq!(wrong, [] as [&str; 0]);
        assert_eq!(again.into_iter().map(|(_, camera)| camera).collect::<Vec<_>>(), all);
    }

    #[test]
    fn everything_wrong_is_told_with_line_column_value_and_fix() {
        let text = "id,lat,lon,bearing,lanes,address,policy,enabled\n\
            k1,29.1,121.4,,,rtsp://h/1,,\n\
            k 2,north,121.4,400,0,ftp://h/1,half,maybe\n\
            k3,121.4,29.1,,,rtsp://h/1,,\n\
            k1,29.1,121.4,,,rtsp://h/2,,\n\
            k5,29.1\n\
            ,,,,,,,\n\
            k7,29.1,121.4,,,rtsp://u:secret@h/1,,\n";
        let (cameras, wrong) = parse(text.as_bytes()).unwrap();
        assert_eq!(cameras.len(), 1);
        for (number, place) in [
            ("line 3: id: ", "k 2"),
            ("line 3: lat: ", "\"north\""),
            ("line 3: bearing: ", "400"),
            ("line 3: lanes: ", "1 to 32"),
            ("line 3: address: ", "rtsp"),
            ("line 3: policy: ", "keyframe-only"),
            ("line 3: enabled: ", "\"maybe\""),
            ("line 4: lat, lon: ", "exchanged"),
            ("line 5: id: ", "line 2"),
            ("line 6: ", "has 2 fields"),
            ("line 7: id: ", "empty"),
            ("line 7: address: ", "empty"),
            ("line 8: address: ", "password_file"),
        ] {
            let told = wrong.iter().any(|error| error.starts_with(number) && error.contains(place));
            assert!(told, "{number}{place}: {wrong:#?}");
        }
        assert!(!format!("{wrong:?}").contains("secret"));
        for (text, fix) in [
            ("id,lat,lon\n", "column address is missing"),
            ("id,lat,lon,address,colour\n", "unknown"),
            ("id,lat,lon,address,id\n", "twice"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 1") && error.contains(fix), "{error}");
        }
    }
}
