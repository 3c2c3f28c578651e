#!/usr/bin/env python3
"""A client for replay-proof knocks, in one file and without dependencies.

It implements docs/protocol.md as plainly as possible, for authors of other clients to read.

usage: portknock_client.py [-n] [--at SECONDS] [--address ADDRESS] [--seconds N] FILE [HOST]
       portknock_client.py [-n] --fwknop PORTS [--address ADDRESS] FILE HOST

FILE is a client's file that `portknock keygen` has written, and HOST defaults to the server that it
names. With --fwknop, FILE has the lines that `fwknop --key-gen` prints, and PORTS is as in `tcp/22`.
No argument contains any part of a key.

-n prints the knock instead of sending it: the steps of a sequence, a packet of portknock as
hexadecimal digits, or a packet of fwknop as text.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import getpass
import hashlib
import hmac
import ipaddress
import os
import secrets
import select
import socket
import stat
import struct
import sys
import time
from dataclasses import dataclass

Step = tuple[int, str]

# --- Keys -----------------------------------------------------------------------------------------


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def decode_key(text: str) -> bytes:
    """The 32 bytes of a key from its text, `pk1:` and 46 characters."""
    if not text.startswith("pk1:") or len(text) != 50:
        raise ValueError("a key has `pk1:` and 46 characters")
    try:
        data = base64.b64decode(text[4:] + "==", altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("a character of the key is not a letter, digit, `-` or `_`") from None
    key, checksum = data[:32], data[32:]
    if hashlib.sha256(key).digest()[:2] != checksum or encode_key(key) != text:
        raise ValueError("the key contains a typing error: its checksum does not match")
    return key


def encode_key(key: bytes) -> str:
    data = key + hashlib.sha256(key).digest()[:2]
    return "pk1:" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def server_key(key: bytes, server: str) -> bytes:
    """The key that a client shares with one server."""
    return hmac_sha256(key, b"portknock server 1\0" + server.encode())


# --- The client's file ----------------------------------------------------------------------------


@dataclass
class Client:
    """The settings of a client's file, with their defaults."""

    name: str
    key: bytes
    server: str | None = None
    form: str = "time"
    door: str | None = None
    port: int = 62201
    steps: int = 5
    low: int = 1024
    high: int = 65535
    protocols: str = "tcp"
    window: int = 30

    @property
    def shared_key(self) -> bytes:
        return self.key if self.server is None else server_key(self.key, self.server)

    @classmethod
    def parse(cls, text: str) -> Client:
        known = {"name", "key", "server", "form", "door", "port"}
        known |= {"time_steps", "time_ports", "time_protocols", "time_step"}
        settings: dict[str, str] = {}
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, equals, value = (part.strip() for part in line.partition("="))
            if not equals or name not in known or name in settings:
                raise ValueError(f"line {number} has no setting, an unknown one, or one that was set before")
            settings[name] = value
        for name in ("name", "key"):
            if name not in settings:
                raise ValueError(f"the setting `{name}` is missing")
        low, _, high = settings.get("time_ports", "1024-65535").partition("-")
        client = cls(
            name=settings["name"],
            key=decode_key(settings["key"]),
            server=settings.get("server"),
            form=settings.get("form", "time"),
            door=settings.get("door"),
            port=int(settings.get("port", 62201)),
            steps=int(settings.get("time_steps", 5)),
            low=int(low),
            high=int(high),
            protocols=settings.get("time_protocols", "tcp").lower(),
            window=int(settings.get("time_step", 30)),
        )
        client.check()
        return client

    def check(self) -> None:
        if self.form not in ("time", "packet"):
            raise ValueError("the forms are time and packet")
        if self.form == "packet" and self.door is None:
            raise ValueError("packets need the name of a door")
        if not 1 <= self.port <= 65535 or not 1 <= self.low <= self.high <= 65535:
            raise ValueError("ports are from 1 to 65535")
        if not 1 <= self.steps <= min(8, self.high - self.low + 1):
            raise ValueError("a time sequence has 1 to 8 steps, each with another port")
        if self.protocols not in ("tcp", "udp", "both"):
            raise ValueError("the protocols are tcp, udp or both")
        if self.window not in (10, 30, 60, 120, 300, 600, 1800, 3600):
            raise ValueError("the length of a window is 10, 30, 60, 120, 300, 600, 1800 or 3600 seconds")


def read_secrets(path: str) -> str:
    """Reads a file that only its owner can read and write."""
    with open(path, encoding="utf-8") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise ValueError("other users can read or write the file; run chmod 600")
        return file.read()


# --- Time sequences -------------------------------------------------------------------------------


def time_sequence(
    key: bytes, window: int, steps: int = 5, low: int = 1024, high: int = 65535, protocols: str = "tcp"
) -> list[Step]:
    """The steps of the window with this number, each a port and a protocol."""
    digest = hmac_sha256(key, b"portknock sequence 1\0" + struct.pack(">Q", window))
    size = high - low + 1
    found: list[Step] = []
    ports: set[int] = set()
    for (word,) in struct.iter_unpack(">L", digest[: 4 * steps]):
        port = low + (word & 0x7FFFFFFF) % size
        while port in ports:
            port = port + 1 if port < high else low
        ports.add(port)
        is_udp = protocols == "udp" or (protocols == "both" and word >> 31 == 1)
        found.append((port, "udp" if is_udp else "tcp"))
    return found


def sequence_text(steps: list[Step]) -> str:
    return " ".join(f"{port}:udp" if protocol == "udp" else str(port) for port, protocol in steps)


# --- ChaCha20-Poly1305 (RFC 8439) -----------------------------------------------------------------


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    start += struct.unpack("<8L", key) + (counter,) + struct.unpack("<3L", nonce)
    state = list(start)

    def quarter_round(a: int, b: int, c: int, d: int) -> None:
        for first, second, third, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[first] = (state[first] + state[second]) & 0xFFFFFFFF
            mixed = state[third] ^ state[first]
            state[third] = (mixed << bits | mixed >> (32 - bits)) & 0xFFFFFFFF

    for _ in range(10):
        for column in range(4):
            quarter_round(column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            quarter_round(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return struct.pack("<16L", *((one + other) & 0xFFFFFFFF for one, other in zip(state, start)))


def chacha20(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """Encrypts, and decrypts."""
    blocks = (chacha20_block(key, 1 + number, nonce) for number in range(len(data) // 64 + 1))
    return bytes(byte ^ stream for byte, stream in zip(data, b"".join(blocks)))


def poly1305(key: bytes, data: bytes) -> bytes:
    factor = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\1", "little")) * factor % ((1 << 130) - 5)
    return ((total + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def seal(key: bytes, nonce: bytes, plain: bytes, additional: bytes) -> bytes:
    """The encrypted text and its tag of 16 bytes."""
    text = chacha20(key, nonce, plain)
    padded = b"".join(part + bytes(-len(part) % 16) for part in (additional, text))
    lengths = struct.pack("<QQ", len(additional), len(text))
    return text + poly1305(chacha20_block(key, 0, nonce)[:32], padded + lengths)


# --- The packet -----------------------------------------------------------------------------------


def packet(
    key: bytes, door: str, milliseconds: int, address: str | None = None, seconds: int = 0, nonce: bytes | None = None
) -> bytes:
    """A packet of 96 bytes. Never use a nonce twice."""
    name = door.encode()
    if not 1 <= len(name) <= 30 or b"\0" in name:
        raise ValueError("the name of a door in a packet has 1 to 30 bytes, none of them zero")
    minute = struct.pack(">Q", milliseconds // 60_000)
    hint = hmac_sha256(key, b"portknock hint 1\0" + minute)[:8]
    minute_key = hmac_sha256(key, b"portknock packet 1\0" + minute)
    plain = struct.pack(">BBQ16sL30s", 1, 0, milliseconds, address_field(address), seconds, name)
    nonce = secrets.token_bytes(12) if nonce is None else nonce
    return hint + nonce + seal(minute_key, nonce, plain, hint)


def address_field(address: str | None) -> bytes:
    """The 16 bytes of an address: zero for none, and IPv4 in its IPv4-mapped form."""
    if address is None:
        return bytes(16)
    ip = ipaddress.ip_address(address)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


# --- Packets of fwknop ----------------------------------------------------------------------------


def fwknop_packet(
    passphrase: bytes,
    hmac_key: bytes,
    user: str,
    seconds: int,
    message: str,
    timeout: int | None = None,
    hmac_digest: str = "sha256",
    number: int | None = None,
    salt: bytes | None = None,
) -> str:
    """The text of a datagram for `packet = fwknop`. The message is as in `192.0.2.7,tcp/22`."""
    number = secrets.randbelow(9 * 10**15) + 10**15 if number is None else number
    salt = secrets.token_bytes(8) if salt is None else salt
    fields = [f"{number:016}", stripped(user.encode()), str(seconds), "3.0.0", "1", stripped(message.encode())]
    if timeout is not None:
        fields[4] = "3"
        fields.append(str(timeout))
    encoded = ":".join(fields).encode()
    plain = encoded + b":" + stripped(hashlib.sha256(encoded).digest()).encode()
    material = b""
    while len(material) < 48:
        material += hashlib.md5(material[-16:] + passphrase + salt).digest()
    text = stripped(b"Salted__" + salt + aes_cbc(material[:32], material[32:], plain))
    mac = hmac.new(hmac_key, text.encode(), hmac_digest).digest()
    return text[len("U2FsdGVkX1") :] + stripped(mac)


def stripped(data: bytes) -> str:
    """Base64 without padding characters."""
    return base64.b64encode(data).decode().rstrip("=")


def times_x(byte: int) -> int:
    """The product with x in the field of AES."""
    return byte << 1 ^ (0x11B if byte & 0x80 else 0)


def aes_substitutions() -> bytes:
    """The S-box of AES (FIPS 197, section 5.1.1)."""
    box = bytearray(256)
    power = inverse = 1
    while True:
        power ^= times_x(power)  # the next power of 3, and of its inverse
        for shift in (1, 2, 4):
            inverse ^= inverse << shift & 0xFF
        inverse ^= 0x09 if inverse & 0x80 else 0
        box[power] = 0x63
        for turn in range(5):
            box[power] ^= (inverse << turn | inverse >> (8 - turn)) & 0xFF
        if power == 1:
            break
    box[0] = 0x63
    return bytes(box)


S_BOX = aes_substitutions()


def aes_round_keys(key: bytes) -> list[bytes]:
    """The round keys of AES-256."""
    words = [key[at : at + 4] for at in range(0, 32, 4)]
    constant = 1
    while len(words) < 60:
        word = words[-1]
        if len(words) % 8 == 0:
            word = bytes(S_BOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = times_x(constant)
        elif len(words) % 8 == 4:
            word = bytes(S_BOX[byte] for byte in word)
        words.append(exclusive_or(word, words[-8]))
    return [b"".join(words[at : at + 4]) for at in range(0, 60, 4)]


def aes_block(round_keys: list[bytes], block: bytes) -> bytes:
    block = exclusive_or(block, round_keys[0])
    for number, round_key in enumerate(round_keys[1:], 1):
        block = bytes(S_BOX[block[(5 * at) % 16]] for at in range(16))  # and the rotation of the rows
        if number < len(round_keys) - 1:
            block = b"".join(mixed_column(block[at : at + 4]) for at in range(0, 16, 4))
        block = exclusive_or(block, round_key)
    return block


def mixed_column(column: bytes) -> bytes:
    whole = column[0] ^ column[1] ^ column[2] ^ column[3]
    return bytes(column[at] ^ whole ^ times_x(column[at] ^ column[(at + 1) % 4]) for at in range(4))


def aes_cbc(key: bytes, previous: bytes, plain: bytes) -> bytes:
    """AES-256-CBC with the padding of PKCS #7."""
    round_keys = aes_round_keys(key)
    missing = 16 - len(plain) % 16
    plain += bytes([missing]) * missing
    out = b""
    for at in range(0, len(plain), 16):
        previous = aes_block(round_keys, exclusive_or(plain[at : at + 16], previous))
        out += previous
    return out


def exclusive_or(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other))


def fwknop_keys(text: str) -> tuple[bytes, bytes]:
    """The passphrase and the HMAC key of the lines that `fwknop --key-gen` prints."""
    found: dict[str, bytes] = {}
    for line in text.splitlines():
        words = line.replace(":", " ", 1).split()
        if len(words) == 2 and words[0] in ("KEY_BASE64", "HMAC_KEY_BASE64"):
            found[words[0]] = base64.b64decode(words[1], validate=True)
    if len(found) != 2:
        raise ValueError("the file needs the lines KEY_BASE64 and HMAC_KEY_BASE64")
    return found["KEY_BASE64"], found["HMAC_KEY_BASE64"]


# --- Authenticator codes --------------------------------------------------------------------------


def totp(secret: bytes, seconds: int, digits: int = 6) -> str:
    """The code of a time, as authenticator apps show it (RFC 6238)."""
    digest = hmac.new(secret, struct.pack(">Q", seconds // 30), hashlib.sha1).digest()
    at = digest[-1] & 0x0F
    (number,) = struct.unpack(">L", digest[at : at + 4])
    return f"{(number & 0x7FFFFFFF) % 10**digits:0{digits}}"


def code_sequence(sequence: str, code: str) -> str:
    """The sequence with the digits of the code in the place of its question marks."""
    if sequence.count("?") != len(code):
        raise ValueError("the sequence has a question mark for each digit of the code")
    for digit in code:
        sequence = sequence.replace("?", digit, 1)
    return sequence


# --- Sending --------------------------------------------------------------------------------------

TCP_WAIT = 0.2  # seconds, less than the second after which a system repeats its request


def addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """The first address of each IP version that the host has."""
    found: dict[socket.AddressFamily, str] = {}
    for family, _, _, _, address in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM):
        found.setdefault(family, str(address[0]))
    return list(found.items())


def send_step(family: socket.AddressFamily, address: str, step: Step) -> None:
    port, protocol = step
    if protocol == "udp":
        send_datagram(family, address, port, b".")
        return
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        connection.connect_ex((address, port))
        # The answer does not matter. It only shows that the knock has arrived.
        select.select([], [connection], [], TCP_WAIT)


def send_datagram(family: socket.AddressFamily, address: str, port: int, data: bytes) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, (address, port))


def local_address(family: socket.AddressFamily, address: str, port: int) -> str | None:
    """The address of this machine for a packet, if no translation on the path can change it."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, port))
        local = str(probe.getsockname()[0])
    return local if ipaddress.ip_address(local).is_global else None


def knock(client: Client, host: str, seconds: int, address: str | None = None, span: int = 0) -> None:
    """Sends the knock over each IP version. Raises the last error if none of them works."""
    targets = addresses(host)
    if client.form == "time":
        # A sequence opens the door once, so it is for one address.
        targets = targets[:1]
        steps = steps_of(client, seconds)
    error: OSError | None = None
    sent = 0
    for family, target in targets:
        try:
            if client.form == "time":
                for step in steps:
                    send_step(family, target, step)
            else:
                own = address or local_address(family, target, client.port)
                data = packet(client.shared_key, client.door or "", seconds * 1000, own, span)
                send_datagram(family, target, client.port, data)
            sent += 1
        except OSError as failure:
            error = failure
    if error is not None and sent == 0:
        raise error


def steps_of(client: Client, seconds: int) -> list[Step]:
    window = seconds // client.window
    return time_sequence(client.shared_key, window, client.steps, client.low, client.high, client.protocols)


# --- The command line -----------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Knocks with the key of a client's file.")
    parser.add_argument("-n", action="store_true", help="print the knock instead of sending it")
    parser.add_argument("--at", type=int, metavar="SECONDS", help="Unix time instead of the present time")
    parser.add_argument("--address", help="the address to open for, instead of that of this machine")
    parser.add_argument("--seconds", type=int, default=0, metavar="N", help="open for less time than the door does")
    parser.add_argument("--fwknop", metavar="PORTS", help="send a packet of fwknop that asks for these ports")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("host", metavar="HOST", nargs="?")
    arguments = parser.parse_args()
    now = int(time.time()) if arguments.at is None else arguments.at
    try:
        text = read_secrets(arguments.file)
        if arguments.fwknop:
            run_fwknop(arguments, text, now)
        else:
            run(arguments, Client.parse(text), now)
    except (OSError, ValueError) as error:
        # Errors never contain any part of a key.
        sys.exit(f"portknock_client.py: {arguments.file}: {error}")


def run(arguments: argparse.Namespace, client: Client, now: int) -> None:
    if arguments.n and client.form == "time":
        print(sequence_text(steps_of(client, now)))
    elif arguments.n:
        data = packet(client.shared_key, client.door or "", now * 1000, arguments.address, arguments.seconds)
        print(data.hex())
    else:
        host = arguments.host or client.server
        if host is None:
            raise ValueError("the file names no server: give the host to knock at")
        knock(client, host, now, arguments.address, arguments.seconds)


def run_fwknop(arguments: argparse.Namespace, text: str, now: int) -> None:
    passphrase, hmac_key = fwknop_keys(text)
    message = f"{arguments.address or '0.0.0.0'},{arguments.fwknop}"
    data = fwknop_packet(passphrase, hmac_key, getpass.getuser(), now, message)
    if arguments.n:
        print(data)
        return
    if arguments.host is None:
        raise ValueError("give the host to knock at")
    for family, target in addresses(arguments.host):
        send_datagram(family, target, 62201, data.encode())


if __name__ == "__main__":
    main()
