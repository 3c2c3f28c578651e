//! `portknock keygen --fwknop`: keys for a client of fwknop.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::Args;
use portknock_core::fwknop::{FwknopKey, FwknopKeyError, HmacDigest};
use portknock_core::{OpenPort, Printable};
use zeroize::Zeroizing;

use crate::output::{print, print_error};
use crate::{FAILURE, SUCCESS, USAGE, private_file, qr};

/// Maximum length of the list of ports, in bytes. The message of a packet has 255 bytes.
const MAX_PORTS_LENGTH: usize = 239;

/// The arguments of `portknock keygen --fwknop`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FwknopArgs {
    /// Make keys for a client of fwknop and a door with packet = fwknop. The client's file is then a
    /// stanza for ~/.fwknoprc
    #[arg(
        long,
        requires = "host",
        requires = "open",
        conflicts_with_all = ["server", "from", "form", "door", "steps", "ports", "protocols", "step"]
    )]
    pub(crate) fwknop: bool,
    /// The server that a client of fwknop sends its packets to
    #[arg(long, value_name = "HOST", requires = "fwknop", value_parser = host)]
    host: Option<String>,
    /// The ports that a client of fwknop asks for, as in tcp/22,udp/53
    #[arg(long, value_name = "PORTS", requires = "fwknop", value_delimiter = ',')]
    open: Vec<OpenPort>,
    /// The user that packets of a client of fwknop must name
    #[arg(long, value_name = "USER", requires = "fwknop")]
    user: Option<String>,
    /// The digest of the HMAC of a client of fwknop: sha256, sha384 or sha512
    #[arg(long, value_name = "DIGEST", requires = "fwknop", default_value = "sha256")]
    hmac_digest: HmacDigest,
}

fn host(text: &str) -> Result<String, String> {
    let is_valid = (1..=255).contains(&text.len())
        && Printable(text).to_string() == text
        && !text.contains(char::is_whitespace)
        && !text.starts_with('#');
    match is_valid {
        true => Ok(text.to_owned()),
        false => Err("the name of a server has 1 to 255 bytes of printable characters without spaces".to_owned()),
    }
}

/// A new client of fwknop.
struct Client<'a> {
    key: FwknopKey,
    host: &'a str,
    port: NonZeroU16,
    ports: String,
}

/// Makes the keys. The exit status is 0 if the client's file was written, 2 if an argument is invalid,
/// 1 otherwise.
pub(crate) fn run(args: &FwknopArgs, name: &str, port: NonZeroU16, output: Option<&Path>, with_qr: bool) -> u8 {
    let ports = args.open.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if ports.len() > MAX_PORTS_LENGTH {
        print_error("portknock", "the ports do not fit into a packet: use several clients");
        return USAGE;
    }
    if output.is_none() && name.contains('/') {
        print_error("portknock", "the name of a file cannot contain `/`: name the client's file with --output");
        return USAGE;
    }
    let key = match FwknopKey::generate(name, args.user.as_deref(), args.hmac_digest) {
        Ok(key) => key,
        Err(error) => {
            print_error("portknock", error);
            return if matches!(error, FwknopKeyError::NoRandomNumbers(_)) { FAILURE } else { USAGE };
        }
    };
    let client = Client { key, host: args.host.as_deref().unwrap_or_default(), port, ports };
    let path = output.map_or_else(|| PathBuf::from(format!("{name}.fwknoprc")), Path::to_owned);
    if let Err(message) = private_file::create(&path, &client.stanza()) {
        return print_error("portknock", message);
    }
    print(client.key.server_lines().as_bytes());
    let status = if with_qr { client.draw() } else { SUCCESS };
    client.print_next_steps(&path);
    status
}

impl Client<'_> {
    /// Returns the stanza for `~/.fwknoprc`. The text is erased from memory when it is dropped.
    fn stanza(&self) -> Zeroizing<String> {
        // With enough capacity no copy of the keys is left behind in memory.
        let mut text = Zeroizing::new(String::with_capacity(2048));
        // Writing to a string never fails.
        let _ = writeln!(text, "[{}]", self.key.name);
        let mut line = |setting: &str, value: &str| {
            let _ = writeln!(text, "{setting:<19} {value}");
        };
        line("SPA_SERVER", self.host);
        line("SPA_SERVER_PORT", &self.port.to_string());
        line("SPA_SERVER_PROTO", "udp");
        line("ALLOW_IP", "source");
        line("ACCESS", &self.ports);
        line("KEY_BASE64", &self.key.key_base64());
        line("HMAC_KEY_BASE64", &self.key.hmac_key_base64());
        line("USE_HMAC", "Y");
        line("HMAC_DIGEST_TYPE", self.key.hmac_digest().as_str());
        if let Some(user) = &self.key.user {
            line("SPOOF_USER", user);
        }
        text
    }

    /// Returns the text that fwknop's apps for phones read. The text is erased from memory when it is
    /// dropped.
    fn app_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2048));
        // Writing to a string never fails.
        let _ = write!(
            text,
            "SPA_SERVER_PROTO:udp SPA_SERVER_PORT:{} ALLOW_IP:resolve ACCESS:{} SPA_SERVER:{} KEY_BASE64:{} \
             HMAC_KEY_BASE64:{} USE_HMAC:Y",
            self.port,
            self.ports,
            self.host,
            *self.key.key_base64(),
            *self.key.hmac_key_base64(),
        );
        if self.key.hmac_digest() != HmacDigest::default() {
            let _ = write!(text, " HMAC_DIGEST_TYPE:{}", self.key.hmac_digest());
        }
        if let Some(user) = &self.key.user {
            let _ = write!(text, " SPOOF_USER:{user}");
        }
        text.push_str(" FW_TIMEOUT:60");
        text
    }

    /// Draws the text for the apps as a QR code. Standard output is for the server.
    fn draw(&self) -> u8 {
        match qr::render(&self.app_text(), io::stderr().is_terminal()) {
            Ok(image) => {
                // The client's file has the same keys.
                let _ = io::stderr().write_all(image.as_bytes());
                SUCCESS
            }
            Err(error) => print_error("portknock", format_args!("cannot draw a QR code: {error}")),
        }
    }

    fn print_next_steps(&self, path: &Path) {
        let (path, name) = (path.to_string_lossy(), &self.key.name);
        let path = Printable(&path);
        let message =
            format_args!("the client's file is {path}: keep it secret, and add it to ~/.fwknoprc of the client");
        print_error("portknock", message);
        let message = "the lines on standard output are for the key file of the server, to which these lines of a \
                       door refer:";
        print_error("portknock", message);
        let mut door = format!("    [{name}]\n    keys = /etc/portknock/{}.fwknop\n", name.replace('/', "-"));
        // Writing to a string never fails.
        let _ = write!(door, "    packet = fwknop\n    open = {}\n", self.ports);
        if self.port != portknock_core::config::DEFAULT_PACKET_PORT {
            door.insert_str(0, &format!("    [options]\n    PacketPort = {}\n", self.port));
        }
        // There is no other place to report an error of this write.
        let _ = io::stderr().write_all(door.as_bytes());
        print_error("portknock", format_args!("the client knocks with: fwknop -n {name}"));
    }
}
