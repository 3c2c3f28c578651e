//! The commands of the manual for a first door with keys, exactly as printed.

use std::path::Path;
use std::process::Command;

use portknock_tests::{Lab, Listener, Output, PortState, Process, binary, in_parallel};
use tempfile::TempDir;

const MANUAL: &str = include_str!("../../../docs/installation.md");

/// Makes a file system in which the commands change nothing outside, with the names and the group that
/// they use. Programs that reach the other host or the supervisor of services are replaced.
const PREPARE: &str = r#"
set -e
mount -t tmpfs tmpfs %DIR%
mkdir %DIR%/upper %DIR%/work %DIR%/bin %DIR%/home
mount -t overlay -o lowerdir=/etc,upperdir=%DIR%/upper,workdir=%DIR%/work overlay /etc
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /var/log
mount -t tmpfs -o mode=755 tmpfs /var/tmp
mkdir -p /run/portknock
mount -t tmpfs -o mode=755 tmpfs /run/portknock
getent group portknock >/dev/null || echo portknock:x:54321: >>/etc/group
echo 10.0.0.1 server.example >>/etc/hosts
ln -s %PORTKNOCK% %PORTKNOCKD% %DIR%/bin
cat >%DIR%/bin/ssh <<'END'
#!/bin/sh
[ "$1" = root@server.example ] && shift && exec nsenter --net=/run/netns/%SERVER% sh -c "$*"
END
cat >%DIR%/bin/systemctl <<'END'
#!/bin/sh
[ "$*" = 'enable --now portknockd' ] && exec portknockd -d -p %DIR%/pid
END
chmod +x %DIR%/bin/ssh %DIR%/bin/systemctl
echo ready
exec sleep 1000
"#;

fn commands(heading: &str) -> Vec<(char, &'static str)> {
    let section = MANUAL.split(&format!("## {heading}\n")).nth(1).expect("the manual has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let line = |line: &'static str| {
        let (prompt, command) = line.split_once(' ').expect("a prompt and a command");
        (prompt.chars().next().expect("a prompt"), command)
    };
    blocks.flat_map(str::lines).map(line).collect()
}

/// Both sections at the same time, because their last commands wait until the daemon has a complete record.
#[test]
fn the_commands_of_the_manual_lead_to_doors_that_recorded_knocks_do_not_open() {
    let headings = ["A door that a recorded knock does not open", "A door that an encrypted packet opens"];
    in_parallel(headings.len(), &headings, |heading| follow(heading));
}

/// Runs the commands of a section, the last of which opens the port.
fn follow(heading: &str) {
    let commands = commands(heading);
    assert!((3..=6).contains(&commands.len()), "{commands:?}");
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let directory = TempDir::new().expect("a temporary directory");
    let text = |path: &Path| path.to_str().expect("a plain name").to_owned();
    let dir = text(directory.path());
    let script = PREPARE
        .replace("%DIR%", &dir)
        .replace("%PORTKNOCK%", &text(&binary("portknock")))
        .replace("%PORTKNOCKD%", &text(&binary("portknockd")))
        .replace("%SERVER%", lab.server.namespace());
    let files = Process::spawn(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    files.wait_for("ready");
    let run = |host: char, command: &str| {
        let host = if host == '#' { &lab.server } else { &lab.client };
        let id = files.id().to_string();
        let script = format!("PATH={dir}/bin:$PATH HOME={dir}/home && export PATH HOME && cd && {command}");
        Output::of(
            Command::new("nsenter")
                .args(["-t", &id, "--mount", "nsenter"])
                .arg(format!("--net=/run/netns/{}", host.namespace()))
                .args(["sh", "-c", &script]),
        )
    };
    let end = End(&run, &dir);
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
    let (knock, setup) = commands.split_last().expect("commands");
    for (prompt, command) in setup {
        let output = run(*prompt, command);
        assert_eq!(output.code, Some(0), "{prompt} {command}\n{output:?}");
    }
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Closed);
    let output = run(knock.0, knock.1);
    assert_eq!(output.code, Some(0), "{}\n{output:?}\n{:?}", knock.1, run('#', "portknock status"));
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
    assert_eq!(lab.server.tcp_state("10.0.0.1", 22), PortState::Open);
    let status = run('#', "portknock status").stdout;
    assert!(status.contains("10.0.0.2"), "{status}");
    drop(end);
}

/// Ends the daemon that the commands have started.
struct End<'a>(&'a dyn Fn(char, &str) -> Output, &'a str);

impl Drop for End<'_> {
    fn drop(&mut self) {
        (self.0)('#', &format!("kill $(cat {}/pid)", self.1));
    }
}
