//! Names of users and groups, asked for once each: behind the question may be a directory server.

use std::collections::HashMap;
use std::sync::RwLock;

use nix::unistd::{Gid, Group, Uid, User};

/// What has been asked so far.
#[derive(Debug, Default)]
pub struct Names {
    users: RwLock<HashMap<u32, Vec<u8>>>,
    groups: RwLock<HashMap<u32, Vec<u8>>>,
}

impl Names {
    /// The name of a user id; empty if it has none.
    pub fn user(&self, uid: u32) -> Vec<u8> {
        cached(&self.users, uid, || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name))
    }

    /// The name of a group id; empty if it has none.
    pub fn group(&self, gid: u32) -> Vec<u8> {
        cached(&self.groups, gid, || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name))
    }
}

fn cached(known: &RwLock<HashMap<u32, Vec<u8>>>, id: u32, ask: impl FnOnce() -> Option<String>) -> Vec<u8> {
    if let Some(name) = known.read().expect("no holder of this lock can panic").get(&id) {
        return name.clone();
    }
    let name = ask().unwrap_or_default().into_bytes();
    known.write().expect("no holder of this lock can panic").insert(id, name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_asked_for_once_and_an_unknown_one_has_an_empty_name() {
        let known = RwLock::new(HashMap::new());
        assert_eq!(cached(&known, 7, || Some("seven".into())), b"seven");
        assert_eq!(cached(&known, 7, || unreachable!("asked twice")), b"seven");
        assert_eq!(cached(&known, 8, || None), b"");
        assert_eq!(cached(&known, 8, || unreachable!("asked twice")), b"");
    }

    #[test]
    fn the_superuser_has_a_name() {
        assert_eq!(Names::default().user(0), b"root");
        assert_eq!(Names::default().user(3_999_999_999), b"");
    }
}
