//! A line up to the cursor, as words; and a candidate as the shell puts it in. bash gives the whole line, since it splits words
//! also at `:` and `=`, and replaces only what comes after.

use std::ffi::{OsStr, OsString};

use repo_core::system::path_from_bytes;

/// What was typed before the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    /// The words from the program on; the last is the one that is completed.
    pub words: Vec<OsString>,
    /// How the last word is written; `None`: the shell sees to that.
    line: Option<Writing>,
}

/// How bash has the last word.
#[derive(Debug, Default, PartialEq, Eq)]
struct Writing {
    /// The quote that it is in.
    quote: Option<u8>,
    /// Bytes of the word that stand before what bash replaces.
    kept_bytes: usize,
}

impl Typed {
    /// Words as the shell has them.
    pub(super) fn of_words(words: Vec<OsString>) -> Self {
        Self { words, line: None }
    }

    /// The words of the last command of a line, quotes and backslashes taken away. `breaks` are the letters at which bash begins
    /// another word.
    pub(super) fn of_line(line: &OsStr, breaks: &str) -> Self {
        let (mut words, mut word, mut writing) = (Vec::new(), Vec::new(), Writing::default());
        let (mut is_escaped, mut is_begun) = (false, false);
        for byte in line.as_encoded_bytes() {
            let breaks_here = matches!(byte, b':' | b'=') && breaks.as_bytes().contains(byte);
            match (byte, writing.quote) {
                _ if is_escaped => {
                    is_escaped = false;
                    // Within double quotes a backslash stands for itself before most letters.
                    if writing.quote.is_some() && !matches!(byte, b'"' | b'\\' | b'$' | b'`') {
                        word.push(b'\\');
                    }
                    word.push(*byte);
                }
                (b'\\', None | Some(b'"')) => (is_escaped, is_begun) = (true, true),
                (quote, Some(open)) if *quote == open => writing.quote = None,
                (_, Some(_)) => word.push(*byte),
                (b'\'' | b'"', None) => {
                    (writing.quote, is_begun) = (Some(*byte), true);
                    // What is replaced begins behind the quote.
                    writing.kept_bytes = word.len();
                }
                (b' ' | b'\t', None) => {
                    if is_begun || !word.is_empty() {
                        words.push(path_from_bytes(std::mem::take(&mut word)).into_os_string());
                    }
                    (writing, is_begun) = (Writing::default(), false);
                }
                (b';' | b'|' | b'&', None) => {
                    words.clear();
                    word.clear();
                    (writing, is_begun) = (Writing::default(), false);
                }
                _ => {
                    word.push(*byte);
                    if breaks_here {
                        writing.kept_bytes = word.len();
                    }
                }
            }
        }
        // Variables that are set for the command alone.
        let before = words.iter().take_while(|word| is_assignment(word)).count();
        words.drain(..before);
        words.push(path_from_bytes(word).into_os_string());
        Self { words, line: Some(writing) }
    }

    /// What takes the place of the last word; `None` for what cannot stand in a line of its own.
    pub(super) fn replacement(&self, candidate: &[u8]) -> Option<Vec<u8>> {
        if candidate.iter().any(|byte| matches!(byte, b'\n' | b'\t' | b'\r')) {
            return None;
        }
        let Some(writing) = &self.line else { return Some(candidate.to_vec()) };
        let rest = candidate.get(writing.kept_bytes..)?;
        match writing.quote {
            Some(_) => Some(rest.to_vec()),
            None => Some(escaped(rest)),
        }
    }
}

/// `NAME=value`, which is no command.
fn is_assignment(word: &OsStr) -> bool {
    let bytes = word.as_encoded_bytes();
    let name = bytes.iter().position(|byte| *byte == b'=').map(|end| &bytes[..end]);
    name.is_some_and(|name| !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'))
}

/// With a backslash before what bash would not take as it is.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"/._-+:=@%,^".contains(byte);
        if !is_plain || *byte == b'~' && at == 0 {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> (Vec<String>, Typed) {
        let typed = Typed::of_line(OsStr::new(line), " \t\n\"'><=;|&(:");
        (typed.words.iter().map(|word| word.to_string_lossy().into_owned()).collect(), typed)
    }

    #[test]
    fn a_line_is_split_as_bash_does_but_for_colons() {
        let cases: [(&str, &[&str]); 11] = [
            ("icecore ", &["icecore", ""]),
            ("icecore  ls   latest:/a", &["icecore", "ls", "latest:/a"]),
            ("icecore ls 'a b' \"c \\\" d\" e\\ f", &["icecore", "ls", "a b", "c \" d", "e f"]),
            ("icecore ls 'open wor", &["icecore", "ls", "open wor"]),
            ("icecore ls \"a\\b", &["icecore", "ls", "a\\b"]),
            ("icecore --repo=/x ls", &["icecore", "--repo=/x", "ls"]),
            ("icecore ls '' ", &["icecore", "ls", "", ""]),
            ("cd /x && icecore l", &["icecore", "l"]),
            ("echo;icecore l", &["icecore", "l"]),
            ("A_B=1 X= icecore l", &["icecore", "l"]),
            ("", &[""]),
        ];
        for (line, words) in cases {
            assert_eq!(typed(line).0, words, "{line}");
        }
    }

    #[test]
    fn what_bash_replaces_is_what_it_is_given() {
        let replaced = |line: &str, candidate: &str| {
            typed(line).1.replacement(candidate.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("text"))
        };
        assert_eq!(replaced("icecore ls latest:/e", "latest:/etc/").as_deref(), Some("/etc/"));
        assert_eq!(replaced("icecore ls lat", "latest").as_deref(), Some("latest"));
        assert_eq!(replaced("icecore --repo=/b", "--repo=/back up").as_deref(), Some("/back\\ up"));
        assert_eq!(replaced("icecore ls 'latest:/a", "latest:/a b").as_deref(), Some("latest:/a b"));
        assert_eq!(replaced("icecore ls latest:/", "latest:/two\nlines"), None);
        assert_eq!(replaced("icecore ls latest:/", "latest:/$(x)'").as_deref(), Some("/\\$\\(x\\)\\'"));
        let words = Typed::of_words(vec!["icecore".into(), "ls".into()]);
        assert_eq!(words.replacement(b"latest:/a b").as_deref(), Some(&b"latest:/a b"[..]));
    }
}
