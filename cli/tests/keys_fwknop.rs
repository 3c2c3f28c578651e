//! `portknock keygen --fwknop`, with fwknop's own client and a reader of QR codes.
#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use portknock_core::fwknop::{FwknopKey, load_fwknop_keys};
use portknock_core::internals::open_fwknop;
use tempfile::TempDir;

fn run(directory: &Path, program: &str, args: &str) -> Output {
    let mut command = Command::new(program);
    command.args(args.split_whitespace()).current_dir(directory).stdin(Stdio::null());
    // The client reads no other file, and names this user.
    command.env("HOME", directory).env("LOGNAME", "tester");
    command.output().unwrap_or_else(|error| panic!("{program}: {error}; run scripts/install-deps"))
}

/// Runs a command that must succeed, and returns its output and its standard error.
fn ok(directory: &TempDir, args: &str) -> (String, String) {
    let output = run(directory.path(), env!("CARGO_BIN_EXE_portknock"), args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// Reads the lines of a server.
fn server_key(directory: &TempDir, lines: &str) -> FwknopKey {
    let path = directory.path().join("server.fwknop");
    fs::write(&path, lines).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let keys = load_fwknop_keys(&path).unwrap();
    assert_eq!(keys.len(), 1);
    keys[0].clone()
}

/// Returns the packet that the client makes from a stanza.
fn packet(directory: &TempDir, args: &str) -> Vec<u8> {
    let path = directory.path().join("packet");
    let _ = fs::remove_file(&path);
    let output = run(directory.path(), "fwknop", &format!("--no-save-args -T -B packet {args}"));
    assert!(output.status.success(), "{output:?}");
    fs::read(path).unwrap().trim_ascii_end().to_vec()
}

#[test]
fn the_client_makes_packets_that_the_server_opens() {
    for (digest, user) in [("sha256", None), ("sha384", Some("alice")), ("sha512", None)] {
        let directory = tempfile::tempdir().unwrap();
        let with_user = user.map_or_else(String::new, |user| format!("--user {user}"));
        let args =
            format!("keygen --fwknop phone --host localhost --open tcp/22,udp/53 --hmac-digest {digest} {with_user}");
        let (lines, messages) = ok(&directory, &args);
        let key = server_key(&directory, &lines);
        assert_eq!((&*key.name, key.user.as_deref()), ("phone", user));
        let rc = directory.path().join("phone.fwknoprc");
        assert_eq!(fs::metadata(&rc).unwrap().permissions().mode() & 0o7777, 0o600);
        // The next steps contain no key.
        assert!(!messages.contains(&*key.key_base64()) && !messages.contains(&*key.hmac_key_base64()), "{messages}");
        assert!(messages.contains("    packet = fwknop\n    open = tcp/22,udp/53\n"), "{messages}");
        let packet = packet(&directory, "--rc-file phone.fwknoprc -n phone");
        let content = open_fwknop(&key, &packet).unwrap();
        let ports: Vec<_> = content.ports.iter().map(ToString::to_string).collect();
        assert_eq!((content.address, ports.join(",")), (None, "tcp/22,udp/53".to_owned()));
        assert_eq!(content.user, user.unwrap_or("tester"));
    }
}

/// The stanza is one of several, as in `~/.fwknoprc`.
#[test]
fn the_stanza_fits_into_the_rc_file_of_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let mut rc = String::from("[default]\n\n");
    let mut keys = Vec::new();
    for name in ["a", "b"] {
        let (lines, _) = ok(&directory, &format!("keygen --fwknop {name} --host localhost --open tcp/22 --port 4000"));
        keys.push(server_key(&directory, &lines));
        rc += &fs::read_to_string(directory.path().join(format!("{name}.fwknoprc"))).unwrap();
    }
    let path = directory.path().join(".fwknoprc");
    fs::write(&path, rc).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for (name, own, other) in [("a", 0, 1), ("b", 1, 0)] {
        let packet = packet(&directory, &format!("-n {name} -a 192.0.2.7"));
        assert_eq!(open_fwknop(&keys[own], &packet).unwrap().address, Some([192, 0, 2, 7].into()));
        assert!(open_fwknop(&keys[other], &packet).is_err());
    }
}

/// Draws a QR code of a terminal as an image, with several pixels for each module.
fn image(drawn: &str) -> Vec<u8> {
    const SCALE: usize = 4;
    let mut rows: Vec<Vec<u8>> = Vec::new();
    for line in drawn.lines() {
        for half in ['▀', '▄'] {
            let light = |c: char| if c == half || c == '█' { 255 } else { 0 };
            rows.push(line.chars().flat_map(|c| [light(c); SCALE]).collect());
        }
    }
    let header = format!("P5 {} {} 255\n", rows[0].len(), rows.len() * SCALE);
    let pixels = rows.iter().flat_map(|row| std::iter::repeat_n(row, SCALE)).flatten().copied();
    header.into_bytes().into_iter().chain(pixels).collect()
}

#[test]
fn the_qr_code_is_read_back() {
    for (args, more, user) in
        [("", "", ""), ("--user alice --hmac-digest sha512", " HMAC_DIGEST_TYPE:SHA512", " SPOOF_USER:alice")]
    {
        let directory = tempfile::tempdir().unwrap();
        let (lines, messages) =
            ok(&directory, &format!("keygen --fwknop phone --host server.example --open tcp/22 --qr {args}"));
        let key = server_key(&directory, &lines);
        let is_drawn = |line: &&str| !line.is_empty() && line.chars().all(|c| "█▀▄ ".contains(c));
        let drawn: Vec<_> = messages.lines().filter(is_drawn).collect();
        fs::write(directory.path().join("code.pgm"), image(&drawn.join("\n"))).unwrap();
        let output = run(directory.path(), "zbarimg", "--quiet --raw code.pgm");
        let expected = format!(
            "SPA_SERVER_PROTO:udp SPA_SERVER_PORT:62201 ALLOW_IP:resolve ACCESS:tcp/22 SPA_SERVER:server.example \
             KEY_BASE64:{} HMAC_KEY_BASE64:{} USE_HMAC:Y{more}{user} FW_TIMEOUT:60\n",
            *key.key_base64(),
            *key.hmac_key_base64()
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[test]
fn bad_arguments_make_no_file() {
    let directory = tempfile::tempdir().unwrap();
    for args in [
        "keygen --fwknop phone",
        "keygen --fwknop phone --host a",
        "keygen --fwknop phone --open tcp/22",
        "keygen --fwknop phone --host a --open icmp/1",
        "keygen --fwknop phone --host a --open tcp/0",
        "keygen --fwknop phone --host a --open tcp/22 --hmac-digest md5",
        "keygen --fwknop phone --host a --open tcp/22 --user a:b",
        "keygen --fwknop phone --host a --open tcp/22 --server b",
        "keygen --fwknop a/b --host a --open tcp/22",
        "keygen phone --host a",
    ] {
        let output = run(directory.path(), env!("CARGO_BIN_EXE_portknock"), args);
        assert_eq!(output.status.code(), Some(2), "{args}: {output:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{args}");
    }
    ok(&directory, "keygen --fwknop phone --host a --open tcp/22");
    let output = run(directory.path(), env!("CARGO_BIN_EXE_portknock"), "keygen --fwknop phone --host a --open tcp/22");
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("existing files are never overwritten"));
}
