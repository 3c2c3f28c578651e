//! Options, signals, files and logs of both daemons, for behaviour that cannot be a row of the
//! table in `compliance.rs`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use portknock_tests::{Both, Daemon, Host, Lab, Output, Process, WAIT_TIMEOUT, binary, wait_until};

/// The texts of a log without their timestamps and without empty lines, which knockd writes after
/// some.
fn texts(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    log.lines().filter_map(|line| line.split_once("] ")).map(|(_, text)| text.trim().to_string()).collect()
}

#[test]
fn agree_on_the_log_lines() {
    let config =
        Both::DOOR.replace("command ", "stop_command = true\ncmd_timeout = 1\nstart_command ").replace("10", "5");
    let mut both = Both::with(&config);
    both.knock("10.0.0.1 7000 8000 9000");
    both.wait_for_count("running command", 2);
    both.knock("10.0.0.1 7000 8000");
    // knockd notices a timeout when the next packet arrives.
    sleep(Duration::from_secs(6));
    both.fence();
    both.wait_for_count("sequence timeout", 1);
    both.ours.stop();
    both.theirs.stop();
    assert_eq!(texts(&both.ours), texts(&both.theirs));
    assert_eq!(
        texts(&both.theirs)[..8],
        [
            "starting up, listening on eth0",
            "10.0.0.2: door: Stage 1",
            "10.0.0.2: door: Stage 2",
            "10.0.0.2: door: Stage 3",
            "10.0.0.2: door: OPEN SESAME",
            "door: running command: true",
            "10.0.0.2: door: command timeout",
            "door: running command: true",
        ]
    );
    assert_eq!(texts(&both.theirs).last().map(String::as_str), Some("shutting down"));
}

#[test]
fn agree_on_the_timestamp_in_the_time_zone() {
    let both = Both::with(Both::DOOR);
    let timestamps = both.daemons().map(|daemon| daemon.log().lines().next().map(|line| line[..18].to_string()));
    // A minute may have begun between the two starts.
    assert_eq!(
        timestamps[0].as_ref().map(|timestamp| &timestamp[..14]),
        timestamps[1].as_ref().map(|timestamp| &timestamp[..14])
    );
    let shape: String =
        timestamps[1].iter().flat_map(|s| s.chars()).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "[0000-00-00 00:00]");
}

#[test]
fn differ_on_empty_lines_in_the_log() {
    let both = Both::with(Both::DOOR);
    both.knock("10.0.0.1 7000 8000 9000");
    both.wait_for_count("running command", 1);
    assert!(wait_until(WAIT_TIMEOUT, || both.theirs.log().contains("running command: true\n\n")));
    assert!(!both.ours.log().contains("\n\n"));
}

#[test]
fn agree_on_the_verbose_lines_of_a_knock() {
    let both = Both::with(Both::DOOR);
    both.knock("10.0.0.1 7000 8000 9000");
    both.agree(&[Both::OPENED]);
    let shown = |daemon: &Daemon| -> Vec<String> {
        daemon.output().lines().filter(|line| line.starts_with("10.0.0.2: ")).map(str::to_string).collect()
    };
    assert!(wait_until(WAIT_TIMEOUT, || shown(&both.theirs).len() == 4), "{}", both.theirs.output());
    assert_eq!(shown(&both.ours), shown(&both.theirs));
}

#[test]
fn differ_on_the_debug_lines() {
    let both = Both::with_args(Lab::pair(), Both::DOOR, &["-i", "eth0", "-D"]);
    both.pktgen("--ports 7000");
    both.fence();
    let line = "tcp: 10.0.0.2:1024 -> 10.0.0.1:7000";
    let shown = |daemon: &Daemon| daemon.output().lines().find(|found| found.contains(line)).map(str::to_string);
    assert!(wait_until(WAIT_TIMEOUT, || shown(&both.theirs).is_some()), "{}", both.theirs.output());
    assert_eq!(shown(&both.ours).as_deref(), Some(line));
    assert!(shown(&both.theirs).is_some_and(|shown| shown.ends_with(&format!("{line} 54 bytes"))));
    assert_eq!((both.ours.count(line), both.theirs.count(line)), (1, 0));
    assert!(both.theirs.output().contains("config: door: sequence: 7000:tcp,8000:tcp,9000:tcp"));
    assert!(!both.ours.output().contains("config: "));
}

#[test]
fn differ_on_a_quiet_foreground() {
    let lab = Lab::pair();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("knockd.conf");
    fs::write(&config, Both::DOOR).unwrap();
    let state = format!("[options]\nStateFile = {}/state\n", directory.path().display());
    let config_of_ours = directory.path().join("portknockd.conf");
    fs::write(&config_of_ours, state + Both::DOOR).unwrap();
    let ours = run(&lab.server, &binary("portknockd").to_string_lossy(), &["-c", config_of_ours.to_str().unwrap()]);
    ours.wait_for("starting up, listening on eth0");
    let theirs = run(&lab.server, "knockd", &["-c", config.to_str().unwrap()]);
    sleep(Duration::from_millis(500));
    lab.client.ok("knock 10.0.0.1 7000 8000 9000");
    ours.wait_for("10.0.0.2: door: OPEN SESAME");
    sleep(Duration::from_millis(300));
    assert_eq!(theirs.output(), "");
}

fn run(host: &Host, program: &str, args: &[&str]) -> Process {
    Process::spawn(host.command(program).args(args))
}

#[test]
fn agree_on_a_new_log_file_at_a_reload() {
    let both = Both::with(Both::DOOR);
    for daemon in both.daemons() {
        fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
        daemon.signal("HUP");
    }
    both.ours.wait_for("the configuration is reloaded");
    assert!(wait_until(WAIT_TIMEOUT, || both.theirs.path("log").exists()));
    sleep(Duration::from_millis(300));
    both.knock("10.0.0.1 7000 8000 9000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn differ_on_a_missing_interface() {
    let lab = Lab::pair();
    let theirs = Daemon::run_knockd(&lab.server, Both::DOOR, &["-i", "eth7"]);
    assert_eq!(theirs.code, Some(1));
    assert!(theirs.stderr.contains("could not open eth7"), "{theirs:?}");
    let mut ours = Daemon::portknockd_with(&lab.server, Both::DOOR, &["-i", "eth7"]);
    ours.wait_for("waiting for eth7");
    lab.add_interface("eth7", 7);
    ours.wait_for("] listening on eth7");
    lab.client.ok("knock 10.0.7.1 7000 8000 9000");
    ours.wait_for("10.0.7.2: door: OPEN SESAME");
    assert_eq!(ours.stop().code(), Some(0));
}

#[test]
fn agree_on_an_interface_that_goes_down_and_up() {
    let both = Both::with(Both::DOOR);
    both.lab.server.set_up("eth0", false);
    both.ours.wait_for("no longer listening on eth0");
    both.lab.server.set_up("eth0", true);
    both.lab.client.set_up("eth0", true);
    both.ours.wait_for("] listening on eth0");
    both.knock("10.0.0.1 7000 8000 9000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn differ_on_an_interface_that_is_created_again() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    let mut both = Both::with_args(lab, Both::DOOR, &["-i", "eth1"]);
    both.lab.server.ok("ip link del eth1");
    both.ours.wait_for("no longer listening on eth1");
    let ended = both.theirs.exit_within(WAIT_TIMEOUT).expect("knockd ends");
    // For a service manager this is a regular stop.
    assert_eq!(ended.code(), Some(0));
    assert!(both.theirs.output().contains("The interface disappeared"), "{}", both.theirs.output());
    both.lab.add_interface("eth1", 7);
    both.ours.wait_for("] listening on eth1");
    both.lab.client.ok("knock 10.0.7.1 7000 8000 9000");
    both.ours.wait_for("10.0.7.2: door: OPEN SESAME");
}

#[test]
fn differ_on_the_exit_status_after_a_signal() {
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let Both { mut ours, mut theirs, .. } = Both::with(Both::DOOR);
        let [ours, theirs] = [&mut ours, &mut theirs].map(|daemon| {
            daemon.signal(signal);
            daemon.exit_within(WAIT_TIMEOUT).and_then(|status| status.code())
        });
        assert_eq!(ours, Some(0), "SIG{signal}");
        // This depends on timing: the status is 0 if the signal arrives at another moment.
        assert!(theirs == Some(number) || theirs == Some(0), "SIG{signal}: {theirs:?}");
    }
}

#[test]
fn exit_statuses_of_bad_usage_and_bad_files() {
    let lab = Lab::pair();
    for (args, config, ours, theirs) in [
        (&["-V"][..], Both::DOOR, 0, 0),
        (&["-h"], Both::DOOR, 0, 0),
        (&["-x"], Both::DOOR, 2, 0),
        (&["-i"], Both::DOOR, 2, 0),
        (&["-i", "eth0"], "[door]\nsequnce = 1\n", 1, 1),
        (&["-i", "eth0"], "[door]\ncommand = true\n", 1, 1),
    ] {
        assert_eq!(Daemon::run_portknockd(&lab.server, config, args).code, Some(ours), "{args:?} {config}");
        assert_eq!(Daemon::run_knockd(&lab.server, config, args).code, Some(theirs), "{args:?} {config}");
    }
}

#[test]
fn differ_on_options_that_contradict_the_file() {
    let lab = Lab::pair();
    for original in [false, true] {
        // Both get an option for the log.
        let config = format!("[options]\nLogFile = %DIR%/from-file\n{}", Both::DOOR);
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let state = if original { String::new() } else { "[options]\nStateFile = %DIR%/state\n".to_string() };
        fs::write(path("conf"), (state + &config).replace("%DIR%", directory.path().to_str().unwrap())).unwrap();
        let program = if original { "knockd".into() } else { binary("portknockd") };
        let mut command = lab.server.command(program);
        let _daemon = Process::spawn(command.args(["-i", "eth0", "-c"]).arg(path("conf")).arg("-g").arg(path("typed")));
        let (used, unused) = if original { ("from-file", "typed") } else { ("typed", "from-file") };
        let log = || fs::read_to_string(path(used)).unwrap_or_default();
        assert!(wait_until(WAIT_TIMEOUT, || log().contains("starting up, listening on eth0")), "{}", log());
        assert!(!path(unused).exists());
    }
}

#[test]
fn agree_on_the_background() {
    let lab = Lab::pair();
    for original in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let dir = directory.path().display();
        let state = if original { String::new() } else { format!("StateFile = {dir}/state\nControlSocket = none\n") };
        let options = format!("[options]\nLogFile = {dir}/log\nPidFile = {dir}/pid\nInterface = eth0\n{state}");
        fs::write(path("conf"), format!("{options}{}", Both::DOOR)).unwrap();
        let program = if original { "knockd".into() } else { binary("portknockd") };
        let output = Output::of(lab.server.command(program).args(["-d", "-c"]).arg(path("conf")));
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{output:?}");
        let pid = || fs::read_to_string(path("pid")).unwrap_or_default();
        assert!(wait_until(WAIT_TIMEOUT, || pid().ends_with('\n')));
        let log = || fs::read_to_string(path("log")).unwrap_or_default();
        assert!(wait_until(WAIT_TIMEOUT, || log().contains("starting up, listening on eth0")));
        lab.client.ok("knock 10.0.0.1 7000 8000 9000");
        assert!(wait_until(WAIT_TIMEOUT, || log().contains("10.0.0.2: door: OPEN SESAME")), "{}", log());
        let id = pid();
        assert_eq!(Output::of(Command::new("kill").arg(id.trim())).code, Some(0));
        assert!(wait_until(WAIT_TIMEOUT, || !path("pid").exists()), "the pid file stays");
        assert!(log().ends_with("shutting down\n"), "{}", log());
    }
}

#[test]
fn differ_on_the_name_in_the_system_log() {
    let lab = Lab::pair();
    let directory = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(directory.path().join("log")).unwrap();
    socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    for original in [false, true] {
        let dir = directory.path().display();
        let state = if original { String::new() } else { format!("StateFile = {dir}/state\nControlSocket = none\n") };
        fs::write(directory.path().join("conf"), format!("[options]\nUseSyslog\n{state}{}", Both::DOOR)).unwrap();
        let program = if original { "knockd".into() } else { binary("portknockd") };
        // A separate /dev, with the system log in it.
        let script = format!(
            "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 &&
             ln -s {dir}/log /dev/log && exec {} -i eth0 -c {dir}/conf",
            program.display()
        );
        let mut daemon = Process::spawn(lab.server.command("unshare").args(["--mount", "sh", "-c", &script]));
        let name = if original { "knockd".to_string() } else { format!("portknockd[{}]", daemon.id()) };
        let heard = || {
            let mut buffer = [0; 1024];
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {}", daemon.output()));
            String::from_utf8_lossy(&buffer[..length]).trim_end_matches(['\0', '\n']).to_string()
        };
        let line = heard();
        // Facility daemon, level notice: 3 * 8 + 5.
        assert!(line.starts_with("<29>"), "{line}");
        assert!(line.ends_with(&format!(" {name}: starting up, listening on eth0")), "{line}");
        lab.client.ok("knock 10.0.0.1 7000");
        let line = heard();
        assert!(line.ends_with(&format!(" {name}: 10.0.0.2: door: Stage 1")), "{line}");
        if original {
            // knockd logs in its signal handler, and deadlocks if the signal interrupts its logging.
            drop(daemon);
        } else {
            daemon.stop();
        }
        while socket.set_nonblocking(true).is_ok() && socket.recv(&mut [0; 1024]).is_ok() {}
        socket.set_nonblocking(false).unwrap();
    }
}
