//! The pipeline is bounded in bytes, and yet never waits for bytes that nobody is about to give back.

use std::fs::File;
use std::os::unix::fs::FileExt;

use icecore_tests::bench::{Bench, options, published};
use icecore_tests::whole::noise;
use repo_core::{Mode, Silent};

/// A little data between the holes of a large file, each on its own in a segment: the frame at hand gathers chunks from
/// more segments than may be under way at once.
#[test]
fn a_frame_of_chunks_from_many_segments_holds_none_of_them_back() {
    const DISTANCE_BYTES: u64 = 2 << 20;
    let bench = Bench::new();
    std::fs::create_dir(bench.source()).unwrap();
    let file = File::create(bench.source().join("file")).unwrap();
    for piece in 0..24 {
        file.write_all_at(&noise(piece, 20_000), piece * DISTANCE_BYTES).unwrap();
    }
    file.set_len(24 * DISTANCE_BYTES).unwrap();
    let mut options = options(Mode::Full);
    options.memory_bytes = 0; // raised to the least that works
    let report = bench.open().backup(&bench.local_tree(), &options, &Silent).unwrap();
    assert_eq!(report.summary.processed_bytes, 24 * DISTANCE_BYTES);
    let restored = bench.restore(published(&report));
    let [before, after] = [bench.source(), restored.tree].map(|tree| std::fs::read(tree.join("file")).unwrap());
    assert!(before == after, "the file came back as another");
}
