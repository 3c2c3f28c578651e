/*
 * libportknock: port knocking for C. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * portknock(3) tells how the parts belong together. What holds for all functions:
 *
 * Results. A fallible function returns a portknock_status: 0, 1 (PORTKNOCK_END: nothing more to give), or negative for a
 * failure. What it gives comes through pointers, which are set to NULL or 0 first.
 *
 * Errors. The last parameter `err` may be NULL. Else *err is written by every call: NULL where it did not fail, otherwise
 * an error of yours, to be freed by portknock_error_free(). It is not read, so free what it holds before.
 *
 * Handles. Each kind is opaque and has one function that frees it, which takes NULL. The handle that a failed call
 * gives is NULL unless its comment says otherwise.
 *
 * Threads. Any handle may be used from any thread, and from several at the same time: calls on one handle wait for each
 * other. Only freeing must be the last thing that happens to a handle, and what a handle gave out must be read before the
 * call that may change it. There is no hidden state, neither of a thread nor of the process.
 *
 * Processes. A child process made by fork(2) has copies of all handles, and can use those that no other thread was using
 * at that moment. A listener is the exception: it works in the process that opened it alone (PORTKNOCK_ERR_FORKED).
 *
 * Texts are UTF-8 and end with a zero; names of files may be any bytes. What you pass is copied: it need not outlive
 * the call.
 *
 * Structs of options begin with their size, to be set to sizeof; zero in every other field, as well as NULL in place of
 * the struct, means the defaults. A program that was compiled for an older, shorter struct goes on working; one that uses
 * fields which the library does not have yet is told so (PORTKNOCK_ERR_ARGUMENT).
 *
 * Faults. No Rust panic crosses into C. A call in which one happened returns PORTKNOCK_ERR_PANICKED, as all further calls
 * on the same handle do. NULL, misaligned pointers, bad UTF-8, bad sizes and calls in the wrong order have the results that
 * are written here. A pointer to something else than what its type says, or to something freed, cannot be noticed. Want of
 * memory ends the process.
 *
 * Callbacks must return: no longjmp, no C++ exception.
 */


#ifndef PORTKNOCK_H
#define PORTKNOCK_H

/* Made by cbindgen from ffi/src; a test fails when the two differ. */

#include <stddef.h>
#include <stdint.h>

/**
 * Frames of a BSD loopback: the address family in the byte order of the capturing machine.
 */
#define PORTKNOCK_LINKTYPE_NULL 0

/**
 * Ethernet frames, with any depth of VLAN tags.
 */
#define PORTKNOCK_LINKTYPE_ETHERNET 1

/**
 * IPv4 or IPv6 packets without anything before them. libpcap also calls them 12 or 14, which are taken too.
 */
#define PORTKNOCK_LINKTYPE_RAW 101

/**
 * Frames of an OpenBSD loopback: the address family in network byte order.
 */
#define PORTKNOCK_LINKTYPE_LOOP 108

/**
 * Linux "cooked" frames, version 1.
 */
#define PORTKNOCK_LINKTYPE_LINUX_SLL 113

/**
 * IPv4 packets.
 */
#define PORTKNOCK_LINKTYPE_IPV4 228

/**
 * IPv6 packets.
 */
#define PORTKNOCK_LINKTYPE_IPV6 229

/**
 * Linux "cooked" frames, version 2.
 */
#define PORTKNOCK_LINKTYPE_LINUX_SLL2 276

/**
 * The number of retries that means none.
 */
#define PORTKNOCK_NO_RETRIES -1

/**
 * The major version of this header.
 */
#define PORTKNOCK_VERSION_MAJOR 0

/**
 * The minor version of this header.
 */
#define PORTKNOCK_VERSION_MINOR 1

/**
 * The patch version of this header.
 */
#define PORTKNOCK_VERSION_PATCH 0

/**
 * The number behind ".so." in the name of the library that fits this header. It changes with every release that
 * programs compiled for an older one would not survive.
 */
#define PORTKNOCK_ABI_VERSION 0

/**
 * How a call went: 0, 1, or negative for a failure.
 */
enum portknock_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It did what it should.
     */
    PORTKNOCK_OK = 0,
    /**
     * There is nothing (more) to give: no event, no timeout, the end of a file; the time is over or the wait was
     * interrupted.
     */
    PORTKNOCK_END = 1,
    /**
     * An argument cannot be used: NULL where that is not allowed, text that is not UTF-8, a size or a number out of
     * range. The message names it. Nothing was done.
     */
    PORTKNOCK_ERR_ARGUMENT = -1,
    /**
     * A configuration has errors: see portknock_error_diagnostic().
     */
    PORTKNOCK_ERR_CONFIG = -2,
    /**
     * A file cannot be read, must not be used, or is damaged: see portknock_error_file().
     */
    PORTKNOCK_ERR_FILE = -3,
    /**
     * Frames of this link type cannot be read.
     */
    PORTKNOCK_ERR_LINK_TYPE = -4,
    /**
     * The process has no right to capture packets or to send through raw sockets (CAP_NET_RAW), or to change the firewall
     * (CAP_NET_ADMIN).
     */
    PORTKNOCK_ERR_PERMISSION = -5,
    /**
     * The host is not found, or has no address of the wanted kind.
     */
    PORTKNOCK_ERR_HOST = -6,
    /**
     * Packets could not be sent: no route, a source address that is not this machine's.
     */
    PORTKNOCK_ERR_NETWORK = -7,
    /**
     * All knocks were sent, and the port did not open.
     */
    PORTKNOCK_ERR_NOT_OPEN = -8,
    /**
     * The system refused something else, mostly for want of file descriptors.
     */
    PORTKNOCK_ERR_SYSTEM = -9,
    /**
     * A fault of this library: the call, or an earlier one on the same handle, ended in the middle. Such a handle can
     * only be freed.
     */
    PORTKNOCK_ERR_PANICKED = -10,
    /**
     * A listener is used in a child process of the one that opened it. Nothing was done.
     */
    PORTKNOCK_ERR_FORKED = -11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum portknock_status portknock_status;
#else
typedef int32_t portknock_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How bad a finding is.
 */
enum portknock_severity
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The configuration is used; this is worth a look.
     */
    PORTKNOCK_WARNING = 1,
    /**
     * The configuration is refused.
     */
    PORTKNOCK_ERROR = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum portknock_severity portknock_severity;
#else
typedef int32_t portknock_severity;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What an event tells. Later versions may have more kinds: pass over those that you do not know.
 */
enum portknock_event_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * A step of the sequence matched: `stage` of `steps` are done. The last one is followed by OPEN or EXTEND.
     */
    PORTKNOCK_EVENT_STAGE = 1,
    /**
     * The whole sequence matched and the door opens, by `command` (NULL if the door has none) and
     * by `ports`, which open for `ip` until `closes_at_ns`.
     */
    PORTKNOCK_EVENT_OPEN = 2,
    /**
     * A complete knock while the door is open: `stop_command` and `command` open it again, and
     * `ports` stay open until `closes_at_ns`.
     */
    PORTKNOCK_EVENT_EXTEND = 3,
    /**
     * The door's time is over, or it closes early, by `command` (NULL if the door has none).
     * `ports` close for `ip`.
     */
    PORTKNOCK_EVENT_CLOSE = 4,
    /**
     * The attempt took longer than seq_timeout; `stage` steps were done.
     */
    PORTKNOCK_EVENT_TIMEOUT = 5,
    /**
     * The attempt failed for a `reason`; `stage` steps were done.
     */
    PORTKNOCK_EVENT_FAIL = 6,
    /**
     * Of listeners with the option `notices` alone: something to log. `message` has the line; nothing else is set.
     */
    PORTKNOCK_EVENT_NOTICE = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum portknock_event_kind portknock_event_kind;
#else
typedef int32_t portknock_event_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why an attempt failed, or a door closed early. Later versions may have more reasons.
 */
enum portknock_fail_reason
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It did not fail.
     */
    PORTKNOCK_FAIL_NONE = 0,
    /**
     * A port that some door uses, but not as this door's next step.
     */
    PORTKNOCK_FAIL_WRONG_PORT = 1,
    /**
     * More ports that no door uses than ScanGuard allows.
     */
    PORTKNOCK_FAIL_SCAN = 2,
    /**
     * The table of attempts was full and this one made room for another; or the door had MaxOpenings openings
     * and this was the oldest.
     */
    PORTKNOCK_FAIL_FULL = 3,
    /**
     * The door changed or went away, or its one-time sequence was used by someone else.
     */
    PORTKNOCK_FAIL_RELOAD = 4,
    /**
     * The start command failed, so the door is not open.
     */
    PORTKNOCK_FAIL_COMMAND = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum portknock_fail_reason portknock_fail_reason;
#else
typedef int32_t portknock_fail_reason;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A protocol with ports.
 */
enum portknock_protocol
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * TCP.
     */
    PORTKNOCK_TCP = 0,
    /**
     * UDP.
     */
    PORTKNOCK_UDP = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum portknock_protocol portknock_protocol;
#else
typedef int32_t portknock_protocol;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whether a port can be reached, in nmap's words.
 */
enum portknock_port_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Something listens there.
     */
    PORTKNOCK_PORT_OPEN = 1,
    /**
     * Nothing listens there, or a firewall says so.
     */
    PORTKNOCK_PORT_CLOSED = 2,
    /**
     * Something on the way lets nothing through.
     */
    PORTKNOCK_PORT_FILTERED = 3,
    /**
     * UDP only: no answer, which is what an open port and a filtered one have in common.
     */
    PORTKNOCK_PORT_OPEN_FILTERED = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum portknock_port_state portknock_port_state;
#else
typedef int32_t portknock_port_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How TCP ports are probed.
 */
enum portknock_method
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * By SYN where raw sockets are allowed, else by connect.
     */
    PORTKNOCK_METHOD_AUTO = 0,
    /**
     * By bare SYNs from a raw socket, which needs the capability CAP_NET_RAW.
     */
    PORTKNOCK_METHOD_SYN = 1,
    /**
     * By connect(2), which needs no right.
     */
    PORTKNOCK_METHOD_CONNECT = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum portknock_method portknock_method;
#else
typedef int32_t portknock_method;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which of a host's addresses are meant.
 */
enum portknock_family
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * IPv4 and IPv6.
     */
    PORTKNOCK_FAMILY_ANY = 0,
    /**
     * IPv4 only.
     */
    PORTKNOCK_FAMILY_IPV4 = 4,
    /**
     * IPv6 only.
     */
    PORTKNOCK_FAMILY_IPV6 = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum portknock_family portknock_family;
#else
typedef int32_t portknock_family;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A configuration: its options and doors. It never changes. Engines and listeners that are made from it do not need it
 * any longer.
 */
typedef struct portknock_config portknock_config;

/**
 * The matching alone: no socket, clock or thread is behind it. You feed it with frames and times and take its events;
 * what they ask for is yours to do.
 *
 * After each call that takes a time, take events by portknock_engine_next_event() until there is none; then wait for the
 * next packet, but not longer than portknock_engine_next_timeout() says, and when that time has come call
 * portknock_engine_advance(). Time never runs backwards: an earlier time than the one before counts as the same. Doors with
 * one_time_sequences take one knock here; portknock_replay_open() and portknock_listener_open() go on with their files.
 */
typedef struct portknock_engine portknock_engine;

/**
 * Why a call failed: a value that belongs to who asked for it and is freed by portknock_error_free(). It never changes,
 * and lives on when the handle of the failed call is freed.
 */
typedef struct portknock_error portknock_error;

/**
 * Everything that portknockd does, for a loop of your own: packets are captured, doors open and close, and their
 * commands run where you ask for it. What happens is told by events.
 *
 * Wait by portknock_listener_next(); or wait for portknock_listener_fd() beside descriptors of your own and, when it is
 * readable, call portknock_listener_next() with a timeout of 0 until it gives PORTKNOCK_END. Nothing happens without
 * these calls. A call that waits keeps no other thread from using the listener.
 *
 * A listener belongs to the process that opened it. In a child process made by fork(2) every call on it fails with
 * PORTKNOCK_ERR_FORKED and changes nothing, so the parent loses no packet; only portknock_listener_free() works, and
 * leaves the parent's listener as it is. The child holds the lock of the state file until it calls exec(3) or ends.
 */
typedef struct portknock_listener portknock_listener;

/**
 * What a probe has found. It never changes.
 */
typedef struct portknock_probe_results portknock_probe_results;

/**
 * A capture file on its way through an engine: the same packets give the same events as they would have given live.
 * Nothing is run and nothing is written; one-time doors go on with the lines of their files that follow.
 */
typedef struct portknock_replay portknock_replay;

/**
 * One finding about the text of a configuration. It lives as long as the handle that it came from, and never changes.
 * Later versions may append fields.
 */
typedef struct portknock_diagnostic {
    /**
     * The stable code, "PK" and three digits.
     */
    const char *code;
    /**
     * How bad it is.
     */
    portknock_severity severity;
    /**
     * What is wrong, on one line, without control characters.
     */
    const char *message;
    /**
     * What to do about it, or NULL.
     */
    const char *help;
    /**
     * The line where it begins, counted from 1.
     */
    size_t line;
    /**
     * The column where it begins, counted from 1 in characters.
     */
    size_t column;
    /**
     * The line where it ends.
     */
    size_t end_line;
    /**
     * The column behind its end.
     */
    size_t end_column;
    /**
     * What would mend it, where one reading is obvious, else NULL: the text to put in the place of the bytes from
     * fix_start to before fix_end.
     */
    const char *fix_replacement;
    /**
     * The first byte to replace, counted from 0; 0 without a fix.
     */
    size_t fix_start;
    /**
     * The byte behind the last one to replace.
     */
    size_t fix_end;
} portknock_diagnostic;

/**
 * A port that a door opens without a command (`open`).
 */
typedef struct portknock_open_port {
    /**
     * The protocol.
     */
    portknock_protocol protocol;
    /**
     * The port, 1 to 65535.
     */
    uint32_t port;
} portknock_open_port;

/**
 * Something that happened at a door. The event, its texts and its ports belong to the handle that
 * it came from, and do not change until any thread takes the next event from that handle. A later
 * read returns another event or a mixture of several, and the memory stays readable until the
 * handle is freed. Later versions may append fields.
 */
typedef struct portknock_event {
    /**
     * When, in nanoseconds since 1970: the packet's time, or the due time of a timeout or a closing. 0 for a notice.
     */
    uint64_t time_ns;
    /**
     * What happened.
     */
    portknock_event_kind kind;
    /**
     * 4 or 6, as `ip` is of IPv4 or IPv6; 0 for a notice.
     */
    int32_t family;
    /**
     * The door's name; "" for a notice.
     */
    const char *door;
    /**
     * The address that knocked, as text; "" for a notice.
     */
    const char *ip;
    /**
     * For STAGE, TIMEOUT and FAIL: how many steps are done. Else 0.
     */
    uint32_t stage;
    /**
     * For STAGE: how many steps the sequence has. Else 0.
     */
    uint32_t steps;
    /**
     * For OPEN, EXTEND and CLOSE: the command for /bin/sh, with the address in it. Else NULL, and for a door that has
     * none. If an EXTEND has one, `stop_command` runs before it.
     */
    const char *command;
    /**
     * For a NOTICE: a line for a log, without control characters and without a line's end. Else NULL.
     */
    const char *message;
    /**
     * For FAIL: why. For CLOSE: why it is early, FULL or COMMAND; NONE if its time is over or somebody closed it.
     */
    portknock_fail_reason reason;
    /**
     * Always 0.
     */
    int32_t reserved;
    /**
     * For EXTEND: the stop command for /bin/sh that runs before `command`. Else NULL, and for a door that has none.
     */
    const char *stop_command;
    /**
     * For OPEN, EXTEND and CLOSE: the ports that the door opens without a command (`open`), in the
     * order of the configuration. A listener without run_commands opens and closes no port; the
     * program does it. Never NULL.
     */
    const struct portknock_open_port *ports;
    /**
     * Number of ports in `ports`; 0 for a door without `open`, and for other kinds.
     */
    size_t port_count;
    /**
     * For OPEN and EXTEND: when the door closes, in nanoseconds since 1970. For CLOSE: when it was
     * due to close, which is later than `time_ns` if it closes early. 0 for a door that never closes
     * by itself, and for other kinds.
     */
    uint64_t closes_at_ns;
    /**
     * For OPEN, EXTEND and CLOSE: the network for which the door is open, as in "203.0.113.0/24".
     * Without `open_prefix` it is a single address, as in "203.0.113.7/32". Otherwise NULL.
     */
    const char *net;
} portknock_event;

/**
 * How to knock. Zero in every field but struct_size means the defaults.
 */
typedef struct portknock_knock_options {
    /**
     * sizeof(portknock_knock_options)
     */
    size_t struct_size;
    /**
     * The address of this machine that the knocks come from. NULL: what the route says.
     */
    const char *source;
    /**
     * A portknock_family: which of the host's addresses are meant. Default: any.
     */
    int32_t family;
    /**
     * Not 0: knock at every address of the host, not only at the first.
     */
    int32_t all_addresses;
    /**
     * Not 0: send TCP knocks as bare SYNs through a raw socket, which needs CAP_NET_RAW. 0: by connect(2).
     */
    int32_t raw;
    /**
     * How many milliseconds to pause between one knock and the next. Without a pause packets can overtake each other on
     * their way.
     */
    uint32_t delay_ms;
    /**
     * The TCP port that should open after the knocks, 1 to 65535; the call waits until it is open. 0: wait for nothing.
     */
    uint32_t then_port;
    /**
     * How many milliseconds that may take after each time of knocking. 0: 5000.
     */
    uint32_t wait_ms;
    /**
     * How often to knock again where it does not open in time.
     */
    uint32_t retries;
    /**
     * 0
     */
    int32_t reserved;
} portknock_knock_options;

/**
 * How a listener works. Zero in every field but struct_size means the defaults.
 */
typedef struct portknock_listener_options {
    /**
     * sizeof(portknock_listener_options)
     */
    size_t struct_size;
    /**
     * Listen on these interfaces, whatever the configuration says; "any" is all of them. NULL: as it says.
     */
    const char *const *interfaces;
    /**
     * How many they are.
     */
    size_t interface_count;
    /**
     * Not 0: run the doors' commands (with this process's umask, and with its descriptors that are not close-on-exec), open their ports (`open`), keep openings in the state file, mark one-time sequences as used. 0: nothing
     * outside of the process changes; the program runs the commands and opens the ports that the events have, and one-time
     * sequences open again and again.
     */
    int32_t run_commands;
    /**
     * Not 0: pass over IPv6 packets.
     */
    int32_t ipv4_only;
    /**
     * Not 0: also give events of the kind PORTKNOCK_EVENT_NOTICE, with what else a log should say: interfaces that come
     * and go, commands that run and fail.
     */
    int32_t notices;
    /**
     * 0
     */
    int32_t reserved;
} portknock_listener_options;

/**
 * Is told how far a probe has come, at least every tenth of a second, in the thread of the call: about how much is done
 * (0 to 1), and how many ports of all have their result. `data` is the progress_data of the options. What is not 0 stops
 * the probe, with the results so far. NULL to ask for nothing.
 */
typedef int32_t (*portknock_progress)(void *data, double done, size_t known, size_t ports);

/**
 * How to probe. Zero in every field but struct_size means the defaults.
 */
typedef struct portknock_probe_options {
    /**
     * sizeof(portknock_probe_options)
     */
    size_t struct_size;
    /**
     * The address of this machine that the probes come from. NULL: what the route says.
     */
    const char *source;
    /**
     * Is told how far the probe has come, and can stop it. NULL: nobody.
     */
    portknock_progress progress;
    /**
     * What `progress` is given.
     */
    void *progress_data;
    /**
     * A portknock_protocol. Default: TCP.
     */
    int32_t protocol;
    /**
     * A portknock_method, for TCP. Default: by SYN where that is allowed, else by connect.
     */
    int32_t method;
    /**
     * A portknock_family: which of the host's addresses are meant. Default: any.
     */
    int32_t family;
    /**
     * Not 0: probe every address of the host, not only the first.
     */
    int32_t all_addresses;
    /**
     * How many milliseconds a port without an answer takes. 0: 3300.
     */
    uint32_t timeout_ms;
    /**
     * How often a probe without an answer is repeated, 1 to 255. 0: as often as the path's losses ask for.
     * PORTKNOCK_NO_RETRIES: not at all.
     */
    int32_t retries;
    /**
     * At most so many probes a second. 0: what the path carries.
     */
    uint32_t rate;
    /**
     * 0
     */
    int32_t reserved;
} portknock_probe_options;

/**
 * What was found at one port of one address. It lives as long as the results that it came from, and never changes.
 * Later versions may append fields.
 */
typedef struct portknock_probe_result {
    /**
     * The address, as text.
     */
    const char *address;
    /**
     * 4 or 6, as the address is of IPv4 or IPv6.
     */
    int32_t family;
    /**
     * The port.
     */
    uint32_t port;
    /**
     * By which protocol.
     */
    portknock_protocol protocol;
    /**
     * What was concluded.
     */
    portknock_port_state state;
    /**
     * From what, in nmap's words, as in "syn-ack".
     */
    const char *reason;
    /**
     * From the probe to its answer, in nanoseconds; -1 without an answer, and where it is not certain which probe was
     * answered.
     */
    int64_t rtt_ns;
} portknock_probe_result;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Reads a knockd.conf, and the first unused sequence of each one_time_sequences file that it names.
 *
 * On success *config is a new handle, to be freed by portknock_config_free(); it may have warnings, see
 * portknock_config_diagnostic(). Else it is NULL.
 *
 * Errors: PORTKNOCK_ERR_FILE where the file cannot be read; PORTKNOCK_ERR_CONFIG where it has errors, all of which
 * the error lists.
 */
portknock_status portknock_config_load(const char *path,
                                       struct portknock_config **config,
                                       struct portknock_error **err);

/**
 * The same for a text of `length` bytes, which need not end with a zero. `name` is what errors call it; NULL for
 * "<text>".
 */
portknock_status portknock_config_parse(const char *text,
                                        size_t length,
                                        const char *name,
                                        struct portknock_config **config,
                                        struct portknock_error **err);

/**
 * How many doors it has; 0 for NULL.
 */
size_t portknock_config_door_count(const struct portknock_config *config);

/**
 * Everything that the configuration says, as one line of JSON: what `portknock check --format json` prints. It lives as
 * long as the handle. NULL for NULL.
 */
const char *portknock_config_json(const struct portknock_config *config);

/**
 * How many warnings there are; 0 for NULL.
 */
size_t portknock_config_diagnostic_count(const struct portknock_config *config);

/**
 * A warning, in the order of the text, counted from 0; NULL where there is none. It lives as long as the handle.
 */
const struct portknock_diagnostic *portknock_config_diagnostic(const struct portknock_config *config, size_t index);

/**
 * All warnings as `portknock check` shows them, each with its line of the text; many lines, without control
 * characters. It lives as long as the handle. "" where there is no warning.
 */
const char *portknock_config_report(const struct portknock_config *config);

/**
 * Frees a configuration. NULL is allowed.
 */
void portknock_config_free(struct portknock_config *config);

/**
 * Makes an engine for a configuration. Every destination address counts until portknock_engine_set_local_addresses().
 *
 * On success *engine is a new handle, to be freed by portknock_engine_free(); else it is NULL.
 */
portknock_status portknock_engine_new(const struct portknock_config *config,
                                      struct portknock_engine **engine,
                                      struct portknock_error **err);

/**
 * Says which addresses count as this machine's from now on, for doors without a `target`: texts such as "192.0.2.1".
 * NULL and a count of 0: any address; another pointer and a count of 0: none.
 *
 * Errors: PORTKNOCK_ERR_ARGUMENT where one of them is no address; then nothing changes.
 */
portknock_status portknock_engine_set_local_addresses(struct portknock_engine *engine,
                                                      const char *const *addresses,
                                                      size_t count,
                                                      struct portknock_error **err);

/**
 * Takes a captured frame of `length` bytes. What is no knock, whatever its bytes, only moves time on.
 *
 * `link_type`: how the frame begins, one of PORTKNOCK_LINKTYPE_..., which are the numbers of pcap_datalink().
 * `time_ns`: when it was captured, in nanoseconds since 1970.
 *
 * Errors: PORTKNOCK_ERR_LINK_TYPE; then nothing was done.
 */
portknock_status portknock_engine_feed(struct portknock_engine *engine,
                                       int32_t link_type,
                                       uint64_t time_ns,
                                       const uint8_t *data,
                                       size_t length,
                                       struct portknock_error **err);

/**
 * Moves time on, in nanoseconds since 1970: what is due by then happens.
 */
portknock_status portknock_engine_advance(struct portknock_engine *engine,
                                          uint64_t now_ns,
                                          struct portknock_error **err);

/**
 * When portknock_engine_advance() is due next, in nanoseconds since 1970; may change with every call that takes a time.
 * PORTKNOCK_END, and a *time_ns of 0, where nothing runs.
 */
portknock_status portknock_engine_next_timeout(struct portknock_engine *engine, uint64_t *time_ns);

/**
 * Takes the next event. PORTKNOCK_OK: *event is it, and stays as it is until the next call of this function for the
 * engine. PORTKNOCK_END, and a NULL in *event, where there is none.
 */
portknock_status portknock_engine_next_event(struct portknock_engine *engine, const struct portknock_event **event);

/**
 * Replaces the configuration at a time in nanoseconds since 1970. Attempts at doors that did not change go on, others
 * fail; doors that stand open stay so until their time is over.
 */
portknock_status portknock_engine_reload(struct portknock_engine *engine,
                                         const struct portknock_config *config,
                                         uint64_t now_ns,
                                         struct portknock_error **err);

/**
 * Closes every open door at a time in nanoseconds since 1970, each with its event.
 */
portknock_status portknock_engine_close_all(struct portknock_engine *engine,
                                            uint64_t now_ns,
                                            struct portknock_error **err);

/**
 * Frees an engine, with its last event. NULL is allowed.
 */
void portknock_engine_free(struct portknock_engine *engine);

/**
 * The status that the failed call returned; PORTKNOCK_ERR_ARGUMENT for NULL.
 */
portknock_status portknock_error_status(const struct portknock_error *error);

/**
 * What went wrong, for people: one line, without control characters. It lives as long as the error. "" for NULL.
 */
const char *portknock_error_message(const struct portknock_error *error);

/**
 * The file that it is about, or NULL where it is about none. It lives as long as the error.
 */
const char *portknock_error_file(const struct portknock_error *error);

/**
 * The line of the first error in a configuration, counted from 1; 0 for other errors.
 */
size_t portknock_error_line(const struct portknock_error *error);

/**
 * Its column, counted from 1 in characters; 0 for other errors.
 */
size_t portknock_error_column(const struct portknock_error *error);

/**
 * How many findings there are, errors and warnings; 0 where the error is not about a configuration.
 */
size_t portknock_error_diagnostic_count(const struct portknock_error *error);

/**
 * A finding, in the order of the text, counted from 0; NULL where there is none. It lives as long as the error.
 */
const struct portknock_diagnostic *portknock_error_diagnostic(const struct portknock_error *error, size_t index);

/**
 * All findings as `portknock check` shows them, each with its line of the text; many lines, without control
 * characters. It lives as long as the error. "" where there is no finding.
 */
const char *portknock_error_report(const struct portknock_error *error);

/**
 * Frees an error. NULL is allowed.
 */
void portknock_error_free(struct portknock_error *error);

/**
 * The name of a kind of events in the JSON of `portknock replay`, as in "stage"; "unknown" for other numbers. The text
 * is static.
 */
const char *portknock_event_kind_name(int32_t kind);

/**
 * The name of a reason in the JSON of `portknock replay`, as in "wrong-port"; "unknown" for other numbers. The text is
 * static.
 */
const char *portknock_fail_reason_name(int32_t reason);

/**
 * Knocks at a host: a name, an IPv4 address, or an IPv6 address with or without a zone ("fe80::1%eth0"). `steps` are
 * written as in knockd.conf: "7000,8000:udp,9000", also names of services. When it returns, every packet was handed to
 * the network in order, and with then_port the port is open. Blocks for that long. `options` may be NULL.
 *
 * Errors: PORTKNOCK_ERR_HOST, PORTKNOCK_ERR_PERMISSION for raw without CAP_NET_RAW, PORTKNOCK_ERR_NETWORK where a knock
 * could not be sent, PORTKNOCK_ERR_NOT_OPEN where then_port did not open.
 */
portknock_status portknock_knock(const char *host,
                                 const char *steps,
                                 const struct portknock_knock_options *options,
                                 struct portknock_error **err);

/**
 * Begins to listen. Interfaces that do not exist (yet) are waited for. `options` may be NULL.
 *
 * On success *listener is a new handle, to be freed by portknock_listener_free(); else it is NULL.
 *
 * Errors: PORTKNOCK_ERR_PERMISSION without CAP_NET_RAW; PORTKNOCK_ERR_ARGUMENT for names that no interface can have;
 * with run_commands PORTKNOCK_ERR_PERMISSION where doors have `open` and CAP_NET_ADMIN is missing, and
 * PORTKNOCK_ERR_FILE where the state file is in use by someone else or cannot be trusted; PORTKNOCK_ERR_FILE where a file of
 * one-time sequences cannot be used; PORTKNOCK_ERR_SYSTEM.
 */
portknock_status portknock_listener_open(const struct portknock_config *config,
                                         const struct portknock_listener_options *options,
                                         struct portknock_listener **listener,
                                         struct portknock_error **err);

/**
 * A descriptor that is readable when portknock_listener_next() has something to do or to tell. It belongs to the
 * listener: wait for it by poll(2), select(2) or epoll(7), and do nothing else with it. -1 for NULL and in a forked child.
 */
int portknock_listener_fd(const struct portknock_listener *listener);

/**
 * Does what there is to do and takes the next event, waiting for one at most `timeout_ms` milliseconds: 0 to not wait,
 * a negative number to wait for ever.
 *
 * PORTKNOCK_OK: *event is it, and stays as it is until the next call of this function for the listener.
 * PORTKNOCK_END, and a NULL in *event: the time is over, portknock_listener_interrupt() was called, a signal came, or
 * all is done after portknock_listener_stop().
 *
 * Errors: PORTKNOCK_ERR_SYSTEM where the capture has broken down for good; PORTKNOCK_ERR_FORKED in a forked child.
 */
portknock_status portknock_listener_next(struct portknock_listener *listener,
                                         int32_t timeout_ms,
                                         const struct portknock_event **event,
                                         struct portknock_error **err);

/**
 * Ends one wait in portknock_listener_next(), now or at the next call. Safe in a signal handler: it writes to a
 * descriptor and takes neither lock nor memory. Does nothing in a forked child. NULL is allowed.
 */
void portknock_listener_interrupt(const struct portknock_listener *listener);

/**
 * Takes up another configuration. Doors that did not change keep their attempts, and open doors stay open.
 *
 * Errors: as for portknock_listener_open(), then everything goes on as before; PORTKNOCK_ERR_FORKED in a forked child.
 */
portknock_status portknock_listener_reload(struct portknock_listener *listener,
                                           const struct portknock_config *config,
                                           struct portknock_error **err);

/**
 * Begins to stop: no packet counts any more, and open doors are closed unless the configuration has `OnStop = keep`. Go
 * on taking events until portknock_listener_is_stopped(); commands are waited for, up to a minute. Calling it again
 * changes nothing.
 *
 * Errors: PORTKNOCK_ERR_FORKED in a forked child.
 */
portknock_status portknock_listener_stop(struct portknock_listener *listener, struct portknock_error **err);

/**
 * 1 when everything that portknock_listener_stop() began is done and its events are taken, and in a forked child, which
 * has nothing to wait for; else 0, also for NULL.
 */
int portknock_listener_is_stopped(const struct portknock_listener *listener);

/**
 * Ends listening at once. Commands that run are left alone; with run_commands, open doors are left to the next listener
 * or daemon with the same state file. To stop in order call portknock_listener_stop() before. NULL is allowed.
 */
void portknock_listener_free(struct portknock_listener *listener);

/**
 * Probes ports of a host: a name, an IPv4 address, or an IPv6 address with or without a zone ("fe80::1%eth0"). `ports` are
 * written as for nmap: "22,80,8000-8100", "-" for all, also names of services. Blocks until all is done. `options` may be
 * NULL.
 *
 * On success *results is a new handle, to be freed by portknock_probe_results_free(). On failure too, where something
 * was found before; else it is NULL. So free it in any case.
 *
 * Errors: PORTKNOCK_ERR_HOST, PORTKNOCK_ERR_PERMISSION for the SYN method without CAP_NET_RAW, PORTKNOCK_ERR_NETWORK,
 * PORTKNOCK_ERR_SYSTEM.
 */
portknock_status portknock_probe(const char *host,
                                 const char *ports,
                                 const struct portknock_probe_options *options,
                                 struct portknock_probe_results **results,
                                 struct portknock_error **err);

/**
 * How many results there are; 0 for NULL.
 */
size_t portknock_probe_results_count(const struct portknock_probe_results *results);

/**
 * A result, counted from 0, in the order of the addresses and then of the ports; NULL where there is none.
 */
const struct portknock_probe_result *portknock_probe_results_get(const struct portknock_probe_results *results,
                                                                 size_t index);

/**
 * How TCP ports were probed: by SYN or by connect; PORTKNOCK_METHOD_AUTO for NULL.
 */
portknock_method portknock_probe_results_method(const struct portknock_probe_results *results);

/**
 * Frees results. NULL is allowed.
 */
void portknock_probe_results_free(struct portknock_probe_results *results);

/**
 * nmap's name of a state, as in "open"; "unknown" for other numbers. The text is static.
 */
const char *portknock_port_state_name(int32_t state);

/**
 * Opens a capture file, pcap or pcapng; "-" is standard input. `local_addresses` are the addresses of the machine that
 * the packets came to, as for portknock_engine_set_local_addresses(); NULL and a count of 0 for any.
 *
 * On success *replay is a new handle, to be freed by portknock_replay_free(); else it is NULL.
 *
 * Errors: PORTKNOCK_ERR_FILE where the file, or one with one-time sequences, cannot be used; PORTKNOCK_ERR_LINK_TYPE.
 */
portknock_status portknock_replay_open(const struct portknock_config *config,
                                       const char *path,
                                       const char *const *local_addresses,
                                       size_t count,
                                       struct portknock_replay **replay,
                                       struct portknock_error **err);

/**
 * Takes the next event. PORTKNOCK_OK: *event is it, and stays as it is until the next call of this function for the
 * replay. PORTKNOCK_END, and a NULL in *event, at the end of the file; attempts and openings that still run then stay
 * unmentioned.
 *
 * Errors: PORTKNOCK_ERR_FILE where the file breaks off or is damaged, after the events of the frames before; then it is
 * at its end.
 */
portknock_status portknock_replay_next(struct portknock_replay *replay,
                                       const struct portknock_event **event,
                                       struct portknock_error **err);

/**
 * Frees a replay, with its last event. NULL is allowed.
 */
void portknock_replay_free(struct portknock_replay *replay);

/**
 * The name of a status without its prefix, as in "ok" or "argument"; "unknown" for other numbers. The text is static.
 */
const char *portknock_status_name(int32_t status);

/**
 * The version of the library that runs, as in "0.1.0". The text is static.
 */
const char *portknock_version(void);

/**
 * The PORTKNOCK_ABI_VERSION of the library that runs.
 */
uint32_t portknock_abi_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PORTKNOCK_H */
