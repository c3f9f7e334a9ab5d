//! The arrows between crates and the walls around third-party ones, as `docs/architecture.md` draws them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Which of our crates each may import. A new arrow is a decision: make it here and in the map.
const ARROWS: &[(&str, &[&str])] = &[
    ("guiji-domain", &[]),
    ("guiji-analysis", &["guiji-domain"]),
    ("guiji-ingest", &["guiji-domain"]),
    ("guiji-vision", &["guiji-domain"]),
    ("guiji-store", &["guiji-domain"]),
    ("guiji-delivery", &["guiji-domain"]),
    ("guiji-scenes", &["guiji-domain"]),
    ("guiji-county", &["guiji-domain"]),
    ("guiji-engine", &["guiji-domain", "guiji-analysis"]),
    ("guiji-api", &["guiji-domain", "guiji-analysis"]),
    (
        "guiji",
        &[
            "guiji-domain",
            "guiji-analysis",
            "guiji-ingest",
            "guiji-vision",
            "guiji-store",
            "guiji-engine",
            "guiji-api",
            "guiji-delivery",
            "guiji-county",
        ],
    ),
];

/// Third-party crates (by prefix) that only these of ours may know.
const WALLS: &[(&str, &[&str])] = &[
    ("gstreamer", &["guiji-ingest", "guiji-scenes"]),
    ("ort", &["guiji-vision"]),
    ("tonic", &["guiji-api"]),
    ("prost", &["guiji-api"]),
    ("hyper", &["guiji-api"]),
    ("rusqlite", &["guiji-store"]),
    ("ureq", &["guiji-delivery"]),
    ("rumqttc", &["guiji-delivery"]),
];

/// What the crates that only decide must do without: serialisation, threads' helpers, async, files, logs.
const PURE: &[&str] = &["guiji-domain", "guiji-analysis"];
const IMPURE: &[&str] = &["serde", "tokio", "tracing", "image", "rusqlite", "jiff", "toml"];

/// Direct dependencies of each of our crates, dev-dependencies left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let direct = dependencies.iter().filter(|d| d["kind"].as_str() != Some("dev"));
            let names = direct.filter_map(|d| d["name"].as_str()).map(str::to_owned).collect();
            (package["name"].as_str().expect("name").to_owned(), names)
        })
        .collect()
}

#[test]
fn arrows_point_only_where_the_map_allows() {
    let found = dependencies();
    let known: BTreeSet<_> = ARROWS.iter().map(|(from, _)| (*from).to_owned()).collect();
    assert_eq!(
        found.keys().cloned().collect::<BTreeSet<_>>(),
        known,
        "a crate is missing from the map, or gone"
    );
    for (from, allowed) in ARROWS {
        for to in found[*from].iter().filter(|to| to.starts_with("guiji")) {
            assert!(allowed.contains(&to.as_str()), "{from} must not depend on {to}");
        }
    }
}

#[test]
fn each_outside_technology_has_one_room() {
    for (from, dependencies) in dependencies() {
        for (wall, inside) in WALLS {
            let through =
                dependencies.iter().find(|d| *d == wall || d.starts_with(&format!("{wall}-")));
            assert!(
                through.is_none() || inside.contains(&from.as_str()),
                "{from} must not know {through:?}: only {inside:?} may"
            );
        }
    }
}

#[test]
fn deciding_does_no_io() {
    let found = dependencies();
    for name in PURE {
        for impure in IMPURE {
            assert!(!found[*name].contains(*impure), "{name} must not depend on {impure}");
        }
    }
}

#[test]
fn deciding_touches_no_file_socket_or_clock() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    for name in ["domain", "analysis"] {
        let mut files = vec![root.join(name).join("src")];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(
                    std::fs::read_dir(&path)
                        .expect("folder")
                        .map(|entry| entry.expect("entry").path()),
                );
                continue;
            }
            // Modules of tests only, declared under `cfg(test)`, may print and measure.
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            if ["costs.rs", "testing.rs", "tests.rs"].contains(&name) {
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("source");
            let source = source.split("#[cfg(test)]\nmod tests").next().expect("a first part");
            for banned in [
                "std::fs",
                "std::net",
                "std::process",
                "std::env",
                "Instant::now",
                "SystemTime",
                "println!",
            ] {
                assert!(!source.contains(banned), "{} uses {banned}", path.display());
            }
        }
    }
}
