"""A virtual machine: qemu, its monitor, and the guest agent that runs commands in it."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import time

KERNEL_TIMEOUT = 15  # seconds
BOOT_TIMEOUT = 60  # seconds; ten times as long with software emulation
COMMAND_TIMEOUT = 120  # seconds
MAC = "52:54:00:00:00:01"
TAP = "tap0"


def with_load(seconds):
    """The timeout on this host, which others may use, for what takes so long on an idle one."""
    return seconds * max(1, os.getloadavg()[0] / os.cpu_count())


class Result:
    """The output and the exit status of a command in the guest."""

    def __init__(self, status, output):
        self.status = status
        self.output = output


class JsonSocket:
    """A Unix socket with one JSON object per line."""

    def __init__(self, path):
        self.path = path
        self.socket = None
        self.received = b""

    def connect(self, deadline):
        while True:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.socket.connect(self.path)
                return
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def send(self, message):
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, deadline):
        while b"\n" not in self.received:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self.socket.recv(65536)
            if not data:
                raise OSError("qemu closed the connection")
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        # The agent puts this byte before an answer that follows a synchronisation.
        return json.loads(line.lstrip(b"\xff"))


class Machine:
    """The one virtual machine of a run. Changes to its disk are lost when it ends."""

    def __init__(self, accelerator, image, kernel, initrd, share, directory):
        self.is_fast = accelerator == "kvm"
        self.console = os.path.join(directory, "console")
        self.monitor = JsonSocket(os.path.join(directory, "monitor"))
        self.agent = JsonSocket(os.path.join(directory, "agent"))
        self.events = []
        self.synchronisations = 0
        for path in (self.monitor.path, self.agent.path, self.console):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        command = [
            "qemu-system-x86_64", "-name", "portknock", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "pc", "-accel", accelerator, "-cpu", "max,arch-capabilities=off", "-smp", "2", "-m", "1024",
            "-kernel", kernel, "-initrd", initrd,
            "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0",
            "-drive", f"file={image},format=raw,if=virtio,snapshot=on",
            "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=net,mac={MAC},romfile=",
            "-virtfs", f"local,path={share},mount_tag=share,security_model=none,readonly=on",
            "-device", "virtio-serial", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            "-chardev", f"socket,id=agent,path={self.agent.path},server=on,wait=off",
            "-qmp", f"unix:{self.monitor.path},server=on,wait=off",
            "-serial", f"file:{self.console}",
        ]  # fmt: skip
        # qemu stays in the process group of this script, so that an interruption ends it, too.
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + with_load(10)
        self.monitor.connect(deadline)
        self.monitor.receive(deadline)
        self.ask("qmp_capabilities")
        self.agent.connect(deadline)

    @classmethod
    def boot(cls, *files):
        """Boots with KVM if a kernel starts with it, otherwise with software emulation."""
        try:
            machine = cls("kvm", *files)
            deadline = time.monotonic() + KERNEL_TIMEOUT
            while time.monotonic() < deadline:
                with open(machine.console, "rb") as console:
                    if b"Linux version" in console.read():
                        return machine
                time.sleep(0.1)
            machine.end()
        except OSError:
            pass
        return cls("tcg", *files)

    def scaled(self, seconds):
        """Returns the timeout for an operation that has this timeout with KVM."""
        return with_load(seconds if self.is_fast else seconds * 10)

    def ask(self, command, **arguments):
        """Runs a command of the monitor."""
        self.monitor.send({"execute": command, "arguments": arguments})
        deadline = time.monotonic() + with_load(30)
        while True:
            answer = self.monitor.receive(deadline)
            if "event" in answer:
                self.events.append(answer["event"])
            elif "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            else:
                return answer["return"]

    def wait_for_event(self, name, seconds):
        """Waits for an event since the last `forget_events`."""
        deadline = time.monotonic() + self.scaled(seconds)
        while name not in self.events:
            if time.monotonic() > deadline:
                raise TimeoutError(f"qemu does not report {name}")
            time.sleep(0.2)
            self.ask("query-status")

    def forget_events(self):
        self.ask("query-status")
        self.events.clear()

    def wait_until_up(self):
        """Waits until the agent answers and systemd has started everything."""
        deadline = time.monotonic() + self.scaled(BOOT_TIMEOUT)
        while True:
            self.synchronisations += 1
            try:
                self.agent.send({"execute": "guest-sync", "arguments": {"id": self.synchronisations}})
                answer = {}
                # The agent may first send answers to requests from before the boot.
                while answer.get("return") != self.synchronisations:
                    answer = self.agent.receive(min(deadline, time.monotonic() + 1))
                break
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
        # The exit status is 1 if a unit failed; the checks detect that.
        self.run("systemctl is-system-running --wait || true")

    def call_agent(self, request):
        self.agent.send(request)
        answer = self.agent.receive(time.monotonic() + self.scaled(30))
        if "error" in answer:
            raise RuntimeError(f"{request['execute']}: {answer['error']}")
        return answer["return"]

    def request(self, command):
        """Returns the request that makes the agent start a shell command."""
        environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                       "DEBIAN_FRONTEND=noninteractive", "HOME=/root"]  # fmt: skip
        arguments = {"path": "/bin/sh", "arg": ["-c", f"cd /root && {{ {command}\n}} 2>&1"],
                     "env": environment, "capture-output": True}  # fmt: skip
        return {"execute": "guest-exec", "arguments": arguments}

    def start(self, command):
        """Starts a shell command in the guest, and returns the process id for `finish`."""
        return self.call_agent(self.request(command))["pid"]

    def finish(self, pid, seconds=COMMAND_TIMEOUT):
        """Waits for the end of a command, and returns its result."""
        deadline = time.monotonic() + self.scaled(seconds)
        while True:
            status = self.call_agent({"execute": "guest-exec-status", "arguments": {"pid": pid}})
            if status["exited"]:
                output = base64.b64decode(status.get("out-data", "")).decode(errors="replace")
                # The agent reports a signal in a separate field; the shell's convention is 128 plus
                # its number.
                return Result(status.get("exitcode", 128 + status.get("signal", 0)), output)
            if time.monotonic() > deadline:
                raise TimeoutError("a command in the guest does not end")
            time.sleep(0.1)

    def run(self, command, seconds=COMMAND_TIMEOUT):
        """Runs a shell command in the guest."""
        return self.finish(self.start(command), seconds)

    def reboot(self):
        """Reboots the guest with an orderly shutdown, and waits until it is up again."""
        self.forget_events()
        # The agent may exit before it sends an answer.
        self.agent.send(self.request("systemctl reboot"))
        self.wait_for_event("RESET", 90)
        self.wait_until_up()

    def reset(self):
        """Resets the machine as a short power cut does, and waits until the guest is up again."""
        self.forget_events()
        self.ask("system_reset")
        self.wait_for_event("RESET", 10)
        self.wait_until_up()

    def suspend_and_wake(self, seconds):
        """Suspends the machine to memory, and wakes it after this number of seconds."""
        self.forget_events()
        self.agent.send(self.request("systemctl suspend"))
        self.wait_for_event("SUSPEND", 30)
        time.sleep(seconds)
        self.ask("system_wakeup")
        self.wait_for_event("WAKEUP", 30)
        self.wait_until_up()

    def end(self):
        self.process.kill()
        self.process.wait()
