use guiji_domain::Credentials;

/// Takes secrets out of texts that others wrote: GStreamer's errors, a server's answers.
///
/// Every address is cut to scheme and host, because cameras take passwords in paths and queries too
/// (`/user=admin&password=x&channel=1`), and the camera's own user name and password are blanked wherever they stand,
/// percent-encoded or not.
#[derive(Clone)]
pub(crate) struct Redactor {
    secrets: Vec<String>,
}

const BLANK: &str = "•••";

impl Redactor {
    pub(crate) fn new(credentials: Option<&Credentials>) -> Self {
        let mut secrets: Vec<String> = credentials
            .iter()
            .flat_map(|it| [&it.username, &it.password])
            .filter(|it| !it.is_empty())
            .flat_map(|it| [it.clone(), percent_encoded(it)])
            .collect();
        // Longest first: a password that contains the user name must go as a whole.
        secrets.sort_by_key(|it| std::cmp::Reverse(it.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// The text on one line, at most 300 characters, without secrets.
    pub(crate) fn clean(&self, text: &str) -> String {
        let words: Vec<&str> = text.split_whitespace().collect();
        let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
        let mut text = cut_addresses(&line);
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), BLANK);
        }
        text.chars().take(300).collect()
    }
}

/// Every `scheme://user:password@host:port/rest` becomes `scheme://host:port/…`.
fn cut_addresses(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after
            .find(|c: char| c.is_whitespace() || c.is_control() || "\"'<>()".contains(c))
            .unwrap_or(after.len());
        let (address, remainder) = after.split_at(end);
        // The last @ ends the user name and password, whatever characters they hold.
        let host_on = address.rsplit_once('@').map_or(address, |(_, host_on)| host_on);
        match host_on.split_once(['/', '?', '#']) {
            Some((host, _)) => {
                clean.push_str(host);
                clean.push_str("/…");
            }
            None => clean.push_str(host_on),
        }
        rest = remainder;
    }
    clean.push_str(rest);
    clean
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(username: &str, password: &str) -> Redactor {
        Redactor::new(Some(&Credentials { username: username.into(), password: password.into() }))
    }

    #[test]
    fn addresses_keep_only_their_host() {
        let none = Redactor::new(None);
        for (dirty, clean) in [
            ("Failed rtsp://u:p@10.0.0.1:554/ch1?x=1 (why)", "Failed rtsp://10.0.0.1:554/… (why)"),
            ("rtsp://u:p/w@d@h/x", "rtsp://h/…"),
            ("'http://h/user=a&password=b'", "'http://h/…'"),
            ("two rtsp://a:b@c rtsp://d", "two rtsp://c rtsp://d"),
            ("no address\n\tat all", "no address at all"),
        ] {
            assert_eq!(none.clean(dirty), clean);
        }
    }

    #[test]
    fn the_cameras_own_secrets_go_wherever_they_stand() {
        let clean =
            redactor("admin", "p@ss w/rd").clean("admin said p@ss w/rd or p%40ss%20w%2Frd!");
        assert_eq!(clean, "••• said ••• or •••!");
        assert_eq!(redactor("adm", "admin1").clean("admin1"), BLANK);
    }

    proptest! {
        #[test]
        fn never_panics_never_leaks(text: String, password in "[a-zA-Z0-9@:/?]{4,12}") {
            let redactor = redactor("", &password);
            for dirty in [format!("{text}{password}"), format!("rtsp://u:{password}@h/{text}")] {
                let clean = redactor.clean(&dirty);
                prop_assert!(!clean.contains(&password), "{}", clean);
            }
        }
    }
}
