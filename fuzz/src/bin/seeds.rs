//! Writes `seeds/<target>/<vector>` from the golden vectors, and the few seeds that are made by hand. Those of `tar` are
//! archives of GNU tar, and are kept as they are.
//! Run it when a vector changes: `cargo run --bin seeds`.

use std::path::Path;

use icecore_fuzz::vectors;

/// Target, and the vectors that are its input as they stand.
const VECTORS: [(&str, &[&str]); 23] = [
    ("header", &["header", "sealed_pack", "sealed_keyring"]),
    ("marker", &["marker"]),
    ("mirror", &["mirror"]),
    ("key_slot", &["key_slot_argon2id", "key_slot_raw", "sealed_slot_password", "sealed_slot_key_file"]),
    ("slot_body", &["slot_body"]),
    ("config", &["config"]),
    ("keyring", &["keyring"]),
    ("session", &["session"]),
    ("damaged", &["damaged"]),
    ("mark", &["mark"]),
    ("pending", &["pending"]),
    ("plan", &["plan"]),
    ("done", &["done"]),
    ("tombstone", &["tombstone"]),
    ("forgotten", &["forgotten"]),
    ("snapshot", &["snapshot_full", "snapshot_incremental", "snapshot_differential"]),
    ("footer", &["footer"]),
    ("trailer", &["trailer"]),
    ("index_block", &["index_block"]),
    ("tree_node", &["tree_leaf", "tree_branch"]),
    ("list_node", &["list_leaf", "list_branch"]),
    ("xattrs", &["xattrs"]),
    ("parity", &["parity"]),
];

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    std::fs::create_dir_all(&folder).expect("seeds can be written");
    std::fs::write(folder.join(name), bytes).expect("seeds can be written");
}

fn main() {
    for (target, names) in VECTORS {
        for name in names {
            let mut bytes = vectors::read(name);
            if target == "header" {
                bytes.truncate(80);
            }
            if target == "footer" {
                // The target pads again.
                let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                bytes.truncate(length);
            }
            write(target, name, &bytes);
        }
    }
    object_names();
    let text = include_bytes!("../lib.rs");
    write("chunker", "text", &[&[0, 1], &text[..4000]].concat());
    write("chunker", "zeros", &[&[0b11_1_1_10, 2][..], &[0; 5000]].concat());
    sealed(&text[..500]);
}

fn object_names() {
    let id = "ab".repeat(32);
    let names = [
        "format".to_owned(),
        format!("keys/{}", &id[..32]),
        "keyring/0000000000000001".to_owned(),
        "config/ffffffffffffffff".to_owned(),
        format!("packs/d/ab/{id}"),
        format!("packs/m/ab/{id}"),
        format!("index/{id}"),
        format!("parity/ab/{id}.000b"),
        format!("snapshots/{}", &id[..32]),
        format!("sessions/{}", &id[..32]),
        format!("sessions/{}.r0001", &id[..32]),
        "gc/0000000000000007.mark".to_owned(),
        "gc/0000000000000007.pending".to_owned(),
        "gc/0000000000000007.plan".to_owned(),
        "gc/0000000000000007.done".to_owned(),
        format!("forgotten/{}", &id[..32]),
        format!("damaged/{id}.0000"),
        format!("r/snapshots/{}", &id[..32]),
    ];
    for name in names {
        // The beginning tells where it lies; the end tells two of one folder apart.
        let end = name.rsplit_once('.').map_or(String::new(), |(_, end)| format!("-{end}"));
        let short = format!("{}{end}", &name.replace('/', "-")[..name.len().min(12)]);
        write("object_name", &short, name.as_bytes());
    }
}

fn sealed(text: &[u8]) {
    let of = |what: u8, bytes: &[u8]| [&[what], bytes].concat();
    write("seal", "session", &of(0, &vectors::read("sealed_session")));
    write("seal", "config", &of(1, &vectors::read("sealed_config")));
    write("seal", "pack", &of(2, &vectors::read("sealed_pack")));
    write("seal", "frame_raw", &of(4, &[&[5, 0, 0, 0], &b"hello"[..]].concat()));
    // One zstd frame (RFC 8878): magic, single segment of 5 bytes, a last raw block of 5 bytes.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 0x29, 0, 0, b'h', b'e', b'l', b'l', b'o'];
    write("seal", "frame_zstd", &of(4, &[&[5, 0, 0, 1], &zstd[..]].concat()));
    write("seal", "box_of", &of(5, b"payload"));
    write("seal", "pack_of", &of(6, text));
}
