//! One component of a pattern against one name, by the rules of Go's `filepath.Match`.

/// What one component matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    /// `**`: any number of names. Whoever walks the path handles it.
    AnyNumber,
    /// This name.
    Literal(Vec<u8>),
    /// Names of this form.
    Form(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// `*`
    Many,
    /// `?`
    One,
    Unit(u32),
    /// `[…]`; bounds included.
    Set {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

impl Token {
    fn accepts(&self, unit: u32) -> bool {
        match self {
            Self::Many => false,
            Self::One => true,
            Self::Unit(own) => *own == unit,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&unit)) != *negated
            }
        }
    }
}

impl Component {
    /// Reads a component, which is not empty and has no `/`.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        if text == b"**" {
            return Ok(Self::AnyNumber);
        }
        if !text.iter().any(|byte| b"*?[\\".contains(byte)) {
            return Ok(Self::Literal(text.to_vec()));
        }
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.first() {
            let token = match first {
                b'*' => {
                    rest = &rest[1..];
                    Token::Many
                }
                b'?' => {
                    rest = &rest[1..];
                    Token::One
                }
                b'[' => parse_set(&mut rest)?,
                _ => Token::Unit(parse_unit(&mut rest)?),
            };
            if token != Token::Many || tokens.last() != Some(&token) {
                tokens.push(token);
            }
        }
        Ok(Self::Form(tokens))
    }

    /// Whether this name is matched.
    pub fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::AnyNumber => true,
            Self::Literal(own) => own == name,
            Self::Form(tokens) => matches_form(tokens, name),
        }
    }
}

/// One unit, the backslash before it taken off.
fn parse_unit(rest: &mut &[u8]) -> Result<u32, &'static str> {
    if let Some(escaped) = rest.strip_prefix(b"\\") {
        *rest = escaped;
    }
    if rest.is_empty() {
        return Err("a backslash at the end");
    }
    let (unit, width) = unit(rest);
    *rest = &rest[width..];
    Ok(unit)
}

fn parse_set(rest: &mut &[u8]) -> Result<Token, &'static str> {
    const UNCLOSED: &str = "a [ that is not closed";
    let mut inner = &rest[1..];
    let negated = inner.first() == Some(&b'^');
    inner = &inner[usize::from(negated)..];
    let mut ranges = Vec::new();
    let bound = |inner: &mut &[u8]| match inner.first() {
        None => Err(UNCLOSED),
        Some(b'-' | b']') => Err("a - or ] in [ ] needs a backslash before it"),
        Some(_) => parse_unit(inner),
    };
    loop {
        if let Some(after) = inner.strip_prefix(b"]")
            && !ranges.is_empty()
        {
            *rest = after;
            return Ok(Token::Set { negated, ranges });
        }
        let low = bound(&mut inner)?;
        let mut high = low;
        if let Some(after) = inner.strip_prefix(b"-") {
            inner = after;
            high = bound(&mut inner)?;
        }
        ranges.push((low, high));
    }
}

/// Every `*` takes as little as it can, and only the last one met is asked to take more: what lies before it is matched
/// already, and any longer match would only leave less. So time is at most the product of the lengths.
fn matches_form(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token) {
            Some(Token::Many) => {
                token += 1;
                retry = Some((token, at));
                continue;
            }
            Some(own) if at < name.len() => {
                let (unit, width) = unit(&name[at..]);
                if own.accepts(unit) {
                    token += 1;
                    at += width;
                    continue;
                }
            }
            None if at == name.len() => return true,
            _ => {}
        }
        match retry {
            Some((after_star, taken)) if taken < name.len() => {
                let taken = taken + unit(&name[taken..]).1;
                retry = Some((after_star, taken));
                (token, at) = (after_star, taken);
            }
            _ => return false,
        }
    }
}

/// The first character of bytes that are not empty, and its length; a byte that begins none is a unit
/// of its own, beyond all characters.
fn unit(bytes: &[u8]) -> (u32, usize) {
    let first = bytes[0];
    if first.is_ascii() {
        return (u32::from(first), 1);
    }
    let character = bytes[..bytes.len().min(4)].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    match character {
        Some(character) => (u32::from(character), character.len_utf8()),
        None => (u32::from(char::MAX) + 1 + u32::from(first), 1),
    }
}

/// The lower-case form, character by character; bytes that are no characters stay.
pub fn lower_case(text: &[u8]) -> Vec<u8> {
    let mut lower = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            let first = character.to_lowercase().next().unwrap_or(character);
            lower.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
        }
        lower.extend_from_slice(chunk.invalid());
    }
    lower
}
