//! The header of 512 bytes that each member has.
//!
//! Numbers are octal text. Where one does not fit, this writes it as GNU tar does, in binary with the top bit set, besides
//! the extended header that says it in text: so it is right for readers that know one of the two.

use std::io;

use super::BLOCK_BYTES;
use crate::archive::malformed;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// `0` a file, `5` a directory, `x` an extended header, and so on.
    pub kind: u8,
    /// Of a POSIX header with what stands in its prefix.
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    /// All bits as they stand.
    pub mode: u32,
    pub uid: i64,
    pub gid: i64,
    /// Bytes of content that follow.
    pub size: i64,
    /// Seconds since 1970.
    pub modified: i64,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub major: i64,
    pub minor: i64,
}

/// Where the fields lie: offset and length.
mod field {
    pub const NAME: (usize, usize) = (0, 100);
    pub const MODE: (usize, usize) = (100, 8);
    pub const UID: (usize, usize) = (108, 8);
    pub const GID: (usize, usize) = (116, 8);
    pub const SIZE: (usize, usize) = (124, 12);
    pub const MODIFIED: (usize, usize) = (136, 12);
    pub const CHECKSUM: (usize, usize) = (148, 8);
    pub const KIND: usize = 156;
    pub const LINK: (usize, usize) = (157, 100);
    pub const MAGIC: (usize, usize) = (257, 8);
    pub const USER: (usize, usize) = (265, 32);
    pub const GROUP: (usize, usize) = (297, 32);
    pub const MAJOR: (usize, usize) = (329, 8);
    pub const MINOR: (usize, usize) = (337, 8);
    pub const PREFIX: (usize, usize) = (345, 155);
}

/// The longest names that the fields hold.
pub const NAME_BYTES_MAX: usize = field::NAME.1;
/// As `NAME_BYTES_MAX`, of users and groups: these end with a NUL.
pub const OWNER_BYTES_MAX: usize = field::USER.1 - 1;

const MAGIC_POSIX: &[u8] = b"ustar\x0000";
const MAGIC_GNU: &[u8] = b"ustar  \0";

type Block = [u8; BLOCK_BYTES];

impl Header {
    /// As POSIX writes it. Names that are too long are cut: an extended header has them whole.
    pub fn encode(&self) -> Block {
        let mut block = [0; BLOCK_BYTES];
        put_bytes(&mut block, field::NAME, &self.name);
        put_number(&mut block, field::MODE, self.mode.into());
        put_number(&mut block, field::UID, self.uid);
        put_number(&mut block, field::GID, self.gid);
        put_number(&mut block, field::SIZE, self.size);
        put_number(&mut block, field::MODIFIED, self.modified);
        block[field::KIND] = self.kind;
        put_bytes(&mut block, field::LINK, &self.link);
        put_bytes(&mut block, field::MAGIC, MAGIC_POSIX);
        put_bytes(&mut block, field::USER, &self.user[..self.user.len().min(OWNER_BYTES_MAX)]);
        put_bytes(&mut block, field::GROUP, &self.group[..self.group.len().min(OWNER_BYTES_MAX)]);
        put_number(&mut block, field::MAJOR, self.major);
        put_number(&mut block, field::MINOR, self.minor);
        let sum = checksums(&block).0;
        put_bytes(&mut block, field::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        block
    }

    /// `None`: a block of zeros, which ends an archive.
    pub fn decode(block: &Block) -> io::Result<Option<Self>> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (unsigned, signed) = checksums(block);
        let sum = number(block, field::CHECKSUM, "checksum")?;
        // Some of the first programs added bytes as signed numbers.
        if sum != unsigned && sum != signed {
            return Err(malformed("the checksum of a header is wrong"));
        }
        let magic = bytes(block, field::MAGIC);
        let (is_posix, is_gnu) = (magic.starts_with(b"ustar\0"), magic == MAGIC_GNU);
        let mut name = text(block, field::NAME).to_vec();
        let prefix = text(block, field::PREFIX);
        if is_posix && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let has_owners = is_posix || is_gnu;
        let owner = |field| if has_owners { text(block, field).to_vec() } else { Vec::new() };
        let device = |field| if has_owners { number(block, field, "device number") } else { Ok(0) };
        Ok(Some(Self {
            kind: block[field::KIND],
            name,
            link: text(block, field::LINK).to_vec(),
            mode: number(block, field::MODE, "mode")? as u32,
            uid: number(block, field::UID, "owner")?,
            gid: number(block, field::GID, "group")?,
            size: number(block, field::SIZE, "size")?,
            modified: number(block, field::MODIFIED, "time")?,
            user: owner(field::USER),
            group: owner(field::GROUP),
            major: device(field::MAJOR)?,
            minor: device(field::MINOR)?,
        }))
    }
}

fn bytes(block: &Block, (offset, length): (usize, usize)) -> &[u8] {
    &block[offset..offset + length]
}

/// Up to the first NUL.
fn text(block: &Block, field: (usize, usize)) -> &[u8] {
    let bytes = bytes(block, field);
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}

/// As much as fits.
fn put_bytes(block: &mut Block, (offset, length): (usize, usize), bytes: &[u8]) {
    let length = length.min(bytes.len());
    block[offset..offset + length].copy_from_slice(&bytes[..length]);
}

/// Octal digits and a NUL, or where these do not fit two's complement, the first bit set.
fn put_number(block: &mut Block, (offset, length): (usize, usize), value: i64) {
    let out = &mut block[offset..offset + length];
    let digits = length - 1;
    if (0..1i64 << (3 * digits)).contains(&value) {
        out[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
        return;
    }
    out.fill(if value < 0 { 0xff } else { 0 });
    let bytes = value.to_be_bytes();
    // A field of eight bytes is as wide as the number: its first bit is the mark then, which no number here needs.
    let kept = bytes.len().min(length);
    out[length - kept..].copy_from_slice(&bytes[bytes.len() - kept..]);
    out[0] |= 0x80;
}

/// A number in either spelling. An empty field is 0.
pub fn number_of(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign.
        let start = if first & 0x40 != 0 { -1i128 } else { 0 };
        let mut value = start << 6 | i128::from(first & 0x3f);
        for byte in &field[1..] {
            value = value << 8 | i128::from(*byte);
        }
        return i64::try_from(value).ok();
    }
    let is_blank = |byte: &u8| matches!(*byte, b' ' | 0);
    let begin = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let rest = &field[begin..];
    let digits = &rest[..rest.iter().position(is_blank).unwrap_or(rest.len())];
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn number(block: &Block, field: (usize, usize), what: &str) -> io::Result<i64> {
    number_of(bytes(block, field)).ok_or_else(|| malformed(format!("the {what} in a header is no number")))
}

/// The sum of all bytes, those of the checksum itself counted as blanks: as unsigned, and as signed numbers.
fn checksums(block: &Block) -> (i64, i64) {
    let (from, length) = field::CHECKSUM;
    let counted = |at: usize| if (from..from + length).contains(&at) { b' ' } else { block[at] };
    (0..BLOCK_BYTES).fold((0, 0), |(unsigned, signed), at| {
        let byte = counted(at);
        (unsigned + i64::from(byte), signed + i64::from(byte as i8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            kind: b'0',
            name: b"some/name".to_vec(),
            link: b"target".to_vec(),
            mode: 0o4755,
            uid: 1000,
            gid: 2_097_151,
            size: 8_589_934_591,
            modified: 1_600_000_000,
            user: b"someone".to_vec(),
            group: b"some".to_vec(),
            major: 8,
            minor: 1,
        }
    }

    #[test]
    fn what_is_written_is_read_also_where_octal_is_too_short() {
        assert_eq!(Header::decode(&sample().encode()).unwrap(), Some(sample()));
        for value in [-1, -62_135_596_800, 1 << 33, 1 << 40, i64::from(u32::MAX)] {
            let header = Header { modified: value, size: value, uid: value, gid: value, ..sample() };
            assert_eq!(Header::decode(&header.encode()).unwrap(), Some(header));
        }
    }

    #[test]
    fn numbers_have_two_spellings_and_no_third() {
        assert_eq!(number_of(b"0000644\0"), Some(0o644));
        assert_eq!(number_of(b"   644 \0"), Some(0o644));
        assert_eq!(number_of(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number_of(b"0000648\0"), None);
        assert_eq!(number_of(b"-000001\0"), None);
        assert_eq!(number_of(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number_of(&[0xff; 12]), Some(-1));
        let far = [0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(number_of(&far), None, "over 2^63");
    }

    #[test]
    fn a_changed_header_is_noticed_and_zeros_are_an_end() {
        assert_eq!(Header::decode(&[0; BLOCK_BYTES]).unwrap(), None);
        let mut block = sample().encode();
        block[3] ^= 1;
        assert!(Header::decode(&block).is_err());
    }

    #[test]
    fn the_prefix_counts_where_posix_has_one() {
        let mut block = sample().encode();
        block[345..349].copy_from_slice(b"far/");
        block[348] = 0;
        let resum = |block: &mut Block| {
            let sum = checksums(block).0;
            put_bytes(block, field::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        };
        resum(&mut block);
        assert_eq!(Header::decode(&block).unwrap().unwrap().name, b"far/some/name");
        put_bytes(&mut block, field::MAGIC, MAGIC_GNU);
        resum(&mut block);
        assert_eq!(Header::decode(&block).unwrap().unwrap().name, b"some/name", "GNU has times there");
    }
}
