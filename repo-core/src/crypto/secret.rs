//! What people hold to open a repository: a password, a key file, or a recovery kit on paper.

use std::fmt;

use zeroize::Zeroizing;

use super::{SecretKey, random, recovery};
use crate::error::{Error, Result};
use crate::id::RepositoryId;

/// What opens a repository.
///
/// ```
/// use repo_core::Secret;
///
/// let typed = Secret::password("correct horse battery staple");
/// // For a machine: 32 random bytes, and the text of the file that keeps them.
/// let (key, file) = Secret::generate_key()?;
/// let read_back = Secret::from_key_file(file.as_bytes())?;
/// // None of them shows itself in a log.
/// assert_eq!(format!("{typed:?} {key:?} {read_back:?}"), "Secret(hidden) Secret(hidden) Secret(hidden)");
/// # Ok::<(), repo_core::Error>(())
/// ```
#[derive(Clone)]
pub enum Secret {
    /// A password; Argon2id makes a key of it.
    Password(Zeroizing<Vec<u8>>),
    /// 32 random bytes from a key file.
    Key(Zeroizing<[u8; 32]>),
    /// The root key itself, from a recovery kit: needs no key slot.
    RootKey(Zeroizing<[u8; 32]>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Secret {
    /// A password, exactly these bytes: whoever reads a line takes its end off first.
    pub fn password(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Password(Zeroizing::new(bytes.into()))
    }

    /// From a key file's whole contents: 32 raw bytes, or 64 hexadecimal digits with or without a line's end.
    ///
    /// # Errors
    /// [`Error::Usage`] for anything else: a file that is merely long enough is more likely the wrong file.
    pub fn from_key_file(contents: &[u8]) -> Result<Self> {
        if let Ok(key) = <[u8; 32]>::try_from(contents) {
            return Ok(Self::Key(Zeroizing::new(key)));
        }
        let digits = contents.strip_suffix(b"\n").unwrap_or(contents);
        let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
        hex_key(digits).map(Self::Key).ok_or_else(|| {
            let length = contents.len();
            let what = "32 raw bytes or 64 hexadecimal digits";
            Error::Usage(format!(
                "not a key file: it should hold {what}, and this one has {length} bytes of another kind"
            ))
        })
    }

    /// A new random key, and the text that makes a key file: 64 hexadecimal digits and a line's end.
    pub fn generate_key() -> Result<(Self, Zeroizing<String>)> {
        let key = Zeroizing::new(random::<32>()?);
        // Reserved at once: a string that grows leaves copies of the key behind.
        let mut text = Zeroizing::new(String::with_capacity(65));
        for byte in key.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).expect("four bits are a digit"));
            }
        }
        text.push('\n');
        Ok((Self::Key(key), text))
    }

    /// The text of a recovery kit, to be printed and kept: with it and the repository, everything opens.
    pub fn recovery_kit_text(root_key: &[u8; 32], repository: RepositoryId) -> Zeroizing<String> {
        recovery::encode(root_key, repository)
    }

    /// From the text of a recovery kit. White space, dashes, letter case, lines that begin with `#` and the numbers
    /// before its lines do not matter, nor the letters O, I and L where digits were meant.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the line that was damaged or mistyped.
    pub fn from_recovery_kit(text: &str) -> Result<Self> {
        recovery::decode(text).map(Self::RootKey).map_err(Error::Usage)
    }
}

fn hex_key(digits: &[u8]) -> Option<SecretKey> {
    if digits.len() != 64 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, pair) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(contents: &[u8]) -> Option<[u8; 32]> {
        match Secret::from_key_file(contents) {
            Ok(Secret::Key(key)) => Some(*key),
            _ => None,
        }
    }

    #[test]
    fn a_generated_key_file_reads_back() {
        let (secret, text) = Secret::generate_key().unwrap();
        let Secret::Key(key) = secret else { panic!("a key") };
        assert_eq!(key_of(text.as_bytes()), Some(*key));
        assert_eq!(text.trim_end(), hex::encode(*key));
    }

    #[test]
    fn a_key_file_is_32_bytes_or_64_digits() {
        let digits = "0123456789abcdef".repeat(4);
        let key = <[u8; 32]>::try_from(hex::decode(&digits).unwrap()).unwrap();
        for good in [digits.clone(), format!("{digits}\n"), format!("{digits}\r\n"), digits.to_uppercase()] {
            assert_eq!(key_of(good.as_bytes()), Some(key), "{good:?}");
        }
        assert_eq!(key_of(&key), Some(key));
        let bad = [
            String::new(),
            digits[1..].to_owned(),
            format!("{digits}0"),
            format!("{digits}\n\n"),
            format!(" {digits}"),
            digits.replace('a', "g"),
            digits.replacen("01", "+1", 1),
        ];
        for bad in bad {
            assert_eq!(key_of(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(key_of(&[1; 31]), None);
        assert_eq!(key_of(&[1; 33]), None);
    }

    #[test]
    fn a_recovery_kit_reads_back_as_the_root_key() {
        let root_key = crate::crypto::testing::ROOT_SECRET;
        let kit = Secret::recovery_kit_text(&root_key, RepositoryId([7; 16]));
        match Secret::from_recovery_kit(&kit) {
            Ok(Secret::RootKey(key)) => assert_eq!(*key, root_key),
            other => panic!("not a root key: {other:?}"),
        }
    }

    #[test]
    fn secrets_do_not_show_themselves() {
        assert_eq!(format!("{:?}", Secret::password("hunter2")), "Secret(hidden)");
    }
}
