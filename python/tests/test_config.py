import copy
import errno
import json
import pickle
import re

import portknock
import pytest
from hypothesis import given
from hypothesis import strategies as st
from portknock import Config, ConfigError, Step
from support import DOOR, EXAMPLES, run

BAD = "[openSSH]\n\t\tsequence = sequence = 3,1\n\t\tstop = x\n"


def with_keys(path, directory):
    """Return a copy of a configuration whose key files exist."""
    text = path.read_text()
    for name in set(re.findall(r"/etc/portknock/(\S+\.keys)", text)):
        (directory / name).write_text(run("portknock", "keygen", "alice", "--output", str(directory / f"{name}.client")))
        (directory / name).chmod(0o600)
    for name in set(re.findall(r"/etc/portknock/(\S+\.(?:fwknop|totp))", text)):
        is_secret = name.endswith(".totp")
        secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n" if is_secret else "KEY_BASE64: AQ==\nHMAC_KEY_BASE64: Ag==\n"
        (directory / name).write_text(secret)
        (directory / name).chmod(0o600)
    copy = directory / path.name
    copy.write_text(text.replace("/etc/portknock/", f"{directory}/"))
    return copy


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_give_the_output_of_the_command_line(path, tmp_path):
    path = with_keys(path, tmp_path)
    expected = json.loads(run("portknock", "check", "--format", "json", str(path)))
    # The command line also checks the file's permissions and the service of this machine.
    found = [one for one in expected["diagnostics"] if one["code"] not in ("PK070", "PK071")]
    expected["warnings"] -= len(expected["diagnostics"]) - len(found)
    expected["diagnostics"] = found
    report = portknock.check(path)
    assert report.as_dict() == expected
    config = Config.load(path)
    assert config.as_dict() == expected["config"]
    assert report.config == config
    assert Config.parse(str(config)) == config


def test_a_configuration_with_errors_is_reported_as_by_the_command_line(tmp_path):
    path = tmp_path / "knockd.conf"
    path.write_text(BAD)
    report = portknock.check(str(path))
    assert report.as_dict() == json.loads(run("portknock", "check", "--format", "json", str(path)))
    assert (report.errors, report.warnings, report.config) == (2, 1, None)
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert caught.value.diagnostics == report.diagnostics
    assert str(report).strip() in str(caught.value)
    assert run("portknock", "check", str(path)).startswith(str(report))
    assert run("portknock", "check", "--fix", str(path)) == Config.fix(BAD)


def test_an_error_has_its_position_and_a_remedy():
    with pytest.raises(ValueError) as caught:
        Config.parse(BAD, "my.conf")
    error = caught.value
    assert isinstance(error, ConfigError) and isinstance(error, portknock.PortknockError)
    first = error.diagnostics[0]
    assert (first.code, first.severity) == ("PK012", "error")
    assert (first.line, first.column, first.end_line, first.end_column) == (2, 14, 2, 25)
    assert first.help == "remove the second `sequence =`"
    assert first.fix == portknock.Fix(start=23, end=34, replacement="")
    assert "my.conf:2:14: error[PK012]" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.diagnostics) == (str(error), error.diagnostics)


def test_fixes_are_applied_to_texts_and_to_bytes():
    text = "[a]\nsequence = sequence = 3,1\n"
    fixed = "[a]\nsequence = 3,1\n"
    assert Config.fix(text) == fixed
    assert Config.fix(text.encode()) == fixed.encode()
    assert Config.fix(b"# \xff\n" + text.encode()) == b"# \xff\n" + fixed.encode()


def test_texts_and_bytes_are_the_same():
    assert Config.parse(DOOR) == Config.parse(DOOR.encode()) == Config.parse(bytearray(DOOR.encode()))
    for wrong in (1, None, ["[a]"]):
        with pytest.raises(TypeError):
            Config.parse(wrong)


def test_doors_and_options_are_values():
    config = Config.parse(
        "[options]\nInterface = eth0,lo\nOnStop = keep\n[a]\nsequence = 7000,5:udp,9\ntcpflags = !ack,syn\n"
        "target = ::1\nallow = 10.0.0.0/8\ncommand = o\nstop_command = x\ncommand_6 =\nopen = tcp/22,udp/53\nopen_prefix = 24\nseq_cooldown = 60\n"
    )
    door = portknock.Door(
        name="a",
        sequence=(Step(7000), Step(5, "udp"), Step(9)),
        one_time_sequences=None,
        seq_timeout=25,
        tcpflags=("syn", "!ack"),
        target="::1",
        start_command="o",
        stop_command="x",
        start_command_6="",
        stop_command_6=None,
        cmd_timeout=10,
        open=(Step(22), Step(53, "udp")),
        allow=("10.0.0.0/8",),
        seq_cooldown=60,
        open_prefix=portknock.OpenPrefix(24, 128),
    )
    assert config.doors == (door,)
    assert {config.doors[0]: 1}[door] == 1
    assert config.options.interfaces == ("eth0", "lo")
    assert config.options.control_socket == "/run/portknock/control"
    assert portknock.Config.parse("[options]\nControlSocket = none\n").options.control_socket is None
    assert (config.options.gate, config.options.gate_refuse) == ("own", "reject")
    assert (config.options.on_stop, config.options.scan_guard, config.options.log_file) == ("keep", 8, None)
    for name, value in [("doors", ()), ("options", None), ("more", 1)]:
        with pytest.raises(AttributeError):
            setattr(config, name, value)
    with pytest.raises(AttributeError):
        door.name = "b"
    assert eval(repr(door), vars(portknock)) == door


def test_doors_with_keys_are_values(tmp_path):
    keys = tmp_path / "keys"
    keys.touch(0o600)
    config = Config.parse(
        f"[options]\nPacketPort = 62201,10000-20000\nClockSkew = 30\n[a]\nkeys = {keys}\nsequence = time:6\n"
        f"time_ports = 20000-60000\ntime_protocols = both\n[a]\nkeys = {keys}\npacket = portknock\n"
    )
    by_time, by_packet = config.doors
    assert by_time.time_sequence == portknock.TimeSequence(6, (20000, 60000), "both", 30)
    assert (by_time.sequence, by_time.packet, by_time.keys) == (None, None, str(keys))
    assert (by_packet.time_sequence, by_packet.packet, by_packet.keys) == (None, "portknock", str(keys))
    assert (config.options.packet_ports, config.options.clock_skew) == (((10000, 20000), (62201, 62201)), 30)
    assert eval(repr(by_time), vars(portknock)) == by_time


def test_doors_of_fwknop_and_of_apps_are_values(tmp_path):
    keys, secret = tmp_path / "keys", tmp_path / "secret"
    keys.touch(0o600)
    secret.touch(0o600)
    secret.write_text("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n")
    config = Config.parse(
        f"[a]\nkeys = {keys}\npacket = fwknop\npacket_address = source\nopen = tcp/22\n"
        f"[b]\nsequence = 7391,48213:udp,21???,22???:udp\ntotp_secret = {secret}\ntcpflags = syn,!ack\n"
    )
    fwknop, code = config.doors
    assert (fwknop.packet, fwknop.packet_address, fwknop.keys) == ("fwknop", "source", str(keys))
    digits = (portknock.CodeStep((21000, 21999), "tcp", 3), portknock.CodeStep((22000, 22999), "udp", 3))
    assert code.code == portknock.CodeSequence((Step(7391), Step(48213, "udp")), digits)
    assert (code.sequence, code.packet, code.totp_secret) == (None, None, str(secret))
    assert eval(repr(code), vars(portknock)) == code


def test_one_time_sequences_are_read(tmp_path):
    sequences = tmp_path / "sequences"
    sequences.write_text("#1,2,3\n 7,5:udp\n 9,8\n")
    config = Config.parse(f"[a]\none_time_sequences = {sequences}\n")
    assert config.doors[0].sequence == (Step(7), Step(5, "udp"))
    sequences.write_text("#1,2,3\n")
    with pytest.raises(ConfigError, match="no unused sequence is left"):
        Config.parse(str(config))


def test_equality_is_about_meaning():
    config = Config.parse(DOOR, "one")
    same = Config.parse("# a comment\n" + DOOR, "two")
    assert config == same and hash(config) == hash(same)
    other = Config.parse(DOOR.replace("7000", "7001"))
    assert config != other and config != DOOR
    assert repr(config) == "<Config 'one', doors: 1>"


@pytest.mark.parametrize(
    "what, kind, number",
    [
        ("missing", FileNotFoundError, errno.ENOENT),
        (".", IsADirectoryError, errno.EISDIR),
    ],
)
def test_an_unreadable_file_raises_the_exception_of_open(tmp_path, what, kind, number):
    for read in (Config.load, portknock.check):
        with pytest.raises(kind) as caught:
            read(tmp_path / what)
        assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / what))


def test_warnings_are_no_errors():
    config = Config.parse("[a]\nsequence = 1,2,3\n")
    assert [found.severity for found in config.diagnostics] == ["warning"]
    assert "weak sequence" in config.report
    config = Config.parse("[a]\nsequence = 7000,9000:udp,8000\ncommand = true\n")
    assert config.diagnostics == () and config.report == ""


STEPS = st.lists(st.builds(Step, st.integers(1, 65535), st.sampled_from(["tcp", "udp"])), min_size=1, max_size=32)
WORDS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x2FF, exclude_characters="#\"'[]\x7f"), min_size=1, max_size=20
)


@given(
    steps=STEPS,
    name=st.text("abcdefghij-_.", min_size=1, max_size=20),
    seconds=st.integers(1, 10**6),
    command=st.none() | WORDS,
    flags=st.sets(st.sampled_from(["syn", "ack", "fin"])),
)
def test_a_printed_configuration_means_the_same(steps, name, seconds, command, flags):
    lines = [f"[{name}]", "sequence = " + ",".join(map(str, steps)), f"seq_timeout = {seconds}"]
    if command is not None:
        lines.append(f"command = {command}")
    if flags:
        lines.append("tcpflags = " + ",".join(sorted(flags)))
    report = portknock.check_text("\n".join(lines))
    config = report.config
    if config is None:
        # Some commands and names are refused, with an error message.
        assert report.errors > 0
        return
    assert config.doors[0].sequence == tuple(steps)
    again = Config.parse(str(config))
    assert (again, hash(again), str(again)) == (config, hash(config), str(config))


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    report = portknock.check_text(text)
    assert (report.config is None) == (report.errors > 0)
    if report.config is None:
        with pytest.raises(ConfigError):
            Config.parse(text)
    assert type(Config.fix(text)) is type(text)


def test_steps_are_checked():
    assert [str(Step(7)), str(Step(7, "udp"))] == ["7", "7:udp"]
    for port, protocol in [(0, "tcp"), (65536, "tcp"), (-1, "udp"), (7, "sctp")]:
        with pytest.raises(ValueError):
            Step(port, protocol)


def test_configurations_and_reports_are_pickled_and_copied(tmp_path):
    path = tmp_path / "knockd.conf"
    path.write_text("[a]\nsequence = 1,5,3\n[one]\nsequence = 22\n")
    config = Config.load(path)
    for again in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert (again, again.report, again.diagnostics) == (config, config.report, config.diagnostics)
        assert (repr(again), again.doors, again.options) == (repr(config), config.doors, config.options)
    for report in (portknock.check(path), portknock.check_text(BAD)):
        for again in (copy.copy(report), copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
            assert again == report and str(again) == str(report)
