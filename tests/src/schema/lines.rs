//! Lines of a command, held to what the page says of it; and what of the page no line has shown yet.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Basic, Fields, SHARED, Schema, Section, Statement, Type};

/// What a value showed of the page, in words such as `shape snapshot.tags[]`.
type Seen = BTreeSet<String>;

impl Schema {
    /// The commands that have a section.
    pub fn commands(&self) -> BTreeSet<&str> {
        let headings = self.sections.iter().map(|section| section.heading.as_str()).filter(|name| *name != SHARED);
        headings.flat_map(|heading| heading.split(", ")).collect()
    }

    /// The command, of a line of arguments that begin with it.
    pub fn command_of<'a>(&'a self, arguments: &[&str]) -> Option<&'a str> {
        let is_begun = |name: &&str| name.split(' ').zip(arguments).filter(|(word, given)| word == *given).count();
        let names = self.commands().into_iter().filter(|name| is_begun(name) == name.split(' ').count());
        names.max_by_key(|name| name.len())
    }

    /// Notes how a command ended: each should end well once, and once not.
    pub fn ended(&self, command: &str, code: i32) {
        self.see([ending(command, code == 0)]);
    }

    /// Standard output of a command: a value a line, or nothing.
    pub fn check_out(&self, command: &str, out: &str) -> Result<(), String> {
        let section = self.section(command)?;
        if out.is_empty() && section.statements.iter().any(|statement| matches!(statement, Statement::Nothing)) {
            self.see([format!("{}: nothing", section.heading)]);
        }
        out.lines().try_for_each(|line| self.check_line(section, line, false))
    }

    /// Standard output that is no JSON.
    pub fn check_bytes(&self, command: &str, out: &str) -> Result<(), String> {
        let section = self.section(command)?;
        if out.is_empty() || !section.statements.iter().any(|statement| matches!(statement, Statement::Bytes)) {
            return Err(format!("{command} should print bytes, and printed {out:?}"));
        }
        self.see([format!("{}: bytes", section.heading)]);
        Ok(())
    }

    /// Standard error of a command.
    pub fn check_error(&self, command: &str, error: &str) -> Result<(), String> {
        let (section, shared) = (self.section(command)?, self.section(SHARED)?);
        error.lines().try_for_each(|line| {
            let own = self.check_line(section, line, true);
            own.or_else(|own| self.check_line(shared, line, true).map_err(|shared| format!("{own}\n{shared}")))
        })
    }

    /// What the page has and no line showed.
    pub fn unseen(&self) -> Vec<String> {
        let mut all = Seen::new();
        for section in &self.sections {
            for (number, statement) in section.statements.iter().enumerate() {
                let place = section.place(number);
                match statement {
                    Statement::Message { fields, .. } => everything(fields, &place, &mut all),
                    Statement::Value(of) => all_of_type(of, &place, &mut all),
                    Statement::Bytes | Statement::Nothing => {}
                }
                all.insert(place);
            }
        }
        all.extend(self.commands().iter().flat_map(|command| [true, false].map(|well| ending(command, well))));
        for (name, fields) in &self.shapes {
            everything(fields, &format!("shape {name}"), &mut all);
        }
        let seen = self.seen.lock().expect("no test panicked in it");
        all.difference(&seen).cloned().collect()
    }

    fn section(&self, command: &str) -> Result<&Section, String> {
        let found = self.sections.iter().find(|section| section.heading.split(", ").any(|name| name == command));
        found.ok_or_else(|| format!("{command} has no section"))
    }

    fn see(&self, what: impl IntoIterator<Item = String>) {
        self.seen.lock().expect("no test panicked in it").extend(what);
    }

    /// A line must be as one of the section's statements says.
    fn check_line(&self, section: &Section, line: &str, of_error: bool) -> Result<(), String> {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("no JSON: {error}: {line}"))?;
        let named = value.get("message_type").and_then(Value::as_str);
        let mut problems = Vec::new();
        for (number, statement) in section.statements.iter().enumerate() {
            let place = section.place(number);
            let mut seen = Seen::from([place.clone()]);
            let result = match (statement, named) {
                (Statement::Message { name, on_error, fields }, Some(named))
                    if name == named && *on_error == of_error =>
                {
                    let mut own = value.as_object().cloned().unwrap_or_default();
                    own.remove("message_type");
                    self.check_fields_of(fields, &own, &place, &mut seen)
                }
                (Statement::Value(of), None) if !of_error => self.check_value(of, &value, &place, &mut seen),
                _ => continue,
            };
            match result {
                Ok(()) => {
                    self.see(seen);
                    return Ok(());
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            problems.push("is not described".to_owned());
        }
        Err(format!("{}: {line}\n  {}", section.heading, problems.join("\n  ")))
    }

    fn check_fields_of(
        &self,
        fields: &Fields,
        of: &Map<String, Value>,
        place: &str,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let mut known = BTreeSet::new();
        self.check_known(fields, of, place, seen, &mut known)?;
        match of.keys().find(|name| !known.contains(name.as_str())) {
            Some(name) => Err(format!("{place} has a field {name:?} that is not described")),
            None => Ok(()),
        }
    }

    fn check_known<'s>(
        &'s self,
        fields: &'s Fields,
        of: &Map<String, Value>,
        place: &str,
        seen: &mut Seen,
        known: &mut BTreeSet<&'s str>,
    ) -> Result<(), String> {
        for field in &fields.own {
            let place = format!("{place}.{}", field.name);
            known.insert(&field.name);
            match of.get(&field.name) {
                Some(value) => {
                    self.check_value(&field.of, value, &place, seen)?;
                    seen.insert(place);
                }
                None if field.optional => _ = seen.insert(format!("{place} is missing")),
                None => return Err(format!("{place} is missing")),
            }
        }
        fields
            .included
            .iter()
            .try_for_each(|(name, _)| self.check_known(&self.shapes[name], of, &format!("shape {name}"), seen, known))
    }

    fn check_value(&self, of: &Type, value: &Value, place: &str, seen: &mut Seen) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{place} should be {what}, and is {value}"));
        match (of, value) {
            (Type::Basic(basic), _) if !basic.fits(value) => wrong(&format!("{basic:?}")),
            (Type::Basic(_), _) => Ok(()),
            (Type::Literal(literal), _) if literal != value => wrong(&literal.to_string()),
            (Type::Literal(_), _) => Ok(()),
            (Type::List(of), Value::Array(list)) => list.iter().try_for_each(|item| {
                seen.insert(format!("{place}[]"));
                self.check_value(of, item, &format!("{place}[]"), seen)
            }),
            (Type::Record(fields), Value::Object(object)) => self.check_fields_of(fields, object, place, seen),
            (Type::Shape(name, _), Value::Object(object)) => {
                self.check_fields_of(&self.shapes[name], object, &format!("shape {name}"), seen)
            }
            (Type::OneOf(types), _) => {
                let mut problems = Vec::new();
                for (number, of) in types.iter().enumerate() {
                    let mut more = Seen::from([alternative(of, number, place)]);
                    match self.check_value(of, value, place, &mut more) {
                        Ok(()) => {
                            seen.extend(more);
                            return Ok(());
                        }
                        Err(problem) => problems.push(problem),
                    }
                }
                Err(problems.join("; "))
            }
            (Type::List(_), _) => wrong("a list"),
            (Type::Record(_) | Type::Shape(..), _) => wrong("an object"),
        }
    }
}

impl Section {
    /// How the statement of this number is called; those of one name are told apart by their numbers.
    fn place(&self, number: usize) -> String {
        let name = |statement: &Statement| match statement {
            Statement::Message { name, .. } => name.clone(),
            Statement::Value(Type::Shape(name, _)) => format!("value {name}"),
            Statement::Value(_) => "value".to_owned(),
            Statement::Bytes => "bytes".to_owned(),
            Statement::Nothing => "nothing".to_owned(),
        };
        let own = name(&self.statements[number]);
        match self.statements[..number].iter().filter(|before| name(before) == own).count() {
            0 => format!("{}: {own}", self.heading),
            before => format!("{}: {own} {}", self.heading, before + 1),
        }
    }
}

/// All that could be seen of these fields.
fn everything(fields: &Fields, place: &str, all: &mut Seen) {
    for field in &fields.own {
        let place = format!("{place}.{}", field.name);
        if field.optional {
            all.insert(format!("{place} is missing"));
        }
        all_of_type(&field.of, &place, all);
        all.insert(place);
    }
}

fn all_of_type(of: &Type, place: &str, all: &mut Seen) {
    match of {
        Type::Basic(_) | Type::Literal(_) | Type::Shape(..) => {}
        Type::Record(fields) => everything(fields, place, all),
        Type::List(of) => {
            all.insert(format!("{place}[]"));
            all_of_type(of, &format!("{place}[]"), all);
        }
        Type::OneOf(types) => {
            for (number, of) in types.iter().enumerate() {
                all.insert(alternative(of, number, place));
                all_of_type(of, place, all);
            }
        }
    }
}

fn ending(command: &str, well: bool) -> String {
    format!("{command} {}", if well { "ends well" } else { "fails" })
}

fn alternative(of: &Type, number: usize, place: &str) -> String {
    match of {
        Type::Literal(literal) => format!("{place} = {literal}"),
        _ => format!("{place} of kind {}", number + 1),
    }
}

impl Basic {
    fn fits(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Self::Text => text.is_some(),
            Self::Integer => value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Path => text.is_some_and(|text| !text.is_empty()),
            Self::Time => text.is_some_and(is_time),
            Self::Hex(digits) => text.is_some_and(|text| {
                text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            }),
            Self::Base64 => text.is_some_and(is_base64),
            Self::Object => text.is_some_and(|text| text.parse::<repo_core::ObjectName>().is_ok()),
        }
    }
}

fn is_base64(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.len().is_multiple_of(4) && text.len() - bare.len() <= 2 && !bare.is_empty() && bare.bytes().all(is_of_alphabet)
}

/// `2026-11-20T12:00:00`, up to nine digits of a second, and Z or a zone.
fn is_time(text: &str) -> bool {
    let is_like = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text.bytes().zip(pattern.bytes()).all(|(byte, like)| match like {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                like => byte == like,
            })
    };
    let Some((start, rest)) = text.split_at_checked(19) else { return false };
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let zone = match rest.starts_with('.') {
        true if !(1..=9).contains(&digits) => return false,
        true => &rest[digits + 1..],
        false => rest,
    };
    is_like(start, "0000-00-00T00:00:00") && (zone == "Z" || is_like(zone, "+00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
## Standard error
```schema
message error
  item?  string
```
## init
What it is.
```schema
message made ○     # that it was
  id      id
  when?   time
  kind    \"a\" | \"b\" | null
  owner   record ○
    name  path
  more    part[]
stderr message error
  why     string

value integer
shape part
  count   integer
```
## key add, key list
```schema
bytes
nothing
```
";

    type Change<'c> = &'c dyn Fn(&mut Value);

    fn line(change: impl Fn(&mut Value)) -> String {
        let mut value = serde_json::json!({
            "message_type": "made", "id": "0123456789abcdef0123", "when": "2026-11-20T12:00:00.5+01:00", "kind": "a",
            "owner": { "name": "x" }, "more": [{ "count": 1 }],
        });
        change(&mut value);
        value.to_string()
    }

    #[test]
    fn what_is_described_passes_and_anything_else_is_refused() {
        let schema = Schema::parse(PAGE).expect("a page");
        let out = |change: Change<'_>| schema.check_out("init", &line(change));
        out(&|_| {}).expect("as described");
        out(&|value| _ = value.as_object_mut().expect("an object").remove("when")).expect("it may be missing");
        let refused: [(&str, Change<'_>); 11] = [
            ("not described", &|value| value["other"] = 1.into()),
            ("init: made.id is missing", &|value| _ = value.as_object_mut().expect("an object").remove("id")),
            ("made.id should be", &|value| value["id"] = "0123".into()),
            ("made.when should be", &|value| value["when"] = "2026-11-20 12:00:00".into()),
            ("made.when should be", &|value| value["when"] = Value::Null),
            ("made.kind should be", &|value| value["kind"] = "c".into()),
            ("made.owner.name should be", &|value| value["owner"]["name"] = "".into()),
            ("\"age\" that is not described", &|value| value["owner"]["age"] = 1.into()),
            ("part.count should be", &|value| value["more"][0]["count"] = (-1).into()),
            ("made.more should be a list", &|value| value["more"] = 1.into()),
            ("is not described", &|value| value["message_type"] = "error".into()),
        ];
        for (why, change) in refused {
            let told = out(change).expect_err(why);
            assert!(told.contains(why), "{why}: {told}");
        }
        schema.check_out("init", "7\n8\n").expect("a value a line");
        assert!(schema.check_out("init", "7\nnonsense").expect_err("no JSON").contains("nonsense"));
        assert!(schema.check_out("exit", "7").expect_err("unknown").contains("no section"));
    }

    #[test]
    fn standard_error_has_what_all_commands_print_and_what_one_does() {
        let schema = Schema::parse(PAGE).expect("a page");
        let (shared, own) = (r#"{"message_type":"error","item":"x"}"#, r#"{"message_type":"error","why":"x"}"#);
        schema.check_error("init", &format!("{shared}\n{own}")).expect("both are described");
        schema.check_error("key add", own).expect_err("of init alone");
        schema.check_error("init", &line(|_| {})).expect_err("it belongs to standard output");
        schema.check_error("init", "7").expect_err("values too");
    }

    #[test]
    fn what_no_line_showed_is_named() {
        let schema = Schema::parse(PAGE).expect("a page");
        assert_eq!(schema.commands(), BTreeSet::from(["init", "key add", "key list"]));
        schema.check_out("init", &line(|value| value["more"] = Value::Array(Vec::new()))).expect("as described");
        schema.check_out("key add", "").expect("nothing");
        schema.check_bytes("key list", "text").expect("bytes");
        schema.check_bytes("init", "text").expect_err("they are not described");
        for (command, code) in [("init", 0), ("init", 3), ("key add", 0), ("key add", 1), ("key list", 1)] {
            schema.ended(command, code);
        }
        assert_eq!(schema.command_of(&["key", "add", "-q"]), Some("key add"));
        assert_eq!(schema.command_of(&["key", "remove"]), None);
        let expected = [
            "Standard error: error",
            "Standard error: error.item",
            "Standard error: error.item is missing",
            "init: error",
            "init: error.why",
            "init: made.kind = \"b\"",
            "init: made.kind = null",
            "init: made.more[]",
            "init: made.when is missing",
            "init: value",
            "key list ends well",
            "shape part.count",
        ];
        assert_eq!(schema.unseen(), expected);
    }

    #[test]
    fn times_and_base64_are_known_by_their_forms() {
        for good in ["2026-11-20T12:00:00Z", "2026-11-20T12:00:00.123456789-05:30"] {
            assert!(is_time(good), "{good}");
        }
        for bad in [
            "",
            "2026-11-20T12:00:00",
            "2026-11-20T12:00:00.Z",
            "2026-11-20T12:00:00.1234567890Z",
            "2026-11-20T12:00:00+0100",
        ] {
            assert!(!is_time(bad), "{bad}");
        }
        assert!(is_base64("/w==") && is_base64("ab+/") && !is_base64("ab") && !is_base64("") && !is_base64("a==="));
    }
}
