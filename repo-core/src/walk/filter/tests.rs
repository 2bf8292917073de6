//! Verdicts on paths: a table, lists, bad patterns, and the same by trying every division of a path.

use proptest::prelude::*;

use super::*;

fn patterns(list: &[&str]) -> Patterns {
    let mut patterns = Patterns::new();
    for pattern in list {
        patterns.add(pattern, false).unwrap_or_else(|bad| panic!("{bad}"));
    }
    patterns
}

fn matches(pattern: &str, path: &[u8]) -> bool {
    patterns(&[pattern]).matches(path)
}

/// `(pattern, paths it matches, paths it does not)`.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    // A name, at any depth, with everything below; whole names only.
    ("tmp", &["/tmp", "/home/tmp", "/tmp/x/y", "/home/tmp/x"], &["/", "/tmpx", "/xtmp", "/Tmp"]),
    ("tmp/", &["/tmp", "/home/tmp/x"], &["/tmpx"]),
    ("./tmp", &["/tmp", "/home/tmp/x"], &["/tmpx"]),
    ("a.b", &["/a.b"], &["/axb"]),
    // A run of names.
    ("a/b", &["/a/b", "/x/a/b", "/x/a/b/c"], &["/a", "/a/x/b", "/b/a", "/xa/b", "/a/bx"]),
    ("a//b", &["/x/a/b"], &["/a"]),
    ("a/./b", &["/x/a/b"], &["/a"]),
    ("a/b/../c", &["/x/a/c"], &["/a/b/c"]),
    ("../a", &[], &["/a", "/x/a"]),
    // Anchored.
    ("/tmp", &["/tmp", "/tmp/x"], &["/home/tmp", "/tmpx", "/"]),
    ("/a/b/", &["/a/b", "/a/b/c"], &["/a", "/x/a/b", "/a/c"]),
    ("//a/../b", &["/b", "/b/x"], &["/a/b"]),
    ("/../b", &["/b"], &["/x/b"]),
    ("/", &["/", "/a", "/a/b"], &[]),
    // Any characters of one name.
    ("*.o", &["/x.o", "/a/.o", "/a/x.o/y"], &["/x.op", "/xo", "/x.o.c"]),
    ("*", &["/a", "/a/b"], &["/"]),
    ("a*", &["/a", "/abc", "/x/ab"], &["/ba"]),
    ("*a*", &["/a", "/xax", "/aa"], &["/xyz"]),
    ("a*b*c", &["/abc", "/aXbXc", "/abcbc", "/abbc"], &["/ac", "/abcb", "/acb"]),
    ("*ab", &["/aab", "/abab"], &["/aba"]),
    ("a*/b", &["/ax/b", "/y/a/b/z"], &["/ax/c/b", "/a/x"]),
    ("/*/b", &["/a/b", "/x/b/c"], &["/b", "/a/c/b"]),
    ("/a/*", &["/a/b", "/a/b/c"], &["/a", "/b/a/c"]),
    ("/*", &["/a", "/a/b"], &["/"]),
    ("*/*", &["/a/b"], &["/a", "/"]),
    // One character.
    ("?", &["/a", "/ä", "/x/€"], &["/ab", "/"]),
    ("a?c", &["/abc", "/aäc", "/a€c"], &["/ac", "/abbc"]),
    ("??", &["/ab", "/äö"], &["/a", "/ä", "/abc"]),
    ("?*", &["/a", "/abc"], &["/"]),
    ("*?", &["/a", "/abc", "/ä"], &["/"]),
    // Sets.
    ("[ab]", &["/a", "/b"], &["/c", "/ab"]),
    ("[a-c]x", &["/ax", "/bx", "/cx"], &["/dx", "/x", "/-x"]),
    ("[^a-c]", &["/d", "/ä"], &["/a", "/b", "/c", "/de"]),
    ("[^^]", &["/a"], &["/^"]),
    ("[a^]", &["/^", "/a"], &["/b"]),
    ("[!a]", &["/!", "/a"], &["/b"]), // only ^ negates
    ("[α-γ]", &["/β"], &["/δ", "/b"]),
    ("[\\]]", &["/]"], &["/\\"]),
    ("[\\-a]", &["/-", "/a"], &["/b", "/\\"]),
    ("[a\\-c]", &["/a", "/-", "/c"], &["/b"]),
    ("[b-a]", &[], &["/a", "/b"]),
    ("x[0-9]*", &["/x1", "/x1abc"], &["/x", "/xa1"]),
    ("]", &["/]"], &["/["]),
    ("a-z", &["/a-z"], &["/b"]),
    // Escapes.
    ("\\*", &["/*"], &["/a", "/\\*"]),
    ("a\\?", &["/a?"], &["/ab"]),
    ("\\[a]", &["/[a]"], &["/a"]),
    ("\\a", &["/a"], &["/\\a"]),
    ("a\\\\b", &["/a\\b"], &["/ab", "/a\\\\b"]),
    ("\\!a", &["/!a"], &["/a"]),
    ("\\#a", &["/#a"], &["/a"]),
    // Any number of names.
    ("**", &["/", "/a", "/a/b"], &[]),
    ("/**", &["/", "/a", "/a/b"], &[]),
    ("a/**", &["/a", "/a/b/c", "/x/a"], &["/b"]),
    ("/a/**", &["/a", "/a/b/c"], &["/x/a", "/"]),
    ("**/a", &["/a", "/x/a", "/x/y/a/z"], &["/ab"]),
    ("/**/a", &["/a", "/x/y/a"], &["/b"]),
    ("a/**/b", &["/a/b", "/a/x/b", "/a/x/y/b", "/z/a/x/y/b/c"], &["/a", "/b", "/b/a", "/ab", "/a/x"]),
    ("/a/**/b", &["/a/b", "/a/x/y/b/z"], &["/z/a/b", "/a"]),
    ("/a/**/*.c", &["/a/x.c", "/a/b/c/x.c"], &["/x.c", "/a/x.h"]),
    ("a/**/b/**/c", &["/a/b/c", "/a/1/b/2/3/c", "/a/b/b/c"], &["/a/c/b", "/a/b", "/b/c"]),
    ("a/**/**/b", &["/a/b", "/a/x/b"], &["/a"]),
    ("a/**/*/b", &["/a/x/b", "/a/x/y/b"], &["/a/b"]),
    ("a/*/**/b", &["/a/x/b", "/a/x/y/b"], &["/a/b"]),
    ("a/**/b/c", &["/a/b/b/c", "/a/b/x/b/c"], &["/a/b/x/c"]),
    ("a**b", &["/ab", "/axxb"], &["/a/b"]), // not a whole component: as one *
];

#[test]
fn each_pattern_matches_what_the_table_says_and_nothing_else() {
    for (pattern, matched, unmatched) in TABLE {
        for path in *matched {
            assert!(matches(pattern, path.as_bytes()), "{pattern} should match {path}");
        }
        for path in *unmatched {
            assert!(!matches(pattern, path.as_bytes()), "{pattern} should not match {path}");
        }
    }
}

/// What a restore relies on to leave whole directories unread: if a pattern matches a path, none of its parents may say
/// that nothing below matches.
#[test]
fn no_parent_of_a_match_denies_that_something_below_matches() {
    for (pattern, matched, _) in TABLE {
        let patterns = patterns(&[pattern]);
        for path in *matched {
            for (slash, _) in path.match_indices('/') {
                assert!(patterns.may_match_below(&path.as_bytes()[..slash]), "{pattern}, {path} at {slash}");
            }
        }
    }
}

#[test]
fn directories_that_lead_nowhere_are_known() {
    for (list, open, closed) in [
        (&["/a/b"][..], &["/", "/a", "/a/b", "/a/b/c"][..], &["/b", "/a/c", "/a/c/b"][..]),
        (&["/a/*/c"], &["/", "/a", "/a/x", "/a/x/c/d"], &["/b", "/a/x/y", "/a/x/y/c"]),
        (&["/a/**/c"], &["/", "/a", "/a/x", "/a/x/y"], &["/b"]),
        (&["a"], &["/", "/b", "/b/c"], &[]),
        (&["/a", "!/a/b"], &["/", "/a", "/a/c"], &["/b", "/a/b"]),
        (&["/a", "!/a/b", "/a/b/c"], &["/a/b", "/a/b/c"], &["/a/b/d", "/b"]),
        (&["!a"], &[], &["/", "/b"]),
        (&[], &[], &["/", "/b"]),
    ] {
        let patterns = patterns(list);
        for path in open {
            assert!(patterns.may_match_below(path.as_bytes()), "{list:?} below {path}");
        }
        for path in closed {
            assert!(!patterns.may_match_below(path.as_bytes()), "{list:?} below {path}");
        }
    }
}

#[test]
fn of_several_patterns_the_last_that_matches_decides() {
    let list = patterns(&["*.log", "!keep.log", "/var"]);
    for (path, expected) in [
        ("/a.log", true),
        ("/keep.log", false),
        ("/x/keep.log", false),
        ("/var/keep.log", true),
        ("/home", false),
        ("/keep.log/a.log", false), // the name below comes under the first pattern again, which is not the last
    ] {
        assert_eq!(list.matches(path.as_bytes()), expected, "{path}");
    }
    assert!(patterns(&["!a", "a"]).matches(b"/a"));
    assert!(!patterns(&["a", "!a"]).matches(b"/a"));
    assert!(!patterns(&["**", "!/a"]).matches(b"/a"));
    assert!(patterns(&["**", "!/a"]).matches(b"/b"));
    assert!(!patterns(&["a", "!**"]).matches(b"/a"));
}

#[test]
fn without_regard_to_case_both_sides_are_lowered_and_other_patterns_are_not() {
    let mut list = Patterns::new();
    list.add("*.JPG", true).unwrap();
    list.add("ÄÖ[X-Z]", true).unwrap();
    list.add("Exact", false).unwrap();
    for (path, expected) in [
        ("/a.jpg", true),
        ("/a.JpG", true),
        ("/äöy", true),
        ("/ÄöZ", true),
        ("/äöw", false),
        ("/Exact", true),
        ("/exact", false),
    ] {
        assert_eq!(list.matches(path.as_bytes()), expected, "{path}");
    }
}

#[test]
fn names_that_are_not_utf8_are_matched_byte_by_byte() {
    assert!(matches("a?b", b"/a\xffb"));
    assert!(!matches("a?b", b"/a\xff\xfeb"));
    assert!(matches("a*b", b"/a\xff\xfeb"));
    assert!(matches("[^a]", b"/\xff"));
    assert!(!matches("[a-z]", b"/\xff"));
    let mut list = Patterns::new();
    list.add_bytes(b"x\xff", false).unwrap();
    list.add_bytes(b"\xfe*", true).unwrap();
    assert!(list.matches(b"/x\xff") && list.matches(b"/\xfeABC"));
    assert!(!list.matches(b"/x\xfe") && !list.matches("/x\u{ff}".as_bytes()));
}

#[test]
fn patterns_that_cannot_be_understood_are_refused_with_their_text() {
    for bad in [
        "", "!", ".", "./", "a/..", "[", "[]", "[^]", "[a", "[a-", "[a-]", "[-a]", "[]a]", "a/[", "a[b/c]", "x\\",
        "[\\", "**/[",
    ] {
        let refused = Patterns::new().add(bad, false).expect_err(bad);
        assert_eq!(refused.pattern, bad);
        assert!(refused.to_string().contains("bad pattern"));
    }
    let mut list = patterns(&["a"]);
    assert!(list.add("[", true).is_err());
    assert_eq!(list, patterns(&["a"]), "a refused pattern leaves nothing behind");
}

/// Each would take longer than the universe's age if every way to divide the name were tried.
#[test]
fn many_stars_cost_no_more_than_the_product_of_the_lengths() {
    let long = vec![b'a'; 255];
    assert!(!matches(&format!("{}b", "a*".repeat(100)), &[b"/", &long[..]].concat()));
    let deep = b"/a".repeat(2000);
    assert!(!matches(&format!("/{}b", "a/**/".repeat(60)), &deep));
    assert!(matches(&format!("/{}a", "a/**/".repeat(60)), &deep));
}

/// A pattern is anchored or not, and a list of `**` and of one-letter names, `*` or `?`.
fn by_trying_everything(anchored: bool, components: &[&str], names: &[&str]) -> bool {
    fn here(components: &[&str], names: &[&str]) -> bool {
        match components.split_first() {
            None => true, // and everything below
            Some((&"**", rest)) => (0..=names.len()).any(|taken| here(rest, &names[taken..])),
            Some((component, rest)) => names.split_first().is_some_and(|(name, below)| {
                (*component == "*" || *component == "?" || component == name) && here(rest, below)
            }),
        }
    }
    let last = if anchored { 0 } else { names.len() };
    (0..=last).any(|start| here(components, &names[start..]))
}

proptest! {
    #[test]
    fn matching_step_by_step_agrees_with_trying_every_division(
        anchored: bool,
        components in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "?", "**"]), 1..6),
        names in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..7),
    ) {
        let pattern = format!("{}{}", if anchored { "/" } else { "" }, components.join("/"));
        let path = format!("/{}", names.join("/"));
        prop_assert_eq!(
            matches(&pattern, path.as_bytes()),
            by_trying_everything(anchored, &components, &names),
            "{} on {}", pattern, path
        );
    }

    #[test]
    fn the_verdict_on_the_next_name_is_that_of_the_step(
        list in prop::collection::vec((any::<bool>(), prop::sample::select(vec!["a", "b", "/a", "a/b", "/a/**/b", "**", "/*/a"])), 0..6),
        names in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..6),
    ) {
        let list: Vec<String> = list.iter().map(|(negated, pattern)| format!("{}{pattern}", if *negated { "!" } else { "" })).collect();
        let list = patterns(&list.iter().map(String::as_str).collect::<Vec<_>>());
        let mut reached = list.root();
        for name in &names {
            let verdict = list.matches_next(&reached, name.as_bytes());
            reached = list.step(&reached, name.as_bytes());
            prop_assert_eq!(verdict, list.matched(&reached));
        }
        prop_assert_eq!(list.matched(&reached), list.matches(format!("/{}", names.join("/")).as_bytes()));
    }

    #[test]
    fn no_pattern_panics(pattern in prop::collection::vec(prop::sample::select(b"ab/*?[]^-\\!.\xc3\xa4\xff".to_vec()), 0..16), ignore_case: bool) {
        let mut list = Patterns::new();
        if list.add_bytes(&pattern, ignore_case).is_ok() {
            list.matches(b"/a/b/\xc3\xa4/\xff");
        }
    }
}

#[test]
fn a_file_of_patterns_is_read_line_by_line_with_variables_of_the_caller() {
    let contents = b"\xef\xbb\xbf# comment\n\n  *.o  \r\n\t#indented comment\n$HOME/x\n${HOME}y\n$$z\nFoo$1.class\n$\n${HOME\n$GONE/a\n!b\n\\#c\n\xff";
    let lines = Patterns::lines(contents, |name| match name {
        "HOME" => Some(b"/h\xfe".to_vec()),
        "GONE" => None,
        other => panic!("{other}"),
    });
    let expected: Vec<&[u8]> =
        vec![b"*.o", b"/h\xfe/x", b"/h\xfey", b"$z", b"Foo$1.class", b"$", b"${HOME", b"/a", b"!b", b"\\#c", b"\xff"];
    assert_eq!(lines, expected);
}
