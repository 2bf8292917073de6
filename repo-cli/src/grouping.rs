//! What snapshots are grouped by: `host,paths,tags`, or some of these, or nothing.

/// What the snapshots of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grouping {
    pub host: bool,
    pub paths: bool,
    pub tags: bool,
}

impl Grouping {
    /// All snapshots are one group.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Reads `host,paths`; an empty text is all in one group.
pub fn parse_grouping(text: &str) -> Result<Grouping, String> {
    let mut grouping = Grouping::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "host" | "hosts" => grouping.host = true,
            "path" | "paths" => grouping.paths = true,
            "tag" | "tags" => grouping.tags = true,
            _ => return Err(format!("{word:?} is none of host, paths and tags")),
        }
    }
    Ok(grouping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_host_paths_and_tags_in_any_order_or_none() {
        let all = Grouping { host: true, paths: true, tags: true };
        assert_eq!(parse_grouping("tags,host,paths"), Ok(all));
        assert_eq!(parse_grouping("hosts, path"), Ok(Grouping { tags: false, ..all }));
        assert_eq!(parse_grouping("tag"), Ok(Grouping { tags: true, ..Grouping::default() }));
        assert!(parse_grouping("").is_ok_and(Grouping::is_empty));
        for bad in ["user", "host;paths", "Host"] {
            assert!(parse_grouping(bad).is_err(), "{bad}");
        }
    }
}
