//! What a person sees of each command: the sessions of `tests/transcripts` hold, and no command is without one.

use std::collections::BTreeSet;
use std::fs;

use icecore_tests::cli::{Cli, Runs};
use icecore_tests::transcript;

/// A test for each file.
macro_rules! transcripts {
    ($($name:ident)*) => {
        const FILES: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            transcript::holds(&format!("{}.md", stringify!($name).replace('_', "-")));
        })*
    };
}

transcripts! {
    backup cache cat check copy cross_check diff dump find forget generate init key list ls mirror mount prune recover repair
    restore rewrite snapshots stats tag undelete unlock version
}

#[test]
fn every_command_has_its_transcript() {
    let help = Cli::without_repository().command(&["--help"]).run().succeeds().out;
    let commands =
        help.split("Commands:\n").nth(1).and_then(|text| text.split("\n\n").next()).expect("a list of commands");
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: BTreeSet<String> = names.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
    assert!(names.len() > 25, "{commands}");
    let files: BTreeSet<String> = FILES.iter().map(|name| name.replace('_', "-")).collect();
    // `help` shows the help of the others.
    assert_eq!(names.iter().filter(|name| *name != "help").cloned().collect::<BTreeSet<_>>(), files);
}

#[test]
fn every_transcript_is_held() {
    let names = fs::read_dir(transcript::directory()).expect("the transcripts").flatten();
    let names = names.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".md").map(str::to_owned));
    let files: BTreeSet<String> = FILES.iter().map(|name| name.replace('_', "-")).collect();
    assert_eq!(names.filter(|name| name != "README").collect::<BTreeSet<_>>(), files);
}
