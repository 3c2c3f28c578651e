//! `portknock replay` as scripts call it.
#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use etherparse::PacketBuilder;
use portknock_core::client_file::ClientFile;
use portknock_core::{Protocol, Timestamp};
use tempfile::TempDir;

/// The time of the first packets.
const START: u32 = 1_690_000_000;

const CONFIG: &str =
    "[ssh]\nsequence = 7001,3000:udp\ncommand = open %IP%\nstop_command = close %IP%\ncmd_timeout = 5\n";

/// A capture (see pcap-savefile(5)) of knocks by 10.0.0.2 at 10.0.0.1: one at each of these seconds
/// and ports, the odd ports by TCP and the even ones by UDP.
fn capture(knocks: &[(u32, u16)]) -> Vec<u8> {
    let protocol = |port| if port % 2 == 1 { Protocol::Tcp } else { Protocol::Udp };
    let frames = knocks.iter().map(|&(second, port)| (second, frame(2, protocol(port), port, &[0])));
    capture_of(&frames.collect::<Vec<_>>())
}

/// An Ethernet frame from 10.0.0.`client` to 10.0.0.1. A UDP datagram contains the payload.
fn frame(client: u8, protocol: Protocol, port: u16, payload: &[u8]) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2([2; 6], [2; 6]).ipv4([10, 0, 0, client], [10, 0, 0, 1], 64);
    let mut frame = Vec::new();
    match protocol {
        Protocol::Tcp => packet.tcp(40_000, port, 1, 1_024).syn().write(&mut frame, &[]).unwrap(),
        Protocol::Udp => packet.udp(40_000, port).write(&mut frame, payload).unwrap(),
    }
    frame
}

/// A capture of frames, each with its second.
fn capture_of(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (second, frame) in frames {
        let length = u32::try_from(frame.len()).unwrap();
        for word in [START + second, 123_456, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// The same capture as pcapng (see the pcapng specification: section header, interface description,
/// enhanced packets).
fn as_pcapng(capture: &[u8]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let length = u32::try_from(12 + body.len().next_multiple_of(4)).unwrap().to_le_bytes();
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        [&kind.to_le_bytes(), &length, body, &padding, &length].concat()
    };
    let word = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap());
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut file = block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
    file.extend(block(1, &words(&[1, 65_535])));
    let mut at = 24;
    while at < capture.len() {
        let (seconds, micros, length) = (word(at), word(at + 4), word(at + 8));
        let time = u64::from(seconds) * 1_000_000 + u64::from(micros);
        let [low, high] = [time, time >> 32].map(|part| u32::try_from(part & 0xffff_ffff).unwrap());
        let frame = &capture[at + 16..at + 16 + length as usize];
        file.extend(block(6, &[&words(&[0, high, low, length, length]), frame].concat()));
        at += 16 + length as usize;
    }
    file
}

fn replay(capture: &[u8], options: &[&str]) -> Output {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("knockd.conf"), CONFIG).unwrap();
    fs::write(directory.path().join("capture.pcap"), capture).unwrap();
    Command::new(env!("CARGO_BIN_EXE_portknock"))
        .current_dir(directory.path())
        .args(["replay", "-c", "knockd.conf"])
        .args(options)
        .arg("capture.pcap")
        .output()
        .unwrap()
}

#[test]
fn events_come_as_json_lines() {
    let output = replay(&capture(&[(0, 7001), (1, 3000), (7, 7001)]), &["--format", "json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let expected = [
        r#"{"time":1690000000.123456000,"event":"stage","door":"ssh","ip":"10.0.0.2","stage":1,"steps":2}"#,
        r#"{"time":1690000001.123456000,"event":"stage","door":"ssh","ip":"10.0.0.2","stage":2,"steps":2}"#,
        r#"{"time":1690000001.123456000,"event":"open","door":"ssh","ip":"10.0.0.2","net":"10.0.0.2/32","command":"open 10.0.0.2","ports":[],"closes_at":1690000006.123456000}"#,
        r#"{"time":1690000006.123456000,"event":"close","door":"ssh","ip":"10.0.0.2","net":"10.0.0.2/32","command":"close 10.0.0.2","ports":[],"closes_at":1690000006.123456000}"#,
        r#"{"time":1690000007.123456000,"event":"stage","door":"ssh","ip":"10.0.0.2","stage":1,"steps":2}"#,
    ];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn text_has_the_daemons_lines_and_the_commands_that_would_run() {
    let output = replay(&capture(&[(0, 7001), (1, 3000)]), &[]);
    let lines = "1690000000.123456000 10.0.0.2: ssh: Stage 1\n\
                 1690000001.123456000 10.0.0.2: ssh: Stage 2\n\
                 1690000001.123456000 10.0.0.2: ssh: OPEN SESAME\n\
                 1690000001.123456000 ssh: would run command: open 10.0.0.2\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), lines);
}

#[test]
fn pcapng_gives_the_same_events_as_pcap() {
    let capture = capture(&[(0, 7001), (1, 3000), (7, 7001)]);
    let [pcap, pcapng] = [&capture, &as_pcapng(&capture)].map(|capture| replay(capture, &["--format", "json"]));
    assert_eq!(pcapng.status.code(), Some(0), "{}", String::from_utf8_lossy(&pcapng.stderr));
    assert_eq!(pcapng.stdout, pcap.stdout);
    assert_eq!(pcap.stdout.split(|&byte| byte == b'\n').count(), 6);
}

#[test]
fn one_time_doors_continue_with_their_next_line_and_no_line_is_marked() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("sequences"), " 7001,3000:udp\n 7003\n").unwrap();
    let config = format!("[ssh]\none_time_sequences = {}\ncommand = open %IP%\n", path("sequences").display());
    fs::write(path("knockd.conf"), config).unwrap();
    let knocks = [(0, 7001), (1, 3000), (2, 7001), (3, 3000), (4, 7003), (5, 7003)];
    fs::write(path("capture.pcap"), capture(&knocks)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portknock"))
        .arg("replay")
        .arg("-c")
        .args([path("knockd.conf"), path("capture.pcap")])
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let opened: Vec<_> = lines.lines().filter_map(|line| line.strip_suffix(" 10.0.0.2: ssh: OPEN SESAME")).collect();
    assert_eq!(opened, ["1690000001.123456000", "1690000004.123456000"], "{lines}");
    assert_eq!(fs::read_to_string(path("sequences")).unwrap(), " 7001,3000:udp\n 7003\n");
}

#[test]
fn the_option_local_sets_the_machines_addresses() {
    let packets = capture(&[(0, 7001)]);
    for (local, lines) in [("192.0.2.1,fd00::1", 0), ("192.0.2.1,10.0.0.1", 1)] {
        let output = replay(&packets, &["--local", local]);
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), lines, "{local}");
        assert_eq!(output.status.code(), Some(0));
    }
    assert_eq!(replay(&packets, &["--local", "here"]).status.code(), Some(2));
}

#[test]
fn a_damaged_capture_is_reported_after_the_events_before_the_damage() {
    let mut packets = capture(&[(0, 7001), (1, 3000)]);
    packets.truncate(packets.len() - 3);
    let output = replay(&packets, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("damaged after frame 1"), "{output:?}");
    assert_eq!(replay(b"no capture", &[]).status.code(), Some(1));
}

#[test]
fn a_hyphen_reads_the_capture_from_standard_input() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("knockd.conf");
    fs::write(&config, CONFIG).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_portknock"))
        .args(["replay", "-c", config.to_str().unwrap(), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&capture(&[(0, 7001)])).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"1690000000.123456000 10.0.0.2: ssh: Stage 1\n");
}

#[test]
fn the_errors_of_a_configuration_are_printed() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("bad.conf");
    fs::write(&config, "[ssh]\n").unwrap();
    for (path, message) in [(config.to_str().unwrap(), "bad.conf:1:1: error["), ("/no/such/file", "No such file")] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_portknock")).args(["replay", "-c", path, "any.pcap"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(message), "{output:?}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_portknock")).args(["replay", "any.pcap"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// A repeated knock of a recorded client, judged with the keys of the configuration, the times of the
/// capture, and an empty memory.
#[test]
fn doors_with_keys_accept_each_knock_once() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let key = "pk1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9jDQ";
    let settings = format!("name = alice\nkey = {key}\nform = packet\ndoor = vpn\ntime_protocols = both\n");
    let client = ClientFile::parse(settings.as_bytes(), Path::new("alice.key")).unwrap();
    fs::write(path("keys"), &*client.server_line()).unwrap();
    fs::set_permissions(path("keys"), fs::Permissions::from_mode(0o640)).unwrap();
    let keys = path("keys");
    let config = format!(
        "[ssh]\nsequence = time\ntime_protocols = both\nkeys = {0}\ncommand = open %IP%\n\
         [vpn]\npacket = portknock\nkeys = {0}\ncommand = vpn %IP%\n",
        keys.display()
    );
    fs::write(path("knockd.conf"), config).unwrap();
    let at = |second: u32| Timestamp::from_secs(u64::from(START + second));
    let mut frames = Vec::new();
    // The sequence of the present window, from two clients.
    for client_address in [2, 3] {
        for (second, step) in (u32::from(client_address) * 5..).zip(client.sequence_at(at(0)).steps()) {
            frames.push((second, frame(client_address, step.protocol, step.port.get(), &[0])));
        }
    }
    // A packet twice, and one of a client whose clock is 100 s ahead.
    let packet = client.packet_at(at(40), None, 0).unwrap();
    let early = client.packet_at(at(147), None, 0).unwrap();
    for (second, client_address, payload) in [(40, 4, packet), (41, 5, packet), (47, 6, early)] {
        frames.push((second, frame(client_address, Protocol::Udp, 62_201, &payload)));
    }
    let frames = capture_of(&frames);
    fs::write(path("capture.pcap"), frames).unwrap();
    let replay = |format: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_portknock"))
            .current_dir(directory.path())
            .args(["replay", "-c", "knockd.conf", "--format", format, "capture.pcap"])
            .output()
            .unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
        String::from_utf8(output.stdout).unwrap()
    };
    let json = replay("json");
    let judged: Vec<_> = json.lines().filter(|line| !line.contains(r#""event":"stage""#)).collect();
    let expected = [
        r#"{"time":1690000014.123456000,"event":"open","door":"ssh","ip":"10.0.0.2","net":"10.0.0.2/32","command":"open 10.0.0.2","ports":[],"key":"alice","closes_at":null}"#,
        r#"{"time":1690000040.123456000,"event":"open","door":"vpn","ip":"10.0.0.4","net":"10.0.0.4/32","command":"vpn 10.0.0.4","ports":[],"key":"alice","closes_at":null}"#,
        r#"{"time":1690000041.123456000,"event":"refused","door":"vpn","ip":"10.0.0.5","reason":"replay","key":"alice"}"#,
        r#"{"time":1690000047.123456000,"event":"refused","door":"vpn","ip":"10.0.0.6","reason":"clock","offset":99,"key":"alice"}"#,
    ];
    assert_eq!(judged, expected);
    let text = replay("text");
    for line in [
        "1690000014.123456000 10.0.0.2: ssh: OPEN SESAME by key alice",
        "1690000041.123456000 10.0.0.5: vpn: knock of key alice refused: it may have been accepted before",
        "1690000047.123456000 10.0.0.6: vpn: knock of key alice refused: its clock is 99 s ahead",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // A replay keeps nothing, so another one gives the same events.
    assert_eq!(replay("json"), json);
}
