//! Configurations built from choices: mostly valid lines with varying numbers and names, which raw
//! bytes rarely form.

use arbitrary::{Result, Unstructured};

use crate::config;

const OPTIONS: [&str; 11] = [
    "UseSyslog #",
    "LogFile = /a",
    "PidFile = /b",
    "Interface = eth",
    "ScanGuard = ",
    "MaxAttempts = ",
    "LogRate = ",
    "MaxOpenings = ",
    "StateFile = /c",
    "ControlSocket = none",
    "OnStop = keep #",
];
const KEYS: [&str; 19] = [
    "sequence = 7391,48213,21???,22???",
    "totp_secret = /s",
    "seq_timeout = ",
    "cmd_timeout = ",
    "open = tcp/",
    "open_prefix = 24,",
    "Gate = set inet a ",
    "seq_cooldown = ",
    "tcpflags = syn",
    "tcpflags = fin,!ack",
    "target = 10.0.0.",
    "allow = 10.0.0.",
    "allow = 2001:db8::",
    "start_command = ",
    "command = /bin/a %IP% ",
    "stop_command = /bin/b ",
    "start_command_6 = ",
    "stop_command_6 = /bin/c",
    "#",
];
const TAILS: [&str; 7] = [" ", " # why", "0", ",1", "\r", "s", "\\"];

/// Decodes the bytes as choices.
pub fn check(bytes: &[u8]) {
    if let Ok(text) = text(&mut Unstructured::new(bytes)) {
        config::check(&text);
    }
}

/// Some options, and doors with every kind of line.
pub fn seeds() -> Vec<Vec<u8>> {
    let lines = |keys: usize, every: usize| {
        let line = |key| if key % every == 0 { vec![1, 30] } else { vec![0] };
        (0..keys).flat_map(line).collect::<Vec<u8>>()
    };
    let door = |every| [&[5, 6, 7][..], &lines(KEYS.len(), every)].concat();
    vec![
        [&[1][..], &lines(OPTIONS.len(), 1), &[1], &door(1)].concat(),
        [&[0, 2][..], &door(2), &door(3)].concat(),
        [&[0, 1][..], &door(5), &[0]].concat(),
    ]
}

fn text(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    if u.int_in_range(0..=1)? == 1 {
        text.extend(b"[options]\n");
        lines(&OPTIONS, &mut text, u)?;
    }
    for door in 0..u.int_in_range(0..=2)? {
        let [a, b, c] = [(); 3].map(|()| u.int_in_range(0..=255_u8));
        text.extend(format!("[door{door}]\nsequence = 7{:03},{}:udp,9{:03}\n", a?, u16::from(b?) + 1, c?).bytes());
        lines(&KEYS, &mut text, u)?;
    }
    // Then a few bytes are corrupted.
    if u.int_in_range(0..=3)? == 1 {
        let at = u.choose_index(text.len() + 1)?;
        let gone = u.int_in_range(0..=3)?.min(text.len() - at);
        let wrong = u.int_in_range(0..=4)?.min(u.len());
        text.splice(at..at + gone, u.bytes(wrong)?.iter().copied());
    }
    Ok(text)
}

/// Some lines with these beginnings, each followed by a number.
fn lines(heads: &[&str], text: &mut Vec<u8>, u: &mut Unstructured<'_>) -> Result<()> {
    for head in heads {
        let kind = u.int_in_range(0..=7)?;
        if (1..=3).contains(&kind) {
            text.extend(head.bytes());
            text.extend(u.int_in_range(0..=255_u8)?.to_string().bytes());
            if kind == 3 {
                text.extend(u.choose(&TAILS)?.bytes());
            }
            text.push(b'\n');
        }
    }
    Ok(())
}
