//! The dialect, rule by rule: how the original knockd reads an input (the program itself is run if
//! it is installed), and how portknock reads it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod config_support;

use config_support::{assert_same_doors, original};
use portknock_core::config::{Config, PacketAddress, PacketFormat, Parsed, Severity, apply_fixes, parse};

/// How the original reads the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Knockd {
    /// As the author intends.
    Accepts,
    /// Accepts it, but with another meaning than the text suggests.
    Misreads,
    Refuses,
}
use Knockd::{Accepts, Misreads, Refuses};

/// Checks how the original reads the text, then returns our reading.
#[track_caller]
fn read(text: &str, knockd: Knockd) -> Parsed {
    let parsed = parse(text.as_bytes());
    let original = original(text.as_bytes());
    assert_eq!(original.accepted, knockd != Refuses, "the original on {text:?}:\n{}", original.output);
    if knockd == Accepts {
        assert_same_doors(parsed.config.as_ref().expect("files that the original accepts are accepted"), &original);
    }
    parsed
}

/// The codes of the diagnostics.
fn codes(parsed: &Parsed) -> Vec<&'static str> {
    parsed.report.diagnostics.iter().map(|found| found.code).collect()
}

/// Asserts that the text is accepted with exactly these warnings.
#[track_caller]
fn accepted(text: &str, knockd: Knockd, warnings: &[&str]) -> Config {
    let parsed = read(text, knockd);
    assert_eq!(codes(&parsed), warnings, "{}", parsed.report.render("test", text.as_bytes()));
    parsed.config.unwrap()
}

/// Asserts that the text is refused with exactly these diagnostics.
#[track_caller]
fn refused(text: &str, knockd: Knockd, findings: &[&str]) {
    let parsed = read(text, knockd);
    assert_eq!(codes(&parsed), findings, "{}", parsed.report.render("test", text.as_bytes()));
    assert!(parsed.report.has_errors() && parsed.config.is_none());
}

/// Asserts that the fixes produce this text, which has no errors and which the original reads as
/// portknock does.
#[track_caller]
fn fixed(text: &str, expected: &str) -> Config {
    let mended = String::from_utf8(apply_fixes(text.as_bytes(), &parse(text.as_bytes()).report)).unwrap();
    assert_eq!(mended, expected);
    read(&mended, Accepts).config.unwrap()
}

/// A door with a sequence and one further line.
fn door(line: &str) -> String {
    format!("[a]\nsequence = 5,1,9\n{line}\n")
}

/// A door with this sequence.
fn sequence(value: &str) -> String {
    format!("[a]\nsequence = {value}\n")
}

#[test]
fn a_hash_first_on_a_line_begins_a_comment() {
    accepted("# one\n[a]\n  \t# sequence = 1\nsequence = 5,1,9\n", Accepts, &[]);
}

#[test]
fn a_comment_after_a_number_or_a_sequence_is_ignored() {
    let config = accepted(&door("seq_timeout = 5 # seconds"), Accepts, &[]);
    assert_eq!(config.doors[0].seq_timeout.as_secs(), 5);
    accepted(&sequence("5,1,9 # in this order"), Accepts, &[]);
    accepted(&sequence("5,1,9#in this order"), Accepts, &[]);
}

#[test]
fn a_comment_that_the_original_reads_as_a_value_is_moved() {
    let config = accepted(&sequence("5,1,9 # one, two"), Misreads, &["PK017"]);
    assert_eq!(config.doors[0].sequence.as_ref().unwrap().to_string(), "5,1,9");
    fixed(&sequence("5,1,9 # one, two"), "[a]\n# one, two\nsequence = 5,1,9\n");
    accepted(&sequence("5,1,9:udp # UDP"), Refuses, &["PK017"]);
    accepted(&door("tcpflags = syn # only"), Refuses, &["PK017"]);
    refused("[options]\nLogFile = /var/log/knockd.log # log\n[a]\nsequence = 5,1,9\n", Misreads, &["PK017"]);
    fixed(
        "[options]\n  LogFile = /var/log/knockd.log # log\n[a]\nsequence = 5,1,9\n",
        "[options]\n  # log\n  LogFile = /var/log/knockd.log\n[a]\nsequence = 5,1,9\n",
    );
}

#[test]
fn a_comment_after_a_command_is_a_part_of_it() {
    let config = accepted(&door("command = logger in # for me"), Accepts, &[]);
    assert_eq!(config.doors[0].start_command.as_deref(), Some("logger in # for me"));
}

#[test]
fn a_semicolon_is_no_comment() {
    refused(&door("; closed"), Refuses, &["PK007"]);
    fixed(&door("; closed"), &door("# closed"));
}

#[test]
fn keys_are_found_in_any_case() {
    accepted("[options]\nUSESYSLOG\nlogfile=/var/log/knockd.log\n[a]\nSeQuEnCe=5,1,9\nTCPFlags = SYN\n", Accepts, &[]);
}

#[test]
fn options_is_case_sensitive_and_may_repeat() {
    refused("[Options]\nUseSyslog\n[a]\nsequence = 5,1,9\n", Refuses, &["PK010"]);
    refused("[ options ]\nUseSyslog\n[a]\nsequence = 5,1,9\n", Refuses, &["PK010"]);
    fixed("[OPTIONS]\nUseSyslog\n[a]\nsequence = 5,1,9\n", "[options]\nUseSyslog\n[a]\nsequence = 5,1,9\n");
    let text = "[options]\nUseSyslog\n[a]\nsequence = 5,1,9\n[options]\nPidFile = /run/k.pid\n";
    let config = accepted(text, Accepts, &["PK019"]);
    assert!(config.options.use_syslog);
    assert_eq!(config.options.pid_file.to_str(), Some("/run/k.pid"));
}

#[test]
fn use_syslog_has_no_value_or_yes_or_no() {
    let syslog = |config: Config| config.options.use_syslog;
    let with = |line: &str| format!("[options]\n{line}\n[a]\nsequence = 5,1,9\n");
    assert!(syslog(accepted(&with("UseSyslog"), Accepts, &[])));
    assert!(syslog(accepted(&with("UseSyslog = yes"), Refuses, &[])));
    assert!(!syslog(accepted(&with("UseSyslog = NO"), Refuses, &[])));
    for (word, on) in [("true", true), ("on", true), ("1", true), ("false", false), ("Off", false), ("0", false)] {
        assert_eq!(syslog(accepted(&with(&format!("UseSyslog = {word}")), Refuses, &[])), on, "{word}");
    }
    refused(&with("UseSyslog = 2"), Refuses, &["PK039"]);
    refused(&with("UseSyslog ="), Refuses, &["PK025"]);
    fixed(&with("UseSyslog ="), &with("UseSyslog"));
    assert!(syslog(accepted(&door("UseSyslog"), Accepts, &["PK021"])));
}

#[test]
fn interface_takes_a_list_or_any() {
    let with = |value: &str| format!("[options]\nInterface = {value}\n[a]\nsequence = 5,1,9\n");
    // The original gets an interface on its command line here, so it accepts any text.
    let names = |value: &str, warnings: &[&str]| accepted(&with(value), Accepts, warnings).options.interfaces;
    assert_eq!(names("eth0,wlan0", &[]), ["eth0", "wlan0"]);
    assert_eq!(names("eth0 , wlan0", &[]), ["eth0", "wlan0"]);
    assert_eq!(names("any", &[]), ["any"]);
    assert_eq!(names("eth0", &[]), ["eth0"]);
    assert_eq!(names("", &["PK041"]), [""; 0]);
    assert_eq!(names("\"\"", &["PK026", "PK041"]), [""; 0]);
    assert_eq!(names("\"eth0\"", &["PK026"]), ["eth0"]);
    assert_eq!(names("eth0 # outside", &["PK017"]), ["eth0"]);
    fixed(&with("'eth0'"), &with("eth0"));
    refused(&with("any,eth0"), Misreads, &["PK040"]);
    refused(&with("/dev/eth0"), Misreads, &["PK040"]);
}

#[test]
fn a_second_interface_line_is_no_list() {
    let with = |first: &str, second: &str| {
        format!("[options]\nInterface = {first}\nInterface = {second}\n[a]\nsequence = 5,1,9\n")
    };
    refused(&with("eth0", "eth1"), Misreads, &["PK018"]);
    assert_eq!(accepted(&with("eth0", ""), Accepts, &["PK018", "PK041"]).options.interfaces, ["eth0"]);
    assert_eq!(accepted(&with("eth0", "eth0"), Accepts, &["PK018"]).options.interfaces, ["eth0"]);
    assert_eq!(accepted(&with("", "eth1"), Accepts, &["PK041", "PK018"]).options.interfaces, ["eth1"]);
}

#[test]
fn aliases_mean_the_same() {
    let text = "[a]\nsequence = 5,1,9\ntimeout = 7\ncommand = one\ncommand_6 = two\n";
    let config = accepted(text, Accepts, &[]);
    let door = &config.doors[0];
    assert_eq!(door.seq_timeout.as_secs(), 7);
    assert_eq!(door.start_command.as_deref(), Some("one"));
    assert_eq!(door.start_command_6.as_deref(), Some("two"));
}

#[test]
fn defaults_are_those_of_the_original() {
    let config = accepted(&sequence("5,1,9"), Accepts, &[]);
    assert_eq!(config.doors[0].seq_timeout.as_secs(), 25);
    assert_eq!(config.doors[0].cmd_timeout.as_secs(), 10);
    assert_eq!(config.options.pid_file.to_str(), Some("/var/run/knockd.pid"));
}

#[test]
fn the_last_of_repeated_keys_counts_and_both_lines_are_named() {
    let text = "[a]\nsequence = 1,2\nseq_timeout = 5\nsequence = 5,1,9\ntimeout = 10\ncommand = x\nstart_command = y\n";
    let parsed = read(text, Accepts);
    assert_eq!(codes(&parsed), ["PK018", "PK018", "PK018"]);
    let messages: Vec<&str> = parsed.report.diagnostics.iter().map(|found| &*found.message).collect();
    assert!(messages[0].contains("line 2") && messages[0].contains("line 4"), "{messages:?}");
    assert!(messages[1].contains("line 3") && messages[1].contains("line 5"), "{messages:?}");
    assert!(messages[2].contains("line 6") && messages[2].contains("line 7"), "{messages:?}");
    let door = &parsed.config.unwrap().doors[0];
    assert_eq!(door.sequence.as_ref().unwrap().to_string(), "5,1,9");
    assert_eq!(door.seq_timeout.as_secs(), 10);
}

#[test]
fn repeated_flags_add_up() {
    let config = accepted(&door("tcpflags = syn,!fin\ntcpflags = ack,fin"), Accepts, &["PK018", "PK060"]);
    assert_eq!(config.doors[0].tcpflags.to_string(), "fin,syn,ack");
}

#[test]
fn a_repeated_door_name_is_accepted_with_a_warning() {
    let config = accepted("[a]\nsequence = 5,1,9\n[a]\nsequence = 6,1,9\n", Accepts, &["PK020"]);
    assert_eq!(config.doors.len(), 2);
}

#[test]
fn a_door_needs_a_sequence_but_no_command() {
    refused("[a]\ncommand = x\n", Refuses, &["PK023"]);
    accepted(&sequence("5,1,9"), Accepts, &[]);
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let text = "[a]\nsequense = 5,1,9\n";
    refused(text, Refuses, &["PK014"]);
    assert_eq!(parse(text.as_bytes()).report.diagnostics[0].help.as_deref(), Some("did you mean `sequence`?"));
    fixed(text, "[a]\nsequence = 5,1,9\n");
    refused(&door("ipset = x"), Refuses, &["PK014"]);
    let unlike = parse(door("ipset = x").as_bytes()).report;
    assert_eq!(unlike.diagnostics[0].help.as_deref(), Some("knockd.conf(5) lists the keys of doors"));
    refused(&door("LogFile = /var/log/knockd.log"), Refuses, &["PK015"]);
}

#[test]
fn a_key_of_a_fork_is_explained() {
    for line in ["key = 5F3A", "otp = AAgR, 45", "OTP = x", "otp_window = 3"] {
        refused(&door(line), Refuses, &["PK081"]);
        let report = parse(door(line).as_bytes()).report;
        let help = report.diagnostics[0].help.as_deref().unwrap();
        assert!(help.contains("`keys = FILE`") && help.contains("`sequence = time`"), "{help}");
    }
    refused(&door("keys = /etc/portknock/keys"), Refuses, &["PK084"]);
}

#[test]
fn an_invalid_port_is_refused() {
    for value in ["abc", "12x", "-1", "5,0x10,9", "5;6"] {
        refused(&sequence(value), Misreads, &["PK027"]);
    }
    refused(&sequence("0"), Misreads, &["PK028"]);
    refused(&sequence(""), Misreads, &["PK025"]);
    refused(&sequence("5,1,"), Misreads, &["PK030"]);
    fixed(&sequence("5,1,,9,"), &sequence("5,1,9"));
    refused(&sequence("65536"), Refuses, &["PK028"]);
    accepted(&sequence("+005,1,9"), Accepts, &[]);
}

#[test]
fn a_sequence_has_at_most_32_steps() {
    let steps = |count: usize| sequence(&["5", "1"].iter().cycle().take(count).copied().collect::<Vec<_>>().join(","));
    accepted(&steps(32), Accepts, &[]);
    refused(&steps(33), Refuses, &["PK031"]);
}

#[test]
fn spaces_separate_steps_like_commas() {
    let config = accepted(&sequence("5 1\t9"), Misreads, &["PK032"]);
    assert_eq!(config.doors[0].sequence.as_ref().unwrap().to_string(), "5,1,9");
    accepted(&sequence("5:tcp 1:udp 9"), Refuses, &["PK032"]);
    fixed(&sequence("5:tcp 1 : UDP  9,4"), &sequence("5:tcp,1:UDP,9,4"));
    accepted(&sequence("5, 1 ,9"), Accepts, &[]);
}

#[test]
fn a_step_spelled_with_a_slash_or_backwards_is_read() {
    for text in ["7264/tcp,3981/udp,5410", "7264,udp/3981,5410"] {
        let config = accepted(&sequence(text), Misreads, &vec!["PK074"; text.matches('/').count()]);
        assert_eq!(config.doors[0].sequence.as_ref().unwrap().to_string(), "7264,3981:udp,5410", "{text}");
    }
    fixed(&sequence("7264/udp, tcp/3981,5410"), &sequence("7264:udp, 3981:tcp,5410"));
    refused(&sequence("7264/sctp"), Misreads, &["PK027"]);
}

#[test]
fn quotes_around_a_whole_command_are_removed() {
    let door = |command: &str| format!("[a]\nsequence = 7264,3981:udp,5410\ncommand = {command}\n");
    for quoted in ["\"logger a\"", "'logger a'", "“logger a”", "„logger a“", "‘logger a’", "«logger a»", "`logger a`"]
    {
        accepted(&door(quoted), Accepts, &["PK026"]);
        fixed(&door(quoted), &door("logger a"));
    }
    for meant in ["\"/usr/bin/logger\"", "\"a\" \"b\"", "sh -c \"logger a\""] {
        accepted(&door(meant), Accepts, &[]);
    }
}

#[test]
fn two_commands_are_joined_and_none_is_removed() {
    for (first, second) in [("start_command", "start_command"), ("command", "start_command")] {
        let text = format!("[a]\nsequence = 7264,3981:udp,5410\n{first} = logger a\n{second} = logger b\n");
        accepted(&text, Accepts, &["PK018"]);
        let found = parse(text.as_bytes()).report.diagnostics.remove(0);
        assert!(found.message.ends_with("only the last one runs"), "{found:?}");
        assert!(found.help.unwrap().starts_with("join the two commands on one line"));
        assert_eq!(found.fix, None);
    }
}

#[test]
fn commands_that_open_too_much_or_nothing_are_warned_of() {
    let with = |command: &str| format!("[a]\nsequence = 12034,23045:udp,14056\ncommand = {command}\n");
    accepted(&with("iptables -I INPUT -p udp --dport 51820 -j ACCEPT"), Accepts, &["PK075", "PK077"]);
    accepted(&with("iptables -A INPUT -s %IP% -p tcp --dport 2222 -j ACCEPT"), Accepts, &["PK076", "PK077"]);
}

#[test]
fn protocols_are_tcp_and_udp_in_any_case_and_spacing() {
    accepted(&sequence("80 : UDP,5: Tcp,9"), Accepts, &[]);
    refused(&sequence("80:sctp"), Refuses, &["PK029"]);
    refused(&sequence("80:"), Refuses, &["PK029"]);
    refused(&sequence("80:udp:tcp,5"), Misreads, &["PK029"]);
    let report = parse(sequence("80:sctp").as_bytes()).report;
    assert_eq!(report.diagnostics[0].help.as_deref(), Some("write `tcp` or `udp`"));
}

#[test]
fn flags_may_have_spaces_around_the_comma() {
    let config = accepted(&door("tcpflags = syn, ack"), Refuses, &["PK035", "PK060"]);
    assert_eq!(config.doors[0].tcpflags.to_string(), "syn,ack");
    fixed(&door("tcpflags = syn , !ack"), &door("tcpflags = syn,!ack"));
    accepted(&door("tcpflags = syn,!ack"), Accepts, &[]);
    refused(&door("tcpflags = syn,!syn"), Misreads, &["PK034"]);
    refused(&door("tcpflags = ece"), Refuses, &["PK033"]);
    refused(&door("tcpflags ="), Refuses, &["PK025"]);
}

#[test]
fn times_are_whole_seconds_of_at_least_one() {
    for (value, code) in [("abc", "PK036"), ("-5", "PK036"), ("1.5", "PK036"), ("0", "PK038"), ("", "PK025")] {
        refused(&door(&format!("seq_timeout = {value}")), Misreads, &[code]);
    }
    refused(&door("seq_timeout = 1m"), Misreads, &["PK037"]);
    fixed(&door("seq_timeout = 2 min"), &door("seq_timeout = 120"));
    accepted(&door("seq_timeout = 10s"), Accepts, &["PK037"]);
    fixed(&door("seq_timeout = 10 seconds"), &door("seq_timeout = 10"));
    refused(&door("seq_timeout = 99999999999"), Misreads, &["PK038"]);
}

#[test]
fn line_ends_tabs_and_missing_newlines_do_not_matter() {
    accepted("[a]\r\n\tsequence\t=\t5,1,9\t\r\n\x0b command =  x \x0c", Accepts, &[]);
    accepted("", Accepts, &["PK022"]);
    accepted("[options]\n", Accepts, &["PK022"]);
}

#[test]
fn a_byte_order_mark_is_accepted() {
    accepted("\u{feff}[a]\nsequence = 5,1,9\n", Refuses, &[]);
}

#[test]
fn a_wrapped_line_is_joined() {
    refused(&door("command = iptables -j\n\tACCEPT"), Refuses, &["PK013"]);
    fixed(&door("command = iptables -j\n\tACCEPT"), &door("command = iptables -j ACCEPT"));
    fixed(&door("command = fw \\\n  --zone=public \\\n  --add"), &door("command = fw --zone=public --add"));
    fixed(&door("command = fw\n  --zone=public"), &door("command = fw --zone=public"));
}

#[test]
fn a_key_repeated_in_its_value_is_dropped() {
    refused(&sequence("sequence = 5,1,9"), Misreads, &["PK012"]);
    fixed(&sequence("sequence = SEQUENCE = 5,1,9"), &sequence("5,1,9"));
    refused(&door("tcpflags = tcpflags = syn"), Refuses, &["PK012"]);
    refused(&door("command = start_command = x"), Misreads, &["PK012"]);
    // A variable of the shell.
    accepted(&door("command = COMMAND=x ./run"), Accepts, &[]);
}

#[test]
fn typography_in_a_command_is_a_warning_with_a_fix() {
    accepted(&door("command = iptables –j “x” tcp—dport"), Accepts, &["PK045"; 4]);
    fixed(&door("command = iptables –j “x” tcp—dport"), &door("command = iptables -j \"x\" tcp --dport"));
}

#[test]
fn closing_and_its_time_belong_together() {
    let config = accepted(&door("command = x\nstop_command = x"), Accepts, &[]);
    assert_eq!(config.doors[0].cmd_timeout.as_secs(), 10);
    accepted(&door("cmd_timeout = 5"), Accepts, &["PK046"]);
    accepted(&door("cmd_timeout = 5\nstop_command ="), Accepts, &["PK046"]);
    accepted(&door("cmd_timeout = 5\ncommand_6 = x\nstop_command_6 = x"), Accepts, &[]);
}

#[test]
fn a_door_closes_no_sooner_than_after_a_second() {
    refused(&door("command = x\nstop_command = x\ncmd_timeout = 0"), Misreads, &["PK038"]);
}

#[test]
fn closing_without_opening_is_warned_of() {
    for lines in ["stop_command = x", "stop_command_6 = x", "start_command =\nstop_command = x"] {
        accepted(&door(lines), Accepts, &["PK054"]);
    }
    accepted(&door("start_command_6 = x\nstop_command = x"), Accepts, &[]);
}

#[test]
fn quotes_around_a_path_are_refused() {
    let with = |line: &str| format!("[options]\n{line}\n[a]\nsequence = 5,1,9\n");
    refused(&with("PidFile = \"/run/knockd.pid\""), Misreads, &["PK026"]);
    fixed(&with("PidFile = '/run/knockd.pid'"), &with("PidFile = /run/knockd.pid"));
}

#[test]
fn an_empty_command_means_do_nothing() {
    let config = accepted(&door("command = x\ncommand_6 ="), Accepts, &[]);
    assert_eq!(config.doors[0].start_command_6.as_deref(), Some(""));
    assert_eq!(config.doors[0].start_command_for("::1".parse().unwrap()), None);
}

#[test]
fn weak_doors_are_warned_of() {
    accepted(&sequence("22"), Accepts, &["PK047"]);
    accepted(&sequence("1,2,3"), Accepts, &["PK048"]);
    accepted(&sequence("3,2,1"), Accepts, &["PK048"]);
    accepted(&sequence("7000,8000,9000"), Accepts, &["PK049"]);
    accepted(&sequence("7000,8000:udp,9000"), Accepts, &["PK048"]);
    accepted(&sequence("5,1,9"), Accepts, &[]);
    let message = |options: &str, steps: &str| {
        let parsed = parse(format!("[options]\n{options}\n{}", sequence(steps)).as_bytes());
        parsed.report.diagnostics[0].message.clone()
    };
    let opens = "a port scan in order opens the door";
    assert!(message("", "7000,7005,7010").contains(opens) && message("", "7010,7001").contains(opens));
    assert!(
        !message("", "7000,7005,7011").contains(opens) && message("ScanGuard = 9", "7000,7005,7011").contains(opens)
    );
    assert!(message("ScanGuard = 0", "100,20000,40000").contains(opens));
}

#[test]
fn flags_that_no_client_sends_are_warned_of() {
    let with = |flags: &str| format!("[a]\nsequence = 8881:tcp,7777:tcp,9991:tcp\ntcpflags = {flags}\n");
    for flags in ["syn,ack", "ack", "fin,!ack", "rst", "psh", "urg,!ack", "!syn", "syn,psh"] {
        accepted(&with(flags), Accepts, &["PK060"]);
    }
    for flags in ["syn", "syn,!ack", "!ack", "!fin", "syn,!rst,!urg", "fin", "fin,ack"] {
        accepted(&with(flags), Accepts, &[]);
    }
    accepted("[a]\nsequence = 5:udp,1:udp,9:udp\ntcpflags = ack\n", Accepts, &[]);
}

#[test]
fn a_scan_guard_that_watches_a_quarter_of_all_ports_is_warned_of() {
    let doors = |count: u32, width: u32| -> String {
        let section = |door| {
            let first = 1_000 + door * 60;
            format!("[{door}]\nsequence = {},{first},{}\ntcpflags = syn,!ack\n", first + width / 2, first + width)
        };
        (0..count).map(section).collect()
    };
    let warned = |text: &str| codes(&parse(text.as_bytes())).contains(&"PK061");
    assert!(!warned(&doors(200, 20)) && warned(&doors(500, 20)));
    assert!(!warned(&format!("[options]\nScanGuard = 0\n{}", doors(500, 20))));
    assert!(!warned(&doors(500, 5_000)));
}

#[test]
fn a_door_inside_another_is_warned_of() {
    let two = |a: &str, b: &str| format!("[a]\nsequence = {a}\n[b]\nsequence = {b}\n");
    accepted(&two("5,1,9", "5,1,9,4"), Accepts, &["PK050"]);
    accepted(&two("5,1,9,4", "5,1,9"), Accepts, &["PK050"]);
    accepted(&two("5,1,9", "5,1:udp,9,4"), Accepts, &[]);
    let text = "[a]\nsequence = 5,1,9\ntarget = 192.0.2.1\n[b]\nsequence = 5,1,9\ntarget = 192.0.2.2\n";
    accepted(text, Accepts, &[]);
}

#[test]
fn a_door_has_one_source_of_sequences() {
    // The original uses whichever line is last, and after the first opening the file.
    let parsed = parse(door("one_time_sequences = /etc/sequences").as_bytes());
    assert_eq!(codes(&parsed), ["PK024"]);
    assert!(parsed.config.is_none());
}

#[test]
fn section_names_are_used_unchanged() {
    let name = |text: &str| accepted(text, Accepts, &[]).doors[0].name.to_string();
    assert_eq!(name("[open rtorrent]\nsequence = 5,1,9\n"), "open rtorrent");
    assert_eq!(name("[ a ]\nsequence = 5,1,9\n"), " a ");
    assert_eq!(name("[a]b]\nsequence = 5,1,9\n"), "a]b");
    assert_eq!(name("[a=b]\nsequence = 5,1,9\n"), "a=b");
    refused("[a] # see [b]\nsequence = 5,1,9\n", Misreads, &["PK016"]);
    refused("[x]\nsequence=6,1,9\n[a] # mine\nsequence = 5,1,9\n", Refuses, &["PK016"]);
    fixed("[a] # see [b]\nsequence = 5,1,9\n", "# see [b]\n[a]\nsequence = 5,1,9\n");
    refused("[]\nsequence = 5,1,9\n", Refuses, &["PK009"]);
    refused(&format!("[{}]\nsequence = 5,1,9\n", "x".repeat(128)), Misreads, &["PK009"]);
    fixed("[a\nsequence = 5,1,9\n", "[a]\nsequence = 5,1,9\n");
}

#[test]
fn a_line_has_at_most_4095_bytes() {
    let longest = format!("command = {}", "x".repeat(4095 - "command = ".len()));
    accepted(&door(&longest), Accepts, &[]);
    refused(&door(&format!("{longest}x\n")), Refuses, &["PK004"]);
}

#[test]
fn a_line_before_the_first_section_is_refused() {
    refused("interface = eth0\n[a]\nsequence = 5,1,9\n", Refuses, &["PK011"]);
}

#[test]
fn a_target_is_an_address() {
    accepted(&door("target = 192.0.2.7"), Accepts, &[]);
    accepted(&door("target = 2001:db8::7"), Accepts, &[]);
    refused(&door("target = localhost"), Misreads, &["PK042"]);
    refused(&door("target ="), Misreads, &["PK025"]);
}

#[test]
fn bytes_other_than_utf8_are_refused_outside_of_comments() {
    let parsed = parse(b"# f\xfcr\n[a]\nsequence = 5,1,9\n");
    assert_eq!(codes(&parsed), ["PK001"]);
    assert!(parsed.config.is_some());
    let parsed = parse(b"[a]\nsequence = 5,1,9\ncommand = \xe9\n");
    assert_eq!(codes(&parsed), ["PK001"]);
    assert!(parsed.config.is_none());
    // The line sets the value, so there is no second message about it.
    assert_eq!(codes(&parse(b"[a]\nsequence = 5,1,9\0\n")), ["PK002"]);
}

#[test]
fn doors_with_keys_are_extensions() {
    let keys = "[a]\nkeys = /etc/portknock/keys\nopen = tcp/22\n";
    let config = accepted(&format!("{keys}sequence = time:6\n[a]\npacket = portknock\n{}", &keys[4..]), Refuses, &[]);
    assert_eq!(config.doors[0].time_sequence.as_ref().unwrap().steps, 6);
    assert_eq!(config.doors[1].packet, Some(PacketFormat::Portknock));
    assert!(config.doors.iter().all(|door| door.sequence.is_none() && door.keys.is_empty()));
    refused("[a]\npacket = portknock\n", Refuses, &["PK083"]);
    refused("[a]\npacket = spa\nkeys = /k\n", Refuses, &["PK039"]);
    let fwknop = "[a]\nkeys = /etc/portknock/keys\npacket = fwknop\npacket_address = source\nopen = tcp/22\n";
    let config = accepted(fwknop, Refuses, &[]);
    assert_eq!(config.doors[0].packet, Some(PacketFormat::Fwknop));
    assert_eq!(config.doors[0].packet_address, PacketAddress::Source);
}

#[test]
fn the_extensions_are_off_until_written() {
    let off = accepted(&sequence("5,1,9"), Accepts, &[]);
    assert_eq!((off.doors[0].allow.len(), off.doors[0].open.len(), off.doors[0].seq_cooldown), (0, 0, None));
    assert_eq!(off.doors[0].open_prefix, None);
    let text = "[options]\nScanGuard = 0\nMaxAttempts = 16777216\nLogRate = 0\nStateFile = /tmp/s\nControlSocket = None\n\
                OnStop = Keep\n\
                Gate = own\nGateRefuse = Drop\nPacketPort = 62201\nClockSkew = 30\n[a]\nsequence = 5,1,9\nopen = tcp/22\nopen_prefix = 24,56\nallow = 192.0.2.0/24, 2001:db8::1\nseq_cooldown = 60\n";
    let config = accepted(text, Refuses, &[]);
    assert_eq!((config.options.scan_guard, config.options.max_attempts), (0, 16_777_216));
    assert_eq!((off.options.log_rate, config.options.log_rate), (1_000, 0));
    assert_eq!((config.options.on_stop.to_string().as_str(), config.options.control_socket), ("keep", None));
    assert_eq!(
        (config.options.gate.to_string(), config.options.gate_refuse.to_string()),
        ("own".into(), "drop".into())
    );
    assert_eq!((config.doors[0].allow.len(), config.doors[0].open.len()), (2, 1));
    assert_eq!(config.doors[0].seq_cooldown.unwrap().as_secs(), 60);
    assert_eq!(config.doors[0].open_prefix.unwrap().to_string(), "24,56");
    for (line, code) in [
        ("ScanGuard = 256", "PK038"),
        ("PacketPort = udp/62201", "PK082"),
        ("PacketPort = 0", "PK028"),
        ("ClockSkew = 3601", "PK038"),
        ("MaxAttempts = 0", "PK038"),
        ("MaxAttempts = 16777217", "PK038"),
        ("LogRate = 1000001", "PK038"),
        ("LogRate = none", "PK038"),
        ("OnStop = later", "PK039"),
        ("StateFile =", "PK025"),
        ("ControlSocket =", "PK025"),
        (&format!("ControlSocket = /{}", "s".repeat(100)), "PK059"),
    ] {
        refused(&format!("[options]\n{line}\n[a]\nsequence = 5,1,9\n"), Refuses, &[code]);
    }
    refused(&format!("[options]\nGateRefuse = later\n{}", door("open = tcp/22")), Refuses, &["PK039"]);
    refused(&door("open_prefix = "), Refuses, &["PK025"]);
    refused(&door("open = tcp/22\nopen_prefix = /24"), Refuses, &["PK078"]);
    refused(&door("open = tcp/22\nopen_prefix = 33"), Refuses, &["PK038"]);
    accepted(&door("open = tcp/22\nopen_prefix = 15"), Refuses, &["PK079"]);
    accepted(&door("command = /usr/local/bin/open %IP%\nopen_prefix = 24"), Refuses, &["PK080"]);
    refused(&door("allow = "), Refuses, &["PK025"]);
    refused(&door("allow = nowhere"), Refuses, &["PK043"]);
}

#[test]
fn all_errors_are_reported_in_one_run_in_the_order_of_the_text() {
    let text = "[a]\nsequence = x\nseq_timeout = y\nfoo = 1\n[b]\n";
    let report = parse(text.as_bytes()).report;
    let lines: Vec<_> = report
        .render("f", text.as_bytes())
        .lines()
        .filter(|line| line.starts_with("f:"))
        .map(|line| line[..4].to_owned())
        .collect();
    assert_eq!(lines, ["f:2:", "f:3:", "f:4:", "f:5:"]);
    assert!(report.diagnostics.iter().all(|found| found.severity == Severity::Error));
}
