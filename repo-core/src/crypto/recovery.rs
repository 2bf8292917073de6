//! The recovery kit: the root key as five lines that a person can copy by hand.
//!
//! A line is 8 bytes and 2 check bytes in Crockford's base 32, four groups of four letters. Lines 1 to 4 hold the key;
//! line 5 a hash of it, so that lines of two kits do not pass for one. The check bytes tell which line was mistyped.

use zeroize::Zeroizing;

use super::{SecretKey, derive};
use crate::id::RepositoryId;

/// Crockford's digits: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LINES: usize = 5;
/// Bytes of the key, or of its hash, in a line.
const LINE_BYTES: usize = 8;
/// Digits of a line: (8 + 2) × 8 / 5.
const LINE_DIGITS: usize = 16;

/// The printable text: comments begin with `#`.
pub(super) fn encode(root_key: &[u8; 32], repository: RepositoryId) -> Zeroizing<String> {
    // Reserved at once: a string that grows leaves copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(1024));
    text.push_str("# icecore recovery kit\n");
    text.push_str(&format!("# repository {repository}\n"));
    text.push_str("# Whoever has these five lines and the repository can read everything in it.\n");
    for (number, content) in contents(root_key).chunks_exact(LINE_BYTES).enumerate() {
        let check = check_bytes(number, content);
        text.push(char::from(b'1' + number as u8));
        text.push(':');
        push_digits(content.iter().chain(&check), &mut text);
        text.push('\n');
    }
    text.push_str("# end of the recovery kit\n");
    text
}

/// The key, or what is wrong with the text.
pub(super) fn decode(text: &str) -> Result<SecretKey, String> {
    let digits = read_digits(text)?;
    if digits.len() != LINES * LINE_DIGITS {
        return Err(wrong_length(text, digits.len()));
    }
    let mut all = Zeroizing::new([0; LINES * LINE_BYTES]);
    for (number, line) in digits.chunks_exact(LINE_DIGITS).enumerate() {
        let bytes = line_bytes(line);
        let (content, check) = bytes.split_at(LINE_BYTES);
        if *check != check_bytes(number, content) {
            return Err(format!("line {} of the recovery kit is mistyped or damaged", number + 1));
        }
        all[number * LINE_BYTES..][..LINE_BYTES].copy_from_slice(content);
    }
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&all[..32]);
    if *contents(&key) != *all {
        return Err("the lines of the recovery kit do not belong together".to_owned());
    }
    Ok(key)
}

/// What the lines hold: the key, then a hash of it.
fn contents(root_key: &[u8; 32]) -> Zeroizing<[u8; LINES * LINE_BYTES]> {
    let mut all = Zeroizing::new([0; LINES * LINE_BYTES]);
    all[..32].copy_from_slice(root_key);
    all[32..].copy_from_slice(&derive("recovery kit", root_key)[..LINE_BYTES]);
    all
}

/// Two bytes that a slip in this line, or its place among the others, changes (but for one in 65,536).
fn check_bytes(number: usize, content: &[u8]) -> [u8; 2] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"icecore recovery kit line").update(&[number as u8]).update(content);
    hasher.finalize().as_bytes()[..2].try_into().expect("2 of 32 bytes")
}

fn push_digits<'b>(bytes: impl Iterator<Item = &'b u8>, text: &mut String) {
    let (mut bits, mut count, mut written) = (0_u32, 0, 0_usize);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            if written % 4 == 0 {
                text.push(' ');
            }
            text.push(char::from(DIGITS[(bits >> count & 31) as usize]));
            written += 1;
        }
    }
}

fn line_bytes(digits: &[u8]) -> Zeroizing<[u8; 10]> {
    let mut bytes = Zeroizing::new([0; 10]);
    let (mut bits, mut count, mut place) = (0_u32, 0, 0);
    for digit in digits {
        bits = bits << 5 | u32::from(*digit);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes[place] = (bits >> count) as u8;
            place += 1;
        }
    }
    bytes
}

/// The values of all digits, without comments, labels and white space.
fn read_digits(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut digits = Zeroizing::new(Vec::with_capacity(LINES * LINE_DIGITS));
    for letter in data_lines(text).flat_map(letters) {
        let value = digit_value(letter).ok_or_else(|| {
            let line = digits.len() / LINE_DIGITS + 1;
            format!("line {line} of the recovery kit has '{letter}', which no line has")
        })?;
        if digits.len() == LINES * LINE_DIGITS {
            return Err(wrong_length(text, data_lines(text).flat_map(letters).count()));
        }
        digits.push(value);
    }
    Ok(digits)
}

/// Lines that are neither comments nor empty.
fn data_lines(text: &str) -> impl Iterator<Item = &str> {
    text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The letters of a line behind its label.
fn letters(line: &str) -> impl Iterator<Item = char> {
    let behind_label = line.split_once(':').map_or(line, |(_, rest)| rest);
    behind_label.chars().filter(|letter| !letter.is_whitespace() && *letter != '-')
}

fn digit_value(letter: char) -> Option<u8> {
    let letter = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    DIGITS.iter().position(|digit| char::from(*digit) == letter).map(|value| value as u8)
}

/// Says where letters are missing or too many, if the lines are still lines.
fn wrong_length(text: &str, letters_found: usize) -> String {
    let lengths: Vec<_> = data_lines(text).map(|line| letters(line).count()).collect();
    match lengths.iter().position(|length| *length != LINE_DIGITS) {
        Some(line) if lengths.len() == LINES => {
            let length = lengths[line];
            format!("line {} of the recovery kit has {length} letters and digits, not {LINE_DIGITS}", line + 1)
        }
        _ => format!("the recovery kit has {letters_found} letters and digits, not {}", LINES * LINE_DIGITS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::counting_from;

    fn kit() -> Zeroizing<String> {
        encode(&counting_from(0), RepositoryId([0xab; 16]))
    }

    /// The five lines without comments and labels.
    fn lines() -> Vec<String> {
        data_lines(&kit()).map(|line| letters(line).collect()).collect()
    }

    fn error(text: &str) -> String {
        decode(text).unwrap_err()
    }

    #[test]
    fn a_kit_reads_as_it_is_written_down_here() {
        assert_eq!(kit().as_str(), GOLDEN);
    }

    const GOLDEN: &str = "\
# icecore recovery kit
# repository abababababababababababababababab
# Whoever has these five lines and the repository can read everything in it.
1: 000G 40R4 0M30 EEPB
2: 104G M2RC 1M70 ZVMX
3: 208H 44RM 2MB1 FTW7
4: 30CH M6RW 3MF1 YAYA
5: QP1F AS10 J3RP 2MTV
# end of the recovery kit
";

    #[test]
    fn a_kit_gives_the_key_back() {
        for seed in 0..=255_u8 {
            let key = *blake3::hash(&[seed]).as_bytes();
            assert_eq!(*decode(&encode(&key, RepositoryId([0; 16]))).unwrap(), key);
        }
    }

    #[test]
    fn space_case_comments_labels_and_lookalikes_do_not_matter() {
        let key = counting_from(0);
        let joined = lines().concat();
        let variants = [
            joined.clone(),
            joined.to_lowercase(),
            lines().join("\r\n"),
            joined.replace('0', "O").replace('1', "l"),
            joined.replace('1', "I").replace('0', "o"),
            kit().replace(' ', "").replace("#icecorerecoverykit", "# kept in the blue folder"),
            kit().replace(' ', "-").replace("#-", "# "),
            format!("\u{feff}\n\t {}  \n\n", kit().replace(' ', "\t ")),
            // Broken into other lines than it was printed in.
            joined.as_bytes().chunks(7).map(|group| str::from_utf8(group).unwrap()).collect::<Vec<_>>().join("\n"),
        ];
        for variant in variants {
            assert_eq!(decode(&variant).as_deref(), Ok(&key), "{variant}");
        }
    }

    #[test]
    fn a_wrong_letter_is_found_and_its_line_named() {
        for (number, line) in lines().iter().enumerate() {
            for place in 0..LINE_DIGITS {
                let mut wrong = lines();
                let replacement = if line.as_bytes()[place] == b'7' { "8" } else { "7" };
                wrong[number].replace_range(place..=place, replacement);
                let expected = format!("line {} of the recovery kit is mistyped or damaged", number + 1);
                assert_eq!(error(&wrong.join("\n")), expected);
            }
        }
    }

    #[test]
    fn exchanged_lines_letters_missing_and_foreign_letters_are_named() {
        let mut exchanged = lines();
        exchanged.swap(1, 2);
        assert_eq!(error(&exchanged.join("\n")), "line 2 of the recovery kit is mistyped or damaged");
        let mut short = lines();
        short[3].pop();
        assert_eq!(error(&short.join("\n")), "line 4 of the recovery kit has 15 letters and digits, not 16");
        let mut long = lines();
        long[0].push('A');
        assert_eq!(error(&long.join("\n")), "line 1 of the recovery kit has 17 letters and digits, not 16");
        assert_eq!(error(&lines()[..4].join("\n")), "the recovery kit has 64 letters and digits, not 80");
        assert_eq!(error(""), "the recovery kit has 0 letters and digits, not 80");
        // Typed without its line breaks: no line can be named.
        assert_eq!(error(&lines().concat()[1..]), "the recovery kit has 79 letters and digits, not 80");
        let mut foreign = lines();
        foreign[2].replace_range(0..1, "U");
        assert_eq!(error(&foreign.join("\n")), "line 3 of the recovery kit has 'U', which no line has");
    }

    #[test]
    fn lines_of_two_kits_do_not_pass_for_one() {
        let other = encode(&[9; 32], RepositoryId([0xab; 16]));
        let mut mixed = lines();
        mixed[0] = letters(data_lines(&other).next().unwrap()).collect();
        assert_eq!(error(&mixed.join("\n")), "the lines of the recovery kit do not belong together");
    }
}
