//! Knocking.

use std::ffi::c_char;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::time::Duration;

use portknock_core::knock::{AuthenticatedKnock, DEFAULT_WAIT, ExpectedPort, KnockForm, KnockPlan, parse_steps};

use crate::arguments::{address, text};
use crate::boundary::call;
use crate::client::read_client_file;
use crate::error::{Failure, portknock_error};
use crate::host::family;
use crate::options::{self, Options};
use crate::status::portknock_status::{self, PORTKNOCK_OK};

/// Options of portknock_knock(). Zero in every field except struct_size means the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct portknock_knock_options {
    /// sizeof(portknock_knock_options)
    pub struct_size: usize,
    /// Address of this host that the knocks are sent from. NULL: chosen by the route.
    pub source: *const c_char,
    /// A portknock_family: which of the host's addresses to use. Default: any.
    pub family: i32,
    /// Not 0: knock at every address of the host, not only at the first.
    pub all_addresses: i32,
    /// Not 0: send TCP knocks as bare SYNs through a raw socket, which needs CAP_NET_RAW. 0: by
    /// connect(2).
    pub raw: i32,
    /// Pause between two knocks, in milliseconds. Without a pause packets can overtake each other
    /// on their way.
    pub delay_ms: u32,
    /// TCP port that should open after the knocks, 1 to 65535; the call waits until it is open. 0:
    /// do not wait.
    pub then_port: u32,
    /// Maximum time to wait for then_port after each round of knocks, in milliseconds. 0: 5000.
    pub wait_ms: u32,
    /// Number of further rounds of knocks if then_port does not open in time.
    pub retries: u32,
    /// Must be 0.
    pub reserved: i32,
}

// SAFETY: it begins with its size and contains numbers and a pointer, for which any bytes are valid.
unsafe impl Options for portknock_knock_options {}

/// Knocks at a host: a name, an IPv4 address, or an IPv6 address with or without a zone
/// ("fe80::1%eth0"). `steps` has the syntax of knockd.conf, "7000,8000:udp,9000", and may contain
/// names of services. `options` may be NULL.
///
/// On success every packet was handed to the network in order, and, with then_port, the port is
/// open. The call blocks until then.
///
/// Errors: PORTKNOCK_ERR_HOST. PORTKNOCK_ERR_PERMISSION for raw without CAP_NET_RAW.
/// PORTKNOCK_ERR_NETWORK if a knock could not be sent. PORTKNOCK_ERR_NOT_OPEN if then_port did not
/// open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_knock(
    host: *const c_char,
    steps: *const c_char,
    options: *const portknock_knock_options,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let host = unsafe { text(host, "host") }?;
        // SAFETY: as the caller promises.
        let steps = unsafe { text(steps, "steps") }?;
        // SAFETY: as the caller promises.
        let options: portknock_knock_options = unsafe { options::read(options, "options") }?;
        options::unused(options.reserved)?;
        let steps = parse_steps(steps).map_err(|error| Failure::argument(format!("steps: {error}")))?;
        let mut plan = KnockPlan::new(host, steps);
        // SAFETY: as the caller promises.
        unsafe { set_way(&mut plan, &options) }?;
        let mut go_on = |_| ControlFlow::Continue(());
        match expected_port(&options)? {
            None => plan.send(&plan.resolve()?, &mut go_on)?,
            Some(expected) => drop(plan.send_until_open(&plan.resolve()?, expected, &mut go_on)?),
        }
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Knocks by a key at the present time: with the time sequence or with one packet, whichever the
/// client's file states. A knock that an attacker records opens nothing when it is sent again.
///
/// `key_file`: the client's file, which `portknock keygen` has written. `host`: as for
/// portknock_knock(); NULL: the server of the client's file. `address`: for packets, the address to
/// open for; NULL: the address that the packet is sent from. `seconds`: for packets, the time to
/// open for, which can only be shorter than the door's cmd_timeout; 0: the door's cmd_timeout.
/// `options`: as for portknock_knock(), and may be NULL; `raw` and `delay_ms` do not concern
/// packets. Each round of `retries` is a new knock.
///
/// The clock of this host must agree with the clock of the server: within one window for a time
/// sequence, within ClockSkew for a packet. On success everything was handed to the network, and,
/// with then_port, the port is open. A server never answers a packet, so only then_port shows that
/// it has arrived. The call blocks until then. It keeps nothing of the key.
///
/// Errors: PORTKNOCK_ERR_FILE if the client's file cannot be used: it is missing or has errors, or
/// other users can read it. PORTKNOCK_ERR_ARGUMENT if `host` is NULL and the file names no server,
/// and for `address` or `seconds` if the file states a time sequence. Otherwise as for
/// portknock_knock().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_knock_by_key(
    key_file: *const c_char,
    host: *const c_char,
    address: *const c_char,
    seconds: u32,
    options: *const portknock_knock_options,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let file = unsafe { read_client_file(key_file) }?;
        // SAFETY: as the caller promises.
        let host = if host.is_null() { None } else { Some(unsafe { text(host, "host") }?) };
        // SAFETY: as the caller promises.
        let address = unsafe { self::address(address, "address") }?;
        // SAFETY: as the caller promises.
        let options: portknock_knock_options = unsafe { options::read(options, "options") }?;
        options::unused(options.reserved)?;
        let Some(host) = host.or(file.server.as_deref()) else {
            return Err(Failure::argument("host is NULL, and the client's file names no server"));
        };
        let mut knock = AuthenticatedKnock::of_client(host, &file);
        match &mut knock.form {
            KnockForm::Packet(request) => (request.address, request.seconds) = (address, seconds),
            KnockForm::Time(_) if address.is_some() || seconds != 0 => {
                return Err(Failure::argument(
                    "address and seconds are for packets, but the client's file has the form time",
                ));
            }
            KnockForm::Time(_) => {}
        }
        // SAFETY: as the caller promises.
        unsafe { set_way(&mut knock.plan, &options) }?;
        let mut go_on = |_| ControlFlow::Continue(());
        match expected_port(&options)? {
            None => knock.send(&knock.resolve()?, &mut go_on)?,
            Some(expected) => drop(knock.send_until_open(&knock.resolve()?, expected, &mut go_on)?),
        }
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Sets the options for the way in which knocks are sent.
///
/// # Safety
/// The source of the options is NULL or a text, which no thread changes or frees during the call.
unsafe fn set_way(plan: &mut KnockPlan, options: &portknock_knock_options) -> Result<(), Failure> {
    plan.family = family(options.family)?;
    plan.delay = Duration::from_millis(options.delay_ms.into());
    // SAFETY: as the caller promises.
    plan.source = unsafe { address(options.source, "source") }?;
    plan.raw = options.raw != 0;
    plan.all_addresses = options.all_addresses != 0;
    Ok(())
}

fn expected_port(options: &portknock_knock_options) -> Result<Option<ExpectedPort>, Failure> {
    let port = u16::try_from(options.then_port);
    let port =
        port.map_err(|_| Failure::argument(format!("then_port is {}, which is not a port", options.then_port)))?;
    let wait = if options.wait_ms == 0 { DEFAULT_WAIT } else { Duration::from_millis(options.wait_ms.into()) };
    Ok(NonZeroU16::new(port).map(|port| ExpectedPort { port, wait, retries: options.retries }))
}
