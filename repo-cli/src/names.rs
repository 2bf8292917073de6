//! Names from a backup, shown to people: what could move a cursor or feign another name is written as an escape.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

/// A name that is safe to print. A harmless one stands as it is; any other in double quotes with backslash escapes,
/// and so does one that begins with a quote: what is shown means one name only.
pub fn shown(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.starts_with('"') && text.chars().all(is_harmless) => Cow::Borrowed(text),
        _ => Cow::Owned(quoted(name)),
    }
}

/// A path that is safe to print.
pub fn path(path: &Path) -> Cow<'_, str> {
    shown(path.as_os_str().as_encoded_bytes())
}

/// A path as a shell reads it back; what could not stand on a terminal as `$'…'`, of POSIX 2024.
pub fn for_shell(path: &Path) -> Cow<'_, str> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.chars().all(is_harmless)
    {
        return shell_words::quote(text);
    }
    let mut out = String::from("$'");
    for byte in bytes {
        match byte {
            b'\'' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            // Three octal digits end by themselves, hexadecimal ones would take in a digit that follows.
            _ => write!(out, "\\{byte:03o}").expect("a String takes everything"),
        }
    }
    out.push('\'');
    Cow::Owned(out)
}

/// Words of others (an error's text, a host name) that are safe to print: on one line, without escapes of a terminal.
pub fn words(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|letter| push(&mut out, letter));
    Cow::Owned(out)
}

fn quoted(name: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => out.extend(['\\', letter]),
                _ => push(&mut out, letter),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a String takes everything");
        }
    }
    out.push('"');
    out
}

fn push(out: &mut String, letter: char) {
    match letter {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        _ if is_harmless(letter) => out.push(letter),
        _ if letter.is_ascii() => write!(out, "\\x{:02x}", u32::from(letter)).expect("a String takes everything"),
        _ => write!(out, "\\u{{{:x}}}", u32::from(letter)).expect("a String takes everything"),
    }
}

/// Neither a control character nor one that reorders, hides or breaks the text around it.
fn is_harmless(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(shown("grün \\ text".as_bytes()), "grün \\ text");
        assert_eq!(shown(b"a\x1b[2Jb"), r#""a\x1b[2Jb""#);
        assert_eq!(shown(b"line\nbreak"), r#""line\nbreak""#);
        assert_eq!(shown(b"\xff\\"), r#""\xff\\""#);
        assert_eq!(shown("a\u{202e}b".as_bytes()), r#""a\u{202e}b""#);
        assert_eq!(shown("\u{9b}2J".as_bytes()), r#""\u{9b}2J""#);
        assert_eq!(words("one\ntwo \x07"), r"one\ntwo \x07");
    }

    #[test]
    fn a_path_for_the_shell_is_quoted_only_where_it_must() {
        let quoted = |bytes: &[u8]| for_shell(&repo_core::system::path_from_bytes(bytes.to_vec())).into_owned();
        assert_eq!(quoted(b"/a/b"), "/a/b");
        assert_eq!(quoted(b"/a b"), "'/a b'");
        assert_eq!(quoted(b"a'\xff1\x1b\n\\"), r"$'a\'\3771\033\012\\'");
    }

    #[test]
    fn two_names_are_never_shown_alike() {
        assert_ne!(shown(b"\"a\\x1b\""), shown(b"a\x1b"));
        assert_ne!(shown(b"\xff"), shown(b"\\xff"));
    }
}
