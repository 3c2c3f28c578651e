"""The checks, in the order in which they run. Each check leaves the packages installed and the daemon running."""

import contextlib
import re
import time

from lab import SERVER, STRANGERS, WEB_KNOCK, Failure, until
from predictions import UNKNOWN, EVERYBODY, OPENS, STAYS_CLOSED, compare, door

FLUSHING = """#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    chain input { type filter hook input priority filter; policy accept; }
}
"""
EXPOSURE = 23  # tenths, as in tests/tests/packaging.rs
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def write(lab, path, text):
    lab.server(f"cat >{path} <<'END-OF-FILE'\n{text}\nEND-OF-FILE")


def restart_with(lab, config):
    lab.configure(config)
    lab.server("systemctl restart portknockd")
    lab.listening()


@check
def installation(lab):
    """every command of docs/installation.md, exactly as printed, on a fresh machine"""
    manual = lab.installation
    lab.provide_packages("old")
    lab.follow(manual, "Install")
    lab.configure(lab.the_manual_door(10))
    lab.server("iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT && iptables -A INPUT -p tcp --dport 443 -j DROP")
    lab.follow(manual, "Check it")
    lab.follow(manual, "Start it, now and at each boot")
    lab.listening()
    lab.strangers_see("closed")
    events = lab.machine.start("portknock events")
    lab.follow(manual, "Knock")
    lab.expect("closed")
    until("port 443 is filtered", lambda: lab.state(SERVER, 443) == "filtered")
    for number in (1, 2, 3):
        lab.follow(manual, "Watch it", number)
    lab.configure(lab.the_manual_door(600))
    lab.follow(manual, "Change it")
    lab.opens()
    lab.follow(manual, "Watch it", 5)
    until("closed by the command", lambda: lab.state(SERVER, 22) == "closed")
    lab.provide_packages("new")
    lab.follow(manual, "Upgrade and remove", 1)
    if not lab.machine.finish(events).output:
        raise Failure("portknock events printed nothing")
    lab.follow(manual, "Commands that need more")
    lab.listening()
    lab.opens()
    lab.server("systemctl stop portknockd")
    lab.follow(manual, "Without systemd")
    until("portknockd -d ends", lambda: not lab.daemons("portknockd"))
    lab.server("rm -r /etc/systemd/system/portknockd.service.d && systemctl daemon-reload")
    restart_with(lab, lab.the_manual_door(600))


@check
def unit(lab):
    """the units are hardened as required, and no unit failed"""
    for name in ("portknockd.service", "portknock-gate.service"):
        lab.server(f"systemd-analyze security --threshold={EXPOSURE} {name}")
    failed = lab.server("systemctl --failed --plain --no-legend")
    if failed:
        raise Failure(f"units failed: {failed}")


def reboots(lab):
    restart_with(lab, lab.the_manual_door(600))
    write(lab, "/etc/nftables.conf", FLUSHING)
    lab.server("systemctl enable nftables")
    with lab.never_open():
        lab.machine.reboot()
        lab.listening()
        time.sleep(1)
    lab.server("systemctl is-active portknock-gate")
    lab.opens()


@check
def reboot_with_networkd(lab):
    """a reboot, with systemd-networkd and with an nftables.service that flushes all rules: port 22 is open to no stranger"""
    reboots(lab)


@check
def reboot_with_ifupdown(lab):
    """a reboot, with ifupdown: port 22 is open to no stranger"""
    lab.server("systemctl disable systemd-networkd && systemctl enable networking")
    reboots(lab)


@check
def reboot_without_doors_with_open(lab):
    """a reboot without `open`: the early unit does nothing and succeeds"""
    restart_with(lab, lab.the_manual_door(600).replace("open ", "command = true #"))
    lab.machine.reboot()
    lab.listening()
    lab.server("systemctl is-active portknock-gate && ! nft list table inet portknock")
    restart_with(lab, lab.the_manual_door(600))


@check
def power_cut(lab):
    """a power cut while doors are open: no door is open afterwards, and knocks open doors again"""
    lab.opens(443, WEB_KNOCK)
    lab.server("sync")
    lab.machine.reset()
    lab.listening()
    lab.expect("closed")
    lab.server("iptables -S INPUT | grep -q -- '--dport 443 -j ACCEPT'", status=1)
    lab.opens()


def reloads(lab, command, restarts=()):
    """Runs the commands while a door is open: it stays open for the client, and closed to strangers throughout."""
    lab.opens()
    with lab.never_open():
        for one in [command, *restarts]:
            for _ in range(3):
                lab.server(one)
                time.sleep(0.3)
                lab.expect("open")
    lab.strangers_see("closed")
    if not lab.server("nft list table inet portknock | grep -c expires").strip():
        raise Failure("the openings lost their timeouts")


@check
def nftables_reload(lab):
    """nftables.service reloads, restarts and stops while a door is open, with the daemon and without it"""
    lab.server("systemctl start nftables")
    reloads(lab, "systemctl reload nftables", ["systemctl restart nftables"])
    with lab.never_open():
        lab.server("systemctl stop portknockd")
        for command in ("reload", "restart", "stop", "start"):
            lab.server(f"systemctl {command} nftables")
            time.sleep(0.3)
        lab.server("systemctl start portknockd")
        lab.listening()
    lab.server("systemctl stop portknockd portknock-gate && portknockd --remove-table && systemctl reload nftables")
    lab.server("nft list table inet portknock", status=1)
    lab.server("systemctl start portknockd")
    lab.listening()


@check
def ufw_reload(lab):
    """ufw starts and reloads while a door is open"""
    try:
        lab.server("ufw allow 22/tcp && ufw --force enable")
        reloads(lab, "ufw reload")
    finally:
        lab.server("ufw --force reset && systemctl stop ufw")


def firewalld(option):
    """firewall-cmd waits 25 s for a reply, and a reload lasts longer on a slow machine; then this waits for its end."""
    return f"{{ firewall-cmd {option} || {{ [ $? = 254 ] && until firewall-cmd --state; do sleep 1; done; }}; }}"


@check
def firewalld_reload(lab):
    """firewalld starts and reloads while a door is open"""
    try:
        lab.server("systemctl start firewalld && firewall-cmd --permanent --add-service=ssh && " + firewalld("--reload"))
        reloads(lab, firewalld("--reload"), [firewalld("--complete-reload")])
    finally:
        lab.server("systemctl stop firewalld")


ALLOWS = "from %IP% to any port 22 proto tcp"


@contextlib.contextmanager
def as_root_without_open(lab, end):
    """The service is root's, and no door has `open`, so that the firewall alone decides; `end` stops the firewall."""
    lab.follow(lab.installation, "Commands that need more")
    lab.server("systemctl stop portknockd portknock-gate && portknockd --remove-table")
    try:
        yield
    finally:
        lab.server(f"{end}; rm -r /etc/systemd/system/portknockd.service.d && systemctl daemon-reload")
        restart_with(lab, lab.the_manual_door(600))


@check
def ufw_predictions(lab):
    """doors whose commands are ufw's: `portknock rules --check` predicts what a knock does"""
    off = "ufw --force reset >/dev/null && ufw --force enable"
    denies = f"{off} && ufw deny 22/tcp"
    with as_root_without_open(lab, "ufw --force reset; systemctl stop ufw"):
        compare(lab, off, door(f"ufw allow {ALLOWS}"), [OPENS, OPENS])
        compare(lab, off, door(f"ufw insert 1 allow {ALLOWS}"), [STAYS_CLOSED, STAYS_CLOSED])
        compare(lab, denies, door(f"ufw allow {ALLOWS}"), [STAYS_CLOSED, STAYS_CLOSED])
        compare(lab, denies, door(f"ufw prepend allow {ALLOWS}"), [OPENS, OPENS])
        compare(lab, denies, door(f"ufw insert 1 allow {ALLOWS}"), [OPENS, STAYS_CLOSED])
        compare(lab, denies, door(f"ufw insert 2 allow {ALLOWS}"), [UNKNOWN, UNKNOWN])
        compare(lab, f"{off} && ufw deny from fd00::9", door(f"ufw insert 1 allow {ALLOWS}"), [STAYS_CLOSED, OPENS])
        # The limit for IPv6 is complete after a reload only.
        limits = f"{off} && ufw limit 22/tcp && ufw reload"
        compare(lab, limits, door(f"ufw prepend allow {ALLOWS}"), [EVERYBODY, EVERYBODY])


def rich_rule(family):
    return f"""'rule family="{family}" source address="%IP%" port port="22" protocol="tcp" accept'"""


@check
def firewalld_predictions(lab):
    """doors whose commands are firewalld's: `portknock rules --check` predicts what a knock does"""
    reload = firewalld("--reload")
    four = f"firewall-cmd --zone=public --timeout=600 --add-rich-rule={rich_rule('ipv4')}"
    with as_root_without_open(lab, "systemctl stop firewalld"):
        lab.server("systemctl start firewalld && firewall-cmd --permanent --remove-service=ssh")
        compare(lab, reload, door(four), [OPENS, STAYS_CLOSED])
        compare(lab, reload, door(four, four.replace("ipv4", "ipv6")), [OPENS, OPENS])
        compare(lab, reload, door(four.replace("public", "internal")), [STAYS_CLOSED, STAYS_CLOSED])
        compare(lab, reload, door("firewall-cmd --zone=public --add-port=22/tcp"), [OPENS, OPENS])
        compare(lab, f"{reload} && firewall-cmd --add-service=ssh", door(four), [EVERYBODY, EVERYBODY])


def inner_host(lab):
    """Creates a host in a namespace inside the machine, for kinds of interfaces that the outer network cannot have."""
    lab.server("ip netns del peer 2>/dev/null; ip link del lab0 2>/dev/null; ip netns add peer; ip -n peer link set lo up")
    lab.server("ip link add lab0 type veth peer name lab0 netns peer && ip link set lab0 up && ip -n peer link set lab0 up")


def opens_by(lab, interface, address="10.9.0.1"):
    """Checks that a knock through this interface opens port 22."""
    restart_with(lab, lab.the_manual_door(600).replace("= eth0", f"= {interface}"))
    until(f"listening on {interface}", lambda: f"listening on {interface}" in lab.server("tail -5 /var/log/knockd.log"))
    peer = "ip netns exec peer"
    until("the address answers", lambda: lab.machine.run(f"{peer} portknock probe {address} 22 | grep closed").status == 0)
    lab.server(f"{peer} portknock knock --delay 150 --then 22 {address} 7391 2284:udp 48213")


@check
def vlan(lab):
    """a door on a VLAN interface"""
    inner_host(lab)
    lab.server("ip link add link lab0 name lab0.5 type vlan id 5 && ip addr add 10.9.0.1/24 dev lab0.5 && ip link set lab0.5 up")
    lab.server("ip -n peer link add link lab0 name v5 type vlan id 5 && ip -n peer addr add 10.9.0.2/24 dev v5 && ip -n peer link set v5 up")
    opens_by(lab, "lab0.5")


@check
def bridge(lab):
    """a door on a bridge, and on a bridge and its port at the same time"""
    inner_host(lab)
    lab.server("ip link add br0 type bridge && ip link set lab0 master br0 && ip addr add 10.9.0.1/24 dev br0 && ip link set br0 up")
    lab.server("ip -n peer addr add 10.9.0.2/24 dev lab0")
    opens_by(lab, "br0")
    lab.server("portknock close ssh 10.9.0.2")
    opens_by(lab, "br0,lab0")
    lab.server("ip link del br0")


@check
def wireguard(lab):
    """a door on a WireGuard interface"""
    inner_host(lab)
    lab.server("""
        ip addr add 10.8.0.1/24 dev lab0 && ip -n peer addr add 10.8.0.2/24 dev lab0
        umask 077; wg genkey >a; wg genkey >b
        ip link del wg0 2>/dev/null; ip link add wg0 type wireguard && ip -n peer link add wg0 type wireguard
        wg set wg0 private-key a listen-port 51820 peer $(wg pubkey <b) allowed-ips 10.9.0.2/32 endpoint 10.8.0.2:51820
        ip netns exec peer wg set wg0 private-key b listen-port 51820 peer $(wg pubkey <a) allowed-ips 10.9.0.1/32 endpoint 10.8.0.1:51820
        ip addr add 10.9.0.1/24 dev wg0 && ip link set wg0 up
        ip -n peer addr add 10.9.0.2/24 dev wg0 && ip -n peer link set wg0 up
    """)
    opens_by(lab, "wg0")
    lab.server("ip link del wg0")


@check
def netem(lab):
    """a door on a link that delays and duplicates packets"""
    inner_host(lab)
    lab.server("ip addr add 10.9.0.1/24 dev lab0 && ip -n peer addr add 10.9.0.2/24 dev lab0")
    lab.server("ip netns exec peer tc qdisc add dev lab0 root netem delay 60ms 20ms duplicate 30%")
    opens_by(lab, "lab0")
    lab.server("ip netns del peer")
    restart_with(lab, lab.the_manual_door(600))


@check
def suspend(lab):
    """suspend to memory and resume: the daemon continues, and closes doors whose time ended during the suspend"""
    restart_with(lab, lab.the_manual_door(30))
    lab.opens(443, WEB_KNOCK)
    daemon = lab.daemons("portknockd")
    lab.machine.suspend_and_wake(32)
    lab.server("iptables -S INPUT | grep -q -- '--dport 443 -j ACCEPT'", status=1)
    lab.expect("closed")
    if lab.daemons("portknockd") != daemon:
        raise Failure("the daemon was restarted")
    lab.opens()
    restart_with(lab, lab.the_manual_door(600))


@check
def daemon_dies(lab):
    """the daemon is killed: systemd starts it again, and port 22 is open to no stranger in the meantime"""
    lab.opens()
    with lab.never_open():
        before = lab.listening()
        lab.server(f"kill -KILL {before}")
        until("another daemon", lambda: lab.listening() not in (before, "0"))
    lab.expect("open")


@check
def daemon_hangs(lab):
    """the daemon hangs: the watchdog restarts it, and port 22 is open to no stranger in the meantime"""
    drop_in = "/run/systemd/system/portknockd.service.d"
    lab.server(f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=3\\nTimeoutAbortSec=3\\n' >{drop_in}/test.conf")
    lab.server("systemctl daemon-reload && systemctl restart portknockd")
    before = lab.listening()
    with lab.never_open():
        lab.server(f"kill -STOP {before}")
        until("another daemon", lambda: lab.server("systemctl show -p MainPID --value portknockd").strip() not in (before, "0"))
        lab.listening()
    lab.server(f"rm -r {drop_in} && systemctl daemon-reload")
    lab.opens()


@check
def reader_dies(lab):
    """the reader is killed: the daemon restarts it"""
    daemon = lab.listening()
    reader = lab.server(f"pgrep -P {daemon}")
    lab.server(f"kill -KILL {reader}")
    until("another reader", lambda: lab.machine.run(f"pgrep -P {daemon}").output not in (reader, ""))
    lab.listening()
    lab.server("portknock close ssh 10.0.0.2", status=None)
    lab.opens()


@check
def removal(lab):
    """removing and purging, as in docs/installation.md, with a daemon without a unit: no daemon and no table is left"""
    # Start a daemon that has no unit. Remove the state file first, because it belongs to the user
    # of the unit.
    lab.server("systemctl stop portknockd && rm -f /var/lib/portknock/openings && portknockd -d")
    lab.follow(lab.installation, "Upgrade and remove", 2)
    if lab.daemons("portknockd"):
        raise Failure("a daemon is left")
    lab.server("nft list table inet portknock", status=1)
    lab.follow(lab.installation, "Upgrade and remove", 3)
    left = lab.server("find /etc /lib /usr /var/lib -name '*portknock*' -not -path '*/dpkg/*' | grep -v /sysusers || true")
    if re.search(r"\.(service|conf)$", left, re.M):
        raise Failure(f"left: {left}")


OLD = """[options]
    UseSyslog
[web]
    sequence      = 31807,5520:udp,9043
    seq_timeout   = 10
    tcpflags      = syn
    start_command = /usr/sbin/iptables -I INPUT -s %IP% -p tcp --dport 443 -j ACCEPT
    stop_command  = /usr/sbin/iptables -D INPUT -s %IP% -p tcp --dport 443 -j ACCEPT
    cmd_timeout   = {seconds}
"""


def rules(lab, address):
    return lab.server("iptables -S INPUT").count(f"-s {address}/32 -p tcp -m tcp --dport 443 -j ACCEPT")


@check
def from_knockd(lab):
    """docs/migrating-from-knockd.md with a running knockd: it stops, its open door closes on time, and portknockd replaces it"""
    start = time.monotonic()
    lab.server("apt-get update && apt-get install knockd")
    # The door stays open longer than the installation of portknock takes.
    seconds = int(60 + 4 * (time.monotonic() - start))
    lab.configure(OLD.format(seconds=seconds))
    lab.server("sed -i 's/.*KNOCKD_OPTS=.*/KNOCKD_OPTS=\"-i eth0\"/' /etc/default/knockd; systemctl enable --now knockd; sleep 1")
    lab.knock(WEB_KNOCK)
    until("knockd opens", lambda: rules(lab, "10.0.0.2") == 1)
    lab.provide_packages("new")
    lab.follow(lab.migrating, "On Debian", 3)
    lab.listening()
    # Its children, which close doors, have the same name and their own scope.
    left = lab.server("for process in $(pgrep -x knockd); do grep -HL /knockd-doors- /proc/$process/cgroup; done; true")
    if left:
        raise Failure(f"knockd still runs: {left}")
    unit = lab.server("systemctl show -p Id --value knockd").strip()
    if unit != "portknockd.service":
        raise Failure(f"knockd.service is {unit}")
    if rules(lab, "10.0.0.2") != 1:
        raise Failure("the open door was closed, or opened again")
    lab.client(f"portknock knock --delay 20 --source {STRANGERS[0]} {SERVER} {WEB_KNOCK}")
    until("one rule of the other client", lambda: rules(lab, STRANGERS[0]) == 1)
    time.sleep(1)
    if rules(lab, STRANGERS[0]) != 1:
        raise Failure("two daemons opened the door")
    until("knockd's door closes", lambda: rules(lab, "10.0.0.2") == 0, seconds + 60)
    until("knockd's last process ends", lambda: not lab.daemons("knockd"))
    until("portknockd's door closes", lambda: rules(lab, STRANGERS[0]) == 0, seconds + 60)
    lab.server("systemctl is-enabled portknockd")


@check
def back_to_knockd(lab):
    """the way back in docs/migrating-from-knockd.md: only knockd runs, and its door opens"""
    lab.server("sed -i 's/cmd_timeout.*/cmd_timeout = 60/' /etc/knockd.conf")
    lab.follow(lab.migrating, "The way back")
    if lab.daemons("portknockd"):
        raise Failure("portknockd still runs")
    lab.server("systemctl is-active knockd; sleep 1")
    if "/usr/sbin/knockd" not in lab.server("systemctl show -p ExecStart knockd"):
        raise Failure("knockd.service is not the unit of knockd")
    lab.knock(WEB_KNOCK)
    until("knockd opens", lambda: rules(lab, "10.0.0.2") == 1)
    until("knockd closes", lambda: rules(lab, "10.0.0.2") == 0, 90)
    lab.machine.reboot()
    if lab.daemons("portknockd"):
        raise Failure("portknockd runs after a reboot")
    if not lab.daemons("knockd"):
        raise Failure("knockd does not run after a reboot")
