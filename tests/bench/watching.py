"""What a watcher takes while others change much, beside who only reads it.

Three storms: routes come and go, links flap, transactions of nf_tables by
others. CPU time of the watcher's two processes, to that of `ip monitor` (of `nft
monitor` for transactions), which reads the same events of the same storm.
"""

import contextlib
import subprocess
import time

import netns
import report
from guard import Guard
from packet import expect, pick, rows
from place import Place
from procfs import Process, family
from tools import Churn, generation, run_inside

# A first look takes a tenth of each.
ROUTES, LINKS, FLAPS, COMMITS = 500000, 1000, 5, 100000
MONITORS = {"routes": ["ip", "-rcvbuf", str(512 << 20), "monitor", "route"],
            "links": ["ip", "-rcvbuf", str(512 << 20), "monitor", "link"],
            "transactions": ["nft", "monitor"]}


def batch(place, lines):
    path = f"{place.dir}/batch"
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    done = run_inside(place.host, ["ip", "-batch", path], timeout=600)
    if done.rc:
        raise netns.CommandError(repr(done)[:2000])


def storm_of_routes(place, share):
    count = int(ROUTES * share)
    nets = [f"10.{128 + (n >> 16)}.{n >> 8 & 255}.{n & 255} via 192.0.2.1"
            if n % 2 else
            f"fd99:{n >> 16:x}:{n & 0xffff:x}::/64 via 2001:db8:2::1"
            for n in range(count)]
    batch(place, [f"route {verb} {net}" for verb in ("add", "del")
                  for net in nets])
    return 2 * count


def make_links(place, share):
    """They are there before, and after: what comes and goes is their state."""
    batch(place, [f"link add many{n}a group 77 type veth peer name many{n}b "
                  "group 77" for n in range(int(LINKS * share) // 2)])


def storm_of_links(place, share):
    count = int(LINKS * share) // 2
    batch(place, [f"link set many{n}{end} {state}" for _ in range(FLAPS)
                  for state in ("up", "down") for n in range(count)
                  for end in "ab"])
    return 4 * FLAPS * count


def storm_of_transactions(place, share):
    with Churn(place.host) as churn:
        enough = generation(place.host) + int(COMMITS * share)
        netns.wait_until(lambda: generation(place.host) >= enough,
                         "transactions", 600, 0.05)
        return churn.stop()


STORMS = {"routes": storm_of_routes, "links": storm_of_links,
          "transactions": storm_of_transactions}


def cpu_when_idle(processes):
    """Their CPU time, once they have read all there was."""
    read = [sum(one.cpu_s for one in processes)]

    def is_idle():
        read.append(sum(one.cpu_s for one in processes))
        return len(read) > 3 and read[-1] == read[-3]

    # A watcher looks unasked now and then: that is no storm's.
    netns.wait_until(is_idle, "they are idle", 300, 0.2)
    return read[-1]


@contextlib.contextmanager
def monitor(place, argv):
    with place.host.inside():
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
    found = Process(process.pid)
    try:
        netns.wait_until(lambda: any(one.startswith("socket:")
                                     for one in found.files.values()),
                         f"{argv} listens")
        cpu_when_idle([found])
        yield found
    finally:
        netns.kill(process)


def measure_storm(place, guard, kind, share, samples, number):
    who = list(family(guard).values())
    with monitor(place, MONITORS[kind]) as other:
        before, theirs = cpu_when_idle(who), other.cpu_s
        events = STORMS[kind](place, share)
        cpu = cpu_when_idle(who) - before
        theirs = cpu_when_idle([other]) - theirs
    column = f"{kind}, {samples.ownership}"
    for name, value in (("leakguard", cpu), ("monitor", theirs)):
        samples.add(number, name, column, "s", value)
    for name, one in family(guard).items():
        samples.add(number, name, column, "KiB, most", one.most_kib)
    samples.add(number, "events", column, "events", events)


def measure(rounds):
    samples = report.Samples("watch", rounds, seed=4)
    share = 0.1 if rounds == 1 else 1
    with Place("w") as place:
        guard = Guard(place)
        for number in range(rounds):
            for ownership in samples.shuffled(["owned", "not owned"]):
                samples.ownership = ownership
                for kind in samples.shuffled(STORMS):
                    if kind == "links":
                        make_links(place, share)
                    guard.enable(tunnel="tun0", resolver="203.0.113.53",
                                 ownership="auto" if ownership == "owned"
                                 else "off", watch=True)
                    try:
                        expect(kind, "owner", guard.status()["owner"],
                               "socket" if ownership == "owned" else "none")
                        measure_storm(place, guard, kind, share, samples,
                                      number)
                        expect(kind, "state", guard.state, "GUARDED")
                    finally:
                        guard.disable()
                        if kind == "links":
                            place.host.ip("link del group 77")
    return samples


def run(rounds, out, about):
    started = time.monotonic()
    samples = measure(rounds)
    table = []
    for ownership in ("owned", "not owned"):
        for kind in STORMS:
            column = f"{kind}, {ownership}"
            table += [
                {"row": column, "column": "to monitor", **samples.ratio(
                    "leakguard", "monitor", column, "s")},
                {"row": column, "column": "leakguard, s",
                 **samples.summary("leakguard", column, "s")},
                {"row": column, "column": "monitor, s",
                 **samples.summary("monitor", column, "s")},
                {"row": column, "column": "events",
                 **samples.summary("events", column, "events")}]
            table += [{"row": column, "column": f"{name}: KiB, most",
                       **samples.summary(name, column, "KiB, most")}
                      for name in ("worker", "keeper")]
    report.write(out, samples, {"watch": table}, about)
    columns = list(dict.fromkeys(line["column"] for line in table))
    report.print_table(
        "CPU time and most memory of a watcher in a storm, beside ip monitor or "
        f"nft monitor; {rounds} rounds ({time.monotonic() - started:.0f} s)",
        ["", *columns],
        [[row, *(report.with_range(pick(table, row, column), "{:.3f}"
                                   if column.endswith(", s") else
                                   "{:.2f}" if column == "to monitor"
                                   else "{:.0f}") for column in columns)]
         for row in rows(table)])
