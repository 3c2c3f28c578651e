//! Right and wrong sequences of one source at one door.

use super::scenario::Act::{Fence, Knock, Pktgen, Segments};
use super::{OPENED, Scenario, door, plain};

/// 32 ports, in no order.
const LONGEST: [u16; 32] = {
    let mut ports = [0; 32];
    let mut step = 0;
    while step < 32 {
        ports[step as usize] = 1000 + step * 7 % 31;
        step += 1;
    }
    ports
};

const REPEATED: &str = "a retry is the same knock; networks duplicate datagrams";

pub(super) fn scenarios() -> Vec<Scenario> {
    let longest: Vec<String> = LONGEST.iter().map(u16::to_string).collect();
    let syn = |sequence: &str| door(sequence, "tcpflags = syn");
    let mixed = plain().replace("7000,8000,9000", "7000:udp,8000,9000:udp");
    vec![
        Scenario::same("a_plain_sequence", plain(), &[Knock("10.0.0.1 7000 8000 9000"); 2], &[OPENED, OPENED]),
        Scenario::same(
            "udp_and_tcp_mixed",
            mixed,
            &[
                Knock("10.0.0.1 7000 8000 9000"),
                Knock("10.0.0.1 7000:udp 8000:udp 9000:udp"),
                Knock("10.0.0.1 7000:udp 8000:tcp 9000:udp"),
            ],
            &[OPENED],
        ),
        Scenario::same(
            "one_port_by_two_protocols",
            syn("7000:udp,7000,7000:udp"),
            &[Knock("10.0.0.1 7000:udp 7000 7000:udp")],
            &[OPENED],
        ),
        Scenario::same("ipv6", plain(), &[Knock("fd00::1 7000 8000 9000")], &["fd00::2: door"]),
        Scenario::same(
            "ipv4_only",
            plain(),
            &[Knock("fd00::1 7000 8000 9000"), Knock("10.0.0.1 7000 8000 9000")],
            &[OPENED],
        )
        .with_args(&["-i", "eth0", "-4"]),
        Scenario::same("a_wrong_order", plain(), &[Knock("10.0.0.1 7000 9000 8000 9000")], &[]),
        Scenario::same("a_sequence_backwards", plain(), &[Segments(&[9000, 8000, 7000])], &[]),
        Scenario::same("half_a_sequence", plain(), &[Segments(&[7000, 8000])], &[]),
        Scenario::same("a_sequence_without_its_first_step", plain(), &[Segments(&[8000, 9000])], &[]),
        Scenario::same(
            "the_right_sequence_after_a_wrong_one",
            plain(),
            &[Segments(&[9000, 8000, 7000, 8000, 9000]), Segments(&[7000, 9000, 7000, 8000, 9000])],
            &[OPENED, OPENED],
        ),
        Scenario::same("ports_of_no_door", plain(), &[Knock("10.0.0.1 7000 1 8000 2:udp 3 9000")], &[OPENED]),
        Scenario::same("a_repeated_last_step", plain(), &[Segments(&[7000, 8000, 9000, 9000])], &[OPENED]),
        Scenario::same("the_first_port_twice", syn("7000,7000,8000"), &[Segments(&[7000, 7000, 8000])], &[OPENED]),
        Scenario::same("the_last_port_twice", syn("7000,8000,8000"), &[Segments(&[7000, 8000, 8000])], &[OPENED]),
        Scenario::same(
            "a_port_that_comes_back",
            syn("7000,8000,7000,9000"),
            &[Segments(&[7000, 8000, 7000, 9000])],
            &[OPENED],
        ),
        Scenario::same("one_port_three_times", syn("7000,7000,7000"), &[Segments(&[7000, 7000, 7000])], &[OPENED]),
        Scenario::same(
            "a_udp_port_twice",
            door("7000:udp,7000:udp,8000:udp", ""),
            &[Pktgen("--udp --ports 7000,7000,8000")],
            &[OPENED],
        ),
        Scenario::same("a_sequence_of_one_step", syn("7000"), &[Segments(&[7000, 7000])], &[OPENED, OPENED]),
        Scenario::same("a_sequence_of_32_steps", syn(&longest.join(",")), &[Segments(&LONGEST)], &[OPENED]),
        Scenario::same("a_repeated_step", plain(), &[Segments(&[7000, 7000, 8000, 9000])], &[])
            .differs(&[OPENED], REPEATED),
        Scenario::same(
            "a_doubled_datagram",
            door("7000:udp,8000:udp", ""),
            &[Pktgen("--udp --ports 7000,7000,8000")],
            &[],
        )
        .differs(&[OPENED], REPEATED),
        // The same source port and sequence number, as a kernel repeats an unanswered SYN.
        Scenario::same(
            "a_retransmitted_segment",
            plain(),
            &[Pktgen("--ports 7000 --count 1"), Pktgen("--ports 7000 --count 1"), Pktgen("--ports 8000,9000")],
            &[],
        )
        .differs(&[OPENED], "a slow network locks clients out"),
        Scenario::same(
            "a_retransmission_of_a_repeated_port",
            syn("7000,7000,8000"),
            &[Pktgen("--ports 7000 --count 1"), Pktgen("--ports 7000 --count 1"), Pktgen("--ports 8000")],
            &[OPENED],
        )
        .differs(&[], "it is one knock, not two"),
        Scenario::same("a_first_step_that_ends_an_attempt", plain(), &[Segments(&[7000, 8000, 7000, 8000, 9000])], &[])
            .differs(&[OPENED], "a client that starts again should get in"),
        Scenario::same("a_failed_attempt_in_the_log", plain(), &[Segments(&[7000, 9000]), Fence], &[])
            .watching_log("failed")
            .differs(&["10.0.0.2: door: attempt failed: wrong-port (stage 1)"], "the log shows scans and mistakes"),
    ]
}
