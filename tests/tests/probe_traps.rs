//! What has led port scanners to wrong answers.

use std::net::IpAddr;

use portknock_tests::{Answer, Firewall, Host, Lab, Process, Scan, binary, nmap};

/// Ports that drop everything, in front of which somebody forges a SYN/ACK, an RST, and an ICMP error.
const FORGED: [u16; 3] = [81, 82, 83];

/// Forges answers with numbers that are so far from the SYN's.
fn forger(lab: &Lab, off_by: u32) -> Process {
    let mut command = lab.server.command(binary("forge"));
    command.args(["--interface", "eth0", "--off-by", &off_by.to_string()]);
    for (option, port) in ["--syn-ack", "--reset", "--unreachable"].into_iter().zip(FORGED) {
        command.args([option, &port.to_string()]);
    }
    let process = Process::spawn(&mut command);
    process.wait_for("ready");
    process
}

/// What nmap says of them.
fn nmap_of_forged(client: &Host, address: &str) -> [Answer; 3] {
    let address: IpAddr = address.parse().expect("an address");
    let seen = nmap(client, Scan::Syn, &[address], &FORGED.into());
    FORGED.map(|port| seen[&(address, port)].clone())
}

#[test]
fn forged_answers_change_nothing_though_nmap_believes_them() {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    let true_numbers = forger(&lab, 0);
    let [_, _, refused] = nmap_of_forged(&lab.client, "10.0.0.1");
    assert_eq!(refused, Answer::new("filtered", "port-unreach"));
    drop(true_numbers);
    let _wrong_numbers = forger(&lab, 0x4000_0000);
    for address in ["10.0.0.1", "fd00::1"] {
        let [open, closed, refused] = nmap_of_forged(&lab.client, address);
        assert_eq!(open, Answer::new("open", "syn-ack"), "{address}");
        assert_eq!(closed, Answer::new("closed", "reset"), "{address}");
        // It looks at the number that an ICMP error quotes, and at no other.
        assert_eq!(refused, Answer::new("filtered", "no-response"), "{address}");
    }
}
