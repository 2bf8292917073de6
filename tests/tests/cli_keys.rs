//! Passwords, key files and the recovery kit at the command line. Argon2 is slow, so one repository serves each test.

use icecore_tests::cli::{Cli, Run, Runs};

/// Runs without the key file that a room has.
fn bare(cli: &Cli, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = cli.command(arguments);
    command.env_remove("ICECORE_KEY_FILE").envs(variables.iter().copied()).run()
}

#[test]
fn a_password_comes_from_file_command_or_environment() {
    let cli = Cli::without_repository();
    cli.write("password", "secret\n");
    cli.write("wrong", "guess");
    bare(&cli, &["init", "--password-file", "password"], &[]).succeeds();
    bare(&cli, &["snapshots", "--password-command", "printf '%s\\n' secret"], &[]).succeeds();
    bare(&cli, &["snapshots"], &[("ICECORE_PASSWORD", "secret")]).succeeds();
    bare(&cli, &["snapshots"], &[("ICECORE_PASSWORD_FILE", "password")]).succeeds();
    bare(&cli, &["snapshots"], &[("ICECORE_PASSWORD_COMMAND", "cat password")]).succeeds();
    // The command line goes before the environment.
    let run = bare(&cli, &["snapshots", "-p", "wrong"], &[("ICECORE_PASSWORD", "secret")]);
    let run = run.fails(12, &["wrong password", "hint:"]);
    assert!(!run.error.contains("guess"), "a secret is never repeated");
    let run = bare(&cli, &["--json", "snapshots", "-p", "wrong"], &[]).ends(12);
    assert_eq!(run.error_json()[0]["code"], 12);
}

#[test]
fn sources_of_passwords_that_give_none_are_named() {
    let cli = Cli::new();
    cli.write("empty", "\n");
    bare(&cli, &["snapshots", "-p", "empty"], &[]).fails(1, &["the password is empty", "hint:"]);
    bare(&cli, &["snapshots"], &[("ICECORE_PASSWORD", "")]).fails(1, &["the password is empty"]);
    bare(&cli, &["snapshots", "--password-command", "true"], &[]).fails(1, &["the password is empty"]);
    bare(&cli, &["snapshots", "--password-command", "false"], &[]).fails(1, &["the password command failed"]);
    bare(&cli, &["snapshots", "--password-command", "no-such-program"], &[]).fails(1, &["could not be run"]);
    bare(&cli, &["snapshots", "--password-command", "'open"], &[]).fails(1, &["open quote"]);
    bare(&cli, &["snapshots", "-p", "missing"], &[]).fails(1, &["reading the password file missing"]);
    bare(&cli, &["snapshots", "-p", "a", "--key-file", "b"], &[]).fails(1, &["cannot be used with"]);
    let two = [("ICECORE_PASSWORD_FILE", "a"), ("ICECORE_PASSWORD_COMMAND", "b")];
    bare(&cli, &["snapshots"], &two).fails(1, &["only one may be set"]);
    let init = ["-r", "new", "init", "-p", "empty"];
    bare(&cli, &init, &[]).fails(1, &["the password is empty"]);
    assert!(!cli.path("new").exists());
}

#[test]
fn a_key_file_must_be_one_and_the_right_one() {
    let cli = Cli::new();
    cli.write("short", "not a key");
    cli.write("other", [7; 32]);
    cli.run(&["snapshots", "--key-file", "short"]).fails(1, &["short", "not a key file"]);
    cli.run(&["snapshots", "--key-file", "other"]).fails(12, &["wrong password or key", "hint:"]);
    cli.run(&["snapshots", "--key-file", "missing"]).fails(1, &["reading the key file missing"]);
}

#[test]
fn keys_are_added_listed_and_removed() {
    let cli = Cli::new();
    cli.run(&["key", "add", "--new-key-file", "second", "--user", "ann", "--host", "desk"])
        .succeeds()
        .tells("added key");
    let keys = &cli.json(&["key", "list"])[0];
    let keys = keys.as_array().expect("an array");
    assert_eq!(keys.len(), 2);
    let current: Vec<_> = keys.iter().filter(|key| key["current"] == true).collect();
    assert_eq!(current.len(), 1);
    let added = keys.iter().find(|key| key["userName"] == "ann").expect("added");
    assert_eq!((&added["hostName"], &added["kind"]), (&"desk".into(), &"key file".into()));
    assert!(added["created"].is_string());
    cli.run(&["key", "list"]).succeeds().tells("ann@desk").tells("*");
    cli.run(&["snapshots", "--key-file", "second"]).succeeds();
    let (mine, other) = (current[0]["id"].as_str().expect("id"), added["id"].as_str().expect("id"));
    cli.run(&["key", "remove", mine]).ends(1);
    cli.run(&["key", "remove", "zz"]).fails(1, &["no key zz", "hint:", "icecore key list"]);
    cli.run(&["key", "remove", &"0".repeat(32)]).fails(1, &["no key 000", "hint:", "icecore key list"]);
    cli.run(&["key", "remove", other]).succeeds().tells("removed");
    cli.run(&["snapshots", "--key-file", "second"]).ends(12);
    cli.run(&["snapshots"]).succeeds();
}

#[test]
fn passwd_replaces_the_key_in_use() {
    let cli = Cli::new();
    cli.write("empty", "");
    cli.write("password", "pass word");
    cli.run(&["key", "passwd", "--new-password-file", "empty"]).fails(1, &["the password is empty"]);
    cli.run(&["key", "passwd", "--new-password-file", "password"]).succeeds();
    cli.run(&["snapshots"]).fails(12, &["hint:"]);
    bare(&cli, &["snapshots"], &[("ICECORE_PASSWORD", "pass word")]).succeeds();
}

#[test]
fn a_recovery_kit_opens_the_repository_alone() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    cli.run(&["key", "export", "--target", "kit"]).fails(0, &["can read everything"]);
    let printed = cli.run(&["key", "export", "-q"]).succeeds();
    assert_eq!(printed.out.as_bytes(), cli.read("kit"), "what is printed is what is written");
    assert_eq!(printed.error, "");
    bare(&cli, &["dump", "latest", "source/a", "--recovery-kit", "kit"], &[]).succeeds().tells("one");
    cli.run(&["key", "export", "--target", "kit"]).fails(1, &["kit"]);
    // A letter mistyped is told apart from a key that is wrong.
    let text = String::from_utf8(cli.read("kit")).expect("text");
    let line = text.lines().find(|line| !line.starts_with('#') && !line.is_empty()).expect("a line of digits");
    let last = line.chars().last().expect("a digit");
    let mistyped = format!("{}{}", &line[..line.len() - 1], if last == '7' { '8' } else { '7' });
    let refused = |text: String, problem: &str| {
        cli.write("typo", text);
        let run = bare(&cli, &["snapshots", "--recovery-kit", "typo"], &[]);
        run.fails(1, &["typo: line 1 of the recovery kit", problem, "hint:", "five lines of 16"]);
    };
    refused(text.replace(line, &mistyped), "is mistyped or damaged");
    refused(text.replace(line, &line[..line.len() - 1]), "has 15 letters and digits, not 16");
    refused(text.replace(line, &format!("{}U", &line[..line.len() - 1])), "has 'U', which no line has");
    let shape = &cli.json(&["key", "export"])[0];
    assert_eq!((&shape["message_type"], &shape["kit"]), (&"recovery_kit".into(), &text.as_str().into()));
    assert!(text.contains(shape["repository"].as_str().expect("an id")));
    let run = cli.run(&["--json", "key", "export", "--target", "second kit"]).succeeds();
    assert_eq!((run.error.as_str(), &run.json()[0]["target"]), ("", &"second kit".into()));
    assert!(run.json()[0].get("kit").is_none(), "it is in the file alone");
    assert_eq!(cli.read("second kit"), cli.read("kit"));
    let init = ["-r", "new", "init", "--recovery-kit", "kit"];
    bare(&cli, &init, &[]).fails(1, &["cannot make one"]);
}

#[test]
fn rotated_keys_open_alone_and_the_rest_is_sealed_anew_on_request() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.write("source/more than fits into its entry", [7; 5000]);
    cli.backup(&[]);
    cli.run(&["key", "export", "--target", "kit", "-q"]).succeeds();
    cli.run(&["key", "add", "--new-key-file", "stolen", "--user", "ann", "--host", "desk"]).succeeds();
    cli.run(&["key", "rotate"]).fails(1, &["ann@desk", "would be dropped", "hint:", "--yes"]);
    let run = cli.run(&["key", "rotate", "--yes"]).succeeds();
    let run = run.tells("epoch 2").tells("dropped").tells("ann@desk").tells("icecore key export");
    run.tells("kept its keys").tells("prune --rekey");
    cli.run(&["snapshots", "--key-file", "stolen"]).fails(12, &["wrong password or key", "hint:"]);
    bare(&cli, &["snapshots", "--recovery-kit", "kit"], &[]).fails(12, &["revoked", "hint:"]);
    cli.run(&["dump", "latest", "source/a"]).succeeds().tells("one");
    cli.run(&["key", "list"]).succeeds().tells("key epoch 2");
    let listed = &cli.json(&["key", "list"])[0];
    assert_eq!((listed.as_array().expect("an array").len(), &listed[0]["epoch"]), (1, &2.into()));
    cli.run(&["prune", "--rekey", "--dry-run"]).succeeds().tells("would seal 2 packs anew");
    let summary = cli.json(&["prune", "--rekey"]).pop().expect("a summary");
    assert_eq!((&summary["rekey"]["packs"], &summary["rekey"]["packs_left"]), (&2.into(), &0.into()));
    assert_eq!(summary["rekey"]["snapshots_left"], 1);
    cli.run(&["prune", "--rekey"]).succeeds().tells("no pack is sealed under keys from before").tells("1 snapshot");
    cli.run(&["check", "--read-data"]).succeeds();
    cli.run(&["dump", "latest", "source/a"]).succeeds().tells("one");

    // Another secret instead of the one in use: that one is dropped as well.
    let run = cli.run(&["--json", "key", "rotate", "--new-key-file", "second"]).succeeds();
    let shape = &run.json()[0];
    assert_eq!((&shape["message_type"], &shape["epoch"]), (&"keys_rotated".into(), &3.into()));
    assert_eq!((shape["dropped"].as_array().expect("an array").len(), &shape["key"]["current"]), (1, &true.into()));
    cli.run(&["snapshots"]).ends(12);
    cli.run(&["dump", "latest", "source/a", "--key-file", "second"]).succeeds().tells("one");
    // A kit can be used up: it opens no more, the file made with it does.
    cli.run(&["key", "export", "--target", "kit 2", "-q", "--key-file", "second"]).succeeds();
    let rotate = ["key", "rotate", "--recovery-kit", "kit 2", "--new-key-file", "third", "--yes"];
    bare(&cli, &rotate, &[]).succeeds();
    cli.run(&["snapshots", "--key-file", "second"]).ends(12);
    cli.run(&["snapshots", "--key-file", "third"]).succeeds();
}
