#!/bin/sh
# A gate that takes packets out of ESP, for suites. Sourced, after lib.sh.
# shellcheck shell=dash disable=SC2034 # what the suites read
#
#     the machine              far                      gate (namespace)
#     wan0 192.0.2.2 ---- cust0   far1 198.51.100.1 ---- gate0 198.51.100.9
#                                                        10.64.0.1
#
# Policies lead COVERED and INSIDE into ESP to the gate. What it takes out of
# ESP is in /see/gate; the wire that /see/far is about carries it in plain or
# as ESP. Nothing leads COVERED from far to the gate.

HERE='192.0.2.2 2001:db8:2::2'
GATE='198.51.100.9 2001:db8:51::9'
COVERED='203.0.113.8 2001:db8:113::8'
COVERED_NETS='203.0.113.0/25 2001:db8:113::/64'
UNCOVERED='203.0.113.208 2001:db8:113:1::8' # no policy has these

# first "IP4 IP6", second "IP4 IP6"
first() { echo "${1% *}"; }
second() { echo "${1#* }"; }

# --- the gate ---

gate_up() {
	local module
	for module in esp4 esp6 xfrm_user nft_xfrm; do
		modprobe "$module" || echo "FAIL $SUITE: no module $module"
	done
	ip netns add gate
	inside gate ip link set lo up
	ip -n far link add far1 type veth peer name gate0 netns gate
	place far far1 198.51.100.1/24 2001:db8:51::1/64
	place gate gate0 198.51.100.9/24 2001:db8:51::9/64
	place gate lo 10.64.0.1/32 fd64::1/128
	inside gate ip route add default via 198.51.100.1
	inside gate ip -6 route add default via 2001:db8:51::1
	far_forwards 1
	see gate gate0
	wait_for gate_answers
}

gate_answers() {
	ping -c 1 -W 1 198.51.100.9 >/dev/null && ping -c 1 -W 1 2001:db8:51::9 >/dev/null
}

far_forwards() {
	inside far sh -c "echo $1 >/proc/sys/net/ipv4/ip_forward
		echo $1 >/proc/sys/net/ipv6/conf/all/forwarding"
}

gate_down() {
	xfrm_down
	ip -n far link del far1 # who still looks at its end keeps the namespace
	ip netns del gate
	far_forwards 0
}

# --- what is in force, and seen ---

xfrm() {
	local run='' where=$1
	[ "$where" = . ] || run="inside $where"
	shift
	$run ip xfrm "$@" || echo "FAIL $SUITE: ip xfrm $*"
}

xfrm_down() {
	local where
	for where in . gate; do
		xfrm $where policy flush
		xfrm $where state flush
	done
}

# on_wire PROTOCOL [PORT]: how many of these have been on the wire to the gate
on_wire() {
	grep -c "^$1 \(198.51.100.9\|2001:db8:51::9\) ${2:-}" /see/far
}
