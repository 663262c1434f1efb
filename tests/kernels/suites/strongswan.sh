#!/bin/sh
# strongSwan with the kernel's own ESP, and leakguard's hook.
# shellcheck shell=dash disable=SC2154 # what lib.sh sets
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh
# shellcheck source=tests/kernels/gate.sh
. /tests/gate.sh

HOOK='LEAKGUARD=/bin/leakguard /usr/lib/leakguard/strongswan'

if ! type charon-systemd >/dev/null; then
	lack 'strongSwan, from scripts/setup test: policies by hand in the suite ipsec'
	exit
fi

# charon WHERE NAME CONNECTIONS: one there, which listens
charon() {
	local run='' dir=/tmp/$2
	[ "$1" = . ] || run="nsenter --net=/run/netns/$1" # becomes charon
	rm -rf "$dir"
	mkdir "$dir"
	cat >"$dir/strongswan.conf" <<-END
		swanctl {
			load = pem openssl
		}
		charon {
			load = random nonce openssl pem pkcs1 x509 pubkey kdf hmac \
				kernel-netlink socket-default vici updown
			make_before_break = yes
			retransmit_tries = 2
			retransmit_timeout = 1
			plugins {
				vici {
					socket = unix://$dir/vici
				}
				updown {
					dns_handler = yes
				}
			}
			filelog {
				log {
					path = $dir/log
					flush_line = yes
				}
			}
		}
	END
	STRONGSWAN_CONF=$dir/strongswan.conf $run charon-systemd 8>&- 9>&- &
	echo $! >"$dir/pid"
	wait_for swan "$2" --stats
	echo "$3" >"$dir/swanctl.conf"
	swan "$2" --load-all --file "$dir/swanctl.conf"
}

# swan NAME WORDS...
swan() {
	local name=$1
	shift
	STRONGSWAN_CONF=/tmp/$name/strongswan.conf \
		swanctl "$@" --uri "unix:///tmp/$name/vici" >>"/tmp/$name/swanctl" 2>&1
}

SECRET='secrets { ike-lab { secret = lab
} }'
serve() {
	charon gate gateway "connections { gateway { version = 2
		pools = v4, v6
		local { auth = psk
			id = gate.lab }
		remote { auth = psk
		}
		children { net { local_ts = 0.0.0.0/0, ::/0
		} } } }
		pools { v4 { addrs = 10.66.0.2/32
				dns = 10.64.0.1 }
			v6 { addrs = fd66::2/128
				dns = fd64::1 } }
		$SECRET"
}

# join NAME [WORDS]: a client, connected; words of the child's configuration
join() {
	charon . client "connections { vpn { version = 2
		remote_addrs = 198.51.100.9
		vips = 0.0.0.0, ::
		dpd_delay = 1
		local { auth = psk
			id = host.lab }
		remote { auth = psk
			id = gate.lab }
		children { net { remote_ts = 10.64.0.0/16, fd64::/16
			updown = $HOOK
			${2-}
		} } } }
		$SECRET"
	succeeds "$1" swan client --initiate --child net
}

is_state() {
	[ "$(field state)" = "$1" ]
}

# state NAME EXPECTED
state() {
	wait_for is_state "$2"
	check "$1: status: $2" "$(field state)" "$2"
}

is_up() {
	[ "$(grep -c 'updown: guarded' /tmp/client/log)" -ge "$1" ]
}

has_one() {
	swan client --list-sas --raw
	[ "$(tail -n 1 /tmp/client/swanctl | grep -o 'state=ESTABLISHED' | grep -c .)" = 1 ]
}

# closed NAME: resolvers of the VPN are not asked outside it
closed() {
	paths "$1: blocked" none "$INSIDE" 53 host
}

# A policy or a link without a state swallows what would tell the end of `paths`.
unheard() {
	local before
	before=$(in_plain)
	volley host 53 "$INSIDE" 0
	volley host 443 "$PUBLIC"
	check "$1: nothing in plain" "$(in_plain)" "$before"
}

in_plain() {
	grep -c "^[a-z]* \(10.64.0.1\|fd64::1\) 53 " /see/far
}

gate_up
paths 'before: the resolver outside is asked' far "$INSIDE" 53 host
lg enable --mode both --tunnel tun9 >/dev/null
closed 'before'
plain=$(in_plain)
serve
join 'connect'
state 'connected' GUARDED
paths 'connected: asked as ESP' gate "$INSIDE" 53 host
paths 'connected: not past it' none "$PUBLIC" 53
check 'connected: the tunnel is its policy' \
	"$(lg status | grep -c '^tunnel *ipsec:[0-9]* .* is up')" 1
wait_for is_up 2

succeeds 'rekey' swan client --rekey --child net
succeeds 'rekey the IKE_SA' swan client --rekey --ike vpn
paths 'rekeyed: asked as ESP' gate "$INSIDE" 53 host
succeeds 'reauthenticate, make before break' swan client --rekey --ike vpn --reauth
wait_for is_up 4
wait_for has_one
paths 'reauthenticated: asked as ESP' gate "$INSIDE" 53 host
state 'reauthenticated' GUARDED

succeeds 'disconnect' swan client --terminate --ike vpn
state 'disconnected' LOCKED
closed 'disconnected'
succeeds 'connect again' swan client --initiate --child net
state 'connected again' GUARDED
paths 'connected again: asked as ESP' gate "$INSIDE" 53 host

kill -9 "$(cat /tmp/gateway/pid)"
state 'the gateway is killed' LOCKED # once charon has noticed
closed 'the gateway is killed'
inside gate ip xfrm state flush
inside gate ip xfrm policy flush
serve
succeeds 'connect to a new gateway' swan client --initiate --child net
state 'a new gateway' GUARDED
paths 'a new gateway: asked as ESP' gate "$INSIDE" 53 host

kill -9 "$(cat /tmp/client/pid)"
state 'charon is killed, its policies stay' GUARDED
paths 'charon is killed: still asked as ESP' gate "$INSIDE" 53 host
ip xfrm state flush
unheard 'charon is killed, its states expire'
ip xfrm policy flush
# Its routes lead to nobody without them.
ip route flush table 220
ip -6 route flush table 220
state 'charon is killed, its policies go' LOCKED
closed 'charon is killed, its policies go'
join 'a new charon: connect'
state 'a new charon' GUARDED
paths 'a new charon: asked as ESP' gate "$INSIDE" 53 host
kill "$(cat /tmp/client/pid)"
state 'charon ends' LOCKED
closed 'charon ends'

# --- an XFRM interface: its link and its policy are the tunnel ---

tunnels() {
	lg status | awk '$1 == "tunnel" && $NF == "up" { sub("[0-9]*$", "", $2); print $2 }'
}
modprobe xfrm_interface
ip link add vpn0 type xfrm dev wan0 if_id 42
ip link set vpn0 up
ip route add 10.64.0.1 dev vpn0 src 192.0.2.2
ip -6 route add fd64::1 dev vpn0
unheard 'XFRM interface: before'
join 'XFRM interface: connect' 'if_id_in = 42
	if_id_out = 42'
state 'XFRM interface' GUARDED
wait_for is_up 4
ip route replace 10.64.0.1 dev vpn0 src 10.66.0.2
ip -6 route replace fd64::1 dev vpn0 src fd66::2
check 'XFRM interface: both are the tunnel' "$(tunnels | sort | paste -sd " " -)" 'ipsec: vpn'
paths 'XFRM interface: asked as ESP' gate "$INSIDE" 53 host
succeeds 'XFRM interface: disconnect' swan client --terminate --ike vpn
state 'XFRM interface: disconnected' LOCKED
check 'XFRM interface: neither is a tunnel' "$(tunnels)" ''
ip link del vpn0
closed 'XFRM interface: it is gone'
kill "$(cat /tmp/client/pid)"

check 'nothing was asked in plain all the while' "$(in_plain)" "$plain"
lg disable
paths 'after: the resolver outside is asked' far "$INSIDE" 53 host
kill "$(cat /tmp/gateway/pid)"
gate_down
