"""Ask by a resolver library, not by the C library: LIBRARY NAME [SERVER].

Run inside a lab namespace. Without SERVER the library reads resolv.conf.
Prints the addresses found, one a line; exit status 1 for none.
"""

import select
import sys

TIMEOUT_S = 1.0
TRIES = 2


def by_cares(name, servers):
    import pycares
    channel = pycares.Channel(timeout=TIMEOUT_S, tries=TRIES,
                              **({"servers": servers} if servers else {}))
    done = []
    channel.query(name, pycares.QUERY_TYPE_A,
                  lambda result, error: done.append(result or []))
    while not done:
        read, write = channel.getsock()
        ready = select.select(read, write, [], channel.timeout() or TIMEOUT_S)
        for descriptor in ready[0]:
            channel.process_fd(descriptor, pycares.ARES_SOCKET_BAD)
        for descriptor in ready[1]:
            channel.process_fd(pycares.ARES_SOCKET_BAD, descriptor)
        if not ready[0] and not ready[1]:
            channel.process_fd(pycares.ARES_SOCKET_BAD,
                               pycares.ARES_SOCKET_BAD)
    return [record.host for record in done[0]]


def by_dnspython(name, servers):
    import dns.exception
    import dns.resolver
    resolver = dns.resolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = servers
    resolver.timeout, resolver.lifetime = TIMEOUT_S, TIMEOUT_S * TRIES
    try:
        return [record.address for record in resolver.resolve(name, "A")]
    except dns.exception.DNSException:
        return []


LIBRARIES = {"c-ares": by_cares, "dnspython": by_dnspython}


def main():
    library, name, *servers = sys.argv[1:]
    found = LIBRARIES[library](name, servers)
    print("\n".join(found))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
