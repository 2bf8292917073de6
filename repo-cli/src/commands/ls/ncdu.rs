//! A directory of a snapshot as `ncdu -f -` reads it: ncdu's own export, version 1.2, an array in an array
//! (<https://dev.yorhel.nl/ncdu/jsonfmt>). Names are written as they are, also where they are no UTF-8: so does ncdu, and
//! so it reads them.

use repo_core::{Node, NodeKind};

use crate::exit::Outcome;
use crate::output::Output;

/// What a size on disk is a multiple of, as `stat` counts.
const BLOCK_BYTES: u64 = 512;

/// An export that was begun. Entries come parents before children.
#[derive(Debug)]
pub struct Ncdu<'o> {
    output: &'o Output,
    /// Names in the path of the top.
    top: usize,
    /// Directories that are open, the top among them.
    open: usize,
}

impl<'o> Ncdu<'o> {
    /// Begins with the directory that is shown; the top of a snapshot has no node. `time` is the snapshot's, in seconds.
    pub fn begin(output: &'o Output, path: &[u8], node: Option<&Node>, time: i64) -> Outcome<Self> {
        let version = env!("CARGO_PKG_VERSION");
        let about = format!("[1,2,{{\"progname\":\"icecore\",\"progver\":\"{version}\",\"timestamp\":{time}}},");
        output.bytes(about.as_bytes())?;
        output.bytes(&[b"[", block(path, node).as_slice()].concat())?;
        Ok(Self { output, top: names(path), open: 1 })
    }

    /// Adds what lies under `path`, somewhere below the top.
    pub fn add(&mut self, path: &[u8], node: &Node) -> Outcome {
        let depth = names(path).saturating_sub(self.top);
        let mut line = vec![b']'; self.open.saturating_sub(depth)];
        self.open = depth;
        line.push(b',');
        if node.metadata.kind == NodeKind::Directory {
            line.push(b'[');
            self.open += 1;
        }
        line.extend(block(&node.name, Some(node)));
        self.output.bytes(&line)
    }

    /// Closes whatever is open. Without it the export is cut off, and ncdu refuses it.
    pub fn end(self) -> Outcome {
        self.output.bytes(&vec![b']'; self.open + 1])
    }
}

/// How many names lead to a path.
fn names(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count()
}

/// What is said of one entry.
fn block(name: &[u8], node: Option<&Node>) -> Vec<u8> {
    let mut block = b"{\"name\":\"".to_vec();
    for byte in name {
        match byte {
            b'"' | b'\\' => block.extend([b'\\', *byte]),
            0..0x20 | 0x7F => block.extend(format!("\\u{byte:04x}").bytes()),
            _ => block.push(*byte),
        }
    }
    block.push(b'"');
    if let Some(node) = node {
        block.extend(fields(node).bytes());
    }
    block.push(b'}');
    block
}

fn fields(node: &Node) -> String {
    let metadata = &node.metadata;
    let mut fields = String::new();
    if metadata.kind == NodeKind::File {
        let on_disk = metadata.size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        fields += &format!(",\"asize\":{},\"dsize\":{on_disk}", metadata.size);
    }
    fields += &format!(",\"dev\":{}", metadata.device);
    if metadata.links > 1 && metadata.kind != NodeKind::Directory {
        // Names of one file are counted once by these.
        fields += &format!(",\"ino\":{},\"hlnkc\":true,\"nlink\":{}", metadata.inode, metadata.links);
    }
    if !matches!(metadata.kind, NodeKind::File | NodeKind::Directory) {
        fields += ",\"notreg\":true";
    }
    let mode = kind_bits(metadata.kind) | metadata.mode;
    // ncdu takes no time before 1970.
    let modified = metadata.modified.seconds.max(0);
    fields + &format!(",\"uid\":{},\"gid\":{},\"mode\":{mode},\"mtime\":{modified}", metadata.uid, metadata.gid)
}

/// The kind as `st_mode` has it.
fn kind_bits(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::File => 0o100_000,
        NodeKind::Directory => 0o040_000,
        NodeKind::Symlink => 0o120_000,
        NodeKind::Fifo => 0o010_000,
        NodeKind::Socket => 0o140_000,
        NodeKind::BlockDevice => 0o060_000,
        NodeKind::CharDevice => 0o020_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_json_wants_and_otherwise_left_as_they_are() {
        assert_eq!(block(b"a\"b\\c\nd\x7f\xff", None), b"{\"name\":\"a\\\"b\\\\c\\u000ad\\u007f\xff\"}");
        assert_eq!([b"/".as_slice(), b"", b"/a", b"/a/b"].map(names), [0, 0, 1, 2]);
    }
}
