//! Probing: whether ports are open, closed or filtered.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::ptr;
use std::time::Duration;

use portknock_core::Protocol;
use portknock_core::probe::{DEFAULT_TIMEOUT, Method, PortList, PortState, ProbePlan, Progress, Scan};

use crate::arguments::{Out, address, text};
use crate::border::{call, free, look};
use crate::error::{Failure, portknock_error};
use crate::host::{family, portknock_protocol, protocol};
use crate::options::{self, Options};
use crate::status::portknock_status::{self, PORTKNOCK_OK};
use crate::text::c_string;

/// How TCP ports are probed.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_method {
    /// By SYN where raw sockets are allowed, else by connect.
    PORTKNOCK_METHOD_AUTO = 0,
    /// By bare SYNs from a raw socket, which needs the capability CAP_NET_RAW.
    PORTKNOCK_METHOD_SYN = 1,
    /// By connect(2), which needs no right.
    PORTKNOCK_METHOD_CONNECT = 2,
}

/// Whether a port can be reached, in nmap's words.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_port_state {
    /// Something listens there.
    PORTKNOCK_PORT_OPEN = 1,
    /// Nothing listens there, or a firewall says so.
    PORTKNOCK_PORT_CLOSED = 2,
    /// Something on the way lets nothing through.
    PORTKNOCK_PORT_FILTERED = 3,
    /// UDP only: no answer, which is what an open port and a filtered one have in common.
    PORTKNOCK_PORT_OPEN_FILTERED = 4,
}

/// Is told how far a probe has come, at least every tenth of a second, in the thread of the call: about how much is done
/// (0 to 1), and how many ports of all have their result. `data` is the progress_data of the options. What is not 0 stops
/// the probe, with the results so far. NULL to ask for nothing.
pub type portknock_progress =
    Option<unsafe extern "C" fn(data: *mut c_void, done: f64, known: usize, ports: usize) -> i32>;

/// The number of retries that means none.
pub const PORTKNOCK_NO_RETRIES: i32 = -1;

/// How to probe. Zero in every field but struct_size means the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct portknock_probe_options {
    /// sizeof(portknock_probe_options)
    pub struct_size: usize,
    /// The address of this machine that the probes come from. NULL: what the route says.
    pub source: *const c_char,
    /// Is told how far the probe has come, and can stop it. NULL: nobody.
    pub progress: portknock_progress,
    /// What `progress` is given.
    pub progress_data: *mut c_void,
    /// A portknock_protocol. Default: TCP.
    pub protocol: i32,
    /// A portknock_method, for TCP. Default: by SYN where that is allowed, else by connect.
    pub method: i32,
    /// A portknock_family: which of the host's addresses are meant. Default: any.
    pub family: i32,
    /// Not 0: probe every address of the host, not only the first.
    pub all_addresses: i32,
    /// How many milliseconds a port without an answer takes. 0: 3300.
    pub timeout_ms: u32,
    /// How often a probe without an answer is repeated, 1 to 255. 0: as often as the path's losses ask for.
    /// PORTKNOCK_NO_RETRIES: not at all.
    pub retries: i32,
    /// At most so many probes a second. 0: what the path carries.
    pub rate: u32,
    /// 0
    pub reserved: i32,
}

// SAFETY: it begins with its size and holds numbers and pointers, of which any bytes are valid (a function's may be NULL).
unsafe impl Options for portknock_probe_options {}

/// What was found at one port of one address. It lives as long as the results that it came from, and never changes.
/// Later versions may append fields.
#[repr(C)]
pub struct portknock_probe_result {
    /// The address, as text.
    pub address: *const c_char,
    /// 4 or 6, as the address is of IPv4 or IPv6.
    pub family: i32,
    /// The port.
    pub port: u32,
    /// By which protocol.
    pub protocol: portknock_protocol,
    /// What was concluded.
    pub state: portknock_port_state,
    /// From what, in nmap's words, as in "syn-ack".
    pub reason: *const c_char,
    /// From the probe to its answer, in nanoseconds; -1 without an answer, and where it is not certain which probe was
    /// answered.
    pub rtt_ns: i64,
}

/// What a probe has found. It never changes.
pub struct portknock_probe_results {
    results: Vec<portknock_probe_result>,
    method: portknock_method,
    /// What the results point to.
    _texts: HashMap<String, CString>,
}

/// Probes ports of a host: a name, an IPv4 address, or an IPv6 address with or without a zone ("fe80::1%eth0"). `ports` are
/// written as for nmap: "22,80,8000-8100", "-" for all, also names of services. Blocks until all is done. `options` may be
/// NULL.
///
/// On success *results is a new handle, to be freed by portknock_probe_results_free(). On failure too, where something
/// was found before; else it is NULL. So free it in any case.
///
/// Errors: PORTKNOCK_ERR_HOST, PORTKNOCK_ERR_PERMISSION for the SYN method without CAP_NET_RAW, PORTKNOCK_ERR_NETWORK,
/// PORTKNOCK_ERR_SYSTEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe(
    host: *const c_char,
    ports: *const c_char,
    options: *const portknock_probe_options,
    results: *mut *mut portknock_probe_results,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let results = unsafe { Out::new(results, ptr::null_mut(), "results") }?;
        // SAFETY: as the caller promises.
        let host = unsafe { text(host, "host") }?;
        // SAFETY: as the caller promises.
        let ports = unsafe { text(ports, "ports") }?;
        // SAFETY: as the caller promises.
        let options = unsafe { options::read(options, "options") }?;
        // SAFETY: as the caller promises.
        let plan = unsafe { plan(host, ports, &options) }?;
        let mut observer = |Progress { done, known, ports, .. }| {
            // SAFETY: the caller promises that it can be called like this.
            let stop =
                options.progress.map_or(0, |tell| unsafe { tell(options.progress_data, done.into(), known, ports) });
            if stop == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let mut scan = plan.run(&plan.resolve()?, &mut observer)?;
        let error = scan.error.take();
        if error.is_none() || !scan.results.is_empty() {
            results.give(portknock_probe_results::new(&scan));
        }
        error.map_or(Ok(PORTKNOCK_OK), |error| Err(error.into()))
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// # Safety
/// `options` is what the caller of [`portknock_probe`] promises.
unsafe fn plan(host: &str, ports: &str, options: &portknock_probe_options) -> Result<ProbePlan, Failure> {
    let ports: PortList = ports.parse().map_err(|error| Failure::argument(format!("ports: {error}")))?;
    options::unused(options.reserved)?;
    let mut plan = ProbePlan::new(host, ports);
    // SAFETY: as the caller promises.
    plan.source = unsafe { address(options.source, "source") }?;
    plan.protocol = protocol(options.protocol)?;
    plan.method = match options.method {
        0 => Method::Auto,
        1 => Method::Syn,
        2 => Method::Connect,
        other => return Err(Failure::argument(format!("method is {other}, which is no portknock_method"))),
    };
    plan.family = family(options.family)?;
    plan.all_addresses = options.all_addresses != 0;
    plan.timeout =
        if options.timeout_ms == 0 { DEFAULT_TIMEOUT } else { Duration::from_millis(options.timeout_ms.into()) };
    plan.retries = match options.retries {
        0 => None,
        PORTKNOCK_NO_RETRIES => Some(0),
        retries => {
            let retries = u8::try_from(retries);
            Some(retries.map_err(|_| Failure::argument(format!("retries is {}, not 1 to 255", options.retries)))?)
        }
    };
    plan.rate = NonZeroU32::new(options.rate);
    Ok(plan)
}

impl portknock_probe_results {
    fn new(scan: &Scan) -> Self {
        let mut texts: HashMap<String, CString> = HashMap::new();
        let mut keep = |text: String| texts.entry(text).or_insert_with_key(|text| c_string(text.as_str())).as_ptr();
        let results = scan
            .results
            .iter()
            .map(|result| portknock_probe_result {
                address: keep(result.address.ip().to_string()),
                family: if result.address.is_ipv4() { 4 } else { 6 },
                port: result.address.port().into(),
                protocol: match result.protocol {
                    Protocol::Tcp => portknock_protocol::PORTKNOCK_TCP,
                    Protocol::Udp => portknock_protocol::PORTKNOCK_UDP,
                },
                state: state(result.state),
                reason: keep(result.reason.to_string()),
                rtt_ns: result.rtt.and_then(|rtt| i64::try_from(rtt.as_nanos()).ok()).unwrap_or(-1),
            })
            .collect();
        let method = match scan.method {
            Method::Auto => portknock_method::PORTKNOCK_METHOD_AUTO,
            Method::Syn => portknock_method::PORTKNOCK_METHOD_SYN,
            Method::Connect => portknock_method::PORTKNOCK_METHOD_CONNECT,
        };
        Self { results, method, _texts: texts }
    }
}

fn state(state: PortState) -> portknock_port_state {
    match state {
        PortState::Open => portknock_port_state::PORTKNOCK_PORT_OPEN,
        PortState::Closed => portknock_port_state::PORTKNOCK_PORT_CLOSED,
        PortState::Filtered => portknock_port_state::PORTKNOCK_PORT_FILTERED,
        PortState::OpenFiltered => portknock_port_state::PORTKNOCK_PORT_OPEN_FILTERED,
    }
}

/// How many results there are; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe_results_count(results: *const portknock_probe_results) -> usize {
    // SAFETY: as the caller promises.
    unsafe { look(results, 0, |it| it.results.len()) }
}

/// A result, counted from 0, in the order of the addresses and then of the ports; NULL where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe_results_get(
    results: *const portknock_probe_results,
    index: usize,
) -> *const portknock_probe_result {
    // SAFETY: as the caller promises.
    unsafe { look(results, ptr::null(), |it| it.results.get(index).map_or(ptr::null(), ptr::from_ref)) }
}

/// How TCP ports were probed: by SYN or by connect; PORTKNOCK_METHOD_AUTO for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe_results_method(results: *const portknock_probe_results) -> portknock_method {
    let auto = portknock_method::PORTKNOCK_METHOD_AUTO;
    // SAFETY: as the caller promises.
    unsafe { look(results, auto, |it| it.method) }
}

/// Frees results. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe_results_free(results: *mut portknock_probe_results) {
    // SAFETY: as the caller promises.
    unsafe { free(results) };
}

/// nmap's name of a state, as in "open"; "unknown" for other numbers. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_port_state_name(state: i32) -> *const c_char {
    let name: &CStr = match state {
        1 => c"open",
        2 => c"closed",
        3 => c"filtered",
        4 => c"open|filtered",
        _ => c"unknown",
    };
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cores() {
        for core in [PortState::Open, PortState::Closed, PortState::Filtered, PortState::OpenFiltered] {
            // SAFETY: it is a static text.
            let name = unsafe { CStr::from_ptr(portknock_port_state_name(state(core) as i32)) };
            assert_eq!(name.to_str().unwrap(), core.as_str());
        }
    }
}
