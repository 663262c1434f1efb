"""What a packet costs that leaves the host or passes it.

Each round makes a place anew, in which all variants have their turn, in an order
of its own: each is put in force, shown to be, measured on all paths, and
removed. (Where the kernel happens to put links and sockets is worth as much as
an empty chain: two places differ by that in all rounds alike.) "nothing again" is
the same as "nothing": how far its cost is from none is what the method cannot
tell apart.
"""

import os
import statistics
import subprocess
import time

import netns
import plot
import report
from place import MARK, OUTSIDE, PATHS, PORT, TUNNEL, Place
from variants import LOCAL, VARIANTS

CHUNKS, CHUNK = 8, 1000  # packets of a path in a round
DNS_PATHS = ["local4", "forwarded4"]
DNS_CHUNKS, DNS_CHUNK = 8, 200
TCP_BYTES = "192M"
TCP_TO = {"4": "192.0.2.1", "6": "2001:db8:2::1"}
TCP_SHARE = 10  # one round in so many has TCP as well
ALL = "all four"  # their mean
BASE, UNIT = "nothing", "empty chain"


class NotInForce(Exception):
    """What was to be measured does not do what it is measured for."""


def expect(name, what, found, wanted):
    if found != wanted:
        raise NotInForce(f"{name}: {what}: {found}, expected {wanted}")


def check_in_force(name, variant):
    """One name query a path past the tunnel, and one through it: dropped where
    the variant guards, and seen to arrive everywhere else."""
    place = variant.place
    place.arrived()
    for kind, addresses in (("outside", OUTSIDE), ("tunnel", TUNNEL)):
        place.send(PATHS, addresses, 53)
        seen = place.arrived()
        for path in PATHS:
            dropped = kind == "outside" and path in variant.guards
            expect(name, f"name queries {kind}, {path}, that arrived",
                   seen[f"{kind}_{path}"], 0 if dropped else 1)


def measure_udp(name, variant, samples, number):
    place = variant.place
    place.arrived()
    found = place.send(PATHS, OUTSIDE, PORT, CHUNKS, CHUNK, MARK)
    # Those on our way: what is not DNS is let out, in full.
    expect(name, "packets that arrived", place.arrived()["other"],
           len(PATHS) * CHUNKS * CHUNK)
    costs = {path: best(chunks) for path, (_, _, chunks) in found.items()}
    costs[ALL] = statistics.mean(costs.values())
    for path, cost in costs.items():
        samples.add(number, name, path, "ns", cost)


def measure_dns(name, variant, samples, number):
    """Name queries that are let out through the tunnel, and dropped ones."""
    place = variant.place
    for kind, addresses in (("allowed", TUNNEL), ("dropped", OUTSIDE)):
        paths = [path for path in DNS_PATHS
                 if kind == "allowed" or path in variant.guards]
        if not paths:
            continue
        found = place.send(paths, addresses, 53, DNS_CHUNKS, DNS_CHUNK)
        for path, (sent, refused, costs) in found.items():
            if kind == "allowed":
                expect(name, "refused", refused, 0)
            elif path.startswith("local"):
                expect(name, "sent", sent, 0)
            samples.add(number, name, f"DNS {kind}, {path}", "ns", best(costs))


def best(costs):
    """Of a round's chunks, the lower quartile: what disturbs one (another
    process's cache lines, an interrupt) only ever adds."""
    return statistics.quantiles(costs, n=4)[0] if len(costs) > 1 else costs[0]


def is_listening(namespace):
    """Does anybody here on iperf3's port, which is IPv6's socket for both."""
    with namespace.inside(), open("/proc/thread-self/net/tcp6",
                                  encoding="ascii") as file:
        return any(line.split()[1].endswith(":1451")
                   and line.split()[3] == "0A" for line in file)


def measure_tcp(name, variant, samples, number):
    """iperf3 to the far side, and the CPU time of both its ends."""
    place = variant.place
    for path in PATHS:
        with place.isp.inside():
            server = subprocess.Popen(
                ["iperf3", "-s", "-1"], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            netns.wait_until(lambda: is_listening(place.isp),
                             "iperf3's server listens")
            with place.origin(path).inside():
                client = subprocess.Popen(
                    ["iperf3", "-c", TCP_TO[path[-1]], "-n", TCP_BYTES,
                     "--connect-timeout", "5000"], stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            said = client.stdout.read()
            _, status, ours = os.wait4(client.pid, 0)
            client.returncode = os.waitstatus_to_exitcode(status)
            expect(name, f"iperf3 {said.decode(errors='replace')}",
                   client.returncode, 0)
            server.stdout.read()
            _, status, theirs = os.wait4(server.pid, 0)
            server.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if server.returncode is None:
                server.kill()
                server.wait(5)
            server.stdout.close()
        samples.add(number, name, f"TCP {path}", "cpu_s", sum(
            used.ru_utime + used.ru_stime for used in (ours, theirs)))


def find_available(samples):
    """Names of the variants that can be here; why others cannot is noted."""
    found = []
    for name, make in VARIANTS.items():
        with Place("p") as place:
            reason = make(place).reason()
        if reason:
            samples.notes.append(f"{name}: {reason}")
        else:
            found.append(name)
    return found


def measure_round(place, names, samples, number):
    variants = {name: VARIANTS[name](place) for name in samples.shuffled(names)}
    # What stays behind of one is to meet no other.
    for name in sorted(variants, key=lambda one: variants[one].stays):
        variant = variants[name]
        variant.install()
        check_in_force(name, variant)
        measure_udp(name, variant, samples, number)
        measure_dns(name, variant, samples, number)
        # wg-quick's rule lets nothing out but what is marked.
        if number % TCP_SHARE == 0 and variant.guards is not LOCAL:
            measure_tcp(name, variant, samples, number)
        variant.remove()


def measure(rounds):
    samples = report.Samples("packet", rounds)
    names = find_available(samples)
    for number in range(rounds):
        with Place("p") as place:
            measure_round(place, names, samples, number)
    samples.notes.append("wg-quick rule: lets out of this host what carries the "
                         "VPN's mark only: no TCP beside the tunnel")
    return samples


def run(rounds, out, about):
    started = time.monotonic()
    samples = measure(rounds)
    tables = {"cost": [], "ratio": [], "dns": [], "tcp": []}
    for name in VARIANTS:
        if not samples.summary(name, PATHS[0], "ns"):
            continue
        for path in (*PATHS, ALL):
            tables["cost"].append({"row": name, "column": path, "unit": "ns",
                                   **samples.summary(name, path, "ns")})
            if name != BASE:
                tables["ratio"].append(
                    {"row": name, "column": path,
                     **samples.ratio(name, UNIT, path, "ns", BASE)})
        for kind in ("allowed", "dropped"):
            for path in DNS_PATHS:
                column = f"DNS {kind}, {path}"
                # To what an allowed one costs where nothing looks at it.
                if samples.summary(name, column, "ns"):
                    tables["dns"].append(
                        {"row": name, "column": column, "unit": "ns",
                         **samples.summary(name, column, "ns")})
        for path in PATHS:
            found = samples.ratio(name, BASE, f"TCP {path}", "cpu_s")
            if found:
                tables["tcp"].append({"row": name, "column": path, **found})
    report.write(out, samples, tables, about)
    show(samples, tables, time.monotonic() - started)
    draw(out, tables)


def pick(table, row, column):
    for line in table:
        if (line["row"], line["column"]) == (row, column):
            return line
    return None


def rows(table):
    return list(dict.fromkeys(line["row"] for line in table))


def show(samples, tables, seconds):
    report.print_table(
        f"A UDP packet that is not DNS: CPU ns, median and quartiles of "
        f"{samples.rounds} rounds ({seconds:.0f} s)", ["", *PATHS, ALL],
        [[row, *(report.with_range(pick(tables["cost"], row, path), "{:.0f}")
                 for path in (*PATHS, ALL))] for row in rows(tables["cost"])])
    report.print_table(
        "The same: what each adds, to what one empty chain adds; in brackets "
        "the range of 95 of 100 resamples", ["", *PATHS, ALL],
        [[row, *(report.with_range(pick(tables["ratio"], row, path))
                 for path in (*PATHS, ALL))] for row in rows(tables["ratio"])])
    columns = [f"DNS {kind}, {path}" for kind in ("allowed", "dropped")
               for path in DNS_PATHS]
    report.print_table(
        "A DNS packet over UDP: CPU ns (a local one that is dropped is a system "
        "call of its own)", ["", *columns],
        [[row, *(report.with_range(pick(tables["dns"], row, column), "{:.0f}")
                 for column in columns)] for row in rows(tables["dns"])])
    report.print_table(
        f"TCP in bulk, iperf3 of {TCP_BYTES}: CPU time of both ends, to that with "
        "nothing", ["", *PATHS],
        [[row, *(report.with_range(pick(tables["tcp"], row, path))
                 for path in PATHS)] for row in rows(tables["tcp"])])
    for note in samples.notes:
        print(f"  {note}")


def draw(out, tables):
    shown = [line for line in tables["ratio"] if line["row"] != "nothing again"]
    for name, columns in (("packet", [ALL]), ("packet-paths", PATHS)):
        plot.bars(
            f"{out}/{name}.svg", "What a packet that is not DNS pays",
            "added CPU time; 1 = what one empty nftables chain adds",
            rows(shown), {path: {
                line["row"]: (line["ratio"], line["low"], line["high"])
                for line in shown if line["column"] == path}
                for path in columns})
