//! `portknock keygen`, `portknock sequence` and `portknock knock --key`.
#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use portknock_core::Timestamp;
use portknock_core::client_file::{ClientFile, ClientForm};
use portknock_core::config::StepProtocols;
use portknock_core::internals::open_at;
use portknock_core::keys::{Key, load_key_file};
use portknock_core::spa::PacketContent;
use portknock_core::totp::load_totp_file;
use tempfile::TempDir;

/// The exit status, the output, and the standard error.
type Output = (Option<i32>, String, String);

fn command(directory: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portknock"));
    command.args(args.split_whitespace()).current_dir(directory).stdin(Stdio::null());
    command
}

/// Runs `portknock ARGS` in a directory.
fn portknock(directory: &Path, args: &str) -> Output {
    let output = command(directory, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a command that must succeed, and returns its output and its standard error.
fn ok(directory: &TempDir, args: &str) -> (String, String) {
    let (code, out, error) = portknock(directory.path(), args);
    assert_eq!(code, Some(0), "{args}: {error}");
    (out, error)
}

/// Runs a command that must fail with this exit status and message, and without output.
fn fails(directory: &TempDir, args: &str, code: i32, message: &str) {
    let (found, out, error) = portknock(directory.path(), args);
    assert_eq!((found, out.as_str()), (Some(code), ""), "{args}: {error}");
    assert!(error.contains(message), "{args}: {error}");
}

fn read(directory: &TempDir, name: &str) -> ClientFile {
    ClientFile::read(&directory.path().join(name)).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_secs(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
}

#[test]
fn keygen_makes_both_sides_of_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let (line, messages) = ok(&directory, "keygen alice");
    let file = read(&directory, "alice.key");
    assert_eq!((file.name.as_str(), &file.server, file.form), ("alice", &None, ClientForm::Time));
    assert_eq!(line, format!("alice {}\n", *file.key.to_text()));
    let mode = fs::metadata(directory.path().join("alice.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // The server can read the line.
    let keys = directory.path().join("ssh.keys");
    fs::write(&keys, &line).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(load_key_file(&keys).unwrap()[0].key == file.key);
    // The next steps contain no key.
    assert!(!messages.contains("pk1:"), "{messages}");
    for part in ["the client's file is alice.key", "    sequence = time\n", "portknock knock --key alice.key HOST\n"] {
        assert!(messages.contains(part), "{messages}");
    }
    // Each key is another one.
    let (other, _) = ok(&directory, "keygen alice --output other");
    assert_ne!(other, line);
}

#[test]
fn keygen_writes_the_options_into_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let options = "--steps 8 --ports 20000-60000 --protocols both --step 60 --server web1.example";
    let (_, messages) = ok(&directory, &format!("keygen alice {options}"));
    let file = read(&directory, "alice-web1.example.key");
    assert_eq!((file.time.steps, file.time.protocols), (8, StepProtocols::Both));
    assert_eq!((file.time.ports.start().get(), file.time.ports.end().get()), (20_000, 60_000));
    assert_eq!(file.time.window, Duration::from_secs(60));
    let lines = "    sequence = time:8\n    time_ports = 20000-60000\n    time_protocols = both\n    time_step = 60\n";
    assert!(messages.contains(lines) && messages.ends_with("--key alice-web1.example.key\n"), "{messages}");
    let (_, messages) = ok(&directory, "keygen alice --form packet --door ssh --port 4000 --output packet.key");
    let file = read(&directory, "packet.key");
    assert_eq!((file.form, file.door.as_deref(), file.port.get()), (ClientForm::Packet, Some("ssh"), 4000));
    assert!(messages.contains("    [ssh]\n    keys = /etc/portknock/ssh.keys\n    packet = portknock\n"), "{messages}");
}

#[test]
fn one_key_of_a_client_gives_each_server_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (first, _) = ok(&directory, "keygen alice --server one");
    let (second, _) = ok(&directory, "keygen alice --server two --from alice-one.key");
    let (one, two) = (read(&directory, "alice-one.key"), read(&directory, "alice-two.key"));
    assert!(one.key == two.key);
    assert_eq!(first, format!("alice {}\n", *one.key.for_server("one").to_text()));
    assert_eq!(second, format!("alice {}\n", *one.key.for_server("two").to_text()));
    // The server of this file could compute the keys of all others.
    ok(&directory, "keygen bob");
    fails(&directory, "keygen bob --server two --from bob.key", 1, "could compute the keys of all other servers");
    fails(&directory, "keygen bob --from alice-one.key", 2, "--server");
    assert!(!directory.path().join("bob-two.key").exists());
}

#[test]
fn keygen_never_overwrites_and_refuses_bad_values() {
    let directory = tempfile::tempdir().unwrap();
    ok(&directory, "keygen alice");
    let before = fs::read(directory.path().join("alice.key")).unwrap();
    fails(&directory, "keygen alice", 1, "cannot create the client's file alice.key: File exists");
    assert_eq!(fs::read(directory.path().join("alice.key")).unwrap(), before);
    fails(&directory, "keygen bob --output none/bob.key", 1, "cannot create the client's file none/bob.key: No such");
    for (args, message) in [
        ("#alice", "a name has 1 to 64 bytes"),
        ("../alice", "name the client's file with --output"),
        ("alice --server a/b", "name the client's file with --output"),
        ("alice --form packet", "--door <DOOR>"),
        ("alice --form mail", "invalid value 'mail'"),
        ("alice --door ddddddddddddddddddddddddddddddd", "the name of a door has 1 to 30 bytes"),
        ("alice --port 0", "invalid value '0'"),
        ("alice --steps 9", "9 is not in 1..=8"),
        ("alice --ports 5", "write the ports as LOW-HIGH"),
        ("alice --ports 1-4", "at least as many ports as the sequence has steps"),
        ("alice --step 0", "the length of a window is 10, 30, 60, 120, 300, 600, 1800 or 3600 seconds"),
        ("", "<NAME>"),
    ] {
        fails(&directory, &format!("keygen {args}"), 2, message);
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn keygen_makes_the_secret_of_an_app() {
    let directory = tempfile::tempdir().unwrap();
    for (options, digits) in [("", 6), (" --digits 8 --qr", 8)] {
        let (line, messages) = ok(&directory, &format!("keygen --totp{options} phone"));
        let path = directory.path().join("phone.totp");
        fs::write(&path, &line).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let key = load_totp_file(&path).unwrap();
        assert_eq!((&*key.name, key.digits), ("phone", Some(digits)), "{line}");
        assert_eq!(line, format!("{}\n", *key.secret.to_uri("phone", digits)));
        // The lines of the door are those of a configuration without errors; the messages contain no
        // secret.
        let door: String =
            messages.lines().filter(|line| line.starts_with("    ")).map(|line| format!("{line}\n")).collect();
        fs::write(
            directory.path().join("knockd.conf"),
            door.replace("/etc/portknock/", &format!("{}/", directory.path().display())),
        )
        .unwrap();
        let (report, _) = ok(&directory, "check knockd.conf");
        assert!(report.contains(&format!("code of {digits} digits after 2 fixed steps")), "{report}");
        assert!(!messages.contains(&**key.secret.to_text()), "{messages}");
        assert_eq!(messages.contains('▀'), options.contains("--qr"));
    }
    fails(&directory, "keygen --totp --steps 5 phone", 2, "cannot be used with");
    fails(&directory, "keygen --totp --digits 7 phone", 2, "invalid value");
}

#[test]
fn the_qr_code_is_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let (line, messages) = ok(&directory, "keygen alice --qr");
    assert_eq!(line.lines().count(), 1);
    assert!(messages.contains("████████") && !messages.contains('\x1b'), "{messages}");
    let (_, messages) = ok(&directory, "keygen bob");
    assert!(!messages.contains('█'), "{messages}");
}

#[test]
fn a_sequence_is_that_of_its_time() {
    let directory = tempfile::tempdir().unwrap();
    ok(&directory, "keygen alice --server web1 --protocols both");
    let file = read(&directory, "alice-web1.key");
    let expected = |at| {
        let sequence = file.time.sequence(&file.shared_key(), file.time.window_at(at)).to_string();
        sequence.replace(',', " ") + "\n"
    };
    let (found, error) = ok(&directory, "sequence --key alice-web1.key --at 1796030418");
    assert_eq!((found, error.as_str()), (expected(Timestamp::from_secs(1_796_030_418)), ""));
    let before = expected(now());
    let (found, _) = ok(&directory, "sequence --key alice-web1.key");
    assert!(found == before || found == expected(now()), "{found}");
    fails(&directory, "sequence --key alice-web1.key --at -1", 2, "'-1'");
    fails(&directory, "sequence --key alice-web1.key --at 18446744074", 2, "18446744074");
    fails(&directory, "sequence", 2, "--key <FILE>");
}

#[test]
fn files_that_cannot_be_used_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alice.key");
    for command in ["sequence --key alice.key", "knock --key alice.key 127.0.0.1"] {
        let _ = fs::remove_file(&path);
        fails(&directory, command, 1, "portknock: cannot read the keys in alice.key: No such file");
        ok(&directory, "keygen alice");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("form = time", "form = mail")).unwrap();
        fails(&directory, command, 1, "portknock: alice.key:5: there is no such form; the forms are time and packet");
        fs::write(&path, text.replace("pk1:", "pk1:A")).unwrap();
        fails(&directory, command, 1, "portknock: alice.key:4: the key has 47 characters");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fails(&directory, command, 1, "other users can read it; run chmod 600 alice.key, and make new keys");
    }
}

#[test]
fn options_must_fit_the_file() {
    let directory = tempfile::tempdir().unwrap();
    ok(&directory, "keygen alice");
    let key = "knock --key alice.key";
    fails(&directory, key, 2, "portknock: alice.key names no server: give the host to knock at");
    fails(&directory, &format!("{key} --seconds 5 ::1"), 2, "are for packets, but alice.key has the form time");
    fails(&directory, &format!("{key} --address ::1 ::1"), 2, "are for packets, but alice.key has the form time");
    fails(&directory, &format!("{key} ::1 7000"), 2, "omit PORTs and --udp");
    fails(&directory, &format!("{key} --udp ::1"), 2, "omit PORTs and --udp");
    fails(&directory, "knock --address ::1 ::1 7000", 2, "--key <FILE>");
    fails(&directory, "knock ::1", 2, "PORT[:PROTO]");
    fails(&directory, "knock", 2, "HOST");
}

/// Waits for a packet, and opens it at its time.
fn receive(server: &UdpSocket, key: &Key) -> PacketContent {
    let mut bytes = [0; 200];
    let length = server.recv(&mut bytes).unwrap();
    open_at(key, now(), &bytes[..length].try_into().unwrap()).unwrap()
}

#[test]
fn a_packet_is_sent_to_the_server_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = server.local_addr().unwrap().port();
    ok(&directory, &format!("keygen alice --server 127.0.0.1 --form packet --door ssh --port {port} --output key"));
    let key = read(&directory, "key").shared_key();
    let (out, _) = ok(&directory, "knock --key key -v");
    assert_eq!(out, format!("hitting udp 127.0.0.1:{port}\n"));
    let content = receive(&server, &key);
    assert_eq!((content.address, content.seconds, content.door.as_str()), (None, 0, "ssh"));
    ok(&directory, "knock --key key --address 2001:db8::7 --seconds 30 127.0.0.1");
    let content = receive(&server, &key);
    assert_eq!((content.address, content.seconds), ("2001:db8::7".parse().ok(), 30));
    // Each round of a repeated knock is a new packet.
    let (code, _, error) = portknock(directory.path(), "knock --key key --then 1 --wait 0.01 --retries 1");
    assert_eq!(code, Some(3), "{error}");
    let mut packets = [[0; 96]; 2];
    packets.iter_mut().for_each(|packet| assert_eq!(server.recv(packet).unwrap(), 96));
    assert_ne!(packets[0], packets[1]);
}

#[test]
fn the_key_is_not_in_the_list_of_processes() {
    let directory = tempfile::tempdir().unwrap();
    ok(&directory, "keygen alice");
    let mut knocking = command(directory.path(), "knock -v --key alice.key --then 1 --wait 600 127.0.0.1");
    let mut knocking = knocking.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(knocking.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("hitting tcp 127.0.0.1:"), "{line}");
    let arguments = fs::read(format!("/proc/{}/cmdline", knocking.id())).unwrap();
    knocking.kill().unwrap();
    knocking.wait().unwrap();
    let arguments = String::from_utf8(arguments).unwrap().replace('\0', " ");
    assert!(arguments.ends_with(" knock -v --key alice.key --then 1 --wait 600 127.0.0.1 "), "{arguments}");
}
