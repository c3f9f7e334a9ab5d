use std::collections::HashSet;

use super::keys::KeyError;

/// Longest name of a token, bytes.
const NAME_BYTES_MAX: usize = 200;

/// Tokens that are believed no more, by their names (`jti`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevokedTokens(HashSet<String>);

impl RevokedTokens {
    /// Reads a list: one name a line; blank lines, and what follows a `#`, are passed over.
    ///
    /// # Errors
    /// When a line cannot be a name: a list that is half understood would let somebody in.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut names = HashSet::new();
        for (number, line) in (1..).zip(text.lines()) {
            let name = line.split('#').next().unwrap_or_default().trim();
            if name.is_empty() {
                continue;
            }
            if name.len() > NAME_BYTES_MAX || name.contains(char::is_whitespace) {
                return Err(KeyError(format!(
                    "line {number} is no name of a token (jti): give one a line, at most {NAME_BYTES_MAX} bytes"
                )));
            }
            names.insert(name.to_owned());
        }
        Ok(Self(names))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_name_a_line() {
        let list = RevokedTokens::parse("# lost phone of wang\nabc\n\n  def # li\n").unwrap();
        assert!(list.contains("abc") && list.contains("def") && !list.contains("li"));
        for wrong in ["a b", &"x".repeat(201)] {
            let error = RevokedTokens::parse(&format!("ok\n{wrong}")).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{error}");
        }
    }
}
