import os
import threading

import portknock
import pytest
from portknock import CaptureError, Close, Extend, Open, Stage, replay
from support import DOOR, SERVER, capture, json_lines, run, udp


def test_events_are_those_of_the_command_line(capture_file, tmp_path, config):
    conf = tmp_path / "knockd.conf"
    conf.write_text(DOOR)
    events = list(replay(capture_file, config))
    assert {type(event).__name__ for event in events} >= {"Stage", "Open", "Extend", "Close", "Fail", "Timeout"}
    arguments = ["replay", "-c", str(conf), str(capture_file)]
    assert [event.as_dict() for event in events] == json_lines(run("portknock", *arguments, "--format", "json"))
    text = run("portknock", *arguments)
    assert all(str(event) in text for event in events)


def test_it_is_an_iterator(capture_file, config):
    events = replay(str(capture_file), config, local_addresses=[SERVER])
    assert iter(events) is events
    assert isinstance(next(events), Stage)
    assert [type(event) for event in events][:3] == [Stage, Open, Stage]
    assert next(events, None) is None and next(events, None) is None
    assert list(replay(capture_file, config, ["192.0.2.99"])) == []


def test_long_silence_is_skipped(tmp_path, config):
    path = tmp_path / "long"
    path.write_bytes(capture([(i, udp(9)) for i in range(200_000)] + [(10**9, udp(7000))]))
    [event] = replay(path, config)
    assert event.time == 1.0


def test_files_that_cannot_be_read_are_errors(tmp_path, config, capture_file):
    with pytest.raises(CaptureError, match="missing") as caught:
        replay(tmp_path / "missing", config)
    assert isinstance(caught.value, OSError) and isinstance(caught.value, portknock.PortknockError)
    text = tmp_path / "text"
    text.write_text("no capture at all, but long enough for a header")
    with pytest.raises(CaptureError):
        replay(text, config)
    text.write_bytes(capture([], linktype=147))
    with pytest.raises(CaptureError, match="link type 147"):
        replay(text, config)
    with pytest.raises(TypeError):
        replay(3.5, config)


def test_a_damaged_file_gives_the_events_before_the_damage(capture_file, config):
    whole = list(replay(capture_file, config))
    capture_file.write_bytes(capture_file.read_bytes()[:-5])
    events = replay(capture_file, config)
    seen = []
    with pytest.raises(CaptureError, match="damaged after frame 15"):
        for event in events:
            seen.append(event)
    assert seen == whole[: len(seen)] and len(seen) > 4
    assert next(events, None) is None


def test_one_time_sequences_follow_each_other(tmp_path):
    sequences = tmp_path / "sequences"
    sequences.write_text(" 7000:udp,8000:udp\n 8000:udp,7000:udp\n")
    config = portknock.Config.parse(f"[a]\none_time_sequences = {sequences}\nstart_command = x\n")
    path = tmp_path / "capture"
    path.write_bytes(capture([(i, udp(port)) for i, port in enumerate((7000, 8000, 8000, 7000, 7000, 8000))]))
    events = list(replay(path, config))
    assert [type(event) for event in events] == [Stage, Stage, Open] * 2
    assert sequences.read_text().startswith(" 7000")


def test_a_pipe_is_read_as_it_fills(tmp_path, config):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    bytes_of = capture([(i * 10**9, udp(port)) for i, port in enumerate((7000, 8000))])
    writer = threading.Thread(target=pipe.write_bytes, args=(bytes_of,))
    writer.start()
    assert [type(event) for event in replay(pipe, config)] == [Stage, Stage, Open]
    writer.join()


def test_closing_times_are_the_due_times(capture_file, config):
    events = list(replay(capture_file, config))
    [extended] = [event for event in events if isinstance(event, Extend)]
    [closed] = [event for event in events if isinstance(event, Close)]
    assert closed.time_ns == extended.time_ns + 10 * 10**9
