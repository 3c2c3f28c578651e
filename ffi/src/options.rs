//! Structs of options, which begin with their size because later releases append fields.

use std::mem::{align_of, size_of};

use crate::error::Failure;

/// A struct of options in which zero bytes mean the defaults. It has no padding: a new field never
/// has the offset of padding bytes of an older struct.
///
/// # Safety
/// It begins with a `usize` for its size, and any bytes are a valid value of it.
pub(crate) unsafe trait Options: Copy {}

/// Reads options from C's memory. Fields that the caller's header does not have yet are zero; for
/// NULL all fields are zero. Fails if the caller's struct has fields that are unknown here and not
/// zero.
///
/// # Safety
/// The pointer is NULL, or points to a `usize` and as many bytes (itself included) as its value.
pub(crate) unsafe fn read<T: Options>(pointer: *const T, name: &str) -> Result<T, Failure> {
    let mut options = std::mem::MaybeUninit::<T>::zeroed();
    if !pointer.is_null() {
        if !pointer.is_aligned() {
            return Err(Failure::argument(format!("{name} is not aligned")));
        }
        let bytes = pointer.cast::<u8>();
        // SAFETY: it is neither NULL nor misaligned, and begins with its size.
        let size = unsafe { pointer.cast::<usize>().read() };
        if size < size_of::<usize>() || size % align_of::<T>() != 0 || isize::try_from(size).is_err() {
            return Err(Failure::argument(format!(
                "{name}: struct_size is {size}, which no release of libportknock uses"
            )));
        }
        let known = size.min(size_of::<T>());
        // SAFETY: both the source and `options` have `known` bytes, and they do not overlap.
        unsafe { options.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes, known) };
        for i in known..size {
            // SAFETY: the address is within the caller's struct.
            let at = unsafe { bytes.add(i) };
            // SAFETY: as before.
            if unsafe { at.read() } != 0 {
                return Err(Failure::argument(format!(
                    "{name} uses options that this version of libportknock does not have: struct_size is {size}, but \
                     only {known} bytes are known"
                )));
            }
        }
    }
    // SAFETY: all its bytes are set, and any bytes are valid.
    Ok(unsafe { options.assume_init() })
}

/// Fails if a reserved field, to which a later version may give a meaning, is not 0.
pub(crate) fn unused(reserved: i32) -> Result<(), Failure> {
    if reserved == 0 { Ok(()) } else { Err(Failure::argument("options: reserved is not 0")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knock::portknock_knock_options;
    use crate::listener::portknock_listener_options;
    use crate::probe::portknock_probe_options;
    use std::mem::size_of_val;

    /// A field of a later version must not have the offset of padding bytes, which can have any value in
    /// an older program.
    #[test]
    fn no_struct_has_padding() {
        // SAFETY: NULL is allowed.
        let listener: portknock_listener_options = unsafe { read(std::ptr::null(), "options") }.ok().unwrap();
        let portknock_listener_options {
            struct_size,
            interfaces,
            interface_count,
            run_commands,
            ipv4_only,
            notices,
            reserved,
        } = &listener;
        let sizes = [size_of_val(struct_size), size_of_val(interfaces), size_of_val(interface_count)];
        let numbers = [run_commands, ipv4_only, notices, reserved].map(size_of_val);
        assert_eq!(sizes.iter().chain(&numbers).sum::<usize>(), size_of::<portknock_listener_options>());
        // SAFETY: NULL is allowed.
        let probe: portknock_probe_options = unsafe { read(std::ptr::null(), "options") }.ok().unwrap();
        let portknock_probe_options {
            struct_size,
            source,
            progress,
            progress_data,
            protocol,
            method,
            family,
            all_addresses,
            timeout_ms,
            retries,
            rate,
            reserved,
        } = &probe;
        let sizes = [size_of_val(struct_size), size_of_val(source), size_of_val(progress), size_of_val(progress_data)];
        let numbers = [protocol, method, family, all_addresses, retries, reserved].map(size_of_val);
        let more = [timeout_ms, rate].map(size_of_val);
        let sum = sizes.iter().chain(&numbers).chain(&more).sum::<usize>();
        assert_eq!(sum, size_of::<portknock_probe_options>());
        // SAFETY: NULL is allowed.
        let knock: portknock_knock_options = unsafe { read(std::ptr::null(), "options") }.ok().unwrap();
        let portknock_knock_options {
            struct_size,
            source,
            family,
            raw,
            all_addresses,
            delay_ms,
            then_port,
            wait_ms,
            retries,
            reserved,
        } = &knock;
        let sizes = [size_of_val(struct_size), size_of_val(source)];
        let numbers = [family, raw, all_addresses, reserved].map(size_of_val);
        let more = [delay_ms, then_port, wait_ms, retries].map(size_of_val);
        let sum = sizes.iter().chain(&numbers).chain(&more).sum::<usize>();
        assert_eq!(sum, size_of::<portknock_knock_options>());
    }
}
