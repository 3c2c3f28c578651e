//! The control socket: requests of any client, and answers of any program that listens there.

use portknock_core::control::{Request, Response};

/// A request and an answer of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"request":"status"}"#,
        r#"{"request":"close","door":"a \"b\"\u001b","ip":"2001:db8::1"}"#,
        r#"{"request":"reload"}"#,
        r#"{"request":"events"}"#,
        r#"{"closed":1}"#,
        r#"{"reload":{"taken":false,"messages":["no","such\tdoor"]}}"#,
        r#"{"error":"no"}"#,
        r#"{"status":{"version":"1","pid":7,"uptime":90061,"config":{"file":"/c","age":59},"interfaces":["eth0"],
            "doors":[{"name":"a\nb\\","openings":1}],"attempts":{"alive":1,"evicted":2,"refused":3},
            "packets":{"seen":4,"dropped":5,"filtered":6},"knocks":7,"commands":{"run":1,"failed":1,"running":0,"waiting":0},
            "openings":2,"openings_saved":false,"followers":1,"open":[{"door":"a","ip":"10.0.0.1",
            "closes_at":1690000000.123456789,"closes_in":1.5,"stop_command":"x\u0007","ports":[]},{"door":"b","ip":"::1","closes_at":1,"closes_in":1e300,
            "stop_command":null,"ports":["tcp/22"]}]}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Reads the bytes as a request and as an answer. A message that is understood is written
/// unchanged, and displayed text is safe to display.
pub fn check(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        let line = request.to_line();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert_eq!(Request::parse(line.as_bytes()), Ok(request));
    }
    let Ok(answer) = Response::parse(bytes) else { return };
    let line = answer.to_line();
    assert_eq!(Response::parse(line.as_bytes()).expect("an answer").to_line(), line);
    if let Response::Status(report) = answer {
        let text = report.text();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        for line in report.prometheus().lines() {
            assert!(line.starts_with("portknock_") || line.starts_with("# "), "{line:?}");
        }
    }
}
