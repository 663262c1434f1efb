#!/bin/sh
# A provider's line by PPP over Ethernet (RFC 2516), which is not the VPN: pppd
# at the router, an access concentrator behind the wire. What came out is what
# the wire carried, without its wrapping.
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh

LINE=pppoe-wan
APPROVE="--resolver ${APPROVED% *} --resolver ${APPROVED#* }"

install_pppoe() {
	modprobe pppoe || echo "FAIL $SUITE: no pppoe"
	[ -c /dev/ppp ] || mknod /dev/ppp c 108 0
	mkdir -p /dev/pts /var /run/lock /etc/ppp
	grep -q ' /dev/pts ' /proc/mounts || mount -t devpts devpts /dev/pts
	[ -e /var/run ] || ln -s /run /var/run
	[ -e /var/lock ] || ln -s /run/lock /var/lock
	printf 'noauth\nlogfile /tmp/concentrator.log\n' >/tmp/line
	# With options of its own: both pppd run in one tree of files.
	cat >/tmp/concentrator <<-'END'
		#!/bin/sh
		mount -t tmpfs none /etc/ppp
		: >/etc/ppp/options
		exec pppoe-server -F -I cust0 -L 10.66.0.1 -R 10.66.0.2 -N 1 -O /tmp/line \
			-q /bin/pppd -Q /bin/pppoe
	END
	chmod +x /tmp/concentrator
	start far unshare -m /tmp/concentrator >/tmp/concentrator.out 2>&1
	concentrator=$!
}

line_up() {
	: >/etc/ppp/options
	pppd plugin rp-pppoe.so wan0 noauth +ipv6 nodetach nodefaultroute persist \
		maxfail 0 holdoff 1 ifname $LINE logfile /tmp/pppd.log \
		>/tmp/pppd.out 2>&1 8>&- 9>&- &
	line=$!
	wait_for is_up || echo "FAIL $SUITE: no line: $(tail -n 3 /tmp/pppd.log)"
}
is_up() {
	ip address show dev $LINE 2>/dev/null | grep -q 'inet 10.66.0.2' &&
		inside far ip link show ppp0 2>/dev/null | grep -q ',UP'
}

# By it alone; of both ends the addresses are those of the wire.
lead_line() {
	ip address replace 2001:db8:66::2/64 dev $LINE nodad
	ip route replace default dev $LINE
	ip -6 route replace default dev $LINE
	inside far ip route replace default dev ppp0
	inside far ip -6 route replace default dev ppp0
	wait_for answers_to lan && wait_for answers_to host
}

install_pppoe
line_up
lead_line
check 'a line: it is the way out' \
	"$(ip route get "${PUBLIC% *}" | sed -n 's/.* dev \([^ ]*\).*/\1/p')" $LINE
paths 'a line: all of it gets out' far "$PUBLIC"
for frames in off auto strict; do
	# shellcheck disable=SC2086 # options
	lg enable --no-watch --tunnel wg0 --frames $frames $APPROVE
	paths "frames = $frames: blocked" none "$PUBLIC"
	paths "frames = $frames: other ports" far "$PUBLIC" 443
	if [ $frames = strict ]; then
		# As leakguard.conf(5) says.
		paths 'frames = strict: not even approved' none "$APPROVED"
		continue
	fi
	paths "frames = $frames: approved" far "$APPROVED"
	large "frames = $frames: fragments of other ports" '2 4' host 443 "$PUBLIC"
	large "frames = $frames: no fragment of a query" '0 0' host 53 "$PUBLIC"
	large "frames = $frames: nor of a client's" '0 0' lan 53 "$PUBLIC"
	large "frames = $frames: a client's fragments" '2 4' lan 443 "$PUBLIC"
	lg pause 60s
	paths "frames = $frames, a pause: all of it gets out" far "$PUBLIC"
	lg resume
	paths "frames = $frames, after it: blocked" none "$PUBLIC"
	[ $frames = off ] ||
		sends 'PPPoE by hand beside it' none raw .:wan0 53 "$PUBLIC" pppoe4 pppoe6
done
lg disable
# It ends, and comes again by itself, as another link of the same name.
lg enable --tunnel wg0
paths 'a watcher: blocked' none "$PUBLIC"
index=$(cat /sys/class/net/$LINE/ifindex)
kill -HUP "$line"
is_another() {
	[ "$(cat /sys/class/net/$LINE/ifindex 2>/dev/null || echo "$index")" != "$index" ]
}
wait_for is_another
wait_for is_up
lead_line
paths 'a new line: blocked' none "$PUBLIC"
lg disable
paths 'a new line: open again' far "$PUBLIC"

kill "$line"
wait "$line"
kill "$concentrator"
wait_for is_gone $LINE
inside far ip route replace default via 192.0.2.2
inside far ip -6 route replace default via 2001:db8:2::2
default_route
paths 'after: all of it gets out' far "$PUBLIC"
