//! `portknock import-fwknop`: makes doors and key files from fwknop's `access.conf`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use portknock_core::Printable;
use portknock_core::sys::privileges;
use zeroize::Zeroizing;

use crate::access_conf::{self, Finding};
use crate::fwknop_door::{self, ImportedDoor};
use crate::output::{print, print_error};
use crate::{FAILURE, SUCCESS, USAGE, private_file};

/// Maximum size of a file, in bytes.
const MAX_FILE_SIZE: u64 = 4 << 20;

/// The arguments of `portknock import-fwknop`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The directory of the key files, which must exist
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// fwknop's file of clients, usually /etc/fwknop/access.conf
    access_conf: PathBuf,
}

/// Makes doors and key files. The exit status is 0 if every line has its counterpart, 1 if a line has none
/// or a file cannot be written, 2 if the file cannot be read.
pub fn run(args: &ImportArgs) -> u8 {
    privileges::hide();
    let text = match read(&args.access_conf) {
        Ok(text) => text,
        Err(error) => {
            let path = args.access_conf.to_string_lossy();
            print_error("portknock", format_args!("cannot read {}: {error}", Printable(&path)));
            return USAGE;
        }
    };
    let directory = match std::path::absolute(&args.output) {
        Ok(directory) => directory,
        Err(error) => return print_error("portknock", error),
    };
    let (doors, found) = import(&text, &directory);
    if let Err(message) = write(&doors) {
        return print_error("portknock", message);
    }
    let sections: Vec<_> = doors.iter().map(|(_, door)| door.section.as_str()).collect();
    print(sections.join("\n").as_bytes());
    let path = args.access_conf.to_string_lossy();
    for Finding { line, message } in &found {
        print_error("portknock", format_args!("{}:{line}: {message}", Printable(&path)));
    }
    if found.is_empty() { SUCCESS } else { FAILURE }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > MAX_FILE_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB"));
    }
    // With enough capacity no copy of the keys is left behind in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    file.take(MAX_FILE_SIZE).read_to_end(&mut text)?;
    Ok(text)
}

/// Returns the doors with the paths of their key files, and the findings in the order of the lines.
fn import(text: &[u8], directory: &Path) -> (Vec<(PathBuf, ImportedDoor)>, Vec<Finding>) {
    let mut found = Vec::new();
    let mut doors = Vec::new();
    for (number, stanza) in (1..).zip(access_conf::parse(text, &mut found)) {
        let name = format!("fwknop{number}");
        let path = directory.join(format!("{name}.keys"));
        let door = fwknop_door::import(&stanza, &name, &path, &mut found);
        doors.extend(door.map(|door| (path, door)));
    }
    found.sort_by_key(|finding| finding.line);
    (doors, found)
}

/// Writes the key files: all of them, or none.
fn write(doors: &[(PathBuf, ImportedDoor)]) -> Result<(), String> {
    for (count, (path, door)) in doors.iter().enumerate() {
        private_file::create(path, &door.keys).inspect_err(|_| {
            for (path, _) in &doors[..count] {
                // The error of the write is reported.
                let _ = fs::remove_file(path);
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const HMAC_KEY: &str = "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+fw==";

    /// A stanza with keys and more lines, which begin in line 4.
    fn stanza(lines: &str) -> String {
        format!("SOURCE ANY\nKEY_BASE64 {KEY}\nHMAC_KEY_BASE64 {HMAC_KEY}\n{lines}\n")
    }

    fn imported(text: &str) -> (Vec<String>, Vec<(usize, String)>) {
        let (doors, found) = import(text.as_bytes(), "/etc/portknock".as_ref());
        let sections = doors.into_iter().map(|(_, door)| door.section).collect();
        (sections, found.into_iter().map(|finding| (finding.line, finding.message)).collect())
    }

    /// True if a section is valid for a door with portknock's own packets.
    fn is_valid(section: &str) -> bool {
        let own = section.replace("= fwknop\n", "= portknock\n").replace("    packet_address = required\n", "");
        portknock_core::config::parse(own.as_bytes()).config.is_some()
    }

    #[test]
    fn a_stanza_becomes_a_door_and_a_key_file() {
        let text = stanza(
            "OPEN_PORTS tcp/22, udp/53,tcp/80\nRESTRICT_PORTS tcp/80\nFW_ACCESS_TIMEOUT 60\nREQUIRE_USERNAME alice\n\
             REQUIRE_SOURCE_ADDRESS Y\nHMAC_DIGEST_TYPE sha512\nENCRYPTION_MODE cbc\nDESTINATION 192.0.2.1\n\
             ENABLE_CMD_EXEC N",
        ) + &stanza("OPEN_PORTS tcp/22").replace("ANY", "192.0.2.7,10.0.0.0/8");
        let (doors, found) = import(text.as_bytes(), "/etc/portknock".as_ref());
        assert_eq!(found, []);
        assert_eq!(
            doors[0].1.section,
            "[fwknop1]\n    keys           = /etc/portknock/fwknop1.keys\n    packet         = fwknop\n    \
             packet_address = required\n    target         = 192.0.2.1\n    open           = tcp/22,udp/53\n    \
             cmd_timeout    = 60\n"
        );
        assert_eq!(
            *doors[0].1.keys,
            format!(
                "[alice]\nKEY_BASE64: {KEY}\nHMAC_KEY_BASE64: {HMAC_KEY}\nHMAC_DIGEST_TYPE: SHA512\nUSERNAME: alice\n"
            )
        );
        assert_eq!(
            doors[1].1.section,
            "[fwknop2]\n    keys           = /etc/portknock/fwknop2.keys\n    packet         = fwknop\n    allow          \
             = 192.0.2.7,10.0.0.0/8\n    open           = tcp/22\n    cmd_timeout    = 30\n"
        );
        for (_, door) in &doors {
            assert!(is_valid(&door.section), "{}", door.section);
        }
    }

    #[test]
    fn commands_become_commands() {
        let (doors, found) = imported(&stanza(
            "CMD_CYCLE_OPEN /sbin/ipset add a $IP\nCMD_CYCLE_CLOSE /sbin/ipset del a $SRC\nCMD_CYCLE_TIMER 20",
        ));
        assert_eq!(found, []);
        let expected = "    start_command  = /sbin/ipset add a %IP%\n    cmd_timeout    = 20\n    stop_command   = \
                        /sbin/ipset del a %IP%\n";
        assert!(doors[0].ends_with(expected), "{}", doors[0]);
        let (doors, _) = imported(&stanza("CMD_CYCLE_OPEN /bin/a\nCMD_CYCLE_CLOSE NONE"));
        assert!(doors[0].ends_with("    start_command  = /bin/a\n"), "{}", doors[0]);
    }

    #[test]
    fn a_line_without_which_the_door_would_be_wrong_prevents_it() {
        for (lines, line, message) in [
            ("", 1, "a door opens named ports: write them as OPEN_PORTS, without those of RESTRICT_PORTS"),
            ("OPEN_PORTS tcp/22\nRESTRICT_PORTS tcp/22", 1, "a door opens named ports: write them as OPEN_PORTS"),
            ("OPEN_PORTS tcp/22\nACCESS_EXPIRE 12/31/2030", 5, "a door does not expire: remove the line"),
            ("OPEN_PORTS tcp/22\nACCESS_EXPIRE_EPOCH 1924905600", 5, "a door does not expire: remove the line"),
            ("OPEN_PORTS tcp/22\nFORCE_NAT 10.0.0.1 22", 5, "network address translation is not available"),
            ("OPEN_PORTS tcp/22\nFORWARD_ALL Y", 5, "network address translation is not available"),
            ("OPEN_PORTS tcp/22\nHMAC_DIGEST_TYPE SHA3_256", 5, "the HMAC must use SHA256, SHA384 or SHA512"),
            ("OPEN_PORTS tcp/22\nENCRYPTION_MODE legacy", 5, "only CBC is accepted"),
            ("OPEN_PORTS tcp/22\nDESTINATION 192.0.2.0/24", 5, "a door has one target"),
            ("OPEN_PORTS tcp/22\nFW_ACCESS_TIMEOUT 0", 5, "write a number of seconds"),
            ("OPEN_PORTS tcp/22\nKEY abc", 5, "line 2 has this key already"),
            ("OPEN_PORTS tcp/22\nOPEN_PORTS tcp/22", 5, "line 4 has the same setting"),
            ("OPEN_PORTS icmp/8", 4, "write ports as in tcp/22,udp/53"),
            ("OPEN_PORTS tcp/22\nREQUIRE_USERNAME a:b", 1, "the name of a user has 1 to 63 printable ASCII"),
            ("CMD_CYCLE_OPEN /bin/a $PORT", 4, "of the variables of fwknop's commands a door has $IP and $SRC only"),
            ("OPEN_PORTS tcp/22\nCMD_CYCLE_CLOSE /bin/a", 1, "there is a CMD_CYCLE_CLOSE without CMD_CYCLE_OPEN"),
            ("OPEN_PORTS tcp/22\nSOMETHING else", 5, "fwknop's documentation has no such setting"),
        ] {
            let (doors, found) = imported(&stanza(lines));
            assert_eq!(doors, [""; 0], "{lines}");
            assert!(found.iter().any(|(at, found)| *at == line && found.starts_with(message)), "{lines}: {found:?}");
            assert!(found.contains(&(1, "this SOURCE became no door, for the reasons above".to_owned())), "{lines}");
        }
        for (text, message) in [
            ("SOURCE ANY\nOPEN_PORTS tcp/22\nKEY abc", "there is no HMAC_KEY_BASE64"),
            ("SOURCE ANY\nOPEN_PORTS tcp/22\nHMAC_KEY abc", "there is no KEY_BASE64 and no KEY"),
            ("SOURCE ANY\nOPEN_PORTS tcp/22\nGPG_DECRYPT_ID ABCD", "the client has only keys of GnuPG"),
            ("SOURCE ANY\nKEY_BASE64 __CHANGEME__", "__CHANGEME__ is not a key"),
            ("SOURCE example.org\nKEY a\nHMAC_KEY b\nOPEN_PORTS tcp/22", "write ANY, or addresses and networks"),
        ] {
            let (doors, found) = imported(text);
            assert_eq!(doors, [""; 0], "{text}");
            assert!(found.iter().any(|(_, found)| found.starts_with(message)), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_line_that_makes_the_door_no_wider_is_reported_with_the_door() {
        for line in ["ENABLE_CMD_EXEC Y", "CMD_EXEC_USER a", "MAX_FW_TIMEOUT 300", "GPG_REMOTE_ID ABCD", "%include /a"]
        {
            let (doors, found) = imported(&stanza(&format!("OPEN_PORTS tcp/22\n{line}")));
            assert_eq!((doors.len(), found.len(), found[0].0), (1, 1, 5), "{line}: {found:?}");
        }
    }

    proptest! {
        /// Whatever the text: no panic, no key in a message, and each section is valid.
        #[test]
        fn any_text_becomes_doors_or_findings(
            lines in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "SOURCE", "DESTINATION", "OPEN_PORTS", "RESTRICT_PORTS", "KEY", "KEY_BASE64", "HMAC_KEY",
                        "HMAC_KEY_BASE64", "HMAC_DIGEST_TYPE", "FW_ACCESS_TIMEOUT", "REQUIRE_USERNAME",
                        "REQUIRE_SOURCE_ADDRESS", "ENCRYPTION_MODE", "ACCESS_EXPIRE", "CMD_CYCLE_OPEN",
                        "CMD_CYCLE_CLOSE", "CMD_CYCLE_TIMER", "GPG_DECRYPT_ID", "FORCE_NAT", "%include", "#", "", "X",
                    ]),
                    prop::sample::select(vec![" ", "\t", ": ", "", ":::", "\0"]),
                    prop_oneof![
                        Just("ANY".to_owned()), Just("tcp/22,udp/53".to_owned()), Just("Y".to_owned()),
                        Just("secretsecretsecret".to_owned()), Just(KEY.to_owned()), Just(HMAC_KEY.to_owned()),
                        Just("60".to_owned()), Just("SHA256;".to_owned()), Just("/bin/a $IP $PORT".to_owned()),
                        ".{0,40}",
                    ],
                ),
                0..30,
            ),
            cut in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut text: Vec<u8> =
                lines.iter().flat_map(|(name, between, value)| format!("{name}{between}{value}\n").into_bytes()).collect();
            if !text.is_empty() {
                let at = cut.index(text.len());
                text[at] = byte;
            }
            let (doors, found) = import(&text, "/etc/portknock".as_ref());
            for finding in &found {
                prop_assert!(finding.line <= 1 + text.iter().filter(|byte| **byte == b'\n').count());
                prop_assert!(!finding.message.contains("secretsecret") && !finding.message.contains(&KEY[..20]));
            }
            for (_, door) in &doors {
                prop_assert!(is_valid(&door.section), "{}", door.section);
            }
        }
    }
}
