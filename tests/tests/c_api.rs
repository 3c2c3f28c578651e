//! The C library, from C: programs in `tests/c` built by several compilers, run under valgrind and
//! with sanitizers, and the examples.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use etherparse::PacketBuilder;
use portknock_tests::{
    Build, C, Firewall, Host, Lab, Linked, Listener, Output, PortState, Process, binary, capture_header,
    capture_record, require,
};
use tempfile::TempDir;

const PLAIN: Build = Build { compiler: "gcc", standard: "c11", linked: Linked::Shared, more: &[] };
/// Programs that need no network.
const PURE: [&str; 2] = ["config", "engine"];
/// Programs that send and capture.
const LIVE: [&str; 3] = ["client", "keys", "listener"];

fn test_program(c: &C, name: &str, build: Build) -> std::path::PathBuf {
    c.compile(&C::source(&format!("tests/c/{name}.c")), build)
}

/// Runs a test program on its own host and in its own directory, started by `starter`.
fn pass(c: &C, starter: &[&str], program: &Path) {
    let host = Host::new("c");
    let directory = TempDir::new().unwrap();
    let library_path = format!("LD_LIBRARY_PATH={}", c.prefix().join("lib").display());
    let mut command = host.command("env");
    command.arg(library_path).args(starter).arg(program);
    if program
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| !name.starts_with("engine") && !name.starts_with("client"))
    {
        command.arg(directory.path());
    }
    let output = Output::of(&mut command);
    assert_eq!(output.code, Some(0), "{command:?}\n{}{}", output.stdout, output.stderr);
}

#[test]
fn every_compiler_and_standard_accepts_the_header_and_each_library() {
    let c = C::install();
    let standards =
        [("gcc", "c99"), ("gcc", "c11"), ("g++", "c++17"), ("clang", "c99"), ("clang", "c11"), ("clang++", "c++17")];
    for (compiler, standard) in standards {
        for linked in [Linked::Shared, Linked::Static] {
            let build = Build { compiler, standard, linked, more: &[] };
            for name in PURE {
                pass(c, &[], &test_program(c, name, build));
            }
        }
        for name in [&LIVE[..], &["events", "open"]].concat() {
            test_program(
                c,
                name,
                Build {
                    compiler,
                    standard,
                    linked: Linked::Shared,
                    more: &["-fsyntax-only", "-Wno-unused-command-line-argument"],
                },
            );
        }
    }
}

#[test]
fn the_header_compiles_alone_and_without_strict_warnings() {
    let c = C::install();
    let header = c.prefix().join("include/portknock.h");
    let strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-Wconversion", "-Wundef", "-Wshadow", "-fsyntax-only"];
    for (compiler, language, standards) in [
        ("gcc", "c", &["c99", "c11", "c17", "c2x"][..]),
        ("clang", "c", &["c99", "c11", "c17", "c2x"]),
        ("g++", "c++", &["c++11", "c++17", "c++20"]),
        ("clang++", "c++", &["c++11", "c++17", "c++20"]),
    ] {
        for standard in standards {
            let mut command = Command::new(compiler);
            command.args(strict).arg(format!("-std={standard}")).args(["-x", language]);
            if language == "c" {
                command.arg("-Wstrict-prototypes");
            }
            let output = Output::of(command.arg("-include").arg(&header).arg("/dev/null"));
            assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{command:?}");
        }
    }
}

#[test]
fn a_listener_and_clients_work_with_each_library() {
    let c = C::install();
    for name in LIVE {
        pass(c, &[], &test_program(c, name, Build { linked: Linked::Static, standard: "c99", ..PLAIN }));
        let build = Build { compiler: "clang++", standard: "c++17", ..PLAIN };
        pass(c, &[], &test_program(c, name, build));
    }
}

#[test]
fn no_memory_leaks_and_no_invalid_memory_is_read() {
    let c = C::install();
    require("valgrind");
    let known = format!("--suppressions={}", C::source("tests/c/valgrind.supp").display());
    let valgrind = [
        "valgrind",
        "-q",
        known.as_str(),
        "--leak-check=full",
        "--show-leak-kinds=all",
        "--errors-for-leak-kinds=all",
        "--error-exitcode=99",
    ];
    for name in [&PURE[..], &LIVE].concat() {
        pass(c, &valgrind, &test_program(c, name, PLAIN));
    }
}

#[test]
fn sanitizers_find_nothing() {
    let c = C::install();
    for compiler in ["gcc", "clang"] {
        let more = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        for name in [&PURE[..], &LIVE].concat() {
            pass(c, &[], &test_program(c, name, Build { compiler, more, ..PLAIN }));
        }
    }
}

#[test]
fn the_library_exports_what_is_committed() {
    let c = C::install();
    let library = c.prefix().join("lib/libportknock.so");
    let listed = Output::of(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(&library));
    assert_eq!(listed.code, Some(0), "{listed:?}");
    portknock_golden::assert_golden("ffi/symbols.txt", &listed.stdout);
    assert!(listed.stdout.lines().all(|symbol| symbol.starts_with("portknock_")), "{}", listed.stdout);
    let header = fs::read_to_string(C::source("include/portknock.h")).unwrap();
    for symbol in listed.stdout.lines() {
        assert!(header.contains(&format!("{symbol}(")), "{symbol} is not in the header");
    }
    let read = Output::of(Command::new("objdump").arg("-p").arg(&library));
    assert!(read.stdout.contains("SONAME               libportknock.so.0\n"), "{}", read.stdout);
}

const DOORS: &str = "[options]
ScanGuard = 1
MaxAttempts = 12
[ssh]
sequence = 7001,3000:udp,9001
seq_timeout = 5
tcpflags = syn
start_command = open \"%IP%\"\t\\
stop_command = shut %IP%
cmd_timeout = 7
[web — ü]
sequence = 3000:udp,7001
open = tcp/443,udp/65535
seq_timeout = 3
[target]
sequence = 9001,7001
target = 10.0.0.1
command = x
";

/// A capture of knocks from a few addresses of both families at the ports of the doors and at
/// others, in an order that resembles chance.
fn capture(link_type: u32, packets: u32) -> Vec<u8> {
    let mut file = capture_header(link_type);
    let (mut chance, mut nanos) = (1_u32, 1_690_000_000_000_000_000_u64);
    for number in 0..packets {
        let mut pick = |below: u32| {
            chance = chance.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (chance >> 16) % below
        };
        nanos += u64::from(pick(300)) * 1_000_000 + 1;
        let mut frame = Vec::new();
        if link_type == 276 {
            let protocol = if number % 5 == 0 { [0x86, 0xdd] } else { [8, 0] };
            frame.extend([&protocol[..], &[0, 0, 0, 0, 0, 1, 0, 1, 0, 6], &[0; 8]].concat());
        }
        let last = u8::try_from(pick(6)).unwrap();
        let (ports, udp) =
            ([7001, 3000, 9001, 443, 80, 22, 25, 110], [false, true, false, false, true, true, false, true]);
        let which = usize::try_from(if pick(3) == 0 { pick(8) } else { pick(3) }).unwrap();
        let start = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let packet = if number % 5 == 0 {
            start.ipv6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last], [0xfe; 16], 64)
        } else {
            start.ipv4([10, 0, 0, last], [10, 0, 0, u8::try_from(1 + pick(2)).unwrap()], 64)
        };
        let mut whole = Vec::new();
        if udp[which] {
            packet.udp(40_000, ports[which]).write(&mut whole, &[]).unwrap();
        } else {
            packet.tcp(40_000, ports[which], number, 1_024).syn().write(&mut whole, &[]).unwrap();
        }
        frame.extend(if link_type == 1 { &whole[..] } else { &whole[14..] });
        file.extend(capture_record(nanos, &frame));
    }
    file
}

#[test]
fn captures_give_the_events_of_portknock_replay() {
    let c = C::install();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("knockd.conf"), DOORS).unwrap();
    fs::write(path("ethernet.pcap"), capture(1, 2_000)).unwrap();
    fs::write(path("raw.pcap"), capture(101, 500)).unwrap();
    fs::write(path("any.pcap"), capture(276, 500)).unwrap();
    let cut = capture(1, 500);
    fs::write(path("damaged.pcap"), &cut[..cut.len() - 3]).unwrap();
    let program = test_program(c, "events", PLAIN);
    let linked_static = test_program(c, "events", Build { linked: Linked::Static, ..PLAIN });
    let mut kinds = String::new();
    for capture in ["ethernet.pcap", "raw.pcap", "any.pcap", "damaged.pcap"] {
        for local in [&[][..], &["10.0.0.1", "fe80::1"]] {
            let mut replay = Command::new(binary("portknock"));
            replay.current_dir(directory.path()).args(["replay", "-c", "knockd.conf", "--format", "json", capture]);
            if !local.is_empty() {
                replay.args(["--local", &local.join(",")]);
            }
            let expected = Output::of(&mut replay);
            for program in [&program, &linked_static] {
                let mut command = c.command(program);
                command.current_dir(directory.path()).args(["knockd.conf", capture]).args(local);
                let output = Output::of(&mut command);
                assert_eq!(output.code, Some(0), "{output:?}");
                let (by_replay, by_engine) = output.stdout.split_once("--\n").unwrap();
                assert!(by_replay == expected.stdout, "{capture}: {by_replay}\n{}", expected.stdout);
                assert!(by_engine == expected.stdout, "{capture}: {by_engine}\n{}", expected.stdout);
                assert_eq!(output.stderr, expected.stderr);
            }
            kinds += &expected.stdout;
        }
    }
    for kind in ["stage", "open", "extend", "close", "timeout", "fail"] {
        assert!(kinds.contains(&format!("\"event\":\"{kind}\"")), "no {kind} among the events");
    }
    assert!(kinds.contains(r#""ports":["tcp/443","udp/65535"],"closes_at":1"#), "no ports among the events");
    for reason in ["wrong-port", "scan", "full"] {
        assert!(kinds.contains(&format!("\"reason\":\"{reason}\"")), "no {reason} among the events");
    }
    require("valgrind");
    let mut command = c.command("valgrind");
    command.args(["-q", "--leak-check=full", "--error-exitcode=99"]).arg(&program);
    let output = Output::of(command.current_dir(directory.path()).args(["knockd.conf", "ethernet.pcap"]));
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

#[test]
fn a_program_opens_the_ports_of_a_door_from_its_events_alone() {
    let c = C::install();
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    let _listener = Listener::start(&lab.server, 22);
    let directory = TempDir::new().unwrap();
    let conf = directory.path().join("knockd.conf");
    let text =
        "[options]\nInterface = eth0\n[ssh]\nsequence = 7000:udp,8000:udp\nopen = tcp/22,udp/51820\ncmd_timeout = 5\n";
    fs::write(&conf, text).unwrap();
    let mut command = lab.server.command("env");
    command.arg(format!("LD_LIBRARY_PATH={}", c.prefix().join("lib").display()));
    let program = Process::spawn(command.arg(test_program(c, "open", PLAIN)).arg(&conf));
    program.wait_for("listening");
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Filtered);
    for _ in 0..2 {
        lab.knock_from("10.0.0.2", "10.0.0.1", "7000:udp 8000:udp");
    }
    program.wait_for("iptables -w -I INPUT -s 10.0.0.2 -p tcp --dport 22 -j ACCEPT");
    program.wait_for("iptables -w -I INPUT -s 10.0.0.2 -p udp --dport 51820 -j ACCEPT");
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
    program.wait_for("iptables -w -D INPUT -s 10.0.0.2 -p tcp --dport 22 -j ACCEPT");
    program.wait_for("iptables -w -D INPUT -s 10.0.0.2 -p udp --dport 51820 -j ACCEPT");
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Filtered);
    let (status, output) = program.finish();
    assert_eq!((status.code(), output.matches("-I INPUT").count()), (Some(0), 2), "{output}");
}

/// Copies the examples and builds them with this script.
fn build_examples(c: &C, script: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    for entry in fs::read_dir(C::source("examples/c")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut command = c.command("sh");
    let output = Output::of(command.current_dir(directory.path()).args(["-ec", script]));
    assert_eq!(output.code, Some(0), "{script}\n{}{}", output.stdout, output.stderr);
    directory
}

#[test]
fn the_examples_build_by_make_and_by_cmake() {
    let c = C::install();
    ["make", "cmake"].into_iter().for_each(require);
    for (script, below) in [
        ("make -s CFLAGS='-O2 -Wall -Wextra -pedantic -Werror'", ""),
        ("cmake -S . -B build >log && cmake --build build >>log", "build/"),
    ] {
        let directory = build_examples(c, script);
        let conf = directory.path().join("knockd.conf");
        let run = |program: &str, args: &[&str]| {
            Output::of(
                c.command(directory.path().join(format!("{below}{program}"))).current_dir(directory.path()).args(args),
            )
        };
        fs::write(&conf, "[ssh]\nsequence = 7000,80000\n").unwrap();
        let bad = run("check", &["knockd.conf"]);
        assert_eq!(bad.code, Some(1), "{bad:?}");
        assert!(
            bad.stdout.contains("knockd.conf:2:17: error[")
                && bad.stdout.contains("line 2, columns 17 to 22: error PK"),
            "{bad:?}"
        );
        assert_eq!(run("check", &["nowhere"]).code, Some(2));
        fs::write(&conf, DOORS).unwrap();
        let good = run("check", &["knockd.conf"]);
        assert_eq!((good.code, good.stdout.ends_with("3 doors\n")), (Some(0), true), "{good:?}");
        fs::write(directory.path().join("a.pcap"), capture(1, 200)).unwrap();
        let events = run("replay", &["knockd.conf", "a.pcap"]);
        assert!(events.code == Some(0) && events.stdout.contains(" ssh stage 1 of 3\n"), "{events:?}");
        assert_eq!(run("replay", &["knockd.conf", "knockd.conf"]).code, Some(1));
        for program in ["daemon", "probe", "knock", "packet"] {
            assert_eq!(run(program, &[]).code, Some(2), "{program}");
        }
    }
}

#[test]
fn the_examples_knock_at_one_another() {
    let c = C::install();
    let directory = build_examples(c, "make -s");
    let program = |name: &str| directory.path().join(name);
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    let _listener = Listener::start(&lab.server, 22);
    let state = directory.path().join("state/openings");
    let conf = directory.path().join("knockd.conf");
    let (client, server) = (directory.path().join("alice.key"), directory.path().join("vpn.keys"));
    let key = "pk1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9jDQ";
    for (path, text) in [
        (&client, format!("name = alice\nkey = {key}\nform = packet\ndoor = vpn\n")),
        (&server, format!("alice {key}\n")),
    ] {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let config = |sequence: &str| {
        let rule = "INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
        let text = format!(
            "[options]\nStateFile = {}\n[ssh]\nsequence = {sequence}\ntcpflags = syn\nstart_command = iptables -w -I {rule}\n\
             stop_command = iptables -w -D {rule}\ncmd_timeout = 600\n[vpn]\npacket = portknock\nkeys = {}\n\
             command = vpn %IP%\n",
            state.display(),
            server.display()
        );
        fs::write(&conf, text).unwrap();
    };
    let on = |host: &Host, name: &str, args: &[&str]| {
        let mut command = host.command("env");
        command.arg(format!("LD_LIBRARY_PATH={}", c.prefix().join("lib").display())).arg(program(name)).args(args);
        command
    };
    config("7000,9000,8000:udp");
    let mut daemon = Process::spawn(&mut on(&lab.server, "daemon", &[conf.to_str().unwrap(), "eth0"]));
    daemon.wait_for("listening on eth0");
    let probe = |state: &str| {
        let output = Output::of(&mut on(&lab.client, "probe", &["10.0.0.1", "22"]));
        assert!(output.code == Some(0) && output.stdout.contains(&format!("10.0.0.1 22/tcp {state} (")), "{output:?}");
    };
    probe("filtered");
    let knocked = Output::of(&mut on(&lab.client, "knock", &["10.0.0.1", "7000,9000,8000:udp", "22"]));
    assert_eq!((knocked.code, knocked.stdout.as_str()), (Some(0), "port 22 is open\n"), "{}", daemon.output());
    probe("open");
    daemon.wait_for("10.0.0.2: ssh: stage 2 of 3");
    config("9000,7000,8000:udp");
    daemon.signal("HUP");
    daemon.wait_for("reloaded");
    assert_eq!(daemon.stop().code(), Some(0), "{}", daemon.output());
    assert!(daemon.output().contains("10.0.0.2: ssh: close"), "{}", daemon.output());
    probe("filtered");

    // If the program handles the commands itself, the library runs none.
    let mut daemon = Process::spawn(&mut on(&lab.server, "daemon", &["-n", conf.to_str().unwrap(), "eth0"]));
    daemon.wait_for("listening on eth0");
    let knocked = Output::of(&mut on(&lab.client, "knock", &["10.0.0.1", "9000,7000,8000:udp"]));
    assert_eq!(knocked.code, Some(0), "{knocked:?}");
    daemon.wait_for("10.0.0.2: ssh: open");
    daemon.wait_for("would run command: iptables -w -I");
    probe("filtered");
    let sent = Output::of(&mut on(&lab.client, "packet", &[client.to_str().unwrap(), "10.0.0.1"]));
    assert_eq!(sent.code, Some(0), "{sent:?}");
    daemon.wait_for("10.0.0.2: vpn: open by alice");
    assert_eq!(daemon.stop().code(), Some(0), "{}", daemon.output());
}

#[test]
fn without_the_capability_to_capture_a_listener_fails_with_an_error() {
    let c = C::install();
    let host = Host::new("c");
    let conf = TempDir::new().unwrap();
    fs::write(conf.path().join("knockd.conf"), "[a]\nsequence = 1,2\n").unwrap();
    let directory = build_examples(c, "make -s daemon");
    let mut command = host.command("env");
    command.arg(format!("LD_LIBRARY_PATH={}", c.prefix().join("lib").display()));
    command.args(["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]).arg(directory.path().join("daemon"));
    let output = Output::of(command.arg("-n").arg(conf.path().join("knockd.conf")));
    assert!(output.code == Some(1) && output.stderr.contains("CAP_NET_RAW"), "{output:?}");
}

#[test]
fn the_man_page_is_clean_and_its_program_and_the_readmes_run() {
    let c = C::install();
    require("mandoc");
    let page = c.prefix().join("share/man/man3/portknock.3");
    let lint = Output::of(Command::new("mandoc").args(["-T", "lint", "-W", "all"]).arg(&page));
    // The man pages that it names may not be installed here.
    let faults: Vec<_> = lint.stdout.lines().filter(|line| !line.contains("referenced manual not found")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let directory = TempDir::new().unwrap();
    let page = fs::read_to_string(page).unwrap();
    let readme = fs::read_to_string(C::source("README.md")).unwrap();
    let in_page = page.split(".Bd -literal -compact\n").find(|part| part.starts_with("#include"));
    let in_page =
        in_page.and_then(|part| part.split(".Ed\n").next()).expect("the page has a program").replace("\\e", "\\");
    let in_readme = readme.split("```c\n").nth(1).and_then(|part| part.split("```").next()).expect("so has the README");
    for (name, text) in [("page", in_page.as_str()), ("readme", in_readme)] {
        let source = directory.path().join(format!("{name}.c"));
        fs::write(&source, text).unwrap();
        let program = c.compile(&source, Build { standard: "c99", ..PLAIN });
        fs::write(directory.path().join("knockd.conf"), DOORS).unwrap();
        fs::write(directory.path().join("capture.pcap"), capture(1, 100)).unwrap();
        let output = Output::of(c.command(program).current_dir(directory.path()).args(["knockd.conf", "capture.pcap"]));
        assert!(output.code == Some(0) && output.stdout.contains("ssh"), "{name}: {output:?}");
        for (symbol, _) in
            text.match_indices("portknock_").filter_map(|(at, _)| text[at..].split_once(['(', ' ', '*', ';']))
        {
            assert!(page.contains(symbol), "{symbol} is not in the page");
        }
    }
}
