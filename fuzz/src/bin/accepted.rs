//! Counts what a target accepts of the files in folders: `accepted TARGET FOLDER…`. Fails if it is nothing: such a corpus
//! tests the first check of a decoder and no more.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("a target");
    let (_, target) = icecore_fuzz::TARGETS.into_iter().find(|(known, _)| *known == name).expect("a known target");
    let (mut accepted, mut files) = (0, 0);
    for folder in arguments {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let bytes = std::fs::read(entry.path()).expect("a corpus can be read");
            files += 1;
            accepted += usize::from(target(&bytes));
        }
    }
    println!("{name}: {accepted} of {files} inputs accepted");
    if accepted > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
