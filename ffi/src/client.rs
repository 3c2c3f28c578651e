//! The time sequences and the packets of a client with a key.

use std::ffi::c_char;

use portknock_core::client_file::{ClientFile, ClientFileError, SettingError};
use portknock_core::spa::PACKET_LENGTH;
use portknock_core::{Timestamp, wall_clock};

use crate::arguments::{OutBytes, address, path};
use crate::boundary::call;
use crate::error::{Failure, portknock_error};
use crate::status::portknock_status::{self, PORTKNOCK_OK};

/// Number of bytes that every time sequence fits into, with its final zero.
pub const PORTKNOCK_SEQUENCE_SIZE: u32 = 80;
/// Length of an authenticated packet, in bytes.
pub const PORTKNOCK_PACKET_SIZE: u32 = 96;

const _: () = assert!(PORTKNOCK_PACKET_SIZE as usize == PACKET_LENGTH);

/// Writes the time sequence of a client as text, in the syntax of portknock_knock(), as in
/// "16082,22333:udp,13614". A door with `sequence = time` and this client's key opens for it during
/// the window that contains the time, and during the windows before and after that one. It opens
/// once for each window.
///
/// `key_file`: the client's file, which `portknock keygen` has written. `time_ns`: the time by the
/// wall clock, in nanoseconds since 1970; 0: the present time. `text`: `size` bytes, which belong
/// to the caller; PORTKNOCK_SEQUENCE_SIZE is always enough. After a failure they are zero. The call
/// keeps nothing of the key. The text is as secret as the key until its window is over.
///
/// Errors: PORTKNOCK_ERR_FILE if the client's file cannot be used: it is missing or has errors, or
/// other users can read it. PORTKNOCK_ERR_ARGUMENT if `size` is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_sequence(
    key_file: *const c_char,
    time_ns: u64,
    text: *mut c_char,
    size: usize,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let out = unsafe { OutBytes::new(text.cast(), size, "text") }?;
        // SAFETY: as the caller promises.
        let file = unsafe { read_client_file(key_file) }?;
        out.set(format!("{}\0", file.sequence_at(time(time_ns))).as_bytes())?;
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Writes a new authenticated packet of a client, to be sent as one UDP datagram to a PacketPort of
/// the server. A door with `packet = portknock` and this client's key opens for it once, if the
/// time in the packet differs from the server's clock by at most ClockSkew. Each call makes another
/// packet. To make and send a packet in one call, use portknock_knock_by_key().
///
/// `key_file`: the client's file, which `portknock keygen` has written; it names the door.
/// `address`: the address to open for, as text; NULL: the source address of the datagram, which a
/// translation of addresses on the path can change. `seconds`: the time to open for, which can only
/// be shorter than the door's cmd_timeout; 0: the door's cmd_timeout. `time_ns`: the time by the
/// wall clock, in nanoseconds since 1970; 0: the present time. `packet`: `size` bytes, which belong
/// to the caller; the first PORTKNOCK_PACKET_SIZE of them become the packet. After a failure they
/// are zero. The call keeps nothing of the key.
///
/// Errors: PORTKNOCK_ERR_FILE if the client's file cannot be used: it is missing, has errors or
/// names no door, or other users can read it. PORTKNOCK_ERR_ARGUMENT if `size` is too small or
/// `address` is not an address. PORTKNOCK_ERR_SYSTEM if the system has no random numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_packet(
    key_file: *const c_char,
    address: *const c_char,
    seconds: u32,
    time_ns: u64,
    packet: *mut u8,
    size: usize,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let out = unsafe { OutBytes::new(packet, size, "packet") }?;
        // SAFETY: as the caller promises.
        let address = unsafe { self::address(address, "address") }?;
        // SAFETY: as the caller promises.
        let file = unsafe { read_client_file(key_file) }?;
        if file.door.is_none() {
            // SAFETY: as the caller promises.
            let path = unsafe { path(key_file, "key_file") }?;
            let error = ClientFileError::Settings(path.to_owned(), SettingError::NoDoor);
            return Err(Failure::client_file(path, &error));
        }
        out.set(&file.packet_at(time(time_ns), address, seconds)?)?;
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Reads the client's file that an argument names.
///
/// # Safety
/// As for [`path`].
pub(crate) unsafe fn read_client_file(key_file: *const c_char) -> Result<ClientFile, Failure> {
    // SAFETY: as the caller promises.
    let path = unsafe { path(key_file, "key_file") }?;
    ClientFile::read(path).map_err(|error| Failure::client_file(path, &error))
}

/// Returns a time by the wall clock; 0 means the present time.
fn time(time_ns: u64) -> Timestamp {
    if time_ns == 0 { wall_clock() } else { Timestamp::from_nanos(time_ns) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portknock_core::config::parse_sequence;

    #[test]
    fn the_longest_sequence_fits() {
        let longest = parse_sequence(&["65535:udp"; 8].join(",")).unwrap();
        assert_eq!(longest.to_string().len() + 1, PORTKNOCK_SEQUENCE_SIZE as usize);
    }
}
