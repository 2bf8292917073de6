//! Patterns, as restic's users write them: what is left out, and what is let in.
//!
//! A pattern is a list of components between `/`. In a component `*` stands for any characters, `?` for one, `[a-z]`
//! and `[^a-z]` for one of a set or one not in it, and a backslash takes the meaning from what follows; `**` as a whole
//! component stands for any number of components, none included. A pattern that begins with `/` is anchored at the root;
//! any other matches wherever its components follow one another. What matches takes everything below with it.
//! A `!` in front takes back what earlier patterns took; of several patterns that match, the last decides.
//! A `/` at the end means nothing.
//!
//! Names are bytes. Where they are UTF-8 a character is a character, else each byte counts as one.
//! Matching walks down a path one name at a time and keeps the set of places reached in each pattern: time is bounded
//! by the patterns' length for each name, whatever stands in them.

mod component;

use component::{Component, lower_case};

/// A list of patterns; later ones win, `!` takes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    ignores_case: bool,
}

/// A pattern that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad pattern {pattern:?}: {problem}")]
pub struct BadPattern {
    /// As it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    anchored: bool,
    ignore_case: bool,
    /// It ended with `**`: what is below is meant, and not the path itself.
    below: bool,
    /// No two `**` side by side, none at the end; if not anchored, none at the beginning.
    components: Vec<Component>,
}

/// How far a path has come in each pattern. Of the size of the partial matches, not of the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Reached {
    /// The last pattern that matched the path or a parent of it: it decides.
    decided: Option<usize>,
    /// `(pattern, component)` that the next name may match; the first component of patterns that are not anchored is
    /// always among them and not listed.
    places: Vec<(usize, usize)>,
}

impl Patterns {
    /// No patterns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. `ignore_case` compares lower-case forms.
    pub fn add(&mut self, pattern: &str, ignore_case: bool) -> Result<(), BadPattern> {
        self.add_bytes(pattern.as_bytes(), ignore_case)
    }

    /// Adds one that need not be UTF-8, such as a line of a file.
    pub fn add_bytes(&mut self, pattern: &[u8], ignore_case: bool) -> Result<(), BadPattern> {
        let parsed = Pattern::parse(pattern, ignore_case)
            .map_err(|problem| BadPattern { pattern: String::from_utf8_lossy(pattern).into_owned(), problem })?;
        self.ignores_case |= ignore_case;
        self.patterns.push(parsed);
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path (raw bytes, beginning with `/`) is matched: it, or a parent of it.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.matched(&self.reach(path))
    }

    /// Whether something below the directory `path` may be matched: where not, a restore need not look.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        self.may_match_beyond(&self.reach(path))
    }

    /// The patterns in the contents of a file: one a line, spaces around it and empty lines ignored, lines that begin
    /// with `#` are comments. `$NAME` and `${NAME}` are replaced by what `variable` says of them (nothing: the empty
    /// string), `$$` is a dollar sign. The library reads no environment: the caller says what variables there are.
    pub fn lines(contents: &[u8], variable: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(contents);
        let lines = contents.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty() && line[0] != b'#').map(|line| expand(line, &variable)).collect()
    }

    /// Where a path leads.
    pub fn reach(&self, path: &[u8]) -> Reached {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.fold(self.root(), |reached, name| self.step(&reached, name))
    }

    /// Where every path begins.
    pub fn root(&self) -> Reached {
        let numbered = || self.patterns.iter().enumerate();
        Reached {
            decided: numbered().rfind(|(_, pattern)| pattern.components.is_empty()).map(|(number, _)| number),
            places: numbered().filter(|(_, pattern)| pattern.anchored).map(|(number, _)| (number, 0)).collect(),
        }
    }

    /// One name further down.
    pub fn step(&self, reached: &Reached, name: &[u8]) -> Reached {
        let mut next = Reached { decided: reached.decided, places: Vec::new() };
        self.advance(reached, name, |number, component| {
            if component == self.patterns[number].components.len() {
                next.decided = next.decided.max(Some(number));
            } else {
                next.places.push((number, component));
            }
        });
        next.places.sort_unstable();
        next.places.dedup();
        next
    }

    /// Whether the path is matched.
    pub fn matched(&self, reached: &Reached) -> bool {
        reached.decided.is_some_and(|number| !self.patterns[number].negated)
    }

    /// Whether the entry `name` below is matched: the verdict of [`step`](Self::step) alone.
    pub fn matches_next(&self, reached: &Reached, name: &[u8]) -> bool {
        let mut decided = reached.decided;
        self.advance(reached, name, |number, component| {
            if component == self.patterns[number].components.len() {
                decided = decided.max(Some(number));
            }
        });
        decided.is_some_and(|number| !self.patterns[number].negated)
    }

    /// Whether something below may be matched.
    pub fn may_match_beyond(&self, reached: &Reached) -> bool {
        let open = |number: usize| !self.patterns[number].negated && Some(number) > reached.decided;
        self.matched(reached)
            || (0..self.patterns.len()).any(|number| open(number) && !self.patterns[number].anchored)
            || reached.places.iter().any(|(number, _)| open(*number))
    }

    /// Whether the path is matched and so is all that is below it, whatever it is called.
    pub fn takes_all_below(&self, reached: &Reached) -> bool {
        let takes_back = |(number, pattern): (usize, &Pattern)| pattern.negated && Some(number) > reached.decided;
        self.matched(reached) && !self.patterns.iter().enumerate().any(takes_back)
    }

    /// The same place, as if nothing had matched on the way: for a path that the user named, whatever patterns say of it.
    /// What they say of all that is below it (`/path/**`) counts.
    pub fn forgiven(&self, reached: &Reached) -> Reached {
        let decided = reached.decided.filter(|number| self.patterns[*number].below);
        Reached { decided, places: reached.places.clone() }
    }

    /// Calls `found` with each place that `name` leads to. A pattern that comes before the one that has decided
    /// can change nothing any more and is not asked.
    fn advance(&self, reached: &Reached, name: &[u8], mut found: impl FnMut(usize, usize)) {
        let lower = if self.ignores_case { lower_case(name) } else { Vec::new() };
        let mut try_at = |number: usize, place: usize| {
            let pattern = &self.patterns[number];
            let name = if pattern.ignore_case { &lower } else { name };
            let mut place = place;
            if pattern.components[place] == Component::AnyNumber {
                found(number, place); // it takes this name and may take more
                place += 1; // or it takes none; another component follows always
            }
            if pattern.components[place].matches(name) {
                found(number, place + 1);
            }
        };
        for (number, place) in &reached.places {
            if Some(*number) > reached.decided {
                try_at(*number, *place);
            }
        }
        let first = reached.decided.map_or(0, |decided| decided + 1);
        for (number, pattern) in self.patterns.iter().enumerate().skip(first) {
            if !pattern.anchored && !pattern.components.is_empty() {
                try_at(number, 0);
            }
        }
    }
}

impl Pattern {
    fn parse(text: &[u8], ignore_case: bool) -> Result<Self, &'static str> {
        let (negated, text) = match text.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if text.is_empty() {
            return Err("it is empty");
        }
        let text = if ignore_case { lower_case(text) } else { text.to_vec() };
        let mut anchored = text.starts_with(b"/");
        let names = clean(&text, anchored);
        if names.is_empty() && !anchored {
            return Err("it names nothing");
        }
        let mut components = Vec::with_capacity(names.len());
        for name in names {
            let component = Component::parse(name)?;
            if component != Component::AnyNumber || components.last() != Some(&component) {
                components.push(component);
            }
        }
        // What matches takes everything below with it: `a/**` is `a`, and a pattern that begins anywhere begins anywhere.
        let below = components.pop_if(|last| *last == Component::AnyNumber).is_some();
        if components.first() == Some(&Component::AnyNumber) {
            components.remove(0);
            anchored = false;
        }
        // Everything, wherever it is anchored: decided at the root, and never asked again.
        anchored &= !components.is_empty();
        Ok(Self { negated, anchored, ignore_case, below, components })
    }
}

/// The names of a pattern, with empty ones and `.` left out and `..` applied to the name before it.
fn clean(text: &[u8], anchored: bool) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in text.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.last().is_some_and(|last| *last != b"..") => drop(names.pop()),
            b".." if anchored => {}
            name => names.push(name),
        }
    }
    names
}

fn expand(line: &[u8], variable: &impl Fn(&str) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix(b"$") {
            out.push(b'$');
            rest = after;
            continue;
        }
        let (name, after) = variable_name(rest);
        if name.is_empty() {
            out.push(b'$'); // not followed by a name: itself
        } else {
            out.extend(variable(name).unwrap_or_default());
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    out
}

/// The name behind a dollar sign and what follows it; empty if there is none.
fn variable_name(text: &[u8]) -> (&str, &[u8]) {
    let braced = text.strip_prefix(b"{");
    let inner = braced.unwrap_or(text);
    let is_name = |(position, byte): (usize, &u8)| {
        *byte == b'_' || byte.is_ascii_alphabetic() || (position > 0 && byte.is_ascii_digit())
    };
    let length = inner.iter().enumerate().take_while(|pair| is_name(*pair)).count();
    let name = std::str::from_utf8(&inner[..length]).expect("ASCII letters, digits and underscores");
    match (braced, inner[length..].strip_prefix(b"}")) {
        (None, _) => (name, &inner[length..]),
        (Some(_), Some(after)) => (name, after),
        (Some(_), None) => ("", text),
    }
}

#[cfg(test)]
mod tests;
