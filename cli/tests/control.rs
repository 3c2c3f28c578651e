//! `portknock status` and similar commands against a socket without a daemon, and against a daemon
//! of another version.
#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

/// Runs `portknock ARGUMENTS --socket SOCKET`. Returns its exit status, standard output and
/// standard error.
fn portknock(args: &[&str], socket: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portknock"));
    let output = command.args(args).arg("--socket").arg(socket).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The same, with a daemon that answers the one expected request with this line. Returns the
/// request too.
fn answered(args: &[&str], answer: &str) -> (String, (Option<i32>, String, String)) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::scope(|scope| {
        let daemon = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        let ran = portknock(args, &socket);
        (daemon.join().unwrap(), ran)
    })
}

#[test]
fn without_a_daemon_the_error_names_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control");
    let path = socket.to_str().unwrap();
    for args in [&["status"][..], &["close", "door", "::1"], &["reload"], &["events"]] {
        let (code, out, complaint) = portknock(args, &socket);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(complaint.starts_with(&format!("portknock: no daemon answers at {path}: ")), "{complaint}");
        assert!(complaint.contains("is portknockd running?"), "{complaint}");
    }
    drop(UnixListener::bind(&socket).unwrap());
    assert!(portknock(&["status"], &socket).2.contains("left the socket behind"));
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let expected =
        format!("portknock: {} is not a socket; name the daemon's ControlSocket with --socket\n", file.display());
    assert_eq!(portknock(&["status"], &file).2, expected);
}

#[test]
fn an_invalid_answer_is_an_error() {
    for (answer, complaint) in [
        ("", "the daemon has ended the connection without an answer"),
        ("{\"closed\":1}\n", "the daemon has answered something else; is it of another version?"),
        ("{\"error\":\"no\\u001b\"}\n", "the daemon says: no\\x1b"),
        ("{}\n", "the answer makes no sense: "),
        ("{\"status\":{}}\n", "the answer makes no sense: "),
    ] {
        let (request, (code, out, error)) = answered(&["status"], answer);
        assert_eq!((request.as_str(), code, out.as_str()), ("{\"request\":\"status\"}\n", Some(1), ""));
        assert!(error.starts_with(&format!("portknock: {complaint}")), "{error}");
    }
}

#[test]
fn events_are_printed_unchanged_up_to_an_error() {
    let events = "{\"time\":1.0,\"event\":\"a new one\"}\n{\"time\":2.000000001}\n";
    let (request, (code, out, error)) = answered(&["events"], events);
    assert_eq!((request.as_str(), code, out.as_str()), ("{\"request\":\"events\"}\n", Some(1), events));
    assert_eq!(error, "portknock: the daemon has ended the connection\n");
    let (_, (code, out, error)) = answered(&["events"], &format!("{events}{{\"error\":\"too slow\"}}\n"));
    assert_eq!((code, out.as_str(), error.as_str()), (Some(1), events, "portknock: the daemon says: too slow\n"));
}

#[test]
fn a_door_is_named_exactly() {
    let (request, (code, out, _)) = answered(&["close", "a \"b\"", "2001:db8:0::1"], "{\"closed\":1}\n");
    assert_eq!(request, "{\"request\":\"close\",\"door\":\"a \\\"b\\\"\",\"ip\":\"2001:db8::1\"}\n");
    assert_eq!((code, out.as_str()), (Some(0), "a \"b\" is closed for 2001:db8::1\n"));
}
