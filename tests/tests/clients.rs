//! Clients of replay-proof knocks: ours, the shell script of the examples, and the original
//! `knock`. All of them give the same ports, and send what they should.

use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use portknock_core::client_file::{ClientFile, ClientForm};
use portknock_core::config::{DEFAULT_PACKET_PORT, StepProtocols};
use portknock_core::internals::open_at;
use portknock_core::keys::Key;
use portknock_core::spa::{PACKET_LENGTH, PacketContent};
use portknock_core::{TimeSequence, Timestamp};
use portknock_tests::{
    Host, Lab, Output, Process, Sniffed, Sniffer, WAIT_TIMEOUT, binary, require, skipped, wait_until,
};
use serde_json::Value;
use tempfile::TempDir;

/// The shells that the script must run under, each with its arguments.
const SHELLS: [&[&str]; 3] = [&["dash"], &["bash"], &["busybox", "sh"]];

/// The programs that the script needs.
const PROGRAMS: [&str; 6] = ["date", "ls", "nc", "od", "openssl", "tr"];

fn script() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shell/knock.sh").into()
}

/// The key of the vectors.
fn counting_key() -> Key {
    Key::from_bytes(std::array::from_fn(|i| u8::try_from(i).expect("32 bytes")))
}

/// Vectors of another implementation, `None` if they are not at hand: `PORTKNOCK_CORPUS`, or
/// `shared/corpus` next to the workspace. They are not part of this project.
fn vectors() -> Option<Value> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus"));
    let path = std::env::var_os("PORTKNOCK_CORPUS").map_or_else(beside, PathBuf::from).join("spa/own-format.json");
    let Ok(text) = fs::read(&path) else {
        skipped(&format!("there is no {}", path.display()));
        return None;
    };
    Some(serde_json::from_slice(&text).expect("the vectors are JSON"))
}

fn port(number: &Value, default: u16) -> NonZeroU16 {
    let number = number.as_u64().map_or(default, |number| u16::try_from(number).expect("a port"));
    NonZeroU16::new(number).expect("a port")
}

/// How the sequence of a vector follows from the key and the time.
fn time_of(vector: &Value) -> TimeSequence {
    let mut time = TimeSequence::default();
    time.steps = vector["steps"].as_u64().map_or(time.steps, |steps| u8::try_from(steps).expect("a few steps"));
    time.ports = RangeInclusive::new(port(&vector["low"], 1024), port(&vector["high"], 65_535));
    if vector["both"] == true {
        time.protocols = StepProtocols::Both;
    }
    time.window = vector["step"].as_u64().map_or(time.window, Duration::from_secs);
    time
}

/// The file of a client without a server.
fn client(time: TimeSequence) -> ClientFile {
    ClientFile {
        name: "alice".to_owned(),
        key: counting_key(),
        server: None,
        form: ClientForm::Time,
        door: None,
        port: DEFAULT_PACKET_PORT,
        time,
    }
}

/// The steps of a window of one hour do not change during a test, unless it runs at the turn.
fn slow() -> TimeSequence {
    TimeSequence { window: Duration::from_secs(3600), ..TimeSequence::default() }
}

/// Writes a client's file.
fn file(directory: &TempDir, name: &str, content: &ClientFile) -> String {
    let path = directory.path().join(name);
    content.create(&path).unwrap_or_else(|error| panic!("{error}"));
    path.into_os_string().into_string().expect("the path is text")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

fn unix_now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    Timestamp::from_secs(now.as_secs())
}

/// The script under a shell.
fn under(shell: &[&str]) -> Command {
    require(shell[0]);
    PROGRAMS.iter().for_each(|program| require(program));
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(script());
    command
}

/// The output of a command that must succeed.
fn ok(command: &mut Command) -> String {
    let output = Output::of(command);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{command:?}: {}", output.stdout);
    output.stdout
}

#[test]
fn all_clients_give_the_sequences_of_the_vectors() {
    let Some(vectors) = vectors() else { return };
    let directory = directory();
    let sequences = vectors["sequence"].as_array().expect("an array");
    assert!(sequences.len() >= 30);
    for (number, vector) in sequences.iter().enumerate() {
        let (time, unix) = (time_of(vector), vector["unix"].as_u64().expect("a time"));
        let ports = vector["ports"].as_str().expect("ports");
        let sequence = time.sequence(&counting_key(), time.window_at(Timestamp::from_secs(unix)));
        assert_eq!(sequence.to_string(), ports, "{vector}");
        let (file, unix) = (file(&directory, &number.to_string(), &client(time)), unix.to_string());
        let expected = ports.replace(',', " ") + "\n";
        let printed = ok(Command::new(binary("portknock")).args(["sequence", "--key", &file, "--at", &unix]));
        assert_eq!(printed, expected, "{vector}");
        for shell in SHELLS {
            assert_eq!(ok(under(shell).args(["-n", "-t", &unix, &file])), expected, "{shell:?}: {vector}");
        }
    }
}

#[test]
fn packets_of_the_vectors_open_at_their_time() {
    let Some(vectors) = vectors() else { return };
    let packets = vectors["packet"].as_array().expect("an array");
    assert!(packets.len() >= 4);
    let bytes = |hex: &Value| -> Vec<u8> {
        let hex = hex.as_str().expect("a text");
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
    };
    for vector in packets {
        let packet: [u8; PACKET_LENGTH] = bytes(&vector["packet"]).try_into().expect("the length of a packet");
        let time = Timestamp::from_nanos(vector["stamp_ms"].as_u64().expect("a time") * 1_000_000);
        let address = (!vector["address"].is_null()).then(|| {
            let octets: [u8; 16] = bytes(&vector["address"]).try_into().expect("an IPv6 address");
            IpAddr::from(octets).to_canonical()
        });
        let seconds = u32::try_from(vector["seconds"].as_u64().expect("a number")).expect("32 bits");
        let door = vector["door"].as_str().expect("a name").to_owned();
        let expected = PacketContent { time, address, seconds, door };
        assert_eq!(open_at(&counting_key(), time, &packet), Some(expected), "{vector}");
        let later = time.saturating_add(Duration::from_secs(60));
        assert_eq!(open_at(&counting_key(), later, &packet), None);
    }
}

#[test]
fn the_script_derives_the_key_of_a_server() {
    let directory = directory();
    let both = TimeSequence { protocols: StepProtocols::Udp, ..TimeSequence::default() };
    let with_server = ClientFile { server: Some("web1.example".to_owned()), ..client(both) };
    let file = file(&directory, "key", &with_server);
    let expected = ok(Command::new(binary("portknock")).args(["sequence", "--key", &file, "--at", "1796030418"]));
    assert!(expected.contains(":udp"));
    for shell in SHELLS {
        assert_eq!(ok(under(shell).args(["-n", "-t", "1796030418", &file])), expected, "{shell:?}");
    }
}

#[test]
fn the_script_reports_files_that_cannot_be_used() {
    let directory = directory();
    let path = file(&directory, "key", &client(TimeSequence::default()));
    let text = fs::read_to_string(&path).expect("the file is readable");
    let key = counting_key().to_text();
    let wrong = text.replace(&key[..10], "pk1:BAECAw");
    for shell in SHELLS {
        let fails = |content: &str, mode: u32, code: i32, message: &str| {
            fs::write(&path, content).expect("the file is writable");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file has an owner");
            let output = Output::of(under(shell).arg(&path));
            assert_eq!((output.code, output.stdout.as_str()), (Some(code), ""), "{shell:?}: {output:?}");
            assert!(output.stderr.contains(message), "{shell:?}: {output:?}");
            assert!(!output.stderr.contains(&key[4..20]), "{shell:?}: {output:?}");
        };
        fails(&text, 0o640, 1, "other users can read or write it; run chmod 600 ");
        fails(&text, 0o600, 2, "names no server: give the host to knock at");
        fails(&wrong, 0o600, 1, "contains a typing error: its checksum does not match");
        fails(&text.replace(&**key, "pk1:"), 0o600, 1, "contains a typing error");
        fails(&text.replace(&**key, "secret"), 0o600, 1, "has no key that begins with pk1:");
        fails(&format!("{text}time_steps = x\n"), 0o600, 1, "the number of a time setting is invalid");
        fails(&format!("{text}time_ports = 1-4\n"), 0o600, 1, "out of range");
        assert_eq!(Output::of(&mut under(shell)).code, Some(2), "{shell:?}");
    }
}

/// Creates a directory with the programs that the script needs and no other. Each of them writes
/// its command line, as the list of processes shows it, and its environment into `log`.
fn watched_programs(directory: &Path, log: &Path) -> PathBuf {
    let programs = directory.join("bin");
    fs::create_dir(&programs).expect("the directory is writable");
    for program in PROGRAMS {
        let real = ok(Command::new("sh").args(["-c", &format!("command -v {program}")]));
        let wrapper = format!(
            "#!/bin/sh\n/bin/cat /proc/$$/cmdline /proc/$$/environ >> {}\necho >> {}\nexec {} \"$@\"\n",
            log.display(),
            log.display(),
            real.trim()
        );
        let path = programs.join(program);
        fs::write(&path, wrapper).expect("the directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file has an owner");
    }
    programs
}

#[test]
fn the_script_needs_few_programs_and_none_has_the_key_in_its_arguments() {
    let text = counting_key().to_text();
    let hex: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    for shell in SHELLS {
        let directory = directory();
        let log = directory.path().join("log");
        let programs = watched_programs(directory.path(), &log);
        let file = file(&directory, "key", &client(TimeSequence::default()));
        let shell_path = ok(Command::new("sh").args(["-c", &format!("command -v {}", shell[0])]));
        let mut command = Command::new(shell_path.trim());
        command.args(&shell[1..]).arg(script()).args([&file, "127.0.0.1"]);
        // Variables with the names of those in the script.
        command.env("PATH", &programs).env("key", "x").env("text", "x").env("inner", "x");
        assert_eq!(ok(&mut command), "");
        let seen = fs::read(&log).expect("programs were run");
        let seen = String::from_utf8_lossy(&seen).replace(['\0', ' '], "");
        assert!(PROGRAMS.iter().all(|program| seen.contains(&format!("bin/{program}"))), "{shell:?}: {seen}");
        // Not even a part of it.
        for part in [&text[4..12], &text[20..28], &text[42..], &hex[..8], &hex[32..40], &hex.to_uppercase()[20..28]] {
            assert!(!seen.contains(part), "{shell:?}: {part}: {seen}");
        }
    }
}

fn steps(packets: &[Sniffed]) -> Vec<String> {
    packets.iter().map(Sniffed::step).collect()
}

/// The steps of the present window as a sniffer shows them.
fn expected(file: &ClientFile) -> Vec<String> {
    let sequence = file.time.sequence(&file.shared_key(), file.time.window_at(unix_now()));
    sequence.steps().iter().map(|step| format!("{}:{}", step.port, step.protocol)).collect()
}

#[test]
fn every_client_sends_the_sequence_of_the_present_window() {
    let lab = Lab::pair();
    // Half of the ports do not answer, the others refuse.
    lab.server.ok("iptables -A INPUT -p tcp --dport 1024:32000 -j DROP; iptables -A INPUT -p udp -j DROP");
    let directory = directory();
    let content = client(TimeSequence { protocols: StepProtocols::Both, ..slow() });
    let file = file(&directory, "key", &content);
    let (portknock, script) = (binary("portknock"), script());
    let (portknock, script) = (portknock.display(), script.display());
    require("knock");
    let ours = binary("knock");
    let mut clients = vec![
        format!("{portknock} knock --key {file} 10.0.0.1"),
        format!("{} 10.0.0.1 $({portknock} sequence --key {file})", ours.display()),
        format!("knock 10.0.0.1 $({portknock} sequence --key {file})"),
    ];
    clients.extend(SHELLS.iter().map(|shell| format!("{} {script} {file} 10.0.0.1", shell.join(" "))));
    for client in clients {
        let before = expected(&content);
        let sniffer = Sniffer::start(&lab.client, "eth0", "src host 10.0.0.2");
        lab.client.ok(&client);
        let mut sent = Vec::new();
        wait_until(WAIT_TIMEOUT, || {
            sent = sniffer.knocks();
            // A client that waits for the answer sends its request again.
            sent.dedup_by_key(|packet| (packet.port, packet.source_port));
            sent.len() >= before.len()
        });
        assert!(steps(&sent) == before || steps(&sent) == expected(&content), "{client}: {sent:?}");
    }
}

/// Prints each datagram that arrives at a port of a host: its source and its bytes.
fn receiver(host: &Host, port: u16) -> Process {
    let program = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
         s.bind(('::', {port}))\n\
         print('listening', flush=True)\n\
         while True:\n    data, peer = s.recvfrom(2000)\n    print('from', peer[0], data.hex(), flush=True)\n"
    );
    require("python3");
    let receiver = host.spawn("python3", ["-c", &program]);
    receiver.wait_for("listening");
    receiver
}

/// The sources and the contents of the packets that arrived.
fn received(receiver: &Process, key: &Key, count: usize) -> Vec<(IpAddr, PacketContent)> {
    let lines = || receiver.output().lines().filter(|line| line.starts_with("from ")).map(str::to_owned).collect();
    let mut arrived: Vec<String> = Vec::new();
    let all = wait_until(WAIT_TIMEOUT, || {
        arrived = lines();
        arrived.len() >= count
    });
    assert!(all, "{arrived:?}");
    let content = |line: &String| {
        let words: Vec<&str> = line.split(' ').collect();
        let source: IpAddr = words[1].parse().expect("an address");
        let packet: Vec<u8> = (0..words[2].len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&words[2][at..at + 2], 16).expect("hexadecimal"))
            .collect();
        let packet = packet.try_into().expect("the length of a packet");
        let previous = Timestamp::from_nanos(unix_now().as_nanos().saturating_sub(60_000_000_000));
        let content = open_at(key, unix_now(), &packet).or_else(|| open_at(key, previous, &packet));
        (source.to_canonical(), content.expect("the packet was made with the key"))
    };
    arrived.iter().map(content).collect()
}

#[test]
fn a_packet_goes_to_one_address_of_each_version_with_the_global_address_inside() {
    let lab = Lab::pair();
    // The addresses of the lab are private. These belong to other hosts on the Internet, which this
    // network has no route to.
    for (host, last) in [(&lab.client, 2), (&lab.server, 1)] {
        host.add_address("eth0", &format!("11.0.0.{last}/24"));
        host.add_address("eth0", &format!("2600:1::{last}/64"));
    }
    let directory = directory();
    let content = ClientFile {
        form: ClientForm::Packet,
        door: Some("ssh".to_owned()),
        server: Some("lab.example".to_owned()),
        ..client(TimeSequence::default())
    };
    let (key, path) = (content.shared_key(), file(&directory, "key", &content));
    let receiver = receiver(&lab.server, 62_201);
    let hosts = directory.path().join("hosts");
    let knock = |addresses: &[&str], args: &str| {
        let lines: String = addresses.iter().map(|address| format!("{address} lab.example\n")).collect();
        fs::write(&hosts, lines).expect("the file is writable");
        // A mount of the command's own; the file is invisible to other processes.
        let portknock = binary("portknock");
        let script =
            format!("mount --bind {} /etc/hosts && {} knock --key {path} {args}", hosts.display(), portknock.display());
        Output::of(lab.client.command("unshare").args(["--mount", "sh", "-c", &script]))
    };
    let mut seen = 0;
    let mut arrived = |addresses: &[&str], args: &str, count: usize| {
        let output = knock(addresses, args);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{args}");
        seen += count;
        let mut contents = received(&receiver, &key, seen).split_off(seen - count);
        contents.sort_by_key(|(source, _)| *source);
        contents.into_iter().map(|(source, content)| (source.to_string(), content.address)).collect::<Vec<_>>()
    };
    let (v4, v6): (IpAddr, IpAddr) = ([11, 0, 0, 2].into(), "2600:1::2".parse().expect("an address"));
    let both = vec![("11.0.0.2".to_owned(), Some(v4)), ("2600:1::2".to_owned(), Some(v6))];
    assert_eq!(arrived(&["11.0.0.1", "2600:1::1", "10.0.0.1", "fd00::1"], "", 2), both);
    assert_eq!(arrived(&["11.0.0.1", "2600:1::1"], "-4", 1), both[..1]);
    assert_eq!(arrived(&["11.0.0.1", "2600:1::1"], "-6", 1), both[1..]);
    // The server sees the source of a packet from a private address, which may have been translated.
    let private = vec![("10.0.0.2".to_owned(), None), ("fd00::2".to_owned(), None)];
    assert_eq!(arrived(&["10.0.0.1", "fd00::1"], "", 2), private);
    assert_eq!(arrived(&["10.0.0.1"], "--address 192.0.2.7", 1)[0].1, Some([192, 0, 2, 7].into()));
    assert_eq!(arrived(&["10.0.0.1"], "--source 11.0.0.2", 1), both[..1]);
    // One of the versions can be unreachable.
    assert_eq!(arrived(&["10.0.0.1", "2600:2::1"], "", 1), private[..1]);
    let output = knock(&["10.9.9.9", "2600:2::1"], "");
    assert_eq!(output.code, Some(1), "{output:?}");
    for address in ["10.9.9.9", "2600:2::1"] {
        assert!(output.stderr.contains(&format!("cannot knock at {address} port 62201 (udp): ")), "{output:?}");
    }
}
