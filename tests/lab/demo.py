"""One name query, step by step: who gets to see it, with and without leakguard.

Run by tests/lab/demo. Everything happens in namespaces that end with it.
"""

import os
import sys

import labnet
from guard import Guard
from tunnels import WireguardTunnel

PROVIDER = labnet.RESOLVERS["provider"].v4
INSIDE = labnet.RESOLVERS["inside"].v4
NAME = "secret-diary.lab.example"


class Demo:
    def __init__(self, lab):
        self.lab, self.guard, self.failed = lab, Guard(lab), []
        self.tunnel = WireguardTunnel(lab)

    def say(self, text=""):
        print(text, flush=True)

    def step(self, title):
        self.say(f"\n--- {title}")

    def expect(self, held, what):
        self.say(f"    {'ok  ' if held else 'FAIL'}  {what}")
        if not held:
            self.failed.append(what)

    def leakguard(self, verb, *options):
        """Run it as a user would; the lab's own paths are left out of the line."""
        words = [f"'{word}'" if " " in word else word for word in options]
        self.say("    $ " + " ".join(["leakguard", verb, *words]))
        done = self.guard.run(verb, *options)
        for line in (done.stdout + done.stderr).splitlines():
            self.say(f"      {line}")
        return done

    def ask(self, server, seen, answered):
        """dig a name; what the provider's side of the wire saw decides."""
        self.say(f"    $ dig @{server} {NAME}")
        with self.lab.watch(self.lab.host) as wire:
            done = self.lab.host.run(
                ["dig", "+short", "+tries=1", "+time=1", f"@{server}", NAME],
                check=False)
        answer = done.stdout.strip().splitlines()
        answer = answer[-1] if done.rc == 0 and answer else ""
        leaks = wire.name_traffic()
        for packet in leaks[:1]:
            self.say(f"      on the provider's wire: {packet.src} asks {packet.dst}"
                     f" port {packet.dport} for {readable_name(packet.payload)}")
        self.expect(bool(leaks) == seen,
                    "the provider sees the query" if seen else
                    "the provider sees nothing of it")
        self.expect(bool(answer) == answered,
                    f"answered: {answer}" if answer else "no answer")

    def run(self):
        self.step("1. A machine as it comes: its provider sees every name it looks up")
        self.ask(PROVIDER, seen=True, answered=True)

        self.step("2. The guard goes up, before the VPN does")
        self.leakguard("enable", "--tunnel", "wg0",
                       "--resolver", f"{INSIDE} via tunnel")
        self.ask(PROVIDER, seen=False, answered=False)

        self.step("3. The VPN connects (WireGuard, wireguard-go)")
        self.tunnel.up()
        self.ask(INSIDE, seen=False, answered=True)

        self.step("4. The VPN client is killed (kill -9)")
        self.tunnel.kill()
        self.ask(INSIDE, seen=False, answered=False)
        self.ask(PROVIDER, seen=False, answered=False)

        self.step("5. What leakguard says of it")
        done = self.leakguard("status")
        self.expect("LOCKED" in done.stdout, "locked: no tunnel, no names")

        self.step("6. The guard goes down: only this opens the machine again")
        self.leakguard("disable")
        self.ask(PROVIDER, seen=True, answered=True)


def readable_name(payload):
    """The name a DNS query asks for, as anybody on the wire can read it."""
    labels, at = [], 12  # behind the header (RFC 1035, 4.1)
    while at < len(payload) and payload[at]:
        length = payload[at]
        labels.append(payload[at + 1:at + 1 + length].decode(errors="replace"))
        at += 1 + length
    return ".".join(labels)


def main():
    print("Making a lab of four machines in network namespaces of their own ...",
          flush=True)
    with labnet.Lab() as lab:
        demo = Demo(lab)
        demo.run()
        demo.tunnel.remove()
    print()
    if demo.failed:
        print("It did NOT hold: " + "; ".join(demo.failed))
        return 1
    print("It held. The lab is gone; nothing on this machine was changed.")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # no thread or socket of the lab keeps us
