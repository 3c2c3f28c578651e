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
use crate::boundary::{call, free, inspect};
use crate::error::{Failure, portknock_error};
use crate::host::{family, portknock_protocol, protocol};
use crate::options::{self, Options};
use crate::status::portknock_status::{self, PORTKNOCK_OK};
use crate::text::c_string;

/// Method of probing TCP ports.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_method {
    /// By SYN if raw sockets are allowed, otherwise by connect.
    PORTKNOCK_METHOD_AUTO = 0,
    /// By bare SYNs from a raw socket, which needs the capability CAP_NET_RAW.
    PORTKNOCK_METHOD_SYN = 1,
    /// By connect(2), which needs no privilege.
    PORTKNOCK_METHOD_CONNECT = 2,
}

/// State of a port, in the terms of nmap.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_port_state {
    /// A program listens on the port.
    PORTKNOCK_PORT_OPEN = 1,
    /// No program listens on the port, or a firewall rejects packets to it.
    PORTKNOCK_PORT_CLOSED = 2,
    /// A filter on the way drops the packets.
    PORTKNOCK_PORT_FILTERED = 3,
    /// UDP only: no response, so the port is open or filtered.
    PORTKNOCK_PORT_OPEN_FILTERED = 4,
}

/// Progress of a probe. The library calls the function at least every tenth of a second, in the
/// thread of the call. `done` is the estimated part of the work that is done, 0 to 1. `known` is
/// the number of ports that have a result, of `ports` in all. `data` is the progress_data of the
/// options. A return value other than 0 stops the probe, which then has the results so far. NULL:
/// no function.
pub type portknock_progress =
    Option<unsafe extern "C" fn(data: *mut c_void, done: f64, known: usize, ports: usize) -> i32>;

/// Value of `retries` for no repetition.
pub const PORTKNOCK_NO_RETRIES: i32 = -1;

/// Options of portknock_probe(). Zero in every field except struct_size means the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct portknock_probe_options {
    /// sizeof(portknock_probe_options)
    pub struct_size: usize,
    /// Address of this host that the probes are sent from. NULL: chosen by the route.
    pub source: *const c_char,
    /// Function that receives the progress and can stop the probe. NULL: none.
    pub progress: portknock_progress,
    /// First argument of `progress`.
    pub progress_data: *mut c_void,
    /// A portknock_protocol. Default: TCP.
    pub protocol: i32,
    /// A portknock_method, for TCP. Default: by SYN if raw sockets are allowed, otherwise by
    /// connect.
    pub method: i32,
    /// A portknock_family: which of the host's addresses to use. Default: any.
    pub family: i32,
    /// Not 0: probe every address of the host, not only the first.
    pub all_addresses: i32,
    /// Maximum time for a port that does not respond, in milliseconds. 0: 3300.
    pub timeout_ms: u32,
    /// Number of repetitions of a probe without a response, 1 to 255. 0: adapted to the losses of
    /// the path. PORTKNOCK_NO_RETRIES: none.
    pub retries: i32,
    /// Maximum number of probes per second. 0: adapted to the capacity of the path.
    pub rate: u32,
    /// Must be 0.
    pub reserved: i32,
}

// SAFETY: it begins with its size and contains numbers and pointers, for which any bytes are valid (the
// pointer to a function may be NULL).
unsafe impl Options for portknock_probe_options {}

/// Result for one port of one address. It never changes and is valid until the results that it
/// belongs to are freed. Later versions may append fields.
#[repr(C)]
pub struct portknock_probe_result {
    /// IP address, as text.
    pub address: *const c_char,
    /// 4 or 6, as the address is of IPv4 or IPv6.
    pub family: i32,
    /// Port, 1 to 65535.
    pub port: u32,
    /// Protocol of the port.
    pub protocol: portknock_protocol,
    /// State of the port.
    pub state: portknock_port_state,
    /// Reason for the state, in the terms of nmap, as in "syn-ack".
    pub reason: *const c_char,
    /// Time from the probe to its response, in nanoseconds. -1 without a response, and if it is not
    /// certain which probe the response belongs to.
    pub rtt_ns: i64,
}

/// Results of a probe. They never change.
pub struct portknock_probe_results {
    results: Vec<portknock_probe_result>,
    method: portknock_method,
    /// The texts that the results point to.
    _texts: HashMap<String, CString>,
}

/// Probes ports of a host: a name, an IPv4 address, or an IPv6 address with or without a zone
/// ("fe80::1%eth0"). `ports` has the syntax of nmap: "22,80,8000-8100", "-" for all, and may
/// contain names of services. `options` may be NULL. The call blocks until all ports are probed or
/// `progress` stops it.
///
/// On success *results is a new handle, to be freed by portknock_probe_results_free(). After a
/// failure *results contains the results so far, or is NULL if there are none. Free it in any case.
///
/// Errors: PORTKNOCK_ERR_HOST. PORTKNOCK_ERR_PERMISSION for the SYN method without CAP_NET_RAW.
/// PORTKNOCK_ERR_NETWORK. PORTKNOCK_ERR_SYSTEM.
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
            // SAFETY: the caller promises a function of this signature.
            let stop = options
                .progress
                .map_or(0, |report| unsafe { report(options.progress_data, done.into(), known, ports) });
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
/// The caller keeps the promises of [`portknock_probe`] for `options`.
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
        other => return Err(Failure::argument(format!("method is {other}, which is not a portknock_method"))),
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

/// Returns the number of results; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe_results_count(results: *const portknock_probe_results) -> usize {
    // SAFETY: as the caller promises.
    unsafe { inspect(results, 0, |it| it.results.len()) }
}

/// Returns a result by its index, which counts from 0 in the order of the addresses and then of the
/// ports. NULL if the index is out of range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe_results_get(
    results: *const portknock_probe_results,
    index: usize,
) -> *const portknock_probe_result {
    // SAFETY: as the caller promises.
    unsafe { inspect(results, ptr::null(), |it| it.results.get(index).map_or(ptr::null(), ptr::from_ref)) }
}

/// Returns the method by which TCP ports were probed, SYN or connect; PORTKNOCK_METHOD_AUTO for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe_results_method(results: *const portknock_probe_results) -> portknock_method {
    let auto = portknock_method::PORTKNOCK_METHOD_AUTO;
    // SAFETY: as the caller promises.
    unsafe { inspect(results, auto, |it| it.method) }
}

/// Frees results. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_probe_results_free(results: *mut portknock_probe_results) {
    // SAFETY: as the caller promises.
    unsafe { free(results) };
}

/// Returns nmap's name of a state, as in "open"; "unknown" for other numbers. The text is static.
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
    fn names_match_core() {
        for core in [PortState::Open, PortState::Closed, PortState::Filtered, PortState::OpenFiltered] {
            // SAFETY: it is a static text.
            let name = unsafe { CStr::from_ptr(portknock_port_state_name(state(core) as i32)) };
            assert_eq!(name.to_str().unwrap(), core.as_str());
        }
    }
}
