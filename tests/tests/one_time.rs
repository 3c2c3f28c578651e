//! One-time sequences: each line of the file opens the door once, whatever happens.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use portknock_tests::{Daemon, Lab, WAIT_TIMEOUT, binary, require, wait_until};
use tempfile::TempDir;

/// A door without one-time sequences, which shows that the daemon continues, and that it has read
/// all earlier packets.
const BELL: &str = "
[bell]
    sequence = 1000,500
    command  = true
";

/// A file of sequences in its own directory.
struct Sequences {
    directory: TempDir,
    lab: Lab,
}

impl Sequences {
    fn new(lines: &str) -> Self {
        let sequences = Self { directory: TempDir::new().expect("a temporary directory"), lab: Lab::pair() };
        sequences.write(lines);
        sequences
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("sequences")
    }

    fn write(&self, lines: &str) {
        fs::write(self.path(), lines).expect("the directory can be written");
    }

    fn read(&self) -> String {
        fs::read_to_string(self.path()).expect("the file is there")
    }

    /// A door with this file, which records in `done` the client that opens it and the file at that
    /// time, and the bell.
    fn config(&self) -> String {
        let file = self.path();
        let file = file.display();
        format!(
            "[door]\n one_time_sequences = {file}\n seq_timeout = 10\n tcpflags = syn\n \
             command = (echo open %IP%; cat {file}) >> %DIR%/done\n{BELL}"
        )
    }

    /// The same door with a stop command that runs after two seconds.
    fn config_that_closes(&self) -> String {
        let stop = "stop_command = echo close %IP% >> %DIR%/done\n cmd_timeout = 2\n";
        self.config().replace(BELL, &format!(" {stop}{BELL}"))
    }

    fn start(&self) -> Daemon {
        Daemon::portknockd(&self.lab.server, &self.config())
    }

    fn knock(&self, ports: &str) {
        self.lab.client.ok(&format!("knock 10.0.0.1 {ports}"));
    }

    /// Knocks, and asserts that this opens nothing.
    fn in_vain(&self, daemon: &Daemon, ports: &str) {
        let done = daemon.read("done");
        self.knock(ports);
        self.ring(daemon);
        sleep(Duration::from_millis(200));
        assert_eq!(daemon.read("done"), done, "{ports} opened the door\n{}", daemon.log());
    }

    /// Asserts that the other door works, which means that all earlier packets have been read.
    fn ring(&self, daemon: &Daemon) {
        let before = daemon.count("bell: OPEN SESAME");
        self.knock("1000 500");
        daemon.wait_for_count("bell: OPEN SESAME", before + 1, WAIT_TIMEOUT);
    }

    /// Runs this with the file read-only for the daemon.
    fn protected(&self, daemon: &Daemon, run: impl FnOnce()) {
        let (path, mounts) = (self.path(), format!("nsenter -t {} -m", daemon.id()));
        let path = path.display();
        self.lab.server.ok(&format!("{mounts} mount --bind {path} {path}; {mounts} mount -o remount,ro,bind {path}"));
        run();
        self.lab.server.ok(&format!("{mounts} umount {path}"));
    }
}

/// Waits until a door that was just used may be used again.
fn pause() {
    sleep(Duration::from_millis(1100));
}

fn becomes(daemon: &Daemon, done: &str) {
    let reached = wait_until(WAIT_TIMEOUT, || daemon.read("done") == done);
    assert!(reached, "`done` is not\n{done}but\n{}\n{}", daemon.read("done"), daemon.log());
}

#[test]
fn each_line_opens_once_and_is_marked_before_its_command_runs() {
    let door = Sequences::new("# mine\n 7000,8000\n\n 7100:udp,8100\n 7200,8200\n");
    let daemon = door.start();
    door.knock("7000 8000");
    let mut done = "open 10.0.0.2\n# mine\n#7000,8000\n\n 7100:udp,8100\n 7200,8200\n".to_string();
    becomes(&daemon, &done);
    door.in_vain(&daemon, "7000 8000");
    door.in_vain(&daemon, "7200 8200");
    pause();
    door.knock("7100:udp 8100");
    done += "open 10.0.0.2\n# mine\n#7000,8000\n\n#7100:udp,8100\n 7200,8200\n";
    becomes(&daemon, &done);
    assert_eq!(daemon.count("no more sequences"), 0);
    pause();
    door.knock("7200 8200");
    done += "open 10.0.0.2\n# mine\n#7000,8000\n\n#7100:udp,8100\n#7200,8200\n";
    becomes(&daemon, &done);
    daemon.wait_for(&format!("door: no more sequences in {}; the door accepts no more knocks", door.path().display()));
    for ports in ["7000 8000", "7100:udp 8100", "7200 8200"] {
        door.in_vain(&daemon, ports);
    }
    assert_eq!(daemon.count("10.0.0.2: door: Stage"), 6, "{}", daemon.log());
}

#[test]
fn an_attempt_of_another_client_ends_when_the_line_is_used() {
    // The second line begins like the first, so that the attempt would fit it too.
    let door = Sequences::new(" 7000,8000\n 7000,9000\n");
    door.lab.client.add_address("eth0", "10.0.0.3/24");
    let daemon = door.start();
    let other = |port: u16| {
        let knock = binary("portknock");
        door.lab.client.ok(&format!("{} knock --source 10.0.0.3 10.0.0.1 {port}", knock.display()));
    };
    other(7000);
    daemon.wait_for("10.0.0.3: door: Stage 1");
    door.knock("7000 8000");
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
    other(8000);
    other(9000);
    door.ring(&daemon);
    assert_eq!(daemon.count("10.0.0.3: door: OPEN SESAME"), 0, "{}", daemon.log());
    pause();
    other(7000);
    other(9000);
    daemon.wait_for("10.0.0.3: door: OPEN SESAME");
}

#[test]
fn a_line_used_while_the_door_is_open_is_consumed_and_moves_the_closing_time() {
    let door = Sequences::new(" 7000,8000\n 7100,8100\n");
    let daemon = Daemon::portknockd(&door.lab.server, &door.config_that_closes());
    door.knock("7000 8000");
    daemon.wait_for("OPEN SESAME");
    pause();
    door.knock("7100 8100");
    let opened = "open 10.0.0.2\n#7000,8000\n 7100,8100\nclose 10.0.0.2\n";
    becomes(&daemon, &format!("{opened}open 10.0.0.2\n#7000,8000\n#7100,8100\nclose 10.0.0.2\n"));
}

#[test]
fn a_second_use_within_a_second_is_refused_and_costs_no_line() {
    let door = Sequences::new(" 7000,8000\n 7100,8100\n");
    let daemon = door.start();
    door.knock("7000 8000");
    daemon.wait_for("door: OPEN SESAME");
    door.knock("7100 8100");
    daemon.wait_for("10.0.0.2: door: complete knock refused, this one-time door was opened less than a second ago");
    assert_eq!(door.read(), "#7000,8000\n 7100,8100\n");
    pause();
    door.knock("7100 8100");
    becomes(&daemon, "open 10.0.0.2\n#7000,8000\n 7100,8100\nopen 10.0.0.2\n#7000,8000\n#7100,8100\n");
}

#[test]
fn a_consumed_or_missing_file_is_refused_by_its_name() {
    let door = Sequences::new("#7000,8000\n\n");
    let refused = || {
        let output = Daemon::run_portknockd(&door.lab.server, &door.config(), &["-i", "eth0"]);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains(&door.path().display().to_string()), "{}", output.stderr);
        output.stderr
    };
    let used_up = refused();
    assert!(used_up.contains("no unused sequence is left in"), "{used_up}");
    fs::remove_file(door.path()).expect("it is there");
    let missing = refused();
    assert!(missing.contains("No such file"), "{missing}");
}

#[test]
fn after_a_crash_at_any_step_a_used_line_is_never_valid_again_and_the_door_is_closed() {
    require("strace");
    let mut seen = Vec::new();
    // The writes and syncs of the file and of the state file, and the starts of commands.
    for calls in ["pwrite64", "fdatasync", "clone,clone3,vfork"] {
        for nth in 1..=2 {
            let door = Sequences::new(" 7000,8000\n 7100,8100\n");
            // The first started process is the reader; then the three threads of the log follow.
            let when = if calls.starts_with("clone") { nth + 4 } else { nth };
            // With an error, so that the call has no effect.
            let inject = format!("--inject={calls}:error=EIO:signal=KILL:when={when}");
            let strace = ["strace", "-D", "-q", "-o", "%DIR%/trace", "-e", "signal=none", &inject];
            let mut daemon = Daemon::portknockd_under(&door.lab.server, &strace, &door.config_that_closes());
            door.knock("7000 8000");
            assert!(daemon.exit_within(WAIT_TIMEOUT).is_some(), "no crash at {calls} {nth}:\n{}", daemon.log());
            let marked = door.read().starts_with('#');
            let opened = daemon.read("done").contains("open");
            assert!(marked || !opened, "{calls} {nth}: open, but the line is not marked");
            seen.push((marked, opened));

            daemon.restart(&door.lab.server, &["-i", "eth0"]);
            if opened {
                becomes(&daemon, "open 10.0.0.2\n#7000,8000\n 7100,8100\nclose 10.0.0.2\n");
            }
            if marked {
                door.in_vain(&daemon, "7000 8000");
            } else {
                door.knock("7000 8000");
                daemon.wait_for_count("10.0.0.2: door: OPEN SESAME", 1, WAIT_TIMEOUT);
            }
            let closed = wait_until(WAIT_TIMEOUT, || {
                let done = daemon.read("done");
                done.matches("open").count() <= done.matches("close").count()
            });
            assert!(closed, "{calls} {nth}: {}", daemon.read("done"));
            // A one-time door opens at most once a second.
            sleep(Duration::from_millis(1100));
            door.knock("7100 8100");
            assert!(wait_until(WAIT_TIMEOUT, || door.read() == "#7000,8000\n#7100,8100\n"), "{}", door.read());
        }
    }
    // Not yet marked; marked, but not opened; opened.
    let count = |marked, opened| seen.iter().filter(|&&state| state == (marked, opened)).count();
    assert_eq!([count(false, false), count(true, false), count(true, true)], [1, 4, 1], "{seen:?}");
}

#[test]
fn a_line_that_cannot_be_marked_opens_nothing_and_disables_the_door_until_a_reload() {
    let door = Sequences::new(" 7000,8000\n 7100,8100\n");
    let daemon = Daemon::portknockd(&door.lab.server, &door.config_that_closes());
    door.protected(&daemon, || {
        door.in_vain(&daemon, "7000 8000");
        daemon.wait_for(&format!(
            "10.0.0.2: door: cannot mark line 1 of {} as used: Read-only file system (os error 30); its command does \
             not run, and the door stays closed until a reload",
            door.path().display()
        ));
        door.in_vain(&daemon, "7000 8000");
        door.in_vain(&daemon, "7100 8100");
    });
    assert_eq!(daemon.count("door: OPEN SESAME"), 0, "{}", daemon.log());
    sleep(Duration::from_millis(2200));
    assert_eq!((daemon.read("done").as_str(), daemon.count("command timeout")), ("", 0), "nothing to close");
    daemon.signal("HUP");
    daemon.wait_for("the configuration is reloaded");
    door.knock("7000 8000");
    becomes(&daemon, "open 10.0.0.2\n#7000,8000\n 7100,8100\nclose 10.0.0.2\n");
}

#[test]
fn a_line_removed_by_an_edit_does_not_count_and_the_new_one_does() {
    let door = Sequences::new(" 7000,8000\n");
    let daemon = door.start();
    door.write(" 7100,8100\n 7200,8200\n");
    door.in_vain(&daemon, "7000 8000");
    daemon.wait_for("was changed after it was read; the knock with its sequence is ignored");
    assert_eq!(door.read(), " 7100,8100\n 7200,8200\n");
    pause();
    door.knock("7100 8100");
    becomes(&daemon, "open 10.0.0.2\n#7100,8100\n 7200,8200\n");
    // Lines that are added later are found without a reload.
    door.write("# a comment that moves the lines\n 7200,8200\n 7300,8300\n");
    pause();
    door.knock("7200 8200");
    door.ring(&daemon);
    pause();
    door.knock("7300 8300");
    door.ring(&daemon);
    assert_eq!(door.read(), "# a comment that moves the lines\n#7200,8200\n#7300,8300\n");
}

#[test]
fn a_line_that_begins_with_a_digit_is_marked_before_it() {
    let door = Sequences::new("7000,8000\n7100,8100\n");
    let mut daemon = door.start();
    door.knock("7000 8000");
    becomes(&daemon, "open 10.0.0.2\n#7000,8000\n7100,8100\n");
    daemon.kill();
    daemon.restart(&door.lab.server, &["-i", "eth0"]);
    door.knock("7100 8100");
    assert!(wait_until(WAIT_TIMEOUT, || door.read() == "#7000,8000\n#7100,8100\n"), "{}", door.read());
}

#[test]
fn the_file_goes_from_the_original_to_portknockd_and_back() {
    let door = Sequences::new(" 7000,8000\n 7100,8100\n 7200,8200\n 7300,8300\n");
    let step = |mut daemon: Daemon, ports: &str, file: &str| {
        door.knock(ports);
        assert!(wait_until(WAIT_TIMEOUT, || door.read() == file), "{}\n{}", door.read(), daemon.log());
        daemon.wait_for("10.0.0.2: door: OPEN SESAME");
        daemon.stop();
    };
    let theirs = || Daemon::knockd(&door.lab.server, &door.config());
    step(theirs(), "7000 8000", "#7000,8000\n 7100,8100\n 7200,8200\n 7300,8300\n");
    step(door.start(), "7100 8100", "#7000,8000\n#7100,8100\n 7200,8200\n 7300,8300\n");
    step(theirs(), "7200 8200", "#7000,8000\n#7100,8100\n#7200,8200\n 7300,8300\n");
    step(door.start(), "7300 8300", "#7000,8000\n#7100,8100\n#7200,8200\n#7300,8300\n");
}
