//! Commands that run when a door opens and closes.

use super::Scenario;
use super::scenario::Act::{Fence, Knock, Pause, Pktgen};

/// Records in a file that the door opens and closes.
const TIMED: &str = "[door]\nsequence = 7000,8000\ntcpflags = syn\nstart_command = echo open %IP% >> %DIR%/said\n\
                     stop_command = echo close %IP% >> %DIR%/said\ncmd_timeout = 2\n";
const ALL_FOUR: &str = "[door]\nsequence = 1000,2000\nstart_command = echo open4 %IP% >> %DIR%/said\n\
                        stop_command = echo close4 %IP% >> %DIR%/said\nstart_command_6 = echo open6 %IP% >> %DIR%/said\n\
                        stop_command_6 = echo close6 %IP% >> %DIR%/said\ncmd_timeout = 1\n";
const PLAIN: &str = "[door]\nsequence = 1000,2000\nstart_command = echo open %IP% >> %DIR%/said\n\
                     stop_command = echo close %IP% >> %DIR%/said\ncmd_timeout = 1\n";
const HALF: &str = "[door]\nsequence = 1000,2000\nstart_command_6 = echo open6 %IP% >> %DIR%/said\n\
                    stop_command = echo close %IP% >> %DIR%/said\ncmd_timeout = 1\n";
const NONE: &str = "[door]\nsequence = 1000,2000\nstart_command = echo open4 %IP% >> %DIR%/said\nstart_command_6 =\n";
const TO_CLOSE: &str = "[alone]\nsequence = 1000,2000\nstop_command = echo close >> %DIR%/said\ncmd_timeout = 1\n\
                        [empty]\nsequence = 1001,2001\nstart_command =\nstop_command = echo close >> %DIR%/said\n\
                        cmd_timeout = 1\n";

const NAMED: &str = "the line identifies the command by door, event and address";

pub(super) fn scenarios() -> Vec<Scenario> {
    let (v4, v6) = (Knock("10.0.0.1 1000 2000"), Knock("fd00::1 1000 2000"));
    let command = |text: &str| format!("[door]\nsequence = 1000,2000\ncommand = {text}\n");
    let said =
        |name, config: &str, acts: &[_], lines: &[_]| Scenario::same(name, config, acts, lines).watching_file("said");
    vec![
        said(
            "the_address_in_commands",
            &command("echo '%IP%' x%IP%x %IP%%IP% %ip% %IP %%IP%% > %DIR%/said; echo and %IP% >> %DIR%/said"),
            &[v4],
            &["10.0.0.2 x10.0.0.2x 10.0.0.210.0.0.2 %ip% %IP %10.0.0.2%", "and 10.0.0.2"],
        ),
        said("the_address_in_commands_over_ipv6", &command("echo %IP% > %DIR%/said"), &[v6], &["fd00::2"]),
        said(
            "opening_and_closing",
            TIMED,
            &[Knock("10.0.0.1 7000 8000"), Pause(2300)],
            &["open 10.0.0.2", "close 10.0.0.2"],
        ),
        Scenario::same(
            "the_lines_of_opening_and_closing",
            TIMED,
            &[Knock("10.0.0.1 7000 8000"), Pause(2300), Fence],
            &["10.0.0.2: door: command timeout"],
        )
        .watching_log("command timeout"),
        said(
            "several_sources_open_and_close",
            TIMED,
            &[
                Pktgen("--from 10.0.0.10 --ports 7000,8000"),
                Pause(800),
                Pktgen("--from 10.0.0.11 --ports 7000,8000"),
                Pause(2300),
            ],
            &["open 10.0.0.10", "open 10.0.0.11", "close 10.0.0.10", "close 10.0.0.11"],
        ),
        said("commands_for_ipv4", ALL_FOUR, &[v4, Pause(1300)], &["open4 10.0.0.2", "close4 10.0.0.2"]),
        said("commands_for_ipv6", ALL_FOUR, &[v6, Pause(1300)], &["open6 fd00::2", "close6 fd00::2"]),
        said("plain_commands_over_ipv6", PLAIN, &[v6, Pause(1300)], &["open fd00::2", "close fd00::2"]),
        said("one_command_for_ipv6", HALF, &[v6, Pause(1300)], &["open6 fd00::2", "close fd00::2"]),
        said("an_empty_command_for_ipv6", NONE, &[v6, Fence], &[]),
        said(
            "the_other_names_of_directives",
            "[door]\nSEQUENCE = 1000,2000\nTimeout = 10\nCommand = echo plain >> %DIR%/said\n\
             COMMAND_6 = echo six >> %DIR%/said\n",
            &[v4, Pause(300), v6],
            &["plain", "six"],
        ),
        said(
            "without_a_start_command_there_is_nothing_to_close",
            TO_CLOSE,
            &[Knock("10.0.0.1 1000 2000 1001 2001"), Pause(2500)],
            &[],
        ),
        Scenario::same(
            "commands_that_fail",
            command("exit 3"),
            &[v4],
            &["door: command returned non-zero status code (3)"],
        )
        .watching_log("returned")
        .differs(&["door: command returned non-zero status code (3) (open for 10.0.0.2)"], NAMED),
        Scenario::same(
            "a_command_that_does_not_exist",
            command("no-such-program"),
            &[v4],
            &["door: command returned non-zero status code (127)"],
        )
        .watching_log("returned")
        .differs(&["door: command returned non-zero status code (127) (open for 10.0.0.2)"], NAMED),
        Scenario::same(
            "a_command_that_a_signal_ends",
            command("kill -9 $$"),
            &[v4],
            &["door: command returned non-zero status code (0)"],
        )
        .watching_log("command ")
        .differs(&["door: command was killed by signal 9 (open for 10.0.0.2)"], "the line has the cause"),
        said("a_network_in_a_command", &command("echo %NET% > %DIR%/said"), &[v4], &["%NET%"])
            .differs(&["10.0.0.2/32"], "a door can open for clients whose address changes"),
        said(
            "the_environment_of_commands",
            &command("echo [$PORTKNOCK_EVENT] [$PORTKNOCK_DOOR] [$PORTKNOCK_IP] > %DIR%/said"),
            &[v4],
            &["[] [] []"],
        )
        .differs(&["[open] [door] [10.0.0.2]"], "scripts do not need to parse arguments"),
        said(
            "a_door_that_is_open_already",
            &TIMED.replace("= 2", "= 4"),
            &[Knock("10.0.0.1 7000 8000"), Pause(1500), Knock("10.0.0.1 7000 8000"), Pause(4500)],
            &["open 10.0.0.2", "open 10.0.0.2", "close 10.0.0.2", "close 10.0.0.2"],
        )
        .differs(
            &["open 10.0.0.2", "close 10.0.0.2", "open 10.0.0.2", "close 10.0.0.2"],
            "firewall rules would accumulate",
        ),
        said(
            "closing_after_no_time",
            &TIMED.replace("= 2", "= 0"),
            &[Knock("10.0.0.1 7000 8000")],
            &["open 10.0.0.2", "close 10.0.0.2"],
        )
        .differs(
            &["refuses to start", "PK038"],
            "the door would never be open; leave out the stop command, or the door",
        ),
    ]
}
