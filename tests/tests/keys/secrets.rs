//! No key appears in any output, argument or environment, nor in the memory of the reader.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use portknock_core::client_file::ClientFile;
use portknock_core::keys::Key;
use portknock_tests::{CAPTURE_ONLY_USER, Daemon, Output, WAIT_TIMEOUT, binary, other_users, require, wait_until};

use crate::{Keyed, client, fast, late_packet, now, opens, packet_client, send, to_server};

/// The text of a key, with and without `pk1:`, as the daemon and clients read it.
fn texts(client: &ClientFile) -> Vec<String> {
    let of = |key: &Key| key.to_text().trim_start_matches("pk1:").to_owned();
    vec![of(&client.key), of(&client.shared_key())]
}

fn find(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The bytes of a key, from its text.
fn key_bytes(key: &Key) -> Vec<u8> {
    let text = key.to_text();
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = text
        .trim_start_matches("pk1:")
        .bytes()
        .flat_map(|digit| {
            let value = digits.iter().position(|found| *found == digit).expect("base64url");
            (0..6).rev().map(move |bit| u8::from(value >> bit & 1 == 1))
        })
        .collect();
    let bytes: Vec<u8> = bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect();
    bytes[..32].to_vec()
}

/// HMAC-SHA256, by openssl.
fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let data: String = data.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let script = format!("printf '{data}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:{hex} -r");
    let output = Output::of(Command::new("sh").args(["-c", &script]));
    let digest = output.stdout.split(' ').next().expect("a digest").to_owned();
    assert_eq!(digest.len(), 64, "{output:?}");
    (0..64).step_by(2).map(|at| u8::from_str_radix(&digest[at..at + 2], 16).expect("hexadecimal")).collect()
}

/// The memory of a process, as a debugger of root reads it.
fn memory(process: u32) -> Vec<u8> {
    require("python3");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = "
import sys
process, out = sys.argv[1:]
with open(f'/proc/{process}/maps') as maps, open(f'/proc/{process}/mem', 'rb') as memory, open(out, 'wb') as copy:
    for line in maps:
        area, mode, *_ = line.split()
        # Rings of captures and areas of the kernel cannot be read.
        if mode.startswith('rw'):
            start, end = (int(part, 16) for part in area.split('-'))
            try:
                memory.seek(start)
                copy.write(memory.read(end - start))
            except (OSError, OverflowError):
                pass
";
    let copy = directory.path().join("copy");
    let output = Output::of(Command::new("python3").args(["-c", program, &process.to_string()]).arg(&copy));
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    fs::read(copy).expect("the copy")
}

const DOORS: &str = "
[time]
keys = %KEYS%
sequence = time
time_step = 10
seq_timeout = 10
start_command = cat /proc/self/environ >> %DIR%/environ; tr '\\0' ' ' < /proc/self/cmdline >> %DIR%/cmdline; echo time >> %DIR%/opened
[packet]
keys = %PACKET%
packet = portknock
start_command = cat /proc/self/environ >> %DIR%/environ; ps axeww >> %DIR%/processes; echo packet >> %DIR%/opened
";

#[test]
fn no_key_appears_in_outputs_arguments_or_environments() {
    ["ps", "openssl"].iter().for_each(|program| require(program));
    let (time, sent) = (client("alice", fast()), packet_client("bob", "packet"));
    // The key of this client is derived for the server.
    let time = ClientFile { server: Some("10.0.0.1".to_owned()), ..time };
    let keyed = Keyed::new(std::slice::from_ref(&time));
    keyed.write("packet.keys", &sent.server_line());
    sent.create(&keyed.path("bob")).unwrap_or_else(|error| panic!("{error}"));
    let config = keyed.config(&DOORS.replace("%PACKET%", &keyed.path("packet.keys").display().to_string()));
    let mut daemon = keyed.start_again_with(&config, &["-D"]);
    let follower = daemon.follow();
    let mut seen = Vec::new();
    // All programs that have the key, as another user sees them.
    let strace = |name: &str| format!("strace -f -s 4096 -o {} -e trace=execve", keyed.path(name).display());
    require("strace");
    for (number, args) in
        ["knock --key %ALICE%", "sequence --key %ALICE%", "check %CONF%", "check --format json %CONF%"]
            .into_iter()
            .enumerate()
    {
        let args = args
            .replace("%ALICE%", &keyed.path("alice").display().to_string())
            .replace("%CONF%", &daemon.path("knockd.conf").display().to_string());
        let trace = format!("trace{number}");
        seen.push(keyed.lab.client.ok(&format!("{} {} {args}", strace(&trace), binary("portknock").display())));
        seen.push(fs::read_to_string(keyed.path(&trace)).expect("the trace"));
    }
    let packet = late_packet(&sent);
    send(&keyed.lab.client, &[to_server("10.0.0.2", &packet), to_server("10.0.0.2", &packet)], 2);
    opens(&daemon, 2);
    // A key file with a typing error, and one that repeats a key.
    for keys in [sent.server_line().replacen("pk1:", "pk1:A", 1), sent.server_line().repeat(2)] {
        keyed.write("packet.keys", &keys);
        daemon.refuse_reload();
        seen.push(Daemon::run_portknockd(&keyed.lab.server, &config, &["--check"]).stdout);
        seen.push(
            keyed
                .lab
                .client
                .run(&format!("{} check {}", binary("portknock").display(), daemon.path("knockd.conf").display()))
                .stdout,
        );
    }
    keyed.write("packet.keys", &sent.server_line());
    daemon.signal("USR1");
    daemon.wait_for("] status: ");
    for args in [&["status"][..], &["status", "--format", "json"], &["status", "--format", "prometheus"]] {
        seen.push(daemon.portknock(args).stdout);
    }
    seen.extend(["cmdline", "environ"].map(|file| {
        let of = |process: u32| fs::read(format!("/proc/{process}/{file}")).expect("it runs");
        [of(daemon.id()), of(daemon.reader())].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }));
    seen.extend(["environ", "cmdline", "processes", "openings"].map(|name| {
        let text = daemon.read(name);
        assert!(!text.is_empty(), "{name}");
        text
    }));
    daemon.stop();
    seen.extend([daemon.log(), daemon.output(), follower.output(), daemon.read("openings")]);
    for name in ["alice", "bob"] {
        assert!(follower.output().contains(&format!(r#""key":"{name}""#)), "{}", follower.output());
    }
    for (number, text) in seen.iter().enumerate() {
        for client in [&time, &sent] {
            for key in texts(client) {
                // Eight characters of it, too.
                for at in 0..key.len() - 8 {
                    assert!(!text.contains(&key[at..at + 8]), "output {number} contains a part of a key:\n{text}");
                }
            }
            for key in [&client.key, &client.shared_key()] {
                let hex: String = key_bytes(key)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(!text.to_lowercase().contains(&hex), "output {number} contains a part of a key:\n{text}");
            }
        }
    }
}

#[test]
fn the_reader_has_no_key_and_a_daemon_with_keys_leaves_no_core_file() {
    let (time, sent) = (client("alice", fast()), packet_client("bob", "packet"));
    let keyed = Keyed::new(std::slice::from_ref(&time));
    keyed.write("packet.keys", &sent.server_line());
    let config = keyed.config(&DOORS.replace("%PACKET%", &keyed.path("packet.keys").display().to_string()));
    let plain = "[door]\nsequence = 7000,8000\ncommand = true\n";
    let mut daemon = keyed.start(plain);
    // Asks the process itself, because root owns its files in either case.
    let dumpable = |daemon: &Daemon| {
        require("gdb");
        let args = ["-p", &daemon.id().to_string(), "-batch", "-ex", "call (int)prctl(3, 0, 0, 0, 0)"];
        let output = Output::of(Command::new("gdb").args(args));
        let value = output.stdout.lines().find_map(|line| line.strip_prefix("$1 = ")).map(str::to_owned);
        value.unwrap_or_else(|| panic!("{output:?}"))
    };
    assert_eq!(dumpable(&daemon), "1", "without keys");
    daemon.reload(&config);
    assert_eq!(dumpable(&daemon), "0", "after a reload with keys");
    daemon.stop();
    keyed.restart(&mut daemon);
    assert_eq!(dumpable(&daemon), "0", "after a start with keys");

    // The searches find what is there.
    let (daemon_memory, reader_memory) = (memory(daemon.id()), memory(daemon.reader()));
    assert!(daemon_memory.len() > 1 << 20 && reader_memory.len() > 1 << 18);
    let minute = now().as_nanos() / 60_000_000_000;
    let key = key_bytes(&sent.shared_key());
    let hint = hmac(&key, &[b"portknock hint 1\0", &minute.to_be_bytes()[..]].concat());
    assert!(find(&reader_memory, &hint[..8]), "the reader has the hints");
    for key in [key_bytes(&sent.shared_key()), key_bytes(&time.shared_key())] {
        assert!(find(&daemon_memory, &key), "the daemon has the keys");
        assert!(!find(&reader_memory, &key), "the reader has a key");
        // Of the parts of the prepared key, the longest that a search finds.
        assert!(!find(&reader_memory, &key[..12]), "the reader has a part of a key");
    }
    for minute in minute - 3..=minute + 3 {
        for label in [&b"portknock packet 1\0"[..], b"portknock hint 1\0"] {
            let derived = hmac(&key, &[label, &minute.to_be_bytes()].concat());
            assert!(!find(&reader_memory, &derived), "the reader has the key of minute {minute}");
        }
        let derived = hmac(&key, &[b"portknock packet 1\0", &minute.to_be_bytes()[..]].concat());
        assert!(!find(&reader_memory, &derived[..12]), "the reader has the key of minute {minute}");
    }
}

#[test]
fn a_daemon_without_root_hides_its_memory_and_opens_doors_with_keys() {
    if !other_users() {
        return;
    }
    let bob = packet_client("bob", "door");
    let keyed = Keyed::new(std::slice::from_ref(&bob));
    // As the package has it: the file belongs to root and to the group of the daemon.
    let keys = keyed.path("keys");
    fs::set_permissions(keyed.directory.path(), fs::Permissions::from_mode(0o755)).expect("the directory");
    keyed.lab.server.ok(&format!("chgrp 54321 {keys} && chmod 640 {keys}", keys = keys.display()));
    let config = keyed
        .config("[door]\n keys = %KEYS%\n packet = portknock\n start_command = echo $PORTKNOCK_KEY >> %DIR%/opened\n");
    let daemon = Daemon::portknockd_under(&keyed.lab.server, CAPTURE_ONLY_USER, &config);
    let owner = |process: u32| {
        let meta = fs::metadata(format!("/proc/{process}/status")).expect("it runs");
        std::os::unix::fs::MetadataExt::uid(&meta)
    };
    assert_eq!(owner(daemon.id()), 0, "the user of the daemon can read its memory");
    crate::wait_for_late_packets();
    let packet = late_packet(&bob);
    send(&keyed.lab.client, &[to_server("10.0.0.2", &packet)], 1);
    opens(&daemon, 1);
    // A reader can be replaced, too.
    let reader = daemon.reader();
    keyed.lab.server.ok(&format!("kill -9 {reader}"));
    assert!(wait_until(WAIT_TIMEOUT, || portknock_tests::cost::reader(daemon.id()).is_some_and(|new| new != reader)));
    let is_open = wait_until(WAIT_TIMEOUT, || {
        let packet = late_packet(&bob);
        send(&keyed.lab.client, &[to_server("10.0.0.2", &packet)], 1);
        daemon.read("opened").lines().count() > 1
    });
    assert!(is_open, "{}", daemon.log());
}
