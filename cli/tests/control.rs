//! `portknock status`, `close`, `reload` and `events` without a daemon, or with a daemon of another
//! version.
#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

/// Runs `portknock ARGUMENTS --socket SOCKET`. Returns its exit status, its output, and its
/// standard error.
fn portknock(args: &[&str], socket: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portknock"));
    let output = command.args(args).arg("--socket").arg(socket).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The same, with a daemon that gives this answer to its only request. Returns the request, too.
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
        let output = portknock(args, &socket);
        (daemon.join().unwrap(), output)
    })
}

#[test]
fn without_a_daemon_the_error_has_the_path_and_advice() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control");
    let path = socket.to_str().unwrap();
    for args in [&["status"][..], &["close", "door", "::1"], &["reload"], &["events"]] {
        let (code, out, error) = portknock(args, &socket);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(error.starts_with(&format!("portknock: no daemon answers at {path}: ")), "{error}");
        assert!(error.contains("is portknockd running?"), "{error}");
    }
    drop(UnixListener::bind(&socket).unwrap());
    assert!(portknock(&["status"], &socket).2.contains("left the socket behind"));
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let expected = format!(
        "portknock: {} is not a socket; use --socket with the path of the daemon's ControlSocket\n",
        file.display()
    );
    assert_eq!(portknock(&["status"], &file).2, expected);
}

#[test]
fn an_invalid_answer_is_an_error() {
    for (answer, expected) in [
        ("", "the daemon closed the connection without an answer"),
        ("{\"closed\":1}\n", "the daemon sent an unexpected answer; is its version that of portknock?"),
        ("{\"error\":\"no\\u001b\"}\n", "the daemon reports: no\\x1b"),
        ("{}\n", "invalid response: "),
        ("{\"status\":{}}\n", "invalid response: "),
    ] {
        let (request, (code, out, error)) = answered(&["status"], answer);
        assert_eq!((request.as_str(), code, out.as_str()), ("{\"request\":\"status\"}\n", Some(1), ""));
        assert!(error.starts_with(&format!("portknock: {expected}")), "{error}");
    }
}

#[test]
fn events_are_printed_unchanged_up_to_an_error() {
    let events = "{\"time\":1.0,\"event\":\"a new one\"}\n{\"time\":2.000000001}\n";
    let (request, (code, out, error)) = answered(&["events"], events);
    assert_eq!((request.as_str(), code, out.as_str()), ("{\"request\":\"events\"}\n", Some(1), events));
    assert_eq!(error, "portknock: the daemon closed the connection\n");
    let (_, (code, out, error)) = answered(&["events"], &format!("{events}{{\"error\":\"too slow\"}}\n"));
    assert_eq!((code, out.as_str(), error.as_str()), (Some(1), events, "portknock: the daemon reports: too slow\n"));
}

#[test]
fn the_name_of_a_door_is_sent_unchanged() {
    let (request, (code, out, _)) = answered(&["close", "a \"b\"", "2001:db8:0::1"], "{\"closed\":1}\n");
    assert_eq!(request, "{\"request\":\"close\",\"door\":\"a \\\"b\\\"\",\"ip\":\"2001:db8::1\"}\n");
    assert_eq!((code, out.as_str()), (Some(0), "a \"b\" is closed for 2001:db8::1\n"));
}
