//! `backup --read-devices`: the content of a block device that is named, bit for bit; and nothing of the sort unasked.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use icecore_tests::cli::Cli;
use icecore_tests::privilege;
use icecore_tests::whole;
use serde_json::Value;

const SIZE: usize = 9 << 20;

/// A file as a block device.
struct Loop {
    device: String,
}

impl Loop {
    fn attach(image: &Path) -> Result<Self, String> {
        match Command::new("losetup").args(["--find", "--show"]).arg(image).output() {
            Ok(run) if run.status.success() => {
                Ok(Self { device: String::from_utf8_lossy(&run.stdout).trim().to_owned() })
            }
            Ok(run) => Err(String::from_utf8_lossy(&run.stderr).trim().to_owned()),
            Err(error) => Err(format!("losetup cannot be run: {error}")),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// Noise, many zeros, and noise up to an end that is no multiple of anything but a sector.
fn content() -> Vec<u8> {
    let mut content = whole::noise(1, 1 << 20);
    content.resize(SIZE - (1 << 20), 0);
    content.extend(whole::noise(2, 1 << 20));
    content.extend(whole::noise(3, 512 * 3));
    content
}

fn attached(cli: &Cli) -> Option<Loop> {
    if !privilege::is_root() {
        privilege::skip("loop", "only root attaches a device");
        return None;
    }
    cli.write("image", content());
    Loop::attach(&cli.path("image")).map_err(|why| privilege::skip("loop", &why)).ok()
}

fn node(cli: &Cli, path: &str) -> Value {
    let listed = cli.json(&["ls", "latest", "--recursive"]);
    listed.into_iter().find(|node| node["path"] == path).unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn the_content_of_a_device_comes_back_bit_for_bit_and_its_zeros_as_holes() {
    let cli = Cli::new();
    let Some(disk) = attached(&cli) else { return };
    let device = disk.device.as_str();
    let content = content();

    cli.run(&["backup", device]).succeeds();
    assert_eq!(node(&cli, device)["type"], "dev", "nobody asked for its content");

    cli.run(&["backup", "--read-devices", device]).succeeds();
    let stored = node(&cli, device);
    assert_eq!((&stored["type"], &stored["size"]), (&"file".into(), &content.len().into()));
    cli.run(&["restore", "latest", "-t", "back", "--sparse", "--verify"]).succeeds();
    let back = cli.path("back").join(device.trim_start_matches('/'));
    assert!(fs::read(&back).expect("it was restored") == content, "another content");
    let taken = fs::metadata(&back).expect("it was restored").blocks() * 512;
    assert!(taken < content.len() as u64 - (4 << 20), "{taken} bytes are taken");
    cli.run(&["check", "--read-data"]).succeeds();

    // What is written to a device leaves no time behind: it is read again, and what is new is stored.
    File::options()
        .write(true)
        .open(device)
        .expect("root opens it")
        .write_all_at(b"changed", 5 << 20)
        .expect("it is written");
    let lines = cli.json(&["backup", "--read-devices", "--ignore-ctime", device]);
    let added = lines.last().expect("a summary")["data_added"].as_u64().expect("a number");
    assert!((1..SIZE as u64 / 2).contains(&added), "{added} bytes added");
    let dumped = cli.command(&["dump", "latest", device]).output().expect("it runs").stdout;
    assert_eq!(&dumped[5 << 20..][..7], b"changed");
    assert_eq!(dumped.len(), content.len());
}

#[test]
fn a_link_that_is_named_leads_to_its_device_and_what_is_found_in_directories_stays_a_node() {
    let cli = Cli::new();
    let Some(disk) = attached(&cli) else { return };
    symlink(&disk.device, cli.path("volume")).expect("a link in our room");
    cli.write("source/file", "x");
    symlink(&disk.device, cli.path("source/link")).expect("a link in our room");
    symlink("nowhere", cli.path("dangling")).expect("a link in our room");
    let device = fs::metadata(&disk.device).expect("it is there").rdev();
    let (major, minor) = (rustix::fs::major(device).to_string(), rustix::fs::minor(device).to_string());
    let made = Command::new("mknod").arg(cli.path("source/node")).args(["b", &major, &minor]).status();
    if !made.is_ok_and(|status| status.success()) {
        return privilege::skip("devices", "mknod is refused");
    }
    cli.run(&["backup", "--read-devices", "volume", "source", "dangling"]).succeeds();
    let kinds = ["/volume", "/source/file", "/source/link", "/source/node", "/dangling"]
        .map(|path| node(&cli, path)["type"].as_str().expect("a kind").to_owned());
    assert_eq!(kinds, ["file", "file", "symlink", "dev", "symlink"]);
    assert_eq!(node(&cli, "/volume")["size"], content().len());
    // Under the name that is asked for, together with --as-path.
    cli.run(&["backup", "--read-devices", "--as-path", "/icecore-images/root.img", "volume"]).succeeds();
    assert_eq!(node(&cli, "/icecore-images/root.img")["size"], content().len());
}
