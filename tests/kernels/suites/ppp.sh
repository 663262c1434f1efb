#!/bin/sh
# pppd with its hook, as a VPN over TCP and as a provider's own line.
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh

PEER=192.0.2.1
RESOLVER=10.64.0.1 # pushed, as is FORGED, which nobody has
FORGED=203.0.113.99

# --- what is installed, wired by the very lines of the hooks' README ---

# readme N: its piece of that number, of this section
readme() {
	awk -v wanted="$1" '
		/^## / { here = /^## pppd/ }
		here && /^    / { if (!inside) n++; if (n == wanted) print }
		{ inside = /^    / }' /usr/lib/leakguard/README.md | cut -c 5-
}

install_ppp() {
	modprobe ppp_async
	[ -c /dev/ppp ] || mknod /dev/ppp c 108 0
	mkdir -p /dev/pts
	mount -t devpts devpts /dev/pts
	ln -sf /bin/leakguard /usr/sbin/leakguard
	mkdir -p /usr/bin /var /run/lock /etc/ppp/peers
	[ -e /var/run ] || ln -s /run /var/run
	[ -e /var/lock ] || ln -s /run/lock /var/lock
	[ -e /usr/bin/basename ] || ln -s /bin/basename /usr/bin/basename
	: >/etc/leakguard.conf
	readme 1 >/tmp/wire
	sh /tmp/wire
	{ carrier && readme 2; } >/etc/ppp/peers/work
	{ carrier && echo 'usepeerdns' && echo 'ipparam leakguard' &&
		echo 'linkname provider' && echo 'set LEAKGUARD=/tmp/evil'; } \
		>/etc/ppp/peers/line
	printf '#!/bin/sh\necho was >/tmp/evil-was\n' >/tmp/evil
	chmod +x /tmp/evil
	# Right behind the hook, whose name comes before.
	cat >/etc/ppp/ip-pre-up.d/record <<-'END'
		#!/bin/sh
		leakguard status --json >/tmp/pre-up
	END
	chmod +x /etc/ppp/ip-pre-up.d/record
	start far probe serve $RESOLVER 53 >/tmp/serve
}

# A link to the far side, again and again.
carrier() {
	cat <<-END
		pty "nc $PEER 5001"
		noauth
		local
		+ipv6
		persist
		maxfail 0
		holdoff 1
		nodetach
		logfile /tmp/pppd.log
	END
}

# The VPN's side; its own scripts are nobody's.
server_up() {
	cat >/tmp/server <<-END
		#!/bin/sh
		mount -t tmpfs none /etc/ppp
		: >/etc/ppp/options
		echo \$\$ >/tmp/server.pid
		exec pppd notty nodetach noauth local ifname vpn0 +ipv6 ms-dns $RESOLVER \\
			ms-dns $FORGED 10.66.0.1:10.66.0.2 logfile /tmp/server.log
	END
	chmod +x /tmp/server
	start far nc -ll -p 5001 -e unshare -m /tmp/server
	echo $! >/tmp/listen.pid
}

server_kill() {
	kill -9 "$(cat /tmp/listen.pid)" "$(cat /tmp/server.pid)"
	wait_for far_is_gone
}

# The session before may still be there, under the name that the next one wants.
server_end() {
	kill -9 "$(cat /tmp/server.pid)" 2>/dev/null
	wait_for far_is_gone
}

far_is_gone() {
	! inside far ip link show vpn0 >/dev/null 2>&1
}

client_up() {
	pppd call "$1" >/dev/null 2>&1 8>&- 9>&- &
	client=$!
}

client_kill() {
	kill -9 "$client"
	wait "$client"
	wait_for is_gone ppp0
	server_end
}

# keep_asking; asked NAME: queries all the time from one to the other, none of
# which gets out. That what follows each to port 9 does is the control.
keep_asking() {
	labels 1
	: >/tmp/asking
	# shellcheck disable=SC2086 # two addresses
	while [ -e /tmp/asking ]; do
		probe send "$label" 53 $PUBLIC
		usleep 50000
	done 8>&- 9>&- &
	asker=$!
}
asked() {
	rm /tmp/asking
	wait "$asker"
	check_least "$1: queries all the time" "$(seen 9)" 3
	check "$1: none of them got out" "$(seen 53)" 0
}
# seen PORT: with this label
seen() {
	awk -v port="$1" -v label="$label" '$3 == port && $4 == label { n++ }
		END { print n + 0 }' /see/far
}

# Both ends: routes, and what comes out there.
is_up() {
	ip link show ppp0 2>/dev/null | grep -q ',UP' &&
		inside far ip link show vpn0 2>/dev/null | grep -q ',UP'
}

linked() {
	wait_for is_up || echo "FAIL $SUITE: $1: no link, $(tail -n 3 /tmp/pppd.log)"
	see far vpn0 ppp0
	place . ppp0 10.67.0.2/32 fd66::2/64
	lead ppp0
}

# told FILE: state, links that are tunnels, resolvers tied to one, of a status
told() {
	awk '
		/^ *"state":/ { gsub(/[^A-Z]/, ""); state = $0 }
		/^ *"(tunnels|resolvers|frames)":/ { part = $1 }
		part ~ /tunnels/ && /"kind":"ppp"/ { links++ }
		part ~ /resolvers/ && /"link":"ppp0"/ { tied++ }
		END { print state, links + 0, tied + 0 }' "$1"
}
told_now() {
	lg status --json >/tmp/status
	told /tmp/status
}
tells() {
	[ "$(told_now)" = "$1" ]
}
# says NAME WHAT: sooner or later
says() {
	wait_for tells "$2"
	check "$1: status" "$(told_now)" "$2"
}
state_is() {
	[ "$(field state)" = "$1" ]
}

install_ppp
paths 'before: all of it gets out' far "$PUBLIC"
lg enable
says 'enabled' 'LOCKED 0 0'
paths 'enabled: blocked' none "$PUBLIC"

# --- connecting ---

client_up work
wait_for grep -qs 'Modem hangup' /tmp/pppd.log
says 'nobody answers yet' 'LOCKED 0 0'
paths "nobody answers yet: blocked" none "$PUBLIC"
keep_asking
server_up
wait_for state_is GUARDED
asked 'connecting'
linked connecting
check 'connecting: known before IPv4 is up' "$(told /tmp/pre-up | cut -d' ' -f2-)" '1 2'

# --- up ---

says 'up' 'GUARDED 1 2'
paths 'up: through the tunnel' ppp0 "$INSIDE"
paths 'up: not past it' none "$PUBLIC"
check 'up: answered' "$(probe ask $RESOLVER 53)" answer
check 'up: the resolvers are the pushed ones' \
	"$(sed -n 's/^nameserver //p' /etc/ppp/resolv.conf)" "$RESOLVER
$FORGED"
ip route replace $FORGED via $PEER dev wan0
paths 'up: what the peer pushed, led outside' none "$FORGED 2001:db8:113::8"
ip route del $FORGED via $PEER dev wan0

# --- the server dies, and comes again ---

keep_asking
server_kill
wait_for state_is LOCKED
asked 'server killed'
says 'server killed' 'LOCKED 0 0'
paths 'server killed: closed' none "$PUBLIC"
paths 'server killed: its resolver too' none "$INSIDE"
keep_asking
server_up
wait_for state_is GUARDED
asked 'reconnecting'
linked reconnecting
says 'reconnected by itself' 'GUARDED 1 2'
paths 'reconnected: through the tunnel' ppp0 "$INSIDE"
paths 'reconnected: not past it' none "$PUBLIC"

# --- the client dies: no script is run ---

keep_asking
client_kill
asked 'client killed'
says 'client killed' 'LOCKED 0 2'
paths 'client killed: closed' none "$PUBLIC"
paths 'client killed: its resolver too' none "$INSIDE"

# --- the provider's own line, under the VPN's old name ---

# By the default routes, as a provider's line has them.
line_paths() {
	ip route replace default dev ppp0
	ip -6 route replace default dev ppp0
	paths "$1" "$2" "$PUBLIC"
	default_route
}
client_up line
linked 'a line'
says 'a line is no tunnel' 'LOCKED 0 0'
line_paths 'a line is no tunnel: closed' none
check 'a line: its options choose no program' "$(cat /tmp/evil-was 2>/dev/null)" ''
lg disable
line_paths 'a line without the guard: open' ppp0
kill "$client"
wait "$client"
wait_for is_gone ppp0
wait_for far_is_gone

# --- the hook raises the guard, and leaves it up at the end ---

client_up work
linked 'without a guard'
says 'without a guard before' 'GUARDED 1 2'
paths 'without a guard before: through the tunnel' ppp0 "$INSIDE"
paths 'without a guard before: not past it' none "$PUBLIC"
keep_asking
kill "$client"
wait "$client"
wait_for state_is LOCKED
asked 'down'
says 'down' 'LOCKED 0 0'
paths 'down: closed' none "$PUBLIC"
paths 'down: its resolver too' none "$INSIDE"
check 'the log: nothing was left out' "$(grep 'leakguard: ppp' /tmp/syslog)" ''
lg disable
paths 'after: all of it gets out' far "$PUBLIC"
