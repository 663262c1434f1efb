#!/bin/sh
# What a router forwards for its LAN: VLANs, and links to a provider that are
# tunnels without being the VPN: DS-Lite (RFC 6333), 6rd (RFC 5969).
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh

APPROVE="--resolver ${APPROVED% *} --resolver ${APPROVED#* }"

# guarded NAME OPEN: what is seen where without the guard; with it nothing, but
# to the approved resolvers; frames do not change that
guarded() {
	local frames
	paths "$1: open" "$2" "$PUBLIC"
	for frames in auto off strict; do
		# shellcheck disable=SC2086 # options
		lg enable --no-watch --tunnel wg0 --frames $frames $APPROVE
		paths "$1, frames = $frames: blocked" none "$PUBLIC"
		paths "$1, frames = $frames: approved" "$2" "$APPROVED"
		paths "$1, frames = $frames: other ports" "$2" "$PUBLIC" 443
	done
	lg disable
}

modprobe 8021q || echo "FAIL $SUITE: no 802.1Q"
modprobe ip6_tunnel || echo "FAIL $SUITE: no ip6_tunnel"
modprobe sit || echo "FAIL $SUITE: no sit"

# bare NAMESPACE LINK: up, with no address but its link-local ones, without which
# a router looks for no neighbour on behalf of others
bare() {
	local run=''
	[ "$1" = . ] || run="inside $1"
	$run ip address flush dev "$2" scope global
	$run ip link set "$2" up
}

# --- the LAN is a VLAN of the wire to it, then also of a bridge ---

bare lan lan0
bare . lan1
ip link add link lan1 name lan1.5 type vlan id 5
inside lan ip link add link lan0 name lan0.5 type vlan id 5
place . lan1.5 192.168.5.1/24 fd05::1/64
place lan lan0.5 192.168.5.2/24 fd05::2/64
lan_routes() {
	inside lan ip route replace default via 192.168.5.1
	inside lan ip -6 route replace default via fd05::1
	inside far ip route replace default via 192.0.2.2
	inside far ip -6 route replace default via 2001:db8:2::2
	wait_for answers_to lan
}
lan_routes
guarded 'a LAN in a VLAN' far

modprobe bridge
bare . lan1.5
ip link add br-lan type bridge
ip link set lan1.5 master br-lan
place . br-lan 192.168.5.1/24 fd05::1/64
lan_routes
guarded 'a VLAN in a bridge' far
ip link del br-lan
ip link del lan1.5
inside lan ip link del lan0.5
place . lan1 192.168.5.1/24 fd05::1/64
place lan lan0 192.168.5.2/24 fd05::2/64
lan_routes

# --- the provider is in a VLAN ---

bare . wan0
bare far cust0
ip link add link wan0 name wan0.7 type vlan id 7
inside far ip link add link cust0 name cust0.7 type vlan id 7
place . wan0.7 192.0.2.2/24 2001:db8:2::2/64
place far cust0.7 192.0.2.1/24 2001:db8:2::1/64
ip route replace default via 192.0.2.1 dev wan0.7
ip -6 route replace default via 2001:db8:2::1 dev wan0.7
lan_routes
guarded 'a provider in a VLAN' far
ip link del wan0.7
inside far ip link del cust0.7
place . wan0 192.0.2.2/24 2001:db8:2::2/64
place far cust0 192.0.2.1/24 2001:db8:2::1/64
default_route
lan_routes

# --- IPv4 in IPv6 to the provider's AFTR ---

ip link add dslite type ip6tnl mode ipip6 local 2001:db8:2::2 remote 2001:db8:2::1 \
	encaplimit none
inside far ip link add aftr type ip6tnl mode ipip6 local 2001:db8:2::1 \
	remote 2001:db8:2::2 encaplimit none
place . dslite 192.0.0.2/29 fd29::2/64
place far aftr 192.0.0.1/29 fd29::1/64
see far aftr aftr
ip route replace default dev dslite
inside far ip route replace default dev aftr
inside far ip route replace blackhole 203.0.113.0/24
guarded 'DS-Lite' 'udp4=aftr tcp4=aftr udp6=far tcp6=far'
ip link del dslite
inside far ip link del aftr
default_route

# --- IPv6 in IPv4 to the provider's border relay; the prefix is of the router's address ---

ip link add sixrd type sit local 192.0.2.2 ttl 64 \
	6rd-prefix 2001:db8:6000::/40 6rd-relay_prefix 192.0.2.0/24
inside far ip link add relay type sit local 192.0.2.1 remote 192.0.2.2 ttl 64
ip link set sixrd up
ip address add 2001:db8:6002::1/128 dev sixrd nodad
ip address add 2001:db8:6002:1::1/64 dev lan1 nodad
inside lan ip -6 address add 2001:db8:6002:1::2/64 dev lan0 nodad
inside lan ip -6 route replace default via 2001:db8:6002:1::1 src 2001:db8:6002:1::2
inside far ip link set relay up
see far relay relay
ip -6 route replace default via ::192.0.2.1 dev sixrd
inside far ip -6 route replace 2001:db8:6002::/48 dev relay
guarded '6rd' 'udp4=far tcp4=far udp6=relay tcp6=relay'
ip link del sixrd
inside far ip link del relay
inside lan ip -6 address del 2001:db8:6002:1::2/64 dev lan0
ip address del 2001:db8:6002:1::1/64 dev lan1
default_route
lan_routes
rm -f /see/aftr /see/relay
paths 'after: all of it gets out' far "$PUBLIC"
