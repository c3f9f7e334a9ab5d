//! As much of XML as the answers of cameras need: elements by their names, whatever their prefixes.

/// The opening of an element and the text after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// Without its prefix.
    pub(crate) name: &'a str,
    attributes: &'a str,
    text: &'a str,
}

impl Element<'_> {
    /// What stands between its opening and the next tag.
    pub(crate) fn text(&self) -> String {
        plain(self.text)
    }

    /// An attribute, by its name without prefix.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let mut rest = self.attributes;
        while let Some((before, after)) = rest.split_once('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|it| matches!(it, '"' | '\''))?;
            let (value, behind) = after.get(1..)?.split_once(quote)?;
            if without_prefix(before.trim()) == name {
                return Some(plain(value));
            }
            rest = behind;
        }
        None
    }
}

fn without_prefix(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, name)| name)
}

/// All elements, in the order of their openings. What is no XML has few.
pub(crate) fn elements(xml: &str) -> impl Iterator<Item = Element<'_>> {
    xml.split('<').skip(1).filter_map(|piece| {
        let (tag, text) = piece.split_once('>')?;
        if tag.starts_with(['/', '?', '!']) {
            return None;
        }
        let tag = tag.trim_end_matches('/');
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        Some(Element { name: without_prefix(name), attributes, text })
    })
}

const ENTITIES: [(&str, &str); 5] =
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];

fn plain(text: &str) -> String {
    ENTITIES.iter().fold(text.trim().to_owned(), |text, (entity, of)| text.replace(entity, of))
}

/// A text as it may stand in XML.
pub(crate) fn escaped(text: &str) -> String {
    ENTITIES.iter().rev().fold(text.to_owned(), |text, (entity, of)| text.replace(of, entity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_whatever_their_prefix() {
        let xml = "<?xml version='1.0'?><!-- x --><a:Profiles token=\"p &amp; 1\" fixed='true'/>\n\
                   <Uri>rtsp://h/a?b=1&amp;c=2</Uri></a>";
        let all: Vec<_> = elements(xml).collect();
        let names: Vec<_> = all.iter().map(|it| it.name).collect();
        assert_eq!(names, ["Profiles", "Uri"]);
        assert_eq!(all[0].attribute("token").as_deref(), Some("p & 1"));
        assert_eq!(all[0].attribute("fixed").as_deref(), Some("true"));
        assert_eq!(all[0].attribute("name"), None);
        assert_eq!(all[1].text(), "rtsp://h/a?b=1&c=2");
        for wrong in ["", "<", "<>", "< a=", "<a b='", "<a b", "</", "<é é=é>"] {
            elements(wrong).for_each(|it| assert_eq!(it.attribute("x"), None, "{wrong}"));
        }
        assert_eq!(plain(&escaped("<a> & \"b\" 'c' &lt;")), "<a> & \"b\" 'c' &lt;");
    }
}
