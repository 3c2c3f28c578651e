//! Makes a door and a key file from a stanza of fwknop's `access.conf`.

use std::fmt::Write as _;
use std::path::Path;

use portknock_core::fwknop::{FwknopKey, FwknopKeyError, HmacDigest, decode_key};
use portknock_core::{OpenPort, parse_network};
use zeroize::Zeroizing;

use crate::access_conf::{Finding, Setting, Stanza};

/// Time for which fwknop opens if `FW_ACCESS_TIMEOUT` is not set, in seconds.
const DEFAULT_TIMEOUT: u32 = 30;

/// A door that a stanza became.
pub(crate) struct ImportedDoor {
    /// The section of the configuration.
    pub(crate) section: String,
    /// The content of the key file.
    pub(crate) keys: Zeroizing<String>,
}

/// The part of a stanza that a door can have.
#[derive(Default)]
struct Content<'a> {
    allow: Vec<&'a str>,
    target: Option<&'a str>,
    open: Option<Vec<OpenPort>>,
    restricted: Vec<OpenPort>,
    key: Option<(usize, Zeroizing<Vec<u8>>)>,
    hmac_key: Option<(usize, Zeroizing<Vec<u8>>)>,
    digest: HmacDigest,
    timeout: Option<u32>,
    timer: Option<u32>,
    start_command: Option<String>,
    stop_command: Option<String>,
    user: Option<&'a str>,
    requires_address: bool,
    /// A line with a key for GnuPG.
    gpg: Option<usize>,
}

/// Why a line has no counterpart.
enum Problem {
    /// Without the line the door would be open to more clients, or mean something else.
    Fatal(String),
    /// The door is right without the line.
    Note(&'static str),
}

fn fatal<T>(message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Fatal(message.into()))
}

/// Returns the door; `None` if the stanza has a line that a door needs and cannot have. The findings name
/// each line that the door does not have.
pub(crate) fn import(
    stanza: &Stanza<'_>,
    name: &str,
    key_file: &Path,
    found: &mut Vec<Finding>,
) -> Option<ImportedDoor> {
    let mut content = Content::default();
    let mut names: Vec<(&str, usize)> = Vec::new();
    let mut is_complete = true;
    for setting in &stanza.settings {
        let earlier = names.iter().find(|(name, _)| *name == setting.name);
        let read = match earlier {
            Some((_, line)) => fatal(format!("line {line} has the same setting")),
            None => content.add(setting),
        };
        names.push((setting.name, setting.line));
        match read {
            Ok(()) => {}
            Err(Problem::Note(message)) => found.push(Finding::new(setting.line, message)),
            Err(Problem::Fatal(message)) => {
                found.push(Finding::new(setting.line, message));
                is_complete = false;
            }
        }
    }
    let first = stanza.settings.first().map_or(0, |setting| setting.line);
    let door = content.finish(name, key_file, first).map_err(|finding| found.push(finding)).ok();
    if !is_complete || door.is_none() {
        found.push(Finding::new(first, "this SOURCE became no door, for the reasons above"));
        return None;
    }
    door
}

impl<'a> Content<'a> {
    fn add(&mut self, setting: &Setting<'a>) -> Result<(), Problem> {
        let (line, value) = (setting.line, setting.value);
        match setting.name {
            "SOURCE" => self.allow = networks(value)?,
            "DESTINATION" => self.target = destination(value)?,
            "OPEN_PORTS" => self.open = Some(ports(value)?),
            "RESTRICT_PORTS" => self.restricted = ports(value)?,
            "KEY" | "KEY_BASE64" => self.key = Some((line, key(&self.key, setting)?)),
            "HMAC_KEY" | "HMAC_KEY_BASE64" => self.hmac_key = Some((line, key(&self.hmac_key, setting)?)),
            "HMAC_DIGEST_TYPE" => {
                self.digest = value.parse().map_err(|error: FwknopKeyError| Problem::Fatal(error.to_string()))?;
            }
            "FW_ACCESS_TIMEOUT" => self.timeout = Some(seconds(value)?),
            "CMD_CYCLE_TIMER" => self.timer = Some(seconds(value)?),
            "CMD_CYCLE_OPEN" => self.start_command = Some(command(value)?),
            "CMD_CYCLE_CLOSE" if value == "NONE" => {}
            "CMD_CYCLE_CLOSE" => self.stop_command = Some(command(value)?),
            "REQUIRE_USERNAME" => self.user = Some(value),
            "REQUIRE_SOURCE_ADDRESS" | "REQUIRE_SOURCE" => self.requires_address = is_yes(value),
            "ENCRYPTION_MODE" if value.eq_ignore_ascii_case("CBC") => {}
            "ENCRYPTION_MODE" => {
                return fatal("only CBC is accepted; set ENCRYPTION_MODE to CBC here and in the client");
            }
            "ACCESS_EXPIRE" | "ACCESS_EXPIRE_EPOCH" => {
                return fatal("a door does not expire: remove the line, and remove the keys of the door at that time");
            }
            "FORCE_NAT" | "FORCE_SNAT" => return fatal("network address translation is not available"),
            "FORCE_MASQUERADE" | "FORWARD_ALL" | "DISABLE_DNAT" if is_yes(value) => {
                return fatal("network address translation is not available");
            }
            "ENABLE_CMD_EXEC" | "ENABLE_CMD_SUDO_EXEC" if is_yes(value) => {
                return Err(Problem::Note("commands in packets are refused; a door can have a start_command"));
            }
            "FORCE_MASQUERADE" | "FORWARD_ALL" | "DISABLE_DNAT" | "ENABLE_CMD_EXEC" | "ENABLE_CMD_SUDO_EXEC" => {}
            "CMD_EXEC_USER" | "CMD_EXEC_GROUP" | "CMD_SUDO_EXEC_USER" | "CMD_SUDO_EXEC_GROUP" | "SUDO_EXE" => {
                return Err(Problem::Note("commands in packets are refused"));
            }
            "MAX_FW_TIMEOUT" => {
                return Err(Problem::Note(
                    "the time that a client asks for is ignored: cmd_timeout of the door counts",
                ));
            }
            "GPG_REMOTE_ID"
            | "GPG_DECRYPT_ID"
            | "GPG_DECRYPT_PW"
            | "GPG_ALLOW_NO_PW"
            | "GPG_REQUIRE_SIG"
            | "GPG_DISABLE_SIG"
            | "GPG_IGNORE_SIG_VERIFY_ERROR"
            | "GPG_FINGERPRINT_ID"
            | "GPG_HOME_DIR"
            | "GPG_EXE" => {
                self.gpg = self.gpg.or(Some(line));
                return Err(Problem::Note("packets that are encrypted by GnuPG are refused"));
            }
            _ => return fatal("fwknop's documentation has no such setting"),
        }
        Ok(())
    }

    /// Returns the door, or the reason for which there is none.
    fn finish(self, name: &str, key_file: &Path, first: usize) -> Result<ImportedDoor, Finding> {
        let Some((key_line, key)) = self.key else {
            let message = match self.gpg {
                Some(_) => "the client has only keys of GnuPG: make new keys with portknock keygen --fwknop",
                None => "there is no KEY_BASE64 and no KEY",
            };
            return Err(Finding::new(first, message));
        };
        let Some((hmac_line, hmac_key)) = self.hmac_key else {
            let message = "there is no HMAC_KEY_BASE64, and packets without an HMAC are refused: make new keys with \
                           portknock keygen --fwknop";
            return Err(Finding::new(first, message));
        };
        let open: Vec<_> = self.open.iter().flatten().filter(|port| !self.restricted.contains(port)).collect();
        if open.is_empty() && self.start_command.is_none() {
            let message = "a door opens named ports: write them as OPEN_PORTS, without those of RESTRICT_PORTS";
            return Err(Finding::new(first, message));
        }
        if self.start_command.is_none() && self.stop_command.is_some() {
            return Err(Finding::new(first, "there is a CMD_CYCLE_CLOSE without CMD_CYCLE_OPEN"));
        }
        let client = self.user.filter(|user| portknock_core::keys::is_name(user)).unwrap_or(name);
        let key = FwknopKey::new(client, self.user, &key, self.digest, &hmac_key).map_err(|error| {
            let line = match error {
                FwknopKeyError::PassphraseLength(_) => key_line,
                FwknopKeyError::HmacKeyLength(_) => hmac_line,
                _ => first,
            };
            Finding::new(line, error.to_string())
        })?;
        let mut section = format!("[{name}]\n");
        let mut line = |setting: &str, value: &str| {
            // Writing to a string never fails.
            let _ = writeln!(section, "    {setting:<14} = {value}");
        };
        line("keys", &key_file.to_string_lossy());
        line("packet", "fwknop");
        if self.requires_address {
            line("packet_address", "required");
        }
        if !self.allow.is_empty() {
            line("allow", &self.allow.join(","));
        }
        if let Some(target) = self.target {
            line("target", target);
        }
        // A command replaces the ports in fwknop, too.
        match &self.start_command {
            Some(command) => line("start_command", command),
            None => line("open", &open.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        }
        let timeout = if self.start_command.is_some() { self.timer.or(self.timeout) } else { self.timeout };
        if self.start_command.is_none() || self.stop_command.is_some() {
            line("cmd_timeout", &timeout.unwrap_or(DEFAULT_TIMEOUT).to_string());
        }
        if let Some(command) = &self.stop_command {
            line("stop_command", command);
        }
        Ok(ImportedDoor { section, keys: key.server_lines() })
    }
}

fn is_yes(value: &str) -> bool {
    value.starts_with(['Y', 'y'])
}

fn key(earlier: &Option<(usize, Zeroizing<Vec<u8>>)>, setting: &Setting<'_>) -> Result<Zeroizing<Vec<u8>>, Problem> {
    if let Some((line, _)) = earlier {
        return fatal(format!("line {line} has this key already"));
    }
    decode_key(setting.value, setting.name.ends_with("_BASE64")).map_err(|error| Problem::Fatal(error.to_string()))
}

/// Returns the networks of a list; none for `ANY`.
fn networks(value: &str) -> Result<Vec<&str>, Problem> {
    if value.eq_ignore_ascii_case("ANY") {
        return Ok(Vec::new());
    }
    let networks: Vec<&str> = value.split(',').map(str::trim).collect();
    match networks.iter().all(|network| parse_network(network).is_some()) {
        true => Ok(networks),
        false => fatal("write ANY, or addresses and networks as in 192.0.2.7,10.0.0.0/8"),
    }
}

fn destination(value: &str) -> Result<Option<&str>, Problem> {
    match value.parse::<std::net::Ipv4Addr>() {
        _ if value.eq_ignore_ascii_case("ANY") => Ok(None),
        Ok(_) => Ok(Some(value)),
        Err(_) => fatal("a door has one target, an address: write one address, or ANY"),
    }
}

fn ports(value: &str) -> Result<Vec<OpenPort>, Problem> {
    let port = |text: &str| text.trim().to_ascii_lowercase().parse().ok();
    value.split(',').map(port).collect::<Option<_>>().map_or_else(|| fatal("write ports as in tcp/22,udp/53"), Ok)
}

/// Parses a number of seconds, of a year at most.
fn seconds(value: &str) -> Result<u32, Problem> {
    match value.parse() {
        Ok(seconds @ 1..=31_536_000) => Ok(seconds),
        _ => fatal("write a number of seconds from 1 to 31536000"),
    }
}

/// Translates a command of fwknop, whose only variables are `$IP` and `$SRC`.
fn command(value: &str) -> Result<String, Problem> {
    let rest = value.replace("$IP", "").replace("$SRC", "");
    if rest.contains(['$', '%']) || value.contains(char::is_control) {
        return fatal("of the variables of fwknop's commands a door has $IP and $SRC only: write the command by hand");
    }
    Ok(value.replace("$IP", "%IP%").replace("$SRC", "%IP%"))
}
