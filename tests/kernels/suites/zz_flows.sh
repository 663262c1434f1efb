#!/bin/sh
# Flowtables: a firewall as OpenWrt's, which offloads what clients ask. Such
# flows pass neither forward nor postrouting any more. Without masquerading, which
# may give a flow another source port when it begins anew: by that it is known here.
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh

KINDS='udp4 tcp4 udp6 tcp6'

firewall() {
	nft -f - <<-END
		table inet fw4
		delete table inet fw4
		table inet fw4 {
			flowtable ft {
				hook ingress priority 0; devices = { lan1, wan0 }
			}
			chain forward {
				type filter hook forward priority filter; policy drop
				meta l4proto { tcp, udp } flow add @ft
				ct state established,related accept
				iifname lan1 accept
			}
		}
	END
}

lay() {
	local address module port
	for module in nf_flow_table_inet nft_flow_offload nf_conntrack_netlink; do
		modprobe $module || echo "FAIL $SUITE: no module $module"
	done
	for address in $PUBLIC $APPROVED; do
		inside far ip address replace "$address" dev lo
	done
	# shellcheck disable=SC2086 # lists of addresses
	for port in 53 443; do
		start far flow serve $port $PUBLIC $APPROVED >/tmp/serve.$port
		servers="$servers $!"
		wait_for grep -qs ready /tmp/serve.$port
	done
	firewall
}
servers=
unlay() {
	local address
	# shellcheck disable=SC2086 # a list
	kill $servers
	for address in $PUBLIC $APPROVED 2001:db8:113::9; do
		inside far ip address del "$address" dev lo
	done
	unreach
}

# open_flows "IP4 IP6" [PORT]: one of each kind, and two to port 443 that tell
# how far the others should be. The first has the source port $label.
open_flows() {
	local kind at=0 four=${1% *} six=${1#* } port=${2:-53}
	labels 6
	flows=
	for kind in $KINDS; do
		case $kind in
		*4) keep_flow "${kind%4}" $((label + at)) "$four" "$port" ;;
		*6) keep_flow "${kind%6}" $((label + at)) "$six" "$port" ;;
		esac
		at=$((at + 1))
	done
	keep_flow udp $((label + 4)) "${PUBLIC% *}" 443
	keep_flow udp $((label + 5)) "${PUBLIC#* }" 443
}
keep_flow() {
	start lan flow "$1" "$2" "$3" "$4" >/dev/null 2>&1
	flows="$flows $!"
}
close_flows() {
	# shellcheck disable=SC2086 # a list
	kill $flows
	# shellcheck disable=SC2086
	wait $flows
}

# seen_from PORT: packets that came out of the client's port since forget
seen_from() {
	cat /see/* | awk -v from="$1" '$4 == from { n++ } END { print n + 0 }'
}
are_past() {
	[ "$(seen_from $((label + 4)))" -ge "$1" ] && [ "$(seen_from $((label + 5)))" -ge "$1" ]
}
# going: which of the four still come out, once those to port 443 have by 15.
# What left before, and is seen only now, does not count.
going() {
	local kind at=0 found=''
	volley lan 443 "$PUBLIC"
	forget
	wait_for are_past 15 || found=' the control has ended'
	for kind in $KINDS; do
		[ "$(seen_from $((label + at)))" = 0 ] || found="$found $kind"
		at=$((at + 1))
	done
	one_of "$found"
}
one_of() {
	case "${1# }" in
	"$KINDS") echo all ;;
	'') echo none ;;
	*) echo "${1# }" ;;
	esac
}
# offloaded: which of the four are, as connection tracking says
offloaded() {
	local kind at=0 found=''
	for kind in $KINDS; do
		! grep "sport=$((label + at)) " /proc/net/nf_conntrack | grep -q OFFLOAD ||
			found="$found $kind"
		at=$((at + 1))
	done
	one_of "$found"
}
are_offloaded() {
	[ "$(offloaded)" = all ]
}
began() {
	wait_for are_offloaded
	check "$1: offloaded, and out" "$(offloaded) $(going)" 'all all'
}

raise() {
	lg enable --no-watch --tunnel tun0 "$@"
}
approve() {
	raise --frames off --resolver "${APPROVED% *}" --resolver "${APPROVED#* }" "$@"
}

lay
open_flows "$PUBLIC"
began 'before'
nft insert rule inet fw4 forward th dport 53 drop
check 'before: a rule in forward does not stop them' "$(going)" all
firewall

# --- what was there when the guard rises: forgotten, or stopped at the link ---

raise --frames off
check 'enable, frames = off: none goes on' "$(going)" none
check 'enable, frames = off: none is offloaded' "$(offloaded)" none
close_flows
lg disable
open_flows "$PUBLIC"
began 'disabled'
raise
check 'enable: none goes on' "$(going)" none
close_flows

# --- another policy ---

approve
open_flows "$APPROVED"
began 'an approved resolver'
raise --frames off
check 'no longer approved: none goes on' "$(going)" none
close_flows

# --- a pause: what began in it ---

raise --frames off
lg pause 1h
open_flows "$PUBLIC"
began 'a pause'
lg resume
check 'resume, frames = off: none goes on' "$(going)" none
close_flows
# What the kernel does not list now may be in force.
is_over() {
	local set
	set=$(nft list set inet leakguard pause) || return
	case $set in
	*expires*) return 1 ;;
	esac
}
# pause_ends NAME EXPECTED: by the kernel's clock. What takes its time in an
# emulated machine is done before; the flows are offloaded anew at once.
pause_ends() {
	lg pause 1h
	open_flows "$PUBLIC"
	began "$1"
	lg pause 10s
	wait_for are_offloaded
	wait_for is_over || check "$1: it ends" never 'in time'
	check "$1, its end: who goes on" "$(going)" "$2"
	close_flows
}
raise
pause_ends 'a pause, no watcher' none
raise --frames off
# What is left to flow-offload = prevent, below.
pause_ends 'a pause, no watcher, frames = off' all
lg disable
lg enable --tunnel tun0 --frames off
pause_ends 'a pause, a watcher, frames = off' none
lg disable

# --- prevent: they are never offloaded ---

approve --flow-offload prevent
open_flows "$APPROVED"
check 'prevent: an approved resolver is asked' "$(going)" all
check 'prevent: and none is offloaded' "$(offloaded)" none
check_least 'prevent: other ports are' \
	"$(grep "sport=$((label + 4)) " /proc/net/nf_conntrack | grep -c OFFLOAD)" 1
close_flows
raise --frames off --flow-offload prevent
lg pause 1h
open_flows "$PUBLIC"
are_going() {
	[ "$(going)" = all ]
}
wait_for are_going
check 'prevent: a pause' "$(going) $(offloaded)" 'all none'
lg pause 10s
wait_for is_over || check 'prevent: a pause ends' never 'in time'
check 'prevent: a pause ends without a watcher' "$(going)" none
close_flows

# --- a tunnel ends: the same flow is led to the wire ---

# ends NAME OPTIONS...
ends() {
	local name=$1
	shift
	tun_up
	ip route replace 203.0.113.0/24 dev tun0
	ip -6 route replace 2001:db8:113::/48 dev tun0
	ip route replace "${PUBLIC% *}" dev tun0
	raise "$@"
	open_flows "${PUBLIC% *}0 ${PUBLIC#* }0"
	wait_for grep -q " 53 $label\$" /see/tun0
	wait_for grep -q " 53 $((label + 2))\$" /see/tun0
	tun_down
	# Those to port 443 were led through it as well.
	check "$name" "$(going)" none
	close_flows
	lg disable
}
ends 'a tunnel ends'
ends 'a tunnel ends, frames = off, prevent' --frames off --flow-offload prevent

# --- the far side begins ---

# A client's queries are answers to what it sent: the entry is the other way round.
nft add rule inet fw4 forward accept
inside far ip -6 address replace 2001:db8:113::9 dev lo
first() {
	local name=$1 asker server
	volleys=0
	shift
	raise "$@"
	labels 1
	start far flow udp 53 fd05::2 "$label" 2001:db8:113::9 >/dev/null 2>&1
	server=$!
	wait_for grep -q "sport=53 dport=$label " /proc/net/nf_conntrack
	start lan flow udp "$label" 2001:db8:113::9 53 >/dev/null 2>&1
	asker=$!
	forget
	wait_for volley_came
	check "$name" "$(grep -c " 53 $label\$" /see/far)" 0
	kill $server $asker
	wait $server $asker
	lg disable
}
# Time enough for queries.
volley_came() {
	volleys=$((volleys + 1))
	volley lan 443 "$PUBLIC"
	[ "$volleys" -ge 5 ]
}
first 'the far side begins'
first 'the far side begins, frames = off, prevent' --frames off --flow-offload prevent
unlay
nft delete table inet fw4
paths 'after: all of it gets out' far "$PUBLIC"
