//! Directives, and the form of a file. Core's test `config_dialect` compares how the daemons read a
//! file.

use super::scenario::Act::{Knock, Pktgen, Segments};
use super::{OPENED, Scenario, plain};

const WRITTEN: &str = "the door would differ from the one in the file";

pub(super) fn scenarios() -> Vec<Scenario> {
    let knock = Knock("10.0.0.1 7000 8000 9000");
    let runs = |name, config: &str| Scenario::same(name, config, &[knock], &[OPENED]);
    let refused = |name, config: &str| Scenario::same(name, config, &[], &["refuses to start"]);
    let with_options = |options: &str| format!("[options]\n{options}\n{}", plain());
    let misread = |name, port: &str, acts: &[_]| {
        Scenario::same(name, format!("[door]\nsequence = {port},8000\ntcpflags = syn\n"), acts, &[OPENED])
    };
    vec![
        runs("the_directive_interface", &with_options("Interface = lan0"))
            .with_args(&[])
            .prepared_by("ip link set eth0 down; ip link set eth0 name lan0; ip link set lan0 up"),
        runs("the_directive_pidfile", &with_options("PidFile = %DIR%/pid")),
        runs("the_directive_usesyslog", &with_options("UseSyslog")),
        runs("options_twice", &format!("{}[options]\nPidFile = %DIR%/pid\n", with_options("UseSyslog"))),
        runs(
            "names_of_directives_in_any_case",
            &plain().replace("sequence", "SeQuence").replace("tcpflags", "TCPFLAGS"),
        ),
        runs("lines_that_end_as_on_windows", &plain().replace('\n', "\r\n")),
        runs("tabs_and_spaces", &plain().replace(" = ", "\t =\t ").replace('\n', " \n\t")),
        runs("comments", &format!("# one\n   # two\n{}", plain().replace("tcpflags", "# three\ntcpflags"))),
        runs("a_comment_after_a_sequence", &plain().replace("9000", "9000 # mine")),
        runs("a_door_without_a_command", "[door]\nsequence = 7000,8000,9000\n"),
        runs("the_last_of_a_repeated_key", &format!("[door]\nsequence = 1,2\n{}", plain().replace("[door]\n", ""))),
        runs("spaces_around_a_protocol", &plain().replace("7000,", "7000 : TCP,")),
        Scenario::same(
            "flags_with_spaces_around_the_protocol_of_udp",
            "[door]\nsequence = 7000 : UDP,8000:Udp\n",
            &[Pktgen("--udp --ports 7000,8000")],
            &[OPENED],
        ),
        refused("a_door_without_a_sequence", "[door]\ncommand = true\n"),
        misread("a_port_with_a_letter", "12x", &[Segments(&[12, 8000])])
            .differs(&["refuses to start", "PK027"], WRITTEN),
        misread("a_port_of_letters", "abc", &[Segments(&[0, 8000])]).differs(&["refuses to start", "PK027"], WRITTEN),
        misread("a_port_below_zero", "-1", &[Segments(&[65535, 8000])])
            .differs(&["refuses to start", "PK027"], WRITTEN),
        Scenario::same("a_timeout_with_a_unit", plain().replace("= 10", "= 1m"), &[], &["runs"])
            .watching_life()
            .differs(
                &["refuses to start", "PK037"],
                "no client could knock in time, or not in the intended time; `10s` has one meaning and is accepted",
            ),
        Scenario::same(
            "a_sequence_with_spaces",
            plain().replace("7000,8000,9000", "7000 8000 9000"),
            &[Segments(&[7000])],
            &[OPENED],
        )
        .differs(&[], "one obvious reading"),
        refused("flags_with_spaces", &plain().replace("= syn", "= syn, !ack")).differs(&[], "one obvious reading"),
        refused("usesyslog_with_a_value", &with_options("UseSyslog = yes")).differs(&[], "the spelling is common"),
        refused("several_interfaces", &with_options("Interface = eth0,lo"))
            .with_args(&[])
            .differs(&[], "one daemon is enough for a machine"),
        refused("the_directive_allow", &plain().replace("command", "allow = 10.0.0.0/8\ncommand"))
            .differs(&[], "they are off, or harmless, until written; knockd refuses a file that has them"),
    ]
}
