//! The notation of docs/json.md, read. What a command's lines are held to by it is in `lines`.
//!
//! A mistake in the notation is refused with its line, so that the page cannot promise what nobody holds anything to.

mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::Value;

/// The heading below which what every command may print to standard error is described.
const SHARED: &str = "Standard error";

/// All that a page describes, and what of it was seen so far.
#[derive(Debug)]
pub struct Schema {
    sections: Vec<Section>,
    shapes: BTreeMap<String, Fields>,
    seen: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct Section {
    heading: String,
    statements: Vec<Statement>,
}

#[derive(Debug)]
enum Statement {
    Message { name: String, on_error: bool, fields: Fields },
    Value(Type),
    Bytes,
    Nothing,
}

#[derive(Debug, Default)]
struct Fields {
    own: Vec<Field>,
    /// Names of shapes whose fields are here too, and where that is said.
    included: Vec<(String, usize)>,
}

#[derive(Debug)]
struct Field {
    name: String,
    optional: bool,
    of: Type,
    line: usize,
}

#[derive(Debug)]
enum Type {
    Basic(Basic),
    Literal(Value),
    List(Box<Type>),
    Record(Fields),
    Shape(String, usize),
    OneOf(Vec<Type>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Basic {
    Text,
    Integer,
    Number,
    Boolean,
    Time,
    Hex(usize),
    Base64,
    Path,
    Object,
}

/// A line of a block: its number, how far in it begins, and what is on it but comments and marks.
type Row = (usize, usize, String);

impl Schema {
    /// Reads the blocks of a page; an error begins with the number of its line.
    pub fn parse(page: &str) -> Result<Self, String> {
        let mut schema = Self { sections: Vec::new(), shapes: BTreeMap::new(), seen: Mutex::default() };
        let (mut heading, mut block) = (String::new(), None::<Vec<Row>>);
        let mut is_foreign = false;
        for (number, line) in (1..).zip(page.lines()) {
            match (&mut block, line.strip_prefix("```")) {
                (None, Some("schema")) if !is_foreign => block = Some(Vec::new()),
                (None, Some(_)) => is_foreign = !is_foreign,
                (None, None) if !is_foreign => {
                    if let Some(text) = line.strip_prefix("## ") {
                        text.clone_into(&mut heading);
                    }
                }
                (None, None) => {}
                (Some(rows), Some(_)) => {
                    schema.take_block(&heading, rows).map_err(|(line, why)| format!("{line}: {why}"))?;
                    block = None;
                }
                (Some(rows), None) => rows.extend(row(number, line)),
            }
        }
        if let Some(rows) = block {
            return Err(format!("{}: a block has no end", rows.first().map_or(0, |row| row.0)));
        }
        schema.check().map_err(|(line, why)| format!("{line}: {why}"))?;
        Ok(schema)
    }

    fn take_block(&mut self, heading: &str, rows: &[Row]) -> Result<(), Mistake> {
        let mut at = 0;
        while let Some((line, indent, text)) = rows.get(at) {
            if *indent > 0 {
                return Err((*line, "nothing begins here that could have fields".to_owned()));
            }
            at += 1;
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            let (word, rest) = match rest.strip_prefix("message ") {
                Some(name) if word == "stderr" => (word, name),
                _ => (word, rest.trim()),
            };
            let statement = match word {
                "message" | "stderr" | "shape" => {
                    check_name(rest).map_err(|why| (*line, why))?;
                    let fields = fields(rows, &mut at, 0)?;
                    if word == "shape" {
                        if self.shapes.insert(rest.to_owned(), fields).is_some() {
                            return Err((*line, format!("a shape {rest} is there already")));
                        }
                        continue;
                    }
                    let on_error = word == "stderr" || heading == SHARED;
                    Statement::Message { name: rest.to_owned(), on_error, fields }
                }
                "value" => Statement::Value(parse_type(rest, rows, &mut at, (*line, 0))?),
                "bytes" if rest.is_empty() => Statement::Bytes,
                "nothing" if rest.is_empty() => Statement::Nothing,
                _ => return Err((*line, format!("{text:?} is neither message, value, shape, bytes nor nothing"))),
            };
            match self.sections.last_mut() {
                Some(last) if last.heading == heading => last.statements.push(statement),
                _ => self.sections.push(Section { heading: heading.to_owned(), statements: vec![statement] }),
            }
        }
        Ok(())
    }

    /// Every shape that is named exists and is used, none includes itself, and no field is there twice.
    fn check(&self) -> Result<(), Mistake> {
        let mut used = BTreeSet::new();
        for fields in self.shapes.values() {
            self.check_fields(fields, &mut used)?;
        }
        for statement in self.sections.iter().flat_map(|section| &section.statements) {
            match statement {
                Statement::Message { fields, .. } => self.check_fields(fields, &mut used)?,
                Statement::Value(of) => self.check_type(of, &mut used)?,
                Statement::Bytes | Statement::Nothing => {}
            }
        }
        match self.shapes.keys().find(|name| !used.contains(*name)) {
            Some(name) => Err((0, format!("nothing uses the shape {name}"))),
            None => Ok(()),
        }
    }

    fn check_fields(&self, fields: &Fields, used: &mut BTreeSet<String>) -> Result<(), Mistake> {
        let mut names = BTreeSet::new();
        self.check_names(fields, &mut names, 0)?;
        used.extend(fields.included.iter().map(|(name, _)| name.clone()));
        fields.own.iter().try_for_each(|field| self.check_type(&field.of, used))
    }

    fn check_names<'s>(
        &'s self,
        fields: &'s Fields,
        names: &mut BTreeSet<&'s str>,
        depth: usize,
    ) -> Result<(), Mistake> {
        for field in &fields.own {
            if !names.insert(&field.name) {
                return Err((field.line, format!("a field {} is there already", field.name)));
            }
        }
        fields.included.iter().try_for_each(|(name, line)| match self.shapes.get(name) {
            None => Err((*line, format!("there is no shape {name}"))),
            Some(_) if depth > self.shapes.len() => Err((*line, format!("the shape {name} is part of itself"))),
            Some(shape) => self.check_names(shape, names, depth + 1),
        })
    }

    fn check_type(&self, of: &Type, used: &mut BTreeSet<String>) -> Result<(), Mistake> {
        match of {
            Type::Basic(_) | Type::Literal(_) => Ok(()),
            Type::List(of) => self.check_type(of, used),
            Type::Record(fields) => self.check_fields(fields, used),
            Type::OneOf(types) => types.iter().try_for_each(|of| self.check_type(of, used)),
            Type::Shape(name, line) => {
                used.insert(name.clone());
                self.shapes.get(name).map(drop).ok_or_else(|| (*line, format!("{name} is no type and no shape")))
            }
        }
    }
}

/// A line and what is wrong there.
type Mistake = (usize, String);

/// Without comment and mark; `None`: nothing is left.
fn row(number: usize, line: &str) -> Option<Row> {
    let text = match line.find('#') {
        Some(at) if line[..at].chars().next_back().is_none_or(char::is_whitespace) => &line[..at],
        _ => line,
    };
    let text = text.trim_end();
    let text = text.strip_suffix('○').unwrap_or(text).trim_end();
    let indent = text.len() - text.trim_start().len();
    (!text.is_empty()).then(|| (number, indent, text.trim_start().to_owned()))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_good =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_good(name) { Ok(()) } else { Err(format!("{name:?} is no name")) }
}

/// The fields that stand further in than what they belong to.
fn fields(rows: &[Row], at: &mut usize, outer: usize) -> Result<Fields, Mistake> {
    let mut fields = Fields::default();
    let Some((first, inner, _)) = rows.get(*at).filter(|row| row.1 > outer).cloned() else {
        let line = rows[*at - 1].0;
        return Err((line, "its fields should stand below it, further in".to_owned()));
    };
    while let Some((line, indent, text)) = rows.get(*at).filter(|row| row.1 > outer) {
        if *indent != inner {
            return Err((*line, format!("stands neither with the fields that begin in line {first} nor outside")));
        }
        *at += 1;
        if let Some(name) = text.strip_prefix("...") {
            fields.included.push((name.to_owned(), *line));
            continue;
        }
        let Some((name, of)) = text.split_once(' ') else { return Err((*line, format!("{text} has no type"))) };
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        check_name(name).map_err(|why| (*line, why))?;
        let of = parse_type(of.trim(), rows, at, (*line, inner))?;
        fields.own.push(Field { name: name.to_owned(), optional, of, line: *line });
    }
    Ok(fields)
}

/// A type; the fields of a record stand further in than `outer`.
fn parse_type(text: &str, rows: &[Row], at: &mut usize, (line, outer): (usize, usize)) -> Result<Type, Mistake> {
    if text.contains(" | ") {
        let types = text.split(" | ").map(|text| parse_type(text, rows, at, (line, outer)));
        return types.collect::<Result<_, _>>().map(Type::OneOf);
    }
    if let Some(of) = text.strip_suffix("[]") {
        return Ok(Type::List(Box::new(parse_type(of, rows, at, (line, outer))?)));
    }
    let basic = match text {
        "string" => Basic::Text,
        "integer" => Basic::Integer,
        "number" => Basic::Number,
        "boolean" => Basic::Boolean,
        "time" => Basic::Time,
        "id" => Basic::Hex(20),
        "hex8" => Basic::Hex(8),
        "hex32" => Basic::Hex(32),
        "hex64" => Basic::Hex(64),
        "base64" => Basic::Base64,
        "path" => Basic::Path,
        "object" => Basic::Object,
        "record" => return Ok(Type::Record(fields(rows, at, outer)?)),
        _ if text.starts_with(|first: char| first.is_ascii_lowercase())
            && !matches!(text, "true" | "false" | "null") =>
        {
            check_name(text).map_err(|why| (line, why))?;
            return Ok(Type::Shape(text.to_owned(), line));
        }
        _ => {
            let literal = serde_json::from_str(text).map_err(|_| (line, format!("{text:?} is no type")))?;
            return Ok(Type::Literal(literal));
        }
    };
    Ok(Type::Basic(basic))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mistake in a page with this block, which begins in its line 4.
    fn mistake(block: &str) -> String {
        Schema::parse(&format!("# Page\n## init\n```schema\n{block}\n```\n")).expect_err("it is refused")
    }

    #[test]
    fn a_mistake_in_the_notation_is_refused_with_its_line() {
        for (block, line, why) in [
            ("mesage x\n  a  string", 4, "neither message"),
            ("message x y\n  a  string", 4, "no name"),
            ("message x", 4, "further in"),
            ("message x\n  a  record\n  b  string", 5, "further in"),
            ("message x\n  a", 5, "no type"),
            ("message x\n  a  strin", 5, "no type and no shape"),
            ("message x\n  a  \"b", 5, "no type"),
            ("message x\n  a  Word", 5, "no type"),
            ("message x\n  a  hex32 or less", 5, "no name"),
            ("message x\n  a-b  string", 5, "no name"),
            ("message x\n  a  string\n   b  string", 6, "neither with the fields"),
            ("message x\n    a  string\n  b  string", 6, "neither with the fields"),
            ("message x\n  a  string\n  b  string\n  a?  string", 7, "already"),
            ("message x\n  ...y", 5, "no shape y"),
            ("message x\n  a  string\n  ...y\nshape y\n  a  string", 8, "already"),
            ("shape y\n  ...z\nshape z\n  ...y", 7, "part of itself"),
            ("shape y\n  a  string\nshape y\n  a  string\nvalue y", 6, "already"),
            ("shape y\n  a  string", 0, "nothing uses"),
            ("bytes all", 4, "neither message"),
            ("  a  string", 4, "nothing begins here"),
        ] {
            let told = mistake(block);
            assert!(told.starts_with(&format!("{line}: ")) && told.contains(why), "{block}\n{told}");
        }
        assert!(Schema::parse("## init\n```schema\nbytes\n").expect_err("refused").contains("no end"));
    }
}
