//! inode flags as words, those of libarchive; bsdtar writes and sets them.

/// `FS_*_FL` of linux/fs.h and what libarchive calls it; the first of several is written.
const WORDS: [(u32, &str); 18] = [
    (0x1, "securedeletion"),
    (0x2, "undel"),
    (0x4, "compress"),
    (0x8, "sync"),
    (0x10, "simmutable"),
    (0x10, "schg"),
    (0x10, "uchg"),
    (0x20, "sappnd"),
    (0x20, "uappnd"),
    (0x40, "nodump"),
    (0x80, "noatime"),
    (0x4000, "journal-data"),
    (0x8000, "notail"),
    (0x1_0000, "dirsync"),
    (0x2_0000, "topdir"),
    (0x80_0000, "nocow"),
    (0x200_0000, "dax"),
    (0x2000_0000, "projinherit"),
];

/// The words of all flags that have one, and the flags that have none.
pub fn to_words(flags: u32) -> (String, u32) {
    let mut left = flags;
    let mut words = Vec::new();
    for (bit, word) in WORDS {
        if left & bit != 0 {
            left &= !bit;
            words.push(word);
        }
    }
    (words.join(","), left)
}

/// The flags of words; those of other systems mean nothing here.
pub fn from_words(words: &[u8]) -> u32 {
    let words = words.split(|byte| matches!(byte, b',' | b' ' | b'\t'));
    let one = |word: &[u8]| WORDS.iter().find(|(_, known)| known.as_bytes() == word).map_or(0, |(bit, _)| *bit);
    words.fold(0, |flags, word| flags | one(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back_and_what_has_none_is_told() {
        for (bit, word) in WORDS {
            assert_eq!(from_words(word.as_bytes()), bit, "{word}");
            assert_eq!(from_words(to_words(bit).0.as_bytes()), bit);
        }
        assert_eq!(to_words(0x40 | 0x10 | 0x400), ("simmutable,nodump".to_owned(), 0x400));
        assert_eq!(from_words(b"nodump,hidden schg"), 0x40 | 0x10);
        assert_eq!(to_words(0), (String::new(), 0));
    }
}
