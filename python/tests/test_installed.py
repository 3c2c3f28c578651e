"""The installed package: it is the tested one, is complete, and does not need the system's
libpcap."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import example_files
import portknock
import pytest


def test_the_installed_package_is_tested_and_not_the_source_tree():
    assert Path(portknock.__file__).is_relative_to(sys.prefix)


def test_versions_agree():
    assert portknock.__version__ == importlib.metadata.version("portknock")


def test_licenses_and_types_are_included():
    files = importlib.metadata.files("portknock")
    names = {file.name for file in files}
    assert {"LICENSE-APACHE", "LICENSE-MIT", "LICENSE-libpcap", "py.typed"} <= names
    [notice] = [file for file in files if file.name == "LICENSE-libpcap"]
    assert "The Regents of the University of California" in notice.read_text()


@pytest.mark.live
def test_no_libpcap_is_needed(tmp_path):
    """In a mount namespace in which an empty file replaces the system's libpcap."""
    example_files.write(tmp_path)
    program = Path(os.environ["PORTKNOCK_BIN"], "portknock")
    hide = """
        for library in $({ ldd "$1"; ldconfig -p; } | sed -n 's/.*=> *\\(.*libpcap[^ ]*\\).*/\\1/p'); do
            mount --bind /dev/null "$(readlink -f "$library")" || exit 99
        done
        shift
        exec "$@"
    """

    def without_libpcap(*command):
        hidden = ["unshare", "--mount", "sh", "-c", hide, "hide", program, *command]
        return subprocess.run(hidden, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    linked = without_libpcap(program, "--version")
    assert linked.returncode == 127
    assert "libpcap" in linked.stderr
    replay = without_libpcap(sys.executable, "-m", "portknock", "replay", "-c", "knockd.conf", "knocks.pcap")
    assert replay.stderr == ""
    assert "ssh: OPEN SESAME" in replay.stdout
    listener = without_libpcap(sys.executable, "-c", LISTEN)
    assert (listener.stdout, listener.stderr) == ("listening\n", "")


LISTEN = """
import portknock
with portknock.Listener(portknock.Config.load("knockd.conf"), interface="lo", run_commands=False) as listener:
    print("listening")
"""
