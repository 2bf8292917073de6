//! POSIX access control lists: Linux keeps them as attributes in binary (`struct posix_acl_xattr_header` of its uapi
//! headers), tar tells them as text, as star does. Both are written, since bsdtar reads the text alone.

/// The version of the binary form.
const VERSION: u32 = 2;
/// Whom an entry is for. In both forms entries stand in this order.
const TAGS: [(u16, &str, bool); 6] = [
    (0x01, "user", false),
    (0x02, "user", true),
    (0x04, "group", false),
    (0x08, "group", true),
    (0x10, "mask", false),
    (0x20, "other", false),
];
/// The number of an entry that is for nobody by number.
const NOBODY: u32 = u32::MAX;
const PERMISSIONS: [(u16, char); 3] = [(4, 'r'), (2, 'w'), (1, 'x')];

/// The text of an attribute; `None` if it is none of the form known here.
pub fn to_text(value: &[u8]) -> Option<String> {
    let (version, mut entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() {
        return None;
    }
    let mut words = Vec::new();
    while let Some((entry, rest)) = entries.split_first_chunk::<8>() {
        entries = rest;
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let bits = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (_, word, numbered) = TAGS.iter().find(|(number, ..)| *number == tag)?;
        let whom = if *numbered { id.to_string() } else { String::new() };
        let allowed: String =
            PERMISSIONS.iter().map(|(bit, letter)| if bits & bit != 0 { *letter } else { '-' }).collect();
        words.push(format!("{word}:{whom}:{allowed}"));
    }
    entries.is_empty().then(|| words.join(","))
}

/// The attribute of a text; `None` if it is malformed, or names somebody without a number.
pub fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for line in text.split([',', '\n']) {
        let line = line.split(['\t', '#']).next().unwrap_or_default().trim();
        if !line.is_empty() {
            entries.push(entry(line)?);
        }
    }
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&bits.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Some(value)
}

/// Whether it says more than a mode does.
pub fn is_extended(value: &[u8]) -> bool {
    value.len() > 4 + 3 * 8
}

/// `word:whom:rwx`, with the number of whom behind it in star's form. `other` and `mask` may lack the second field.
fn entry(line: &str) -> Option<(u16, u32, u16)> {
    let fields: Vec<&str> = line.split(':').collect();
    let (word, whom, allowed, number) = match fields.as_slice() {
        [word @ ("mask" | "other" | "m" | "o"), allowed] => (*word, "", *allowed, None),
        [word, whom, allowed] => (*word, *whom, *allowed, None),
        [word, whom, allowed, number] => (*word, *whom, *allowed, Some(*number)),
        _ => return None,
    };
    let word = match word {
        "u" => "user",
        "g" => "group",
        "m" => "mask",
        "o" => "other",
        word => word,
    };
    let (tag, ..) = TAGS.iter().find(|(_, known, numbered)| *known == word && *numbered != whom.is_empty())?;
    let id = match (whom.is_empty(), number) {
        (true, _) => NOBODY,
        (false, Some(number)) => number.parse().ok()?,
        (false, None) => whom.parse().ok()?,
    };
    let bits =
        allowed.chars().try_fold(0, |bits, letter| match PERMISSIONS.iter().find(|(_, known)| *known == letter) {
            Some((bit, _)) => Some(bits | bit),
            None if letter == '-' => Some(bits),
            None => None,
        })?;
    Some((*tag, id, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "user::rw-,user:1000:r--,user:4294967294:-wx,group::r--,group:5:---,mask::rwx,other::--x";

    #[test]
    fn a_list_comes_back_from_its_text() {
        let value = from_text(TEXT.as_bytes()).expect("well formed");
        assert_eq!(value.len(), 4 + 7 * 8);
        assert_eq!(to_text(&value).as_deref(), Some(TEXT));
        assert!(is_extended(&value) && !is_extended(&from_text(b"user::rw-,group::r--,other::r--").expect("three")));
    }

    #[test]
    fn names_are_numbers_or_have_one_behind_them() {
        let value = from_text(b"other:r-x\nuser:lisa:r-x:502\t#effective:r--\nuser::rwx\ngroup::r-x\nmask::r-x")
            .expect("star's");
        assert_eq!(to_text(&value).as_deref(), Some("user::rwx,user:502:r-x,group::r-x,mask::r-x,other::r-x"));
        for bad in ["user:lisa:r-x", "user", "who::rwx", "user::rwz", "mask:5:rwx", "user:1:rwx:x", "a:b:c:d:e"] {
            assert_eq!(from_text(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(from_text(b"\xff"), None);
    }

    #[test]
    fn an_attribute_of_another_form_has_no_text() {
        for bad in [&b""[..], b"\x02\0\0\0", b"\x03\0\0\0\x01\0\x07\0\xff\xff\xff\xff", b"\x02\0\0\0\x01\0\x07\0\xff"] {
            assert_eq!(to_text(bad), None);
        }
    }
}
