//! The files in `packaging/`: the unit, the manual, the completions, the examples in the documents.
//! `make test-packages` tests the packages themselves.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use portknock_core::keys::{KEY_LENGTH, Key};
use portknock_tests::{CAPTURE_ONLY_USER, Daemon, Lab, Output, WAIT_TIMEOUT, binary, other_users, require, wait_until};
use tempfile::TempDir;

/// Maximum exposure of the unit that `systemd-analyze security` may report, in tenths; knockd's own
/// has 74.
const EXPOSURE: u32 = 23;

fn workspace(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace(directory)).expect("the directory is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{directory}");
    files
}

fn ok(command: &mut Command) -> String {
    let output = Output::of(command);
    assert_eq!(output.code, Some(0), "{command:?}: {output:?}");
    output.stdout
}

#[test]
fn the_pages_are_clean() {
    require("mandoc");
    for page in files("packaging/man").iter().filter(|path| path.extension().is_none_or(|extension| extension != "in"))
    {
        let lint = Output::of(Command::new("mandoc").args(["-T", "lint", "-W", "all"]).arg(page));
        // The man pages that it names may not be installed here.
        let faults: Vec<_> = lint.stdout.lines().filter(|line| !line.contains("referenced manual not found")).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn every_key_and_option_is_in_the_pages() {
    require("mandoc");
    let page = |name: &str| {
        let text = ok(Command::new("mandoc").args(["-T", "ascii"]).arg(workspace("packaging/man").join(name)));
        // Bold and underlined letters are written twice.
        let mut plain = String::new();
        for letter in text.chars() {
            if letter == '\u{8}' {
                plain.pop();
            } else {
                plain.push(letter);
            }
        }
        plain
    };
    let keys = page("knockd.conf.5");
    assert!(keys.contains("seq_timeout = seconds") && keys.contains("The default is 25."), "{keys}");
    assert!(keys.contains("SIGHUP with a bad configuration"), "{keys}");
    let help = ok(Command::new(binary("portknockd")).arg("--help"));
    let options = page("portknockd.8");
    let long: Vec<_> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert!(long.len() > 10, "{help}");
    for option in long {
        assert!(options.contains(option.trim_end_matches([',', '.'])), "{option} is not in the page:\n{options}");
    }
}

#[test]
fn the_unit_is_hardened() {
    require("systemd-analyze");
    let threshold = format!("--threshold={EXPOSURE}");
    for unit in ["portknockd.service", "portknock-gate.service"] {
        let unit = workspace("packaging/systemd").join(unit);
        ok(Command::new("systemd-analyze").args(["security", "--offline=true", &threshold]).arg(&unit));
    }
}

/// The words after each `KEY=` of the unit.
fn unit_words(key: &str) -> Vec<String> {
    let unit = fs::read_to_string(workspace("packaging/systemd/portknockd.service")).expect("the unit can be read");
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The system calls that these words of a unit allow: names, and groups that contain names and
/// groups.
fn system_calls(words: Vec<String>) -> BTreeSet<String> {
    let (groups, names): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with('@'));
    let mut calls = BTreeSet::from_iter(names);
    for group in groups {
        let listed = ok(Command::new("systemd-analyze").args(["syscall-filter", &group]));
        let lines = listed.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        calls.extend(system_calls(lines.map(str::to_owned).collect()));
    }
    calls
}

#[test]
fn the_unit_permits_the_work_of_the_daemon_and_its_commands() {
    ["systemd-analyze", "strace", "iptables", "nft"].into_iter().for_each(require);
    if !other_users() {
        return;
    }
    let capabilities = unit_words("AmbientCapabilities").join(",+").replace("CAP_", "").to_lowercase();
    let [inherited, ambient, bounding] =
        ["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}=-all,+{capabilities}"));
    let user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--no-new-privs"];
    let trace = ["strace", "-D", "-f", "-q", "-e", "signal=none", "-o", "%DIR%/trace"];
    let starter = [&user[..], &[&inherited, &ambient, &bounding], &trace].concat();
    let lab = Lab::pair();
    let config = "[options]\nUseSyslog\n[ssh]\nsequence = 7391,2284:udp,48213\ncmd_timeout = 1\nopen = tcp/22\n\
                  start_command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT && nft list ruleset && ip address\n\
                  stop_command = iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT && echo closed >%DIR%/done\n";
    let mut daemon = Daemon::portknockd_under(&lab.server, &starter, config);
    lab.client.ok("knock 10.0.0.1 7391 2284:udp 48213");
    daemon.wait_for("command timeout");
    assert!(wait_until(WAIT_TIMEOUT, || daemon.path("done").exists()), "{}", daemon.log());
    daemon.reload(config);
    daemon.signal("USR1");
    daemon.wait_for("status: doors 1");
    // The question of root to a daemon that runs as another user.
    let reload = daemon.portknock(&["reload"]);
    assert_eq!(reload.code, Some(0), "{reload:?}");
    assert_eq!(daemon.stop().code(), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("non-zero"), "{}", daemon.log());

    let trace = daemon.read("trace");
    let calls = trace.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start().split_once('(')?.0));
    let used: BTreeSet<_> = calls.filter(|name| !name.contains([' ', '<', '+', '-'])).map(str::to_owned).collect();
    assert!(used.len() > 40 && used.contains("bind"), "{used:?}");
    let refused: Vec<_> = used.difference(&system_calls(unit_words("SystemCallFilter"))).cloned().collect();
    assert!(refused.is_empty(), "SystemCallFilter refuses {refused:?}");
    let families = unit_words("RestrictAddressFamilies");
    for line in trace.lines().filter(|line| line.contains(" socket(AF_")) {
        assert!(families.iter().any(|family| line.contains(&format!("({family},"))), "{line}");
    }
}

#[test]
fn systemd_accepts_every_line_of_the_unit_and_of_its_drop_in() {
    require("systemd-analyze");
    let directory = TempDir::new().unwrap();
    let unit = directory.path().join("portknockd.service");
    let text = fs::read_to_string(workspace("packaging/systemd/portknockd.service")).unwrap();
    // The program that it would start must exist.
    let daemon = binary("portknockd");
    let text = text.replace("/usr/sbin/portknockd", &daemon.to_string_lossy());
    fs::write(&unit, text.replace("Documentation=", "# ")).unwrap();
    let gate = directory.path().join("portknock-gate.service");
    let text = fs::read_to_string(workspace("packaging/systemd/portknock-gate.service")).unwrap();
    let text = text.replace("/usr/sbin/portknockd", &daemon.to_string_lossy());
    fs::write(&gate, text.replace("Documentation=", "# ")).unwrap();
    let drop_ins = directory.path().join("portknockd.service.d");
    for drop_in in [false, true] {
        if drop_in {
            fs::create_dir(&drop_ins).unwrap();
            fs::copy(workspace("packaging/systemd/root.conf"), drop_ins.join("root.conf")).unwrap();
        }
        let verify =
            Output::of(Command::new("systemd-analyze").args(["verify", "--recursive-errors=no"]).args([&unit, &gate]));
        let faults: Vec<_> = verify.stderr.lines().filter(|line| line.contains("portknock")).collect();
        assert!(faults.is_empty(), "{verify:?}");
    }
}

/// The command of nftables.service that the drop-in has for this key, as the shell gets it.
fn nftables_command(key: &str) -> String {
    let text =
        fs::read_to_string(workspace("packaging/systemd/nftables.conf")).expect("it can be read").replace("\\\n", " ");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix("=/bin/sh -c '")?.strip_suffix('\''));
    let command = line.unwrap_or_else(|| panic!("there is no {key}")).replace("$$", "$").replace("%%", "%");
    command.replace("\\\"", "\"").replace("\\\\", "\\")
}

#[test]
fn nftables_service_flushes_all_but_the_table() {
    require("nft");
    let lab = Lab::pair();
    let directory = TempDir::new().unwrap();
    let rules = directory.path().join("nftables.conf");
    let theirs = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter { chain input { type filter hook input priority 0; }; }\n";
    fs::write(&rules, theirs).unwrap();
    let run = |key: &str| {
        let script = nftables_command(key).replace("/etc/nftables.conf", &rules.to_string_lossy());
        lab.server.run(&format!("exec 2>&1; {script}"))
    };
    let table = || lab.server.ok("nft list tables; nft list table inet portknock 2>/dev/null || true");
    let tables = |names: &[&str]| names.iter().map(|name| format!("table inet {name}\n")).collect::<String>();
    for key in ["ExecStart", "ExecReload"] {
        assert_eq!(run(key).code, Some(0));
        assert_eq!(table(), tables(&["filter"]), "{key} makes nothing that was not there");
    }
    assert_eq!(run("ExecStop").code, Some(0));
    assert_eq!(table(), "");

    let config = "[ssh]\nsequence = 7391,2284:udp,48213\nopen = tcp/22,udp/53\ncmd_timeout = 600\n";
    fs::write(directory.path().join("knockd.conf"), config).unwrap();
    lab.server.ok(&format!(
        "{} -c {}/knockd.conf --make-table",
        binary("portknockd").display(),
        directory.path().display()
    ));
    lab.server.ok("nft add element inet portknock open4 '{ 10.0.0.2 . tcp . 22 timeout 600s }'");
    let made = lab.server.ok("nft -s list table inet portknock");
    assert!(made.contains("10.0.0.2 . tcp . 22 timeout 10m"), "{made}");
    for (key, names) in [
        ("ExecReload", &["filter", "portknock"][..]),
        ("ExecStart", &["filter", "portknock"]),
        ("ExecStop", &["portknock"]),
    ] {
        let monitor = lab.server.spawn("stdbuf", ["-oL", "nft", "monitor"]);
        assert!(wait_until(WAIT_TIMEOUT, || {
            lab.server.ok("nft add table inet seen; nft delete table inet seen");
            monitor.output().contains("delete table inet seen")
        }));
        let output = run(key);
        assert_eq!(output.code, Some(0), "{key}: {output:?}");
        assert!(table().starts_with(&tables(names)), "{key}: {}", table());
        assert_eq!(lab.server.ok("nft -s list table inet portknock"), made, "{key}");
        // The transaction that removes the table creates it again.
        lab.server.ok("nft add table inet last; nft delete table inet last");
        monitor.wait_for("delete table inet last");
        let output = monitor.output();
        let transactions = output.split("# new generation").filter(|one| one.contains("delete table inet portknock"));
        let transactions: Vec<_> = transactions.collect();
        assert!(matches!(transactions[..], [one] if one.contains("add table inet portknock")), "{key}: {output}");
    }
    // Rules that flush nothing are added, as they are without the drop-in.
    fs::write(&rules, "table inet other { }\n").unwrap();
    assert_eq!(run("ExecReload").code, Some(0));
    assert_eq!(lab.server.ok("nft -s list table inet portknock"), made);
    fs::write(&rules, "flush nothing\n").unwrap();
    assert_ne!(run("ExecReload").code, Some(0), "an error of the administrator's rules is one");
    assert_eq!(lab.server.ok("nft -s list table inet portknock"), made);
    // If nft cannot load the table that it printed, the administrator's rules stay in force.
    fs::write(&rules, theirs).unwrap();
    let shim = directory.path().join("nft");
    fs::write(&shim, "#!/bin/sh\n[ \"$1\" = list ] && echo broken && exit\nPATH=${PATH#*:} exec nft \"$@\"\n").unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    let script = nftables_command("ExecReload").replace("/etc/nftables.conf", &rules.to_string_lossy());
    lab.server.ok(&format!("PATH={}:$PATH; {script}", directory.path().display()));
    assert_eq!(lab.server.ok("nft list tables"), tables(&["filter"]));
}

#[test]
fn bash_completes_commands_options_and_values() {
    require("bash");
    let complete = |program: &str, words: &[&str]| {
        let script = workspace("packaging/completions/bash").join(program);
        let asked = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                     \"_$1\" \"$1\" \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", asked, "bash"]).arg(script).arg(program).args(words);
        ok(&mut bash).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("portknock", &["ch"]), ["check"]);
    assert_eq!(complete("portknock", &["check", "--fi"]), ["--fix"]);
    assert_eq!(complete("portknock", &["probe", "--method", ""]), ["auto", "syn", "connect"]);
    assert_eq!(complete("portknockd", &["--dr"]), ["--dry-run"]);
    assert_eq!(complete("knock", &["--ver"]), ["--verbose", "--version"]);
}

#[test]
fn zsh_and_fish_accept_their_completions() {
    require("zsh");
    require("fish");
    for script in files("packaging/completions/zsh") {
        ok(Command::new("zsh").arg("-n").arg(script));
    }
    for script in files("packaging/completions/fish") {
        ok(Command::new("fish").args(["--no-config", "--no-execute"]).arg(&script));
        let program = script.file_stem().unwrap().to_string_lossy().into_owned();
        let asked = format!("source {}; complete --do-complete '{program} --he'", script.display());
        let offered = ok(Command::new("fish").args(["--no-config", "-c", &asked]));
        assert!(offered.starts_with("--help"), "{program}: {offered}");
    }
}

#[test]
fn logrotate_accepts_its_file() {
    require("logrotate");
    let directory = TempDir::new().unwrap();
    let copy = directory.path().join("portknock");
    fs::copy(workspace("packaging/logrotate/portknock"), &copy).unwrap();
    let text = fs::read_to_string(&copy).unwrap();
    // There may be no such user here.
    fs::write(&copy, text.replace("create 0640 portknock adm", "create 0640")).unwrap();
    let output = Output::of(
        Command::new("logrotate").args(["--debug", "--state"]).arg(directory.path().join("state")).arg(copy),
    );
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(!output.stderr.contains("error"), "{output:?}");
}

#[test]
fn configurations_in_the_documents_are_without_errors() {
    let directory = TempDir::new().unwrap();
    // The documents name a key file that this host may lack.
    let keys = directory.path().join("ssh.keys");
    fs::write(&keys, format!("alice {}\n", *Key::from_bytes([7; KEY_LENGTH]).to_text())).unwrap();
    fs::set_permissions(&keys, Permissions::from_mode(0o640)).unwrap();
    let mut checked = 0;
    let texts = files("docs").into_iter().chain(files("packaging/man")).chain([workspace("README.md")]);
    for path in texts {
        let text = fs::read_to_string(&path).unwrap();
        let blocks = text.split("```conf\n").skip(1).filter_map(|rest| rest.split("```").next());
        let literal = text.split(".Bd -literal -offset indent\n[").skip(1).filter_map(|rest| rest.split(".Ed").next());
        let literal = literal.map(|block| format!("[{block}"));
        for block in blocks.map(str::to_owned).chain(literal) {
            let conf = directory.path().join("knockd.conf");
            fs::write(&conf, block.replace("/etc/portknock/ssh.keys", &keys.display().to_string())).unwrap();
            ok(Command::new(binary("portknock")).arg("check").arg(&conf));
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked}");
    ok(Command::new(binary("portknock")).arg("check").arg(workspace("packaging/knockd.conf")));
}

#[test]
fn the_picture_of_a_session_matches_the_programs() {
    let directory = TempDir::new().unwrap();
    let drawn = directory.path().join("session.svg");
    ok(Command::new(workspace("scripts/sandbox")).arg(workspace("scripts/picture")).arg(&drawn));
    // Times differ, and so do the spaces that fill a column.
    let without_times = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let words = text.split_whitespace().map(|word| word.split(|letter: char| letter.is_ascii_digit()));
        words
            .map(|parts| parts.filter(|part| !["", ".", "-", ":"].contains(part)).collect::<String>())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        without_times(&drawn),
        without_times(&workspace("docs/session.svg")),
        "draw it again: scripts/sandbox scripts/picture"
    );
}

/// The anchor of a heading in links: lower case, spaces as `-`, no other punctuation.
fn anchor(heading: &str) -> String {
    let letters = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = letters.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

#[test]
fn links_in_the_documents_have_targets() {
    let pages = files("docs").into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut followed = 0;
    for page in pages.chain(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(workspace)) {
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.starts_with("http")) {
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !section.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(headings.any(|heading| anchor(heading) == section), "{}: {link}", page.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 40, "{followed}");
}

#[test]
fn an_unreadable_configuration_is_reported_with_the_remedy() {
    if !other_users() {
        return;
    }
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let conf = directory.path().join("knockd.conf");
    fs::write(&conf, "[door]\nsequence = 7391,2284,48213\n").unwrap();
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o600)).unwrap();
    let (starter, rest) = CAPTURE_ONLY_USER.split_first().unwrap();
    let output = Output::of(Command::new(starter).args(rest).arg(binary("portknockd")).arg("-c").arg(&conf));
    assert_eq!(output.code, Some(1), "{output:?}");
    let conf = conf.display();
    let help = format!("help: let the daemon read it: chgrp portknock {conf} && chmod 640 {conf}");
    assert!(output.stderr.contains(&help), "{output:?}");
}
