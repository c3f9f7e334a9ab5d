//! The tactics as an analyst asks them: a planted county in the real program, asked by the command line, against the
//! truth of the same county.

use std::collections::HashMap;
use std::process::Command;

use guiji_county::{County, CountySettings, Passage};
use guiji_domain::PlateText;
use serde_json::Value;

use crate::county::start;
use crate::rig::{GUIJI, connect_to, exclusive, free_address, runtime, serve_without_cameras};

const SIGHTINGS: u64 = 30_000;
const DAYS: u32 = 2;
const SEED: u64 = 3;

/// What `guiji query ... --json` prints, line by line.
fn ask(api: &str, question: &[&str]) -> Vec<Value> {
    let run = Command::new(GUIJI)
        .arg("query")
        .args(question)
        .args([
            "--json",
            "--server",
            api,
            "--purpose",
            "trial",
            "--case",
            "T-1",
            "--officer",
            "tester",
        ])
        .output()
        .expect("guiji runs");
    let printed = String::from_utf8_lossy(&run.stdout);
    // 1 says that nothing was found, which some answers are about.
    let ran = run.status.code().is_some_and(|code| code <= 1);
    assert!(ran, "{question:?}: {printed}{}", String::from_utf8_lossy(&run.stderr));
    printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_planted_county_is_found_out() {
    let _one_at_a_time = exclusive();
    let dir = tempfile::tempdir().expect("a folder");
    let (api, (date, start)) = (free_address(), start());
    let server = serve_without_cameras(dir.path(), &api);
    runtime().block_on(connect_to(&api, &server));
    let numbers = [SIGHTINGS.to_string(), DAYS.to_string(), SEED.to_string()];
    let [sightings, days, seed] = numbers.each_ref().map(String::as_str);
    let imported = Command::new(GUIJI)
        .args(["simulate", "county", "--server", &api, "--start", &date])
        .args(["--sightings", sightings, "--days", days, "--seed", seed])
        .output()
        .expect("guiji runs");
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));

    let settings =
        CountySettings { seed: SEED, sightings: SIGHTINGS, days: DAYS, error_rate: 0.01, start };
    let county = County::new(settings).expect("a county");
    let passages: Vec<Passage> = county.passages().collect();
    let mut ways: HashMap<&PlateText, Vec<&Passage>> = HashMap::new();
    for passage in &passages {
        if let Some(plate) = passage.sighting.plate_text() {
            ways.entry(plate).or_default().push(passage);
        }
    }
    convoy_and_collision(&api, &county, &ways);
    clones(&api, &county);
    one_vehicle(&api, &county, &ways);
}

/// A member of a convoy is found in the other's company, and where both were.
fn convoy_and_collision(api: &str, county: &County, ways: &HashMap<&PlateText, Vec<&Passage>>) {
    // Of the convoys the one that was seen together most.
    let together = |number: u16| {
        let drives = |p: &&&Passage| p.truth.convoy == Some(number);
        let members = &county.convoys()[usize::from(number)].vehicles;
        let seen = |id: &u32| {
            ways.get(&county.vehicle(*id).plate).map_or(0, |way| way.iter().filter(drives).count())
        };
        members.iter().map(seen).min().unwrap_or(0)
    };
    let numbers = 0..u16::try_from(county.convoys().len()).expect("few convoys");
    let number = numbers.max_by_key(|number| together(*number)).expect("a convoy");
    let members = &county.convoys()[usize::from(number)].vehicles;
    let [leads, follows] = [members[0], members[1]].map(|id| &county.vehicle(id).plate);
    let companions = ask(api, &["convoy", leads.as_str()]);
    let named = |plate: &PlateText| companions.iter().any(|c| c["plate"] == plate.as_str());
    assert!(named(follows), "{follows} is not in the company of {leads}: {companions:#?}");
    let members = members.iter().map(|id| county.vehicle(*id).plate.as_str());
    let members: Vec<_> = members.collect();
    let strangers =
        companions.iter().filter(|c| !members.contains(&c["plate"].as_str().unwrap_or("")));
    assert_eq!(strangers.count(), 0, "{companions:#?}");

    // The first and the last camera of a common drive, five minutes around the leader.
    let drive: Vec<_> = ways[leads].iter().filter(|p| p.truth.convoy == Some(number)).collect();
    let area = |passage: &Passage| {
        let at = passage.sighting.captured.at;
        let five = std::time::Duration::from_secs(300);
        format!("{},{},{}", passage.sighting.camera, at.minus(five), at.plus(five))
            .replace("UTC", "Z")
    };
    let (first, last) = (area(drive[0]), area(drive[drive.len() - 1]));
    let found = ask(api, &["collision", "--area", &first, "--area", &last]);
    assert!(found.iter().any(|c| c["plate"] == leads.as_str()), "{first} {last}: {found:#?}");
}

/// What is called a clone is one, and the program says why.
fn clones(api: &str, county: &County) {
    let found = ask(api, &["clone"]);
    let planted: Vec<_> = county.clones().iter().map(|clone| clone.plate.as_str()).collect();
    let named: Vec<_> = found.iter().filter_map(|verdict| verdict["plate"].as_str()).collect();
    assert!(
        !named.is_empty() && named.iter().all(|plate| planted.contains(plate)),
        "{named:?} of {planted:?}"
    );
    let verdict = &ask(api, &["clone", named[0]])[0];
    assert_eq!(verdict["finding"], "CLONE_FINDING_CLONE");
    assert_eq!(verdict["sideBySide"].as_array().map(Vec::len), Some(2), "{verdict:#}");
    assert!(verdict["reasons"].to_string().contains("km/h"), "{verdict:#}");
}

/// Card, forecast and speed of a vehicle that is seen much.
fn one_vehicle(api: &str, county: &County, ways: &HashMap<&PlateText, Vec<&Passage>>) {
    let cloned = |plate: &PlateText| county.clones().iter().any(|clone| clone.plate == *plate);
    let busiest = ways
        .iter()
        .filter(|(plate, _)| !cloned(plate))
        .max_by_key(|(plate, way)| (way.len(), *plate));
    let (plate, way) = busiest.expect("a vehicle");
    let card = &ask(api, &["card", plate.as_str()])[0];
    assert_eq!(card["passageCount"].as_u64(), Some(way.len() as u64), "{card:#}");
    assert_eq!(card["activeDayCount"].as_u64(), Some(u64::from(DAYS)), "{card:#}");

    // Of its passages with a next within minutes: the next camera is nearly always among those named.
    let pairs: Vec<_> = way
        .windows(2)
        .filter(|pair| {
            (60..300).contains(
                &pair[1].sighting.captured.at.since(pair[0].sighting.captured.at).as_secs(),
            )
        })
        .collect();
    let asked: Vec<_> = pairs.iter().step_by(pairs.len().div_ceil(8).max(1)).collect();
    let right = asked.iter().filter(|pair| {
        let at = pair[0].sighting.captured.at.plus(std::time::Duration::from_secs(1));
        let forecast = &ask(api, &["forecast", plate.as_str(), "--at", &at.to_string()])[0];
        let next = format!("cameras/{}", pair[1].sighting.camera);
        forecast["next"]
            .as_array()
            .is_some_and(|all| all.iter().any(|n| n["camera"] == next.as_str()))
    });
    let (right, all) = (right.count(), asked.len());
    assert!(all >= 4 && right * 4 >= all * 3, "{right} of {all}");

    // The speed of the truth lies within the interval.
    let [from, to] = [&pairs[0][0], &pairs[0][1]];
    let elapsed = to.truth.passed.since(from.truth.passed).as_secs_f64();
    let names = [from, to].map(|p| format!("sightings/{}", p.sighting.id));
    let length_m = 1000.0;
    let speed = &ask(
        api,
        &["section-speed", &names[0], &names[1], "--length-m", "1000", "--error-max", "1"],
    )[0]["speed"];
    let true_kmh = length_m / elapsed * 3.6;
    let ends = ["lowKmh", "highKmh"].map(|end| speed[end].as_f64().expect("a speed"));
    assert!(ends[0] <= true_kmh && true_kmh <= ends[1], "{true_kmh} is not within {ends:?}");
}
