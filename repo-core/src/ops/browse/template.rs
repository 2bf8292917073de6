//! Where a snapshot is shown: `hosts/%h/%T` and the like, made into names of directories. Pure.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::format::snapshot::SnapshotRecord;

/// Longer names fit into no directory of any system.
const NAME_BYTES_MAX: usize = 255;

/// A path below the top of the view, with variables: `%i` the first digits of the id, `%I` all of them, `%u` the user,
/// `%h` the host, `%t` each tag (a snapshot without tags is not shown there), `%T` the time, `%%` a percent sign.
///
/// ```
/// use repo_core::PathTemplate;
///
/// assert!("hosts/%h/%T".parse::<PathTemplate>().is_ok());
/// assert!("hosts/%x".parse::<PathTemplate>().is_err(), "there is no %x");
/// assert!("a/../%T".parse::<PathTemplate>().is_err(), "nothing leads upward");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// What stands there as it is; may have a `/`.
    Text(String),
    ShortId,
    Id,
    User,
    Host,
    Tag,
    Time,
}

/// A place of a snapshot in the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    /// One name a level; at least one.
    pub names: Vec<Vec<u8>>,
    /// How many of the last names are its time alone, if it ends so: those above have a `latest`.
    pub time_names: usize,
}

impl FromStr for PathTemplate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |problem: String| Err(Error::Usage(format!("path template {text:?}: {problem}")));
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                plain.push(letter);
                continue;
            }
            let part = match letters.next() {
                Some('%') => {
                    plain.push('%');
                    continue;
                }
                Some('i') => Part::ShortId,
                Some('I') => Part::Id,
                Some('u') => Part::User,
                Some('h') => Part::Host,
                Some('t') => Part::Tag,
                Some('T') => Part::Time,
                Some(other) => return refuse(format!("there is no %{other}; %i, %I, %u, %h, %t and %T there are")),
                None => return refuse("ends with a single %; write %% for one".to_owned()),
            };
            parts.extend((!plain.is_empty()).then(|| Part::Text(std::mem::take(&mut plain))));
            parts.push(part);
        }
        parts.extend((!plain.is_empty()).then_some(Part::Text(plain)));
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            return refuse("has no variable, so all snapshots would be at one place".to_owned());
        }
        // What values do to names is another matter: they are made to fit.
        let texts = parts.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "x" });
        if texts.collect::<String>().split('/').any(|name| matches!(name, "." | "..") || name.contains('\0')) {
            return refuse("has a name that no directory can have".to_owned());
        }
        Ok(Self { parts })
    }
}

impl PathTemplate {
    /// The places of one snapshot; several if it has several tags, none if it has no tag and needs one.
    pub(super) fn paths(&self, record: &SnapshotRecord, time: &str) -> Vec<Path> {
        let of_tag = |tag: &str| {
            self.names(|part| match part {
                Part::ShortId => record.id.short()[..8].to_owned(),
                Part::Id => record.id.short(),
                Part::User => name_of(&record.user),
                Part::Host => name_of(&record.host),
                Part::Tag => name_of(tag),
                Part::Time => time.to_owned(),
                Part::Text(text) => text.clone(),
            })
        };
        let mut paths: Vec<Path> = match self.parts.contains(&Part::Tag) {
            true => record.tags.iter().map(|tag| of_tag(tag)).collect(),
            false => vec![of_tag("")],
        };
        paths.retain(|path| !path.names.is_empty());
        paths
    }

    /// The directories above the first variable: they are there also if no snapshot is.
    pub(super) fn fixed(&self) -> Vec<Vec<u8>> {
        match self.parts.first() {
            Some(Part::Text(text)) => {
                let whole = text.rfind('/').map_or("", |end| &text[..end]);
                whole.split('/').filter(|name| !name.is_empty()).map(|name| name.as_bytes().to_vec()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The names, with a value for each variable. Only text and times have a `/` that means one.
    fn names(&self, value: impl Fn(&Part) -> String) -> Path {
        let mut names = vec![String::new()];
        let mut time_names = 0;
        for (position, part) in self.parts.iter().enumerate() {
            let text = value(part);
            let text = if let Part::Text(plain) = part { plain } else { &text };
            let begins = names.last().is_some_and(String::is_empty);
            let before = names.iter().filter(|name| !name.is_empty()).count();
            for (piece, name) in text.split('/').enumerate() {
                if piece > 0 {
                    names.push(String::new());
                }
                names.last_mut().expect("never empty").push_str(name);
            }
            if *part == Part::Time && begins && position + 1 == self.parts.len() {
                time_names = names.iter().filter(|name| !name.is_empty()).count() - before;
            }
        }
        let names = names.into_iter().filter(|name| !name.is_empty()).map(fitting).collect();
        Path { names, time_names }
    }
}

/// A value that stands for one name, or a part of one: it has no `/`.
fn name_of(text: &str) -> String {
    if text.is_empty() { "_".to_owned() } else { text.replace(['/', '\0'], "_") }
}

/// A name that a directory may have.
fn fitting(mut name: String) -> Vec<u8> {
    if name == "." || name == ".." {
        name.insert(0, '_');
    }
    // Room for what tells two of one name apart.
    name.truncate(name.floor_char_boundary(NAME_BYTES_MAX - 8));
    name.replace('\0', "_").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::browse::testing::record;

    fn shown(template: &str, record: &SnapshotRecord, time: &str) -> Vec<(String, usize)> {
        let paths = template.parse::<PathTemplate>().expect(template).paths(record, time);
        let text = |path: &Path| String::from_utf8(path.names.join(&b'/')).expect("text");
        paths.iter().map(|path| (text(path), path.time_names)).collect()
    }

    #[test]
    fn variables_are_what_the_snapshot_says() {
        let mut record = record(1, 0);
        (record.host, record.user) = ("laptop".into(), "anna".into());
        record.tags = vec!["nightly".into(), "db".into()];
        let (id, short) = (record.id.short(), record.id.short()[..8].to_owned());
        assert_eq!(shown("ids/%i", &record, "noon"), [(format!("ids/{short}"), 0)]);
        assert_eq!(shown("%I", &record, "noon"), [(id, 0)]);
        assert_eq!(shown("/hosts//%h/%T", &record, "noon"), [("hosts/laptop/noon".into(), 1)]);
        assert_eq!(shown("%u-%h/%T%%", &record, "noon"), [("anna-laptop/noon%".into(), 0)]);
        assert_eq!(shown("tags/%t/%T", &record, "noon"), [("tags/nightly/noon".into(), 1), ("tags/db/noon".into(), 1)]);
        assert_eq!(shown("%h-%T", &record, "noon"), [("laptop-noon".into(), 0)], "its time is not a name of its own");
        assert_eq!(shown("s/%T", &record, "2026/11/noon"), [("s/2026/11/noon".into(), 3)]);
        record.tags.clear();
        assert_eq!(shown("tags/%t/%T", &record, "noon"), []);
    }

    #[test]
    fn no_value_leads_elsewhere_or_is_no_name() {
        let mut record = record(1, 0);
        for (host, name) in [("..", "_.."), (".", "_."), ("", "_"), ("a/../b", "a_.._b"), ("nul\0", "nul_")] {
            record.host = host.into();
            assert_eq!(shown("h/%h", &record, ""), [(format!("h/{name}"), 0)], "{host:?}");
        }
        record.host = "é".repeat(200);
        let [(long, _)] = shown("%h", &record, "").try_into().expect("one");
        assert!(long.len() <= NAME_BYTES_MAX - 8 && long.len() > 240, "{}", long.len());
        assert_eq!(shown("%T", &record, "../.."), [("_../_..".into(), 2)]);
        assert_eq!(shown("%T", &record, ""), [], "a time without letters is nowhere");
    }

    #[test]
    fn bad_templates_are_refused() {
        for bad in ["", "/", "snapshots", "%x/%T", "%T%", "./%T", "%T/..", "a/../%i", "nul\0/%i"] {
            assert!(bad.parse::<PathTemplate>().is_err(), "{bad:?}");
        }
        let fixed = |text: &str| text.parse::<PathTemplate>().expect(text).fixed();
        assert_eq!(fixed("a/b/%T"), [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(fixed("a/b-%T"), [b"a".to_vec()]);
        assert_eq!(fixed("%T/a"), [b""; 0]);
    }
}
