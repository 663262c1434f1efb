"""A name server that takes its time: ADDRESS DELAY_S ANSWER.

Run inside a lab namespace. Prints "ready" once it listens. One answer waits
beside another: each is put into a queue with the time it is due.
"""

import collections
import ipaddress
import select
import socket
import sys
import time

HEADER_BYTES = 12
TYPE_A, TYPE_AAAA = 1, 28


def answer(query, address):
    """An A record for the question asked, an empty answer for others."""
    end = query.index(b"\0", HEADER_BYTES) + 5  # root label, type, class
    question = query[HEADER_BYTES:end]
    record = b""
    if int.from_bytes(question[-4:-2], "big") == TYPE_A:
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + address.packed
    flags = b"\x81\x80"  # an answer, recursion desired and available
    counts = b"\0\1" + (b"\0\1" if record else b"\0\0") + b"\0\0\0\0"
    return query[:2] + flags + counts + question + record


def serve(sock, delay_s, address):
    due = collections.deque()
    while True:
        wait = max(0.0, due[0][0] - time.monotonic()) if due else None
        if select.select([sock], [], [], wait)[0]:
            query, client = sock.recvfrom(4096)
            due.append((time.monotonic() + delay_s, query, client))
        while due and due[0][0] <= time.monotonic():
            _, query, client = due.popleft()
            try:
                sock.sendto(answer(query, address), client)
            except (OSError, ValueError):
                continue  # the client has gone, or sent no question


def main():
    listen, delay_s, address = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((listen, 53))
        print("ready", flush=True)
        serve(sock, delay_s, ipaddress.IPv4Address(address))


if __name__ == "__main__":
    main()
