//! Derives doors and actions from bytes. Every choice consumes one byte, so that seeds can be
//! written by hand.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use ipnet::IpNet;
use portknock_core::{
    Config, Door, FlagMask, Knock, LinkType, OpenPort, OpenPrefix, Opening, Options, Protocol, Sequence, Step,
    TcpFlags, Timestamp,
};

use crate::packets::LINK_TYPES;

pub(super) const TICK: Duration = Duration::from_millis(500);
const LOCAL: [&str; 2] = ["10.0.0.1", "10.0.0.2"];
const LOCAL_6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

pub(super) enum Action {
    Knock { knock: Knock, link_type: LinkType, late: u64 },
    Wait(Duration),
    WaitForTimeout,
    Reload,
    SetSequence(u16, Option<Sequence>),
    Restore { opening: Opening, overdue: bool },
    CloseAll,
    SetLocal(Option<IpAddr>),
}

/// A small number of doors and ports, so that actions hit them.
pub(super) fn config(u: &mut Unstructured<'_>) -> Result<Config> {
    let doors = u.int_in_range(1..=4)?;
    let mut config = Config { doors: Vec::new(), options: Options::default() };
    change_options(&mut config.options, u)?;
    for _ in 0..doors {
        config.doors.push(door(u)?);
    }
    Ok(config)
}

fn change_options(options: &mut Options, u: &mut Unstructured<'_>) -> Result<()> {
    options.scan_guard = u.int_in_range(0..=2)?;
    options.max_attempts = *u.choose(&[1_000, 1, 2, 3, 4])?;
    options.max_openings = *u.choose(&[1_000, 1, 2, 3, 4])?;
    Ok(())
}

/// Changes that an administrator may make to a configuration between two reloads.
pub(super) fn change(config: &mut Config, u: &mut Unstructured<'_>) -> Result<()> {
    let place = u.int_in_range(0..=config.doors.len())?;
    match u.int_in_range(0..=5)? {
        0 => config.doors.insert(place, door(u)?),
        1 if place < config.doors.len() => drop(config.doors.remove(place)),
        2 => config.doors.rotate_left(place),
        3 => change_options(&mut config.options, u)?,
        4 if place < config.doors.len() => config.doors[place] = door(u)?,
        _ => {}
    }
    config.doors.truncate(8);
    Ok(())
}

fn door(u: &mut Unstructured<'_>) -> Result<Door> {
    let mut door = Door::new(["a", "b", "c"][u.choose_index(3)?], Some(sequence(u)?));
    let kind = u.int_in_range(0..=255_u8)?;
    let has = |bit: u8| kind & 1 << bit != 0;
    door.start_command = (!has(0)).then(|| "open %IP%".into());
    door.stop_command = has(1).then(|| "close %IP%".into());
    door.stop_command_6 = has(2).then(|| "close6 %IP%".into());
    door.open = if has(6) && has(1) { [open_port()].into() } else { [].into() };
    door.target = has(3).then(|| ip(LOCAL[1]));
    door.allow = if has(4) { vec![net("10.0.1.1/32"), net("2001:db8:1::/64")] } else { Vec::new() };
    door.one_time_sequences = has(5).then(|| "/a".into());
    door.open_prefix = (has(2) && has(4)).then_some(OpenPrefix { ipv4: 24, ipv6: 56 });
    door.seq_cooldown = has(6).then_some(TICK * 2);
    let syn = FlagMask { set: TcpFlags::SYN, clear: if has(0) { TcpFlags::ACK } else { TcpFlags::NONE } };
    door.tcpflags = if has(7) { syn } else { FlagMask::default() };
    door.seq_timeout = super::span(u.int_in_range(1..=8)?);
    door.cmd_timeout = super::span(u.int_in_range(1..=8)?);
    Ok(door)
}

fn open_port() -> OpenPort {
    OpenPort { protocol: Protocol::Tcp, port: NonZeroU16::MIN }
}

fn sequence(u: &mut Unstructured<'_>) -> Result<Sequence> {
    let steps = u.int_in_range(1..=4)?;
    let steps = (0..steps).map(|_| step(u, 4)).collect::<Result<Vec<_>>>()?;
    Ok(Sequence::new(steps).expect("few steps"))
}

/// Odd numbers are UDP.
fn step(u: &mut Unstructured<'_>, ports: u16) -> Result<Step> {
    let number = u.int_in_range(0..=2 * ports - 1)?;
    let protocol = if number % 2 == 1 { Protocol::Udp } else { Protocol::Tcp };
    Ok(Step { port: NonZeroU16::MIN.saturating_add(number / 2), protocol })
}

pub(super) fn action(u: &mut Unstructured<'_>) -> Result<Action> {
    Ok(match u.int_in_range(0..=15)? {
        0..=6 => knock(u, LinkType::Ethernet, 0)?,
        7 => {
            let link_type = *u.choose(&LINK_TYPES)?;
            let late = u64::from(u.int_in_range(0..=255_u8)?) << 24;
            knock(u, link_type, late)?
        }
        8 => Action::Wait(super::span(u.int_in_range(0..=8)?)),
        9 => Action::WaitForTimeout,
        10 => Action::Reload,
        11 => Action::SetSequence(
            u.int_in_range(0..=5)?,
            if u.int_in_range(0..=2)? > 0 { Some(sequence(u)?) } else { None },
        ),
        12 => {
            let [source, kind] = [u.choose_index(4)?, u.choose_index(4)?];
            let opening = Opening {
                door: ["a", "b"][kind % 2].into(),
                ip: addresses(source, 0).0,
                closes_at: Timestamp::default(),
                stop_command: Some(format!("close {}", addresses(source, 0).0)),
                open: [].into(),
                net: addresses(source, 0).0.into(),
            };
            Action::Restore { opening, overdue: kind > 1 }
        }
        13 => Action::CloseAll,
        14 => Action::SetLocal([None, Some(ip(LOCAL[0])), Some(ip(LOCAL_6[0]))][u.choose_index(3)?]),
        _ => Action::Wait(Duration::from_nanos(1 << u.int_in_range(0..=63)?)),
    })
}

fn knock(u: &mut Unstructured<'_>, link_type: LinkType, late: u64) -> Result<Action> {
    let Step { port, protocol } = step(u, 8)?;
    let who = u.int_in_range(0..=31)?;
    let segment = u.int_in_range(0..=15)?;
    // Frames of these link types hold packets of one family.
    let source = match link_type {
        LinkType::Ipv4 => who % 2,
        LinkType::Ipv6 => 2 + who % 2,
        _ => who % 4,
    };
    let (source, destination) = addresses(source, usize::from(who > 23));
    let tcp = protocol == Protocol::Tcp;
    let flags = [TcpFlags::SYN, TcpFlags::SYN, TcpFlags::SYN | TcpFlags::ACK, TcpFlags::ACK][segment / 4];
    let knock = Knock {
        time: Timestamp::default(),
        source,
        destination,
        port: port.get(),
        protocol,
        flags: if tcp { flags } else { TcpFlags::NONE },
        source_port: 1 + u16::from(segment % 2 == 1),
        sequence_number: if tcp && segment % 4 > 1 { u32::MAX } else { 0 },
    };
    Ok(Action::Knock { knock, link_type, late })
}

/// One of four sources, two of each family, and a destination for it.
fn addresses(source: usize, destination: usize) -> (IpAddr, IpAddr) {
    let local = if source < 2 { LOCAL } else { LOCAL_6 };
    (ip(["10.0.1.1", "10.0.1.2", "2001:db8:1::1", "2001:db8:2::1"][source]), ip(local[destination]))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}
