//! Facts of this machine: host name, boot id, process, user names, clock.
//! The local time zone is not among them: the core knows UTC alone.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Pid;

use crate::format::tree::Timestamp;

/// The name that this machine gives itself.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Names this boot of this machine and this process-id namespace: within it, and nowhere else, a process id means one process.
/// Containers of one machine share the kernel's boot id, but not their process ids, so the kernel's id alone would let one take
/// another's live process for dead. Where the kernel tells neither, the answer is this process's own and equals no other.
pub fn boot_id() -> [u8; 16] {
    static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").ok();
        let namespace = fs::metadata("/proc/self/ns/pid").map(|metadata| metadata.ino()).ok();
        let mut hasher = blake3::Hasher::new();
        match (boot, namespace) {
            (Some(boot), Some(namespace)) => {
                hasher.update(boot.trim_ascii()).update(&namespace.to_le_bytes());
            }
            _ => {
                hasher.update(host_name().as_bytes());
                hasher.update(&process_id().to_le_bytes()).update(&now_ns().to_le_bytes());
            }
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        id
    })
}

/// This process's id, which means something within [`boot_id`].
pub fn process_id() -> u32 {
    #[cfg(feature = "internals")]
    if let Some(simulated) = crate::world::ask(|world| world.process_id()) {
        return simulated;
    }
    std::process::id()
}

/// Whether a process of this [`boot_id`] runs. In doubt it does. An id that was given anew is somebody else's life, but a life.
pub fn process_is_alive(process: u32) -> bool {
    #[cfg(feature = "internals")]
    if let Some(simulated) = crate::world::ask(|world| world.process_is_alive(process)) {
        return simulated;
    }
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else {
        return false;
    };
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// When a process of this [`boot_id`] began, as the kernel counts; with its id it names one process of this boot. `None`:
/// there is no such process, or the system does not tell.
pub fn process_start(process: u32) -> Option<u64> {
    #[cfg(feature = "internals")]
    if let Some(is_alive) = crate::world::ask(|world| world.process_is_alive(process)) {
        return is_alive.then_some(u64::from(process));
    }
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    // Field 22 of proc(5); the second, the program's name in brackets, may hold spaces and brackets itself.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The time, as file systems tell it.
pub fn now() -> Timestamp {
    let now = now_ns();
    Timestamp { seconds: now.div_euclid(1_000_000_000), nanoseconds: now.rem_euclid(1_000_000_000) as u32 }
}

/// The time in nanoseconds since 1970 UTC, by this machine's clock; ends in the year 2262.
pub fn now_ns() -> i64 {
    #[cfg(feature = "internals")]
    if let Some(simulated) = crate::world::ask(|world| world.now_ns()) {
        return simulated;
    }
    let saturated = |nanoseconds: u128| i64::try_from(nanoseconds).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => saturated(since.as_nanos()),
        Err(before) => -saturated(before.duration().as_nanos()),
    }
}

/// Nanoseconds since this machine began to run, the time that it slept included (`CLOCK_BOOTTIME`). Nobody can set it.
fn since_boot_ns() -> i64 {
    #[cfg(feature = "internals")]
    if let Some(simulated) = crate::world::ask(|world| world.since_boot_ns()) {
        return simulated;
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// A moment, by both clocks of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    wall_ns: i64,
    since_boot_ns: i64,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self { wall_ns: now_ns(), since_boot_ns: since_boot_ns() }
    }

    /// How long ago it was, by the clock that says more: the one since the boot stands still while a virtual machine is
    /// paused, and the other may be set back.
    pub fn elapsed(&self) -> Duration {
        let now = Self::now();
        let passed = |now: i64, then: i64| now.saturating_sub(then).max(0) as u64;
        let ns = passed(now.wall_ns, self.wall_ns).max(passed(now.since_boot_ns, self.since_boot_ns));
        Duration::from_nanos(ns)
    }
}

/// The time in milliseconds since 1970 UTC, by this machine's clock; a clock before that says 0.
pub fn now_ms() -> u64 {
    now_ns().max(0) as u64 / 1_000_000
}

/// Who runs this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentUser {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The user's name, if the system knows one.
    pub name: Option<Arc<str>>,
}

/// Who runs this process, by its effective ids.
pub fn current_user() -> CurrentUser {
    let uid = rustix::process::geteuid().as_raw();
    CurrentUser { uid, gid: rustix::process::getegid().as_raw(), name: look_up_user(uid) }
}

/// Names of users and groups, each asked of the system once: a lookup may go over the network.
/// A lookup that fails is remembered as a user without a name.
#[derive(Debug, Default)]
pub struct Names {
    users: Cache<u32, Arc<str>>,
    groups: Cache<u32, Arc<str>>,
    user_ids: Cache<Arc<str>, u32>,
    group_ids: Cache<Arc<str>, u32>,
}

impl Names {
    /// Nothing is asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the user with this id.
    pub fn user(&self, uid: u32) -> Option<Arc<str>> {
        self.users.get(&uid, || look_up_user(uid))
    }

    /// The name of the group with this id.
    pub fn group(&self, gid: u32) -> Option<Arc<str>> {
        self.groups.get(&gid, || nix::unistd::Group::from_gid(gid.into()).ok().flatten().map(|group| group.name.into()))
    }

    /// The id of the user with this name.
    pub fn user_id(&self, name: &str) -> Option<u32> {
        self.user_ids
            .get(&Arc::from(name), || nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()))
    }

    /// The id of the group with this name.
    pub fn group_id(&self, name: &str) -> Option<u32> {
        self.group_ids.get(&Arc::from(name), || {
            nix::unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
        })
    }
}

fn look_up_user(uid: u32) -> Option<Arc<str>> {
    nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name.into())
}

/// Answers, also negative ones, to questions asked once.
#[derive(Debug)]
struct Cache<K, V>(Mutex<HashMap<K, Option<V>>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + std::hash::Hash + Clone, V: Clone> Cache<K, V> {
    fn get(&self, key: &K, ask: impl FnOnce() -> Option<V>) -> Option<V> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(key.clone()).or_insert_with(ask).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_ended_one_is_not() {
        assert!(process_is_alive(process_id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = child.id();
        child.wait().unwrap();
        assert!(!process_is_alive(process));
        assert!(!process_is_alive(0) && !process_is_alive(u32::MAX));
    }

    #[test]
    fn a_process_began_once() {
        let start = process_start(process_id()).unwrap();
        assert_eq!(process_start(process_id()), Some(start));
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        assert!(process_start(child.id()).unwrap() >= start);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(process_start(child.id()), None);
    }

    #[test]
    fn the_boot_id_is_the_same_each_time_and_not_zero() {
        assert_eq!(boot_id(), boot_id());
        assert_ne!(boot_id(), [0; 16]);
    }

    #[test]
    fn names_and_ids_lead_to_one_another() {
        let names = Names::new();
        assert_eq!(names.user(0).as_deref(), Some("root"));
        assert_eq!(names.user_id("root"), Some(0));
        assert_eq!(names.group_id(&names.group(0).unwrap()), Some(0));
        assert_eq!(names.user(3_999_999_999), None);
        assert_eq!(names.user_id("no such user"), None);
    }

    #[test]
    fn a_question_is_asked_once_even_if_the_answer_is_no() {
        let cache = Cache::<u32, u32>::default();
        assert_eq!(cache.get(&1, || None), None);
        assert_eq!(cache.get(&1, || unreachable!("asked already")), None);
    }
}
