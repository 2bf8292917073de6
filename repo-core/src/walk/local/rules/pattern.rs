//! One line of an ignore file, from git's notation to that of the library's matcher. The two differ in little things
//! that would leave out the wrong file: `{a,b}` is five letters to git, `[[:alpha:]]` a set, a backslash in a set takes
//! the meaning from what follows, no set stands for a `/`, and what is malformed matches nothing.
//!
//! Reference: gitignore(5), and the behaviour of git, against which tests/tests/ignore_files.rs holds it.

/// What a line says in the matcher's notation; `None`: nothing, it is empty or a comment.
///
/// Every result begins with `/` or `!/`, so that nothing more is read into it.
pub fn translate(line: &[u8]) -> Result<Option<String>, &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"#") {
        return Ok(None);
    }
    let line = without_trailing_spaces(line);
    if line.is_empty() {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let (negated, pattern) = match line.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (only_directories, pattern) = match pattern.strip_suffix('/') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    // A slash anywhere, in a set too, makes it a path from the ignore file's directory on.
    let is_path = pattern.contains('/');
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    if pattern.is_empty() {
        return Ok(None); // "/" and "!", which match nothing
    }
    let mut out = String::from(if negated { "!/" } else { "/" });
    if !is_path {
        out.push_str("**/");
    }
    body(pattern, is_path, &mut out)?;
    if only_directories {
        out.push('/');
    }
    Ok(Some(out))
}

/// Spaces at the end do not count, unless a backslash stands before them.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let (mut end, mut at) = (0, 0);
    while at < line.len() {
        match line[at] {
            b'\\' => {
                at = (at + 2).min(line.len());
                end = at;
            }
            b' ' => at += 1,
            _ => {
                at += 1;
                end = at;
            }
        }
    }
    &line[..end]
}

fn body(pattern: &str, is_path: bool, out: &mut String) -> Result<(), &'static str> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    while at < letters.len() {
        match letters[at] {
            '*' => {
                let end = at + letters[at..].iter().take_while(|letter| **letter == '*').count();
                // Any number of directories only as a whole name, and only in a path.
                let is_name = (at == 0 || letters[at - 1] == '/') && (end == letters.len() || letters[end] == '/');
                out.push_str(if end - at > 1 && is_name && is_path { "**" } else { "*" });
                at = end;
            }
            '?' => {
                out.push('?');
                at += 1;
            }
            '[' => at = set(&letters, at, out)?,
            '\\' => {
                let letter = *letters.get(at + 1).ok_or("a backslash at the end")?;
                literal(letter, out);
                at += 2;
            }
            letter => {
                literal(letter, out);
                at += 1;
            }
        }
    }
    Ok(())
}

/// A letter that stands for itself.
fn literal(letter: char, out: &mut String) {
    match letter {
        '/' => out.push('/'),
        // Where the matcher does not trim it from the line's end.
        letter if letter.is_whitespace() => out.extend(['{', letter, '}']),
        letter if letter.is_ascii_punctuation() => out.extend(['\\', letter]),
        letter => out.push(letter),
    }
}

/// The letters of a set; a letter beyond ASCII is a row of bytes to git, and so it is to the matcher.
struct Set {
    ascii: [bool; 128],
    others: Vec<char>,
}

/// Reads the set that begins at `at`, writes it, and says where it ends.
fn set(letters: &[char], at: usize, out: &mut String) -> Result<usize, &'static str> {
    const UNCLOSED: &str = "a [ that is not closed";
    let mut set = Set { ascii: [false; 128], others: Vec::new() };
    let get = |at: usize| letters.get(at).copied().ok_or(UNCLOSED);
    let mut at = at + 1;
    let negated = matches!(get(at)?, '!' | '^');
    at += usize::from(negated);
    let mut before: Option<char> = None;
    let mut first = true;
    loop {
        match get(at)? {
            ']' if !first => break,
            '\\' => {
                at += 1;
                before = Some(get(at)?);
                set.add(get(at)?);
            }
            '-' if before.is_some() && letters.get(at + 1).is_some_and(|next| *next != ']') => {
                at += 1;
                at += usize::from(get(at)? == '\\');
                set.add_range(before.take().expect("asked above"), get(at)?)?;
            }
            '[' if letters.get(at + 1) == Some(&':') => {
                let name_start = at + 2;
                let close =
                    letters[name_start..].iter().position(|letter| *letter == ']').ok_or(UNCLOSED)? + name_start;
                if close > name_start && letters[close - 1] == ':' {
                    set.add_class(&letters[name_start..close - 1].iter().collect::<String>())?;
                    before = None;
                    at = close;
                } else {
                    set.add('[');
                    before = Some('[');
                }
            }
            letter => {
                set.add(letter);
                before = Some(letter);
            }
        }
        first = false;
        at += 1;
    }
    set.write(negated, out);
    Ok(at + 1)
}

impl Set {
    fn add(&mut self, letter: char) {
        match self.ascii.get_mut(letter as usize) {
            Some(member) => *member = true,
            None => self.others.push(letter),
        }
    }

    /// One whose end comes before its beginning adds nothing; its first letter was added before it was known to be one.
    fn add_range(&mut self, low: char, high: char) -> Result<(), &'static str> {
        if !low.is_ascii() || !high.is_ascii() {
            return Err("a range in [ ] of letters that are not ASCII");
        }
        (low..=high).for_each(|letter| self.add(letter));
        Ok(())
    }

    fn add_class(&mut self, name: &str) -> Result<(), &'static str> {
        let holds: fn(&char) -> bool = match name {
            "alnum" => char::is_ascii_alphanumeric,
            "alpha" => char::is_ascii_alphabetic,
            "blank" => |letter| matches!(letter, ' ' | '\t'),
            "cntrl" => char::is_ascii_control,
            "digit" => char::is_ascii_digit,
            "graph" => char::is_ascii_graphic,
            "lower" => char::is_ascii_lowercase,
            "print" => |letter| matches!(letter, ' '..='~'),
            "punct" => char::is_ascii_punctuation,
            "space" => |letter| matches!(letter, ' ' | '\t'..='\r'),
            "upper" => char::is_ascii_uppercase,
            "xdigit" => char::is_ascii_hexdigit,
            _ => return Err("a [:class:] that is not known"),
        };
        ('\0'..='\x7f').filter(holds).for_each(|letter| self.add(letter));
        Ok(())
    }

    /// Letter by letter, those that mean something to the matcher where they do not: `]` first, `-` last, and neither
    /// `!` nor `^` at the beginning.
    fn write(&mut self, negated: bool, out: &mut String) {
        self.ascii[usize::from(b'/')] = negated; // what is not in the set may be anything but a slash
        out.push_str(if negated { "[!" } else { "[" });
        if self.ascii[usize::from(b']')] {
            out.push(']');
        } else {
            out.push('\0'); // in no name
        }
        let members = (1..128_u8).filter(|letter| self.ascii[usize::from(*letter)] && !matches!(letter, b']' | b'-'));
        out.extend(members.map(char::from));
        out.extend(&self.others);
        if self.ascii[usize::from(b'-')] {
            out.push('-');
        }
        out.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Option<String> {
        translate(line.as_bytes()).unwrap()
    }

    #[test]
    fn what_says_nothing_is_no_pattern() {
        for line in ["", "#a", "   ", "/", "!", "\r", "!/"] {
            assert_eq!(told(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_slash_anchors_and_no_slash_lets_float() {
        for (line, expected) in [
            ("a", "/**/a"),
            ("a/", "/**/a/"),
            ("/a", "/a"),
            ("!a/b", "!/a/b"),
            ("a/**", "/a/**"),
            ("**/a", "/**/a"),
            ("a**b", "/**/a*b"),
            ("**", "/**/*"),
            ("a  ", "/**/a"),
            ("a\\ ", "/**/a{ }"),
            ("{a,b}", "/**/\\{a\\,b\\}"),
            ("\\#a", "/**/\\#a"),
        ] {
            assert_eq!(told(line).as_deref(), Some(expected), "{line:?}");
        }
    }

    #[test]
    fn what_git_matches_with_nothing_is_refused_and_not_guessed() {
        for line in [&b"a\\"[..], b"[ab", b"[", b"[[:letters:]]", b"\xff", b"[a\\", "[ä-ü]".as_bytes()] {
            assert!(translate(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn sets_are_written_so_that_nothing_in_them_has_a_meaning() {
        assert_eq!(told("[]-]").as_deref(), Some("/**/[]-]"));
        assert_eq!(told("[\\]a]").as_deref(), Some("/**/[]a]"));
        assert_eq!(told("[a!^]").as_deref(), Some("/**/[\0!^a]"));
        assert_eq!(told("[!a]").as_deref(), Some("/**/[!\0/a]"));
        assert_eq!(told("[.-0]").as_deref(), Some("/**/[\0.0]"));
        assert_eq!(told("[z-a]").as_deref(), Some("/**/[\0z]"));
        assert_eq!(told("[[:blank:]x]").as_deref(), Some("/**/[\0\t x]"));
    }
}
