//! SIGHUP: a valid file takes effect without disturbing attempts and openings, an invalid one
//! changes nothing.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Lab, WAIT_TIMEOUT, wait_until};

/// A door whose command records that it ran.
fn door(name: &str, sequence: &str) -> String {
    format!(
        "[{name}]\nsequence = {sequence}\nseq_timeout = 30\ntcpflags = syn\ncommand = echo {name} %IP% >> %DIR%/opened\n"
    )
}

fn opened(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.path("opened")).unwrap_or_default()
}

/// Asserts that a knock opens this door of the server for the client.
fn opens(lab: &Lab, daemon: &Daemon, door: &str, steps: &str) {
    let line = format!("10.0.0.2: {door}: OPEN SESAME");
    let before = daemon.count(&line);
    lab.knock_from("10.0.0.2", "10.0.0.1", steps);
    daemon.wait_for_count(&line, before + 1, WAIT_TIMEOUT);
}

/// Asserts that a knock opens nothing.
fn does_not_open(lab: &Lab, daemon: &Daemon, steps: &str) {
    let before = daemon.count("OPEN SESAME");
    lab.knock_from("10.0.0.2", "10.0.0.1", steps);
    sleep(Duration::from_millis(300));
    assert_eq!(daemon.count("OPEN SESAME"), before, "{}", daemon.log());
}

#[test]
fn doors_are_added_removed_and_changed_while_attempts_at_the_others_continue() {
    let lab = Lab::pair();
    lab.client.add_address("eth0", "10.0.0.3/24");
    let (stays, goes) = (door("stays", "1000,5000,3000"), door("goes", "1100,5100,3100"));
    let daemon = Daemon::portknockd(&lab.server, &[&goes, &stays, &*door("changes", "1200,5200,3200")].concat());
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000 5000");
    lab.knock_from("10.0.0.3", "10.0.0.1", "1200 5200");
    daemon.wait_for("10.0.0.2: stays: Stage 2");
    daemon.wait_for("10.0.0.3: changes: Stage 2");

    // The doors change their order, too.
    daemon.reload(&[&*door("changes", "1200,5200,3300"), &*door("comes", "1300,5300"), &stays].concat());
    daemon.wait_for("10.0.0.3: changes: attempt failed: reload (stage 2)");
    assert_eq!(daemon.count("attempt failed"), 1, "{}", daemon.log());
    lab.knock_from("10.0.0.2", "10.0.0.1", "3000");
    daemon.wait_for("10.0.0.2: stays: OPEN SESAME");
    does_not_open(&lab, &daemon, "1100 5100 3100");
    does_not_open(&lab, &daemon, "1200 5200 3200");
    // The kernel's filter lets through ports that no door had before.
    opens(&lab, &daemon, "comes", "1300 5300");
    opens(&lab, &daemon, "changes", "1200 5200 3300");
}

#[test]
fn an_invalid_file_changes_nothing_and_all_its_errors_are_logged() {
    let lab = Lab::pair();
    let good = door("door", "1000,5000,3000");
    let daemon = Daemon::portknockd(&lab.server, &good);
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000");
    daemon.wait_for("10.0.0.2: door: Stage 1");

    let bad = format!("{good}[bad]\nsequence = 1,0\nseq_timeout = soon\nnonsense = 1\n");
    daemon.rewrite(&bad);
    daemon.refuse_reload();
    for line in ["knockd.conf:10:14: error[PK028]", "knockd.conf:11:15: error[PK036]", "knockd.conf:12:1: error[PK014]"]
    {
        assert_eq!(daemon.count(line), 1, "`{line}` in\n{}", daemon.log());
    }
    lab.knock_from("10.0.0.2", "10.0.0.1", "5000 3000");
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
    assert_eq!(daemon.count("attempt failed"), 0, "{}", daemon.log());

    daemon.reload(&[&good, &*door("later", "1300,5300")].concat());
    opens(&lab, &daemon, "later", "1300 5300");
}

#[test]
fn an_unreadable_file_changes_nothing() {
    let lab = Lab::pair();
    let good = door("door", "1000,5000,3000");
    let daemon = Daemon::portknockd(&lab.server, &good);
    let file = daemon.path("knockd.conf");
    fs::remove_file(&file).unwrap();
    daemon.refuse_reload();
    daemon.wait_for("knockd.conf: No such file or directory");
    fs::create_dir(&file).unwrap();
    daemon.refuse_reload();
    daemon.wait_for("knockd.conf: is a directory");
    fs::remove_dir(&file).unwrap();
    opens(&lab, &daemon, "door", "1000 5000 3000");
    daemon.reload(&door("other", "1300,5300"));
    opens(&lab, &daemon, "other", "1300 5300");
}

#[test]
fn an_opening_outlives_its_door_and_is_closed_on_time() {
    let lab = Lab::pair();
    let with_stop = |name: &str| {
        let stop = "stop_command = echo closed %IP% >> %DIR%/opened\ncmd_timeout = 3\n";
        door(name, "1000,5000,3000") + stop
    };
    let daemon = Daemon::portknockd(&lab.server, &with_stop("door"));
    opens(&lab, &daemon, "door", "1000 5000 3000");
    let since = Instant::now();
    daemon.reload(&door("other", "1300,5300"));
    assert_eq!(daemon.count("command timeout"), 0, "{}", daemon.log());
    daemon.wait_for("10.0.0.2: door: command timeout");
    let after = since.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&after), "{after:?}");
    let all = "door 10.0.0.2\nclosed 10.0.0.2\n";
    assert!(wait_until(WAIT_TIMEOUT, || opened(&daemon) == all), "{}", opened(&daemon));
}

#[test]
fn an_opening_keeps_the_stop_command_from_its_start() {
    let lab = Lab::pair();
    let with_stop = |word: &str| {
        let stop = format!("stop_command = echo {word} >> %DIR%/opened\ncmd_timeout = 2\n");
        door("door", "1000,5000,3000") + &stop
    };
    let daemon = Daemon::portknockd(&lab.server, &with_stop("old"));
    opens(&lab, &daemon, "door", "1000 5000 3000");
    daemon.reload(&with_stop("new"));
    let all = "door 10.0.0.2\nold\n";
    assert!(wait_until(WAIT_TIMEOUT, || opened(&daemon) == all), "{}", opened(&daemon));
}

#[test]
fn the_log_file_is_opened_again_after_it_was_moved_away() {
    let lab = Lab::pair();
    let good = door("door", "1000,5000,3000");
    let daemon = Daemon::portknockd(&lab.server, &good);
    let old = || fs::read_to_string(daemon.path("log.1")).unwrap();
    fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000");
    assert!(wait_until(WAIT_TIMEOUT, || old().contains("10.0.0.2: door: Stage 1")), "{}", old());
    assert!(!daemon.path("log").exists());
    daemon.reload(&good);
    lab.knock_from("10.0.0.2", "10.0.0.1", "5000");
    daemon.wait_for("10.0.0.2: door: Stage 2");
    assert!(!old().contains("Stage 2"), "{}", old());

    // An invalid configuration does not make the daemon continue with the file that was moved away.
    fs::rename(daemon.path("log"), daemon.path("log.2")).unwrap();
    daemon.rewrite("[bad]\n");
    daemon.refuse_reload();
    daemon.wait_for("knockd.conf:4:1: error[PK023]");
}

#[test]
fn the_interfaces_follow_the_file() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    let config = |interfaces: &str| format!("[options]\nInterface = {interfaces}\n{}", door("door", "1000,5000,3000"));
    let daemon = Daemon::portknockd_with(&lab.server, &config("eth0"), &[]);
    let knock = |n: &str, steps: &str| lab.knock_from(&format!("10.0.{n}.2"), &format!("10.0.{n}.1"), steps);
    knock("0", "1000");
    daemon.wait_for("10.0.0.2: door: Stage 1");

    daemon.reload(&config("eth1"));
    daemon.wait_for("] listening on eth1");
    knock("0", "5000 3000");
    knock("7", "1000 5000 3000");
    daemon.wait_for("10.0.7.2: door: OPEN SESAME");
    assert_eq!(daemon.count("10.0.0.2: door: Stage 2"), 0, "{}", daemon.log());

    // The attempt from before has waited.
    daemon.reload(&config("eth0,eth1"));
    knock("0", "5000 3000");
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
    knock("7", "1000 5000 3000");
    daemon.wait_for_count("10.0.7.2: door: OPEN SESAME", 2, WAIT_TIMEOUT);
}

#[test]
fn an_interface_of_the_command_line_is_kept() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door("door", "1000,5000,3000"));
    daemon.reload(&format!("[options]\nInterface = eth1\n{}", door("door", "1300,5300")));
    opens(&lab, &daemon, "door", "1300 5300");
}

#[test]
fn one_time_sequences_continue_at_their_position() {
    let lab = Lab::pair();
    let one_time = door("door", "1").replace("sequence = 1", "one_time_sequences = %DIR%/once");
    let daemon = Daemon::portknockd(&lab.server, &door("other", "9000,1"));
    let file = daemon.path("once");
    fs::write(&file, " 1000,5000,3000\n 1100,5100,3100\n 1200,5200,3200\n").unwrap();
    daemon.reload(&one_time);
    opens(&lab, &daemon, "door", "1000 5000 3000");

    lab.knock_from("10.0.0.2", "10.0.0.1", "1100");
    daemon.wait_for("10.0.0.2: door: Stage 1");
    daemon.reload(&one_time);
    assert_eq!(daemon.count("attempt failed"), 0, "{}", daemon.log());
    opens(&lab, &daemon, "door", "5100 3100");
    does_not_open(&lab, &daemon, "1000 5000 3000");
    does_not_open(&lab, &daemon, "1100 5100 3100");
    // Such a door opens at most once a second.
    sleep(Duration::from_millis(1100));
    opens(&lab, &daemon, "door", "1200 5200 3200");
    daemon.wait_for("door: no more sequences in");

    // A consumed file is an error, a refilled one is not.
    daemon.refuse_reload();
    assert!(daemon.count("error[PK052]") == 1, "{}", daemon.log());
    fs::write(&file, "#1000,5000,3000\n 1300,5300,3300\n").unwrap();
    daemon.reload(&one_time);
    opens(&lab, &daemon, "door", "1300 5300 3300");
}

#[test]
fn many_reloads_in_a_row_harm_nothing() {
    let lab = Lab::pair();
    let config = door("door", "1000,5000,3000") + "stop_command = echo closed >> %DIR%/opened\ncmd_timeout = 5\n";
    let daemon = Daemon::portknockd(&lab.server, &config);
    lab.client.add_address("eth0", "10.0.0.3/24");
    opens(&lab, &daemon, "door", "1000 5000 3000");
    lab.knock_from("10.0.0.3", "10.0.0.1", "1000");
    daemon.wait_for("10.0.0.3: door: Stage 1");
    assert!(wait_until(WAIT_TIMEOUT, || opened(&daemon) == "door 10.0.0.2\n"));
    // The command's descriptor is closed when the daemon has noticed its end.
    sleep(Duration::from_millis(200));
    let before = daemon.descriptors();
    lab.server.ok(&format!("for i in $(seq 100); do kill -HUP {}; sleep 0.01; done", daemon.id()));
    daemon.reload(&config);
    assert!(daemon.count("the configuration is reloaded") > 10, "{}", daemon.log());
    assert_eq!(daemon.descriptors(), before);
    lab.knock_from("10.0.0.3", "10.0.0.1", "5000 3000");
    daemon.wait_for("10.0.0.3: door: OPEN SESAME");
    daemon.wait_for("10.0.0.3: door: command timeout");
    assert_eq!(daemon.count("10.0.0.2: door: command timeout"), 1, "{}", daemon.log());
    assert_eq!(daemon.count("attempt failed"), 0, "{}", daemon.log());
}

#[test]
fn a_sequence_used_while_the_doors_change_their_order_opens_once_and_its_own_door() {
    let lab = Lab::pair();
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("sequences");
    let line = |number: u16| format!("{},{}", 2000 + 2 * number, 2001 + 2 * number);
    fs::write(&file, (0..16).map(|number| line(number) + "\n").collect::<String>()).unwrap();
    let one_time = format!("[door]\none_time_sequences = {}\ncommand = true\n", file.display());
    let other = door("other", "1000,500");
    let orders = [format!("{one_time}{other}"), format!("{other}{one_time}")];
    let daemon = Daemon::portknockd(&lab.server, &orders[0]);
    std::thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            for number in 0..15 {
                let steps = line(number).replace(',', " ");
                opens(&lab, &daemon, "door", &steps);
                // Such a door opens at most once a second.
                sleep(Duration::from_millis(1050));
                // It is consumed.
                lab.knock_from("10.0.0.2", "10.0.0.1", &steps);
            }
        });
        for order in orders.iter().cycle().skip(1).take_while(|_| !knocking.is_finished()) {
            daemon.reload(order);
        }
    });
    assert_eq!(daemon.count("door: OPEN SESAME"), 15, "{}", daemon.log());
    assert_eq!(daemon.count("was changed after it was read") + daemon.count("other: "), 0, "{}", daemon.log());
}
