//! The real program behind TLS and tokens, from the making of the keys to the reading of the audit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::rig::{GUIJI, Server, exclusive, free_address, header, wait_for};

const ISSUER: &str = "https://id.example";

fn guiji(arguments: &[&str]) -> Output {
    Command::new(GUIJI).args(arguments).output().expect("guiji runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with an authority for certificates, a certificate for this machine and a key for tokens.
struct Keys {
    dir: TempDir,
}

impl Keys {
    fn new() -> Self {
        let keys = Self { dir: tempfile::tempdir().expect("a folder") };
        let mut ca = CertificateParams::new(Vec::new()).expect("an authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().expect("a key");
        keys.put("ca.pem", &ca.self_signed(&ca_key).expect("a certificate").pem());
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        keys.put("server.pem", &server.signed_by(&key, &issuer).expect("a certificate").pem());
        keys.put("server.key", &key.serialize_pem());
        let made = guiji(&["token", "key", &keys.path("tokens")]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        keys
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn put(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("made private");
    }

    /// Signs a token into a file; its path.
    fn token(&self, user: &str, role: &str) -> String {
        let key = self.path("tokens");
        let signed = guiji(&[
            "token", "sign", "--key", &key, "--issuer", ISSUER, "--user", user, "--role", role,
        ]);
        assert!(signed.status.success(), "{}", text(&signed.stderr));
        let name = format!("{user}.token");
        self.put(&name, &text(&signed.stdout));
        self.path(&name)
    }

    fn config(&self, api: &str) -> PathBuf {
        let models = header(api);
        let access = "[server.tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
            [server.tokens]\nkeys = [\"tokens.pub\"]\nissuer = \"https://id.example\"\n\
            [audit]\ncheckpoints = \"elsewhere.jsonl\"\n";
        self.put("guiji.toml", &format!("{models}{access}"));
        self.dir.path().join("guiji.toml")
    }

    fn query(&self, api: &str, access: &[&str], question: &[&str]) -> Output {
        let by = ["query", "--server", api, "--purpose", "system test", "--case", "T-1"];
        guiji(&[&by, access, question].concat())
    }
}

#[test]
fn beyond_loopback_nothing_starts_unprotected() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("guiji.toml");
    fs::write(&config, header("0.0.0.0:0")).expect("a configuration");
    let refused = guiji(&["run", "--config", &config.to_string_lossy()]);
    assert_eq!(refused.status.code(), Some(2));
    let told = text(&refused.stderr);
    for hint in ["[server.tls]", "[server.tokens]", "server.insecure", "0.0.0.0"] {
        assert!(told.contains(hint), "{hint} in {told}");
    }
    assert!(!dir.path().join("data").exists(), "nothing was touched");
}

#[test]
fn an_existing_key_is_never_replaced() {
    let keys = Keys::new();
    let before = fs::read(keys.path("tokens")).expect("a key");
    let again = guiji(&["token", "key", &keys.path("tokens")]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(fs::read(keys.path("tokens")).expect("a key"), before);
}

#[test]
fn who_may_asks_and_the_audit_tells() {
    let _one_at_a_time = exclusive();
    let keys = Keys::new();
    let (api, ca) = (free_address(), keys.path("ca.pem"));
    let config = keys.config(&api);
    let mut server = Server::start(keys.dir.path(), &config);
    let (wang, zhao) = (keys.token("wang", "analyst"), keys.token("zhao", "patrol"));
    let ask = |token: &str, question: &[&str]| {
        keys.query(&api, &["--ca", &ca, "--token-file", token], question)
    };
    wait_for("the server", Duration::from_secs(60), || {
        ask(&wang, &["cameras"]).status.code() != Some(2)
    });

    assert_ne!(ask(&wang, &["trajectory", "浙J12345"]).status.code(), Some(2));
    let refused = ask(&zhao, &["trajectory", "浙J12345"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("role patrol"), "{}", text(&refused.stderr));
    let nobody = keys.query(&api, &["--ca", &ca, "--officer", "li"], &["cameras"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("token"), "{}", text(&nobody.stderr));

    assert!(server.terminate().success(), "{}", server.log());
    let config = config.to_string_lossy().into_owned();
    let checkpoints = keys.path("elsewhere.jsonl");
    let verify = || guiji(&["audit", "verify", "--config", &config, "--checkpoint", &checkpoints]);
    let verified = verify();
    assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    let listed = guiji(&["audit", "list", "--config", &config, "--officer", "zhao"]);
    let listed = text(&listed.stdout);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    for part in ["PermissionDenied", "\"role\":\"patrol\"", "\"case_number\":\"T-1\""] {
        assert!(listed.contains(part), "{part} in {listed}");
    }
    assert!(!server.log().contains("浙J12345"), "a question is in the log");

    // Whoever makes wang's question another's is found out.
    change(&keys.dir.path().join("data/audit/payload"), "wang", "zhao");
    let broken = verify();
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stdout).contains("BROKEN: record 1"), "{}", text(&broken.stdout));
}

/// Changes a word in every file of a folder.
fn change(folder: &Path, from: &str, to: &str) {
    for file in fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        let changed = fs::read_to_string(&path).expect("text").replace(from, to);
        fs::write(&path, changed).expect("written");
    }
}
