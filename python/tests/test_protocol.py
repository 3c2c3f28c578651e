"""The reference client of docs/protocol.md, against the vectors of the document and those of other implementations."""

import base64
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

PROGRAM = REPOSITORY / "examples/python/portknock_client.py"
DOCUMENT = (REPOSITORY / "docs/protocol.md").read_text()
# Next to the workspace; they are not part of this project.
CORPUS = Path(os.environ.get("PORTKNOCK_CORPUS", REPOSITORY.parent / "shared/corpus"), "spa")


def load():
    spec = importlib.util.spec_from_file_location("portknock_client", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


client = load()


def block(name):
    """The vectors of the document under this name."""
    [text] = re.findall(rf"^```json {name}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    return json.loads(text)


def corpus(name):
    if not (CORPUS / name).exists():
        pytest.skip(f"there are no vectors at {CORPUS / name}")
    return json.loads((CORPUS / name).read_text())


KEY = bytes.fromhex(block("keys")["server_key"])


def settings(vector):
    low, high = vector["time_ports"].split("-")
    return {"steps": vector["steps"], "low": int(low), "high": int(high), "protocols": vector["time_protocols"]}


def test_keys():
    vector = block("keys")
    key = bytes.fromhex(vector["key"])
    assert client.encode_key(key) == vector["key_text"]
    assert client.decode_key(vector["key_text"]) == key
    assert client.server_key(key, vector["server"]) == KEY
    assert client.decode_key(vector["server_key_text"]) == KEY


def test_every_typing_error_in_a_key_is_found():
    text = block("keys")["key_text"]
    for at in range(len(text)):
        for character in "Aa0-_.=":
            wrong = text[:at] + character + text[at + 1:]
            if wrong != text:
                with pytest.raises(ValueError) as error:
                    client.decode_key(wrong)
                assert text[4:12] not in str(error.value)


def test_sequences():
    vectors = block("sequences")
    assert len(vectors) >= 10
    for vector in vectors:
        assert vector["unix"] // vector["time_step"] == vector["window"]
        steps = client.time_sequence(KEY, vector["window"], **settings(vector))
        assert client.sequence_text(steps) == vector["sequence"]


def test_packets():
    for vector in block("packets"):
        content = vector["door"], vector["time_ms"], vector["address"], vector["seconds"]
        packet = client.packet(KEY, *content, nonce=bytes.fromhex(vector["nonce"]))
        assert packet.hex() == vector["packet"]
        minute = vector["minute"].to_bytes(8, "big")
        key = client.hmac_sha256(KEY, b"portknock packet 1\0" + minute)
        assert key.hex() == vector["minute_key"]
        # Decrypting is encrypting.
        assert client.chacha20(key, packet[8:20], packet[20:80]).hex() == vector["plain"]
    for door in ("", "d" * 31, "a\0b"):
        with pytest.raises(ValueError):
            client.packet(KEY, door, 0)


def test_the_algorithm_of_packets():
    """The example of RFC 8439, section 2.8.2."""
    plain = (b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
             b"sunscreen would be it.")
    sealed = client.seal(bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647"), plain,
                         bytes.fromhex("50515253c0c1c2c3c4c5c6c7"))
    assert sealed[:8].hex() == "d31a8d34648e60db"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"


def test_packets_of_fwknop():
    keys = block("fwknop-keys")
    keys = client.fwknop_keys("".join(f"{name}: {value}\n" for name, value in keys.items()))
    for vector in block("fwknop"):
        text = client.fwknop_packet(*keys, vector["user"], vector["time"], vector["message"], vector["timeout"],
                                    vector["hmac"], vector["random"], bytes.fromhex(vector["salt"]))
        assert text == vector["packet"]


def test_aes():
    """The example of FIPS 197, appendix C.3."""
    round_keys = client.aes_round_keys(bytes(range(32)))
    block = client.aes_block(round_keys, bytes.fromhex("00112233445566778899aabbccddeeff"))
    assert block.hex() == "8ea2b7ca516745bfeafc49904b496089"


def test_codes():
    for vector in block("codes"):
        code = client.totp(b"12345678901234567890", vector["unix"], len(vector["code"]))
        assert code == vector["code"]
        assert client.code_sequence(vector["sequence"], code) == vector["steps"]


def test_the_sequences_and_packets_of_another_implementation():
    vectors = corpus("own-format.json")
    key = bytes.fromhex(vectors["key"])
    assert client.server_key(key, "web1.example").hex() == vectors["server_key(web1.example)"]
    for vector in vectors["sequence"]:
        window = vector["unix"] // vector.get("step", 30)
        low, high = vector.get("low", 1024), vector.get("high", 65535)
        protocols = "both" if vector.get("both") else "tcp"
        steps = client.time_sequence(key, window, vector.get("steps", 5), low, high, protocols)
        assert client.sequence_text(steps) == vector["ports"].replace(",", " ")
    for vector in vectors["packet"]:
        address = vector["address"] and str(client.ipaddress.ip_address(bytes.fromhex(vector["address"])))
        content = vector["door"], vector["stamp_ms"], address, vector["seconds"]
        assert client.packet(key, *content, nonce=bytes.fromhex(vector["nonce"])).hex() == vector["packet"]


def test_the_packets_of_the_original_client_of_fwknop():
    def key_of(key):
        return base64.b64decode(key["base64"]) if key["base64"] else key["text"].encode()

    count = 0
    for vector in corpus("fwknop-2.6.10.json")["vectors"]:
        said = vector.get("client_said", {})
        is_made = vector.get("hmac_type") in ("sha256", "sha384", "sha512") and vector["mode"] == "cbc"
        is_made = is_made and said.get("Digest Type", "").startswith("3 ") and said["Message Type"][0] in "13"
        if not is_made:
            continue
        salt = base64.b64decode("U2FsdGVkX1" + vector["packet"][:14])[8:16]
        timeout = int(said["Client Timeout"]) if said["Message Type"][0] == "3" else None
        text = client.fwknop_packet(key_of(vector["key"]), key_of(vector["hmac_key"]), said["Username"],
                                    int(said["Timestamp"]), said["Message String"], timeout, vector["hmac_type"],
                                    int(said["Random Value"]), salt)
        assert text == vector["packet"], vector["name"]
        count += 1
    assert count >= 10


@pytest.fixture
def file(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "alice.key"
        path.write_text(text)
        path.chmod(mode)
        return path
    return write


def run(*arguments):
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_the_program_prints_the_sequence_of_a_file(file):
    keys = block("keys")
    for vector in block("sequences"):
        lines = [f"name = alice\nkey = {keys['key_text']}\nserver = {keys['server']}\r\n# comment\n"]
        lines += [f"{name} = {vector[name]}\n" for name in ("time_ports", "time_protocols", "time_step")]
        path = file("".join(lines) + f"time_steps = {vector['steps']}\n")
        found = run("-n", "--at", vector["unix"], path)
        assert (found.returncode, found.stdout, found.stderr) == (0, vector["sequence"] + "\n", "")


def test_the_program_refuses_files_that_cannot_be_used(file):
    text = f"name = alice\nkey = {block('keys')['key_text']}\n"
    for content, mode, message in [
        (text, 0o640, "run chmod 600"),
        (text, 0o600, "names no server"),
        (text.replace("pk1:U", "pk1:V"), 0o600, "typing error"),
        (text + "name = bob\n", 0o600, "line 3"),
        (text + "nonsense = 1\n", 0o600, "line 3"),
        (text + "form = packet\n", 0o600, "the name of a door"),
        (text + "time_ports = 9-10\n", 0o600, "another port"),
        (text + "time_step = 31\n", 0o600, "the length of a window"),
        ("name = alice\n", 0o600, "`key` is missing"),
    ]:
        found = run(file(content, mode))
        assert found.returncode == 1 and message in found.stderr and "Traceback" not in found.stderr, found
        assert text[25:40] not in found.stderr
