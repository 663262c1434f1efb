#!/bin/sh
# Policy-mode IPsec: policies and states by ip xfrm, no device.
# shellcheck shell=dash disable=SC2154 # what lib.sh sets
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh
# shellcheck source=tests/kernels/gate.sh
. /tests/gate.sh

VIRTUAL='10.66.0.2 fd66::2'

# --- policies and states ---

KEY=0x0123456789abcdef0123456789abcdef01234567

# states REQID MODE [WORDS...]: ESP at both ends, by both families; SPIs are the
# reqid's number, 0x1000 on the way out and 0x2000 on the way back
states() {
	local reqid=$1 mode=$2 here gate pick
	shift 2
	for pick in first second; do
		here=$($pick "$HERE") gate=$($pick "$GATE")
		state . "$here" "$gate" $((0x1000 + reqid)) "$reqid" "$mode" "$@"
		state gate "$here" "$gate" $((0x1000 + reqid)) "$reqid" "$mode" "$@"
		state . "$gate" "$here" $((0x2000 + reqid)) "$reqid" "$mode" "$@"
		state gate "$gate" "$here" $((0x2000 + reqid)) "$reqid" "$mode" "$@"
	done
}

# state WHERE SRC DST SPI REQID MODE [WORDS...]
state() {
	local where=$1 src=$2 dst=$3 spi=$4 reqid=$5 mode=$6
	shift 6
	xfrm "$where" state add src "$src" dst "$dst" proto esp spi "$spi" reqid "$reqid" \
		mode "$mode" aead 'rfc4106(gcm(aes))' $KEY 128 "$@"
}

# policies REQID MODE SOURCES DESTINATIONS [WORDS...]: the way out, and at the gate
# the way back; WORDS are about the template. Sources are "any" or two networks.
policies() {
	local reqid=$1 mode=$2 sources=$3 dests=$4 here gate pick any src
	shift 4
	for pick in first second; do
		here=$($pick "$HERE") gate=$($pick "$GATE")
		any=$($pick '0.0.0.0/0 ::/0')
		src=$any
		[ "$sources" = any ] || src=$($pick "$sources")
		policy . out "$src" "$($pick "$dests")" "$here" "$gate" "$reqid" "$mode" "$@"
		policy . in "$($pick "$dests")" "$src" "$gate" "$here" "$reqid" "$mode" level use
		policy gate in "$src" "$($pick "$dests")" "$here" "$gate" "$reqid" "$mode" level use
		policy gate out "$($pick "$dests")" "$src" "$gate" "$here" "$reqid" "$mode"
	done
}

# policy WHERE DIRECTION SOURCES DESTINATIONS HERE THERE REQID MODE [WORDS...]
policy() {
	local where=$1 dir=$2 src=$3 dst=$4 here=$5 there=$6 reqid=$7 mode=$8
	shift 8
	xfrm "$where" policy update src "$src" dst "$dst" dir "$dir" tmpl src "$here" \
		dst "$there" proto "${PROTO:-esp}" reqid "$reqid" mode "$mode" "$@"
}

# tunnel REQID [SOURCES]: what most rows need
tunnel() {
	xfrm_down
	states "$1" tunnel
	policies "$1" tunnel "${2:-any}" "$COVERED_NETS"
	policies "$1" tunnel "${2:-any}" "$INSIDE"
}

# --- what is seen ---

# nothing NAME "IP4 IP6": neither in plain nor as ESP; where a policy without a
# state swallows what would tell the end, packets to others do
nothing() {
	local origin port found='' before swallowed
	for origin in host lan; do
		for port in 53 853 443; do
			before=$(on_wire esp)
			volley "$origin" "$port" "$2" 0
			swallowed=$(($(cat /tmp/label) - 1)) # the volley's own
			volley "$origin" 443 "$UNCOVERED"
			[ "$came" = far ] && [ "$(on_wire esp)" = "$before" ] &&
				! cat /see/* | grep -q " $swallowed\$" ||
				found="$found $origin:$port: $came;"
		done
	done
	check "$1" "${found:-nothing}" nothing
}

# takes ADDRESS PORT: UDP to there is ESP
takes() {
	start gate probe espinudp "$1" "$2" >/tmp/takes
	wait_for grep -qs ready /tmp/takes
}

# whole NAME ORIGIN: both of two datagrams that have to be cut come out of the
# tunnel; those before them have told who sends how much the way takes
whole() {
	local run='' address
	[ "$2" = host ] || run="inside $2"
	for _ in 1 2; do
		labels 1
		for address in $COVERED; do
			$run probe large "$label" 9 "$address"
		done
		volley "$2" 443 "$COVERED"
	done
	check "$1" "$(grep -c "^udp .* 9 $label\$" /see/gate)" 2
}

# asked NAME EXPECTED ADDRESS...: at port 53 of each
asked() {
	local name=$1 expected=$2 address found=
	shift 2
	for address; do
		found="$found $(probe ask "$address" 53)"
	done
	check "$name" "${found# }" "$expected"
}

# The verdict of the IP stack alone; what that on frames adds has its own rows.
raise() {
	lg enable --no-watch --frames off "$@" >/tmp/raised 2>&1
}

gate_up
place . lo 10.66.0.2/32 fd66::2/128

# --- tunnel mode ---

paths 'before: no policy, all of it in plain' far "$COVERED"
tunnel 7
before=$(on_wire esp)
paths 'before: a policy leads it into ESP' gate "$COVERED"
check_least 'before: that is what is on the wire' "$(on_wire esp)" $((before + 24))
paths 'before: others in plain' far "$UNCOVERED"
for origin in host lan; do
	whole "before: large datagrams from $origin arrive" $origin
done
for which in ipsec:any ipsec:7; do
	succeeds "$which: enable" raise --tunnel $which
	check "$which: status: GUARDED" "$(field state)" GUARDED
	paths "$which: what a policy takes passes" gate "$COVERED"
	paths "$which: also to a resolver at the gate" gate "$INSIDE" 53
	paths "$which: others are blocked" none "$UNCOVERED"
	paths "$which: other ports pass" far "$UNCOVERED" 443
done
whole 'ipsec:7: large datagrams arrive' host
whole 'ipsec:7: large forwarded datagrams arrive' lan
succeeds 'ipsec:8: enable' raise --tunnel ipsec:8
check 'ipsec:8: status: LOCKED' "$(field state)" LOCKED
paths 'ipsec:8: another policy is no tunnel' none "$COVERED"

# --- less than a policy with its state ---

for which in ipsec:any ipsec:7; do
	tunnel 7
	raise --tunnel $which
	xfrm . state flush
	nothing "$which: no state, nothing in whatever form" "$COVERED"
	xfrm . policy flush
	paths "$which: no policy, blocked" none "$COVERED"
	check "$which: status: LOCKED" "$(field state)" LOCKED
done
lg disable
policy . out 0.0.0.0/0 203.0.113.0/25 192.0.2.2 203.0.113.8 7 transport level use
policy . out ::/0 2001:db8:113::/64 2001:db8:2::2 2001:db8:113::8 7 transport level use
paths 'level use without a state: in plain' far "$COVERED" 53 host
for which in ipsec:any ipsec:7; do
	raise --tunnel $which
	paths "$which: level use without a state: blocked" none "$COVERED" 53 host
done
lg disable

# --- source NAT of others: it can lead out of a policy, and into one ---

tunnel 7 "$VIRTUAL"
virtual_is() {
	ip route "$1" 203.0.113.0/25 via 192.0.2.1 src 10.66.0.2
	ip -6 route "$1" 2001:db8:113::/64 via 2001:db8:2::1 src fd66::2
}
# translate RULE...: somebody's table
translate() {
	local rule
	nft add table inet nat
	nft 'add chain inet nat postrouting { type nat hook postrouting priority srcnat; }'
	for rule; do
		nft "add rule inet nat postrouting oifname wan0 $rule"
	done
}
virtual_is add
paths 'virtual address: into ESP' gate "$COVERED" 53 host
translate masquerade
paths 'masqueraded: out of the policy, in plain' far "$COVERED" 53 host
for which in ipsec:any ipsec:7; do
	raise --tunnel $which
	paths "$which: masqueraded: blocked" none "$COVERED" 53 host
done
nft delete table inet nat
paths 'not masqueraded: passes' gate "$COVERED" 53 host
lg disable
paths 'LAN: no policy for its addresses, in plain' far "$COVERED" 53 lan
raise --tunnel ipsec:7
paths 'LAN: blocked' none "$COVERED" '53 853' lan
translate 'ip saddr 192.168.5.0/24 snat ip to 10.66.0.2' \
	'ip6 saddr fd05::/64 snat ip6 to fd66::2'
for which in ipsec:any ipsec:7; do
	for action in drop reject; do
		raise --tunnel $which --action $action
		paths "$which: LAN behind the virtual address, $action: passes" gate "$COVERED"
		paths "$which: LAN behind the virtual address, $action: others do not" \
			none "$UNCOVERED"
	done
done
nft delete table inet nat
virtual_is del
lg disable

# --- transport mode, with answers ---

start gate probe serve 198.51.100.9 53 >/tmp/serve4
start gate probe serve 2001:db8:51::9 53 >/tmp/serve6
wait_for grep -qs ready /tmp/serve6
wait_for grep -qs ready /tmp/serve4
xfrm_down
# shellcheck disable=SC2086 # two addresses
set -- $GATE
before=$(on_wire udp 53)
asked 'transport: no policy: answers' 'answer answer' "$@"
check 'transport: no policy: in plain' "$(on_wire udp 53)" $((before + 2))
raise --tunnel ipsec:7
asked 'transport: no policy: blocked' 'silence silence' "$@"
raise --tunnel ipsec:7 --action reject
asked 'transport: no policy: refused' 'refused refused' "$@"
states 7 transport
policies 7 transport "$HERE" "$GATE"
asked 'transport: a policy: answers' 'answer answer' "$@"
raise --tunnel ipsec:any
asked 'transport: any policy: answers' 'answer answer' "$@"
check 'transport: in plain as before' "$(on_wire udp 53)" $((before + 2))
lg disable

# --- mode both: what `up` brings for a policy ---

tunnel 7
# shellcheck disable=SC2086 # two addresses
set -- $INSIDE
raise --mode both --tunnel tun9
paths 'both: not even there' none "$INSIDE"
succeeds 'both: up' lg up --no-watch --tunnel ipsec:7 --resolver "$1" --resolver "$2"
check 'both: status: GUARDED' "$(field state)" GUARDED
paths 'both: its resolvers, inside' gate "$INSIDE"
paths 'both: no others' none "$COVERED"
xfrm . policy flush
paths 'both: no policy, blocked' none "$INSIDE"
tunnel 7
succeeds 'both: down' lg down --tunnel ipsec:7
paths 'both: down' none "$INSIDE"
lg disable

# --- ESP in UDP ---

takes 198.51.100.9 4500
takes 2001:db8:51::9 4500
xfrm_down
states 7 tunnel encap espinudp 4500 4500 0.0.0.0
policies 7 tunnel any "$COVERED_NETS"
before=$(on_wire udp 4500)
paths 'in UDP: before' gate "$COVERED"
check_least 'in UDP: that is what is on the wire' "$(on_wire udp 4500)" $((before + 24))
lg enable --no-watch --tunnel ipsec:7
paths 'in UDP: passes, with a verdict on frames' gate "$COVERED"
whole 'in UDP: large datagrams arrive' host
whole 'in UDP: large forwarded datagrams arrive' lan
lg disable
takes 198.51.100.9 853
xfrm_down
state . 192.0.2.2 198.51.100.9 0x1007 7 tunnel encap espinudp 853 853 0.0.0.0
state gate 192.0.2.2 198.51.100.9 0x1007 7 tunnel encap espinudp 853 853 0.0.0.0
policy . out 0.0.0.0/0 203.0.113.0/25 192.0.2.2 198.51.100.9 7 tunnel
before=$(on_wire udp 853)
raise --tunnel ipsec:7
probe ask 203.0.113.8 53 >/dev/null
probe ask 203.0.113.8 443 >/dev/null
check 'in UDP to a guarded port: blocked' "$(on_wire udp 853)" "$before"
raise --tunnel ipsec:7 --endpoint 198.51.100.9:853/udp
probe ask 203.0.113.8 53 >/dev/null
probe ask 203.0.113.8 443 >/dev/null
check 'in UDP to a guarded port: the carrier passes' "$(on_wire udp 853)" $((before + 2))
lg disable

# --- an XFRM interface: both the link and its policies are the tunnel ---

modprobe xfrm_interface
xfrm_down
states 7 tunnel if_id 42
for pick in first second; do
	xfrm . policy add src "$($pick '0.0.0.0/0 ::/0')" dst "$($pick "$COVERED_NETS")" \
		dir out if_id 42 tmpl src "$($pick "$HERE")" dst "$($pick "$GATE")" \
		proto esp reqid 7 mode tunnel
done
ip link add xfrm0 type xfrm dev wan0 if_id 42
ip link set xfrm0 up
paths 'XFRM interface: no route leads into it' far "$COVERED" 53
ip route add 203.0.113.0/25 dev xfrm0
ip -6 route add 2001:db8:113::/64 dev xfrm0
paths 'XFRM interface: into ESP' gate "$COVERED" 53
raise --tunnel xfrm0
paths 'XFRM interface: the link alone is not enough' none "$COVERED" 53
raise --tunnel ipsec:7
paths 'XFRM interface: nor is the policy' none "$COVERED" 53
for which in ipsec:any ipsec:7; do
	raise --tunnel xfrm0 --tunnel $which
	paths "XFRM interface: with $which as well" gate "$COVERED"
	paths "XFRM interface: with $which: others are blocked" none "$UNCOVERED"
done
ip link del xfrm0
paths 'XFRM interface: it is gone' none "$COVERED"
lg disable

# --- what rt ipsec takes for IPsec as well: a limit ---

# other PROTOCOL MODE WORDS...: states that do not encrypt
other() {
	local proto=$1 mode=$2 pick
	shift 2
	xfrm_down
	for pick in first second; do
		xfrm . state add src "$($pick "$HERE")" dst "$($pick "$GATE")" proto "$proto" \
			spi 0x1007 reqid 7 mode "$mode" "$@"
		PROTO=$proto policy . out "$($pick "$HERE")" "$($pick "$GATE")" \
			"$($pick "$HERE")" "$($pick "$GATE")" 7 "$mode"
	done
}
in_plain() {
	local before
	before=$(on_wire udp 53)
	# shellcheck disable=SC2086 # two addresses
	for address in $GATE; do
		probe ask "$address" 53 >/dev/null
	done
	volley host 443 "$UNCOVERED"
	check "$1" $(($(on_wire udp 53) - before)) "$2"
}
raise --tunnel ipsec:any
other ah transport auth 'hmac(sha1)' ${KEY%????????}
in_plain 'AH alone: passes, and can be read' 2
other comp transport comp deflate
in_plain 'IPComp alone: what is too short for it is judged as it is' 0
lg disable
xfrm_down

# --- frames ---

tunnel 7
wan_sends() {
	sends "$1" "$2" raw .:wan0 53 "$COVERED" udp4 tcp4 udp6 tcp6
}
wan_sends 'frames: before' all
lg enable --no-watch --tunnel ipsec:any
wan_sends 'frames: in plain, so blocked' none
paths 'frames: ESP passes' gate "$COVERED"
whole 'frames: large datagrams arrive' host
lg disable

# --- with a watcher: what changes in what is in force ---

xfrm_down
lg enable --tunnel tun9 >/dev/null
is_state() {
	[ "$(field state)" = "$1" ]
}
wait_for is_state LOCKED
flood_start
lg up --tunnel ipsec:7 >/dev/null
usleep 200000
lg down --tunnel ipsec:7
usleep 200000
flood_stop
check_least 'up and down under load: a load' "$refused" 1000
check "up and down under load: $out got out of $((sent + refused)) packets" "$out" 0
lg up --tunnel ipsec:7 >/dev/null
paths 'up: no policy, blocked' none "$COVERED"
tunnel 7
wait_for is_state GUARDED
check 'a policy comes: GUARDED' "$(field state)" GUARDED
paths 'a policy comes: passes' gate "$COVERED"
nft flush ruleset
is_back() {
	nft list table inet leakguard 2>/dev/null | grep -q 'ipsec out reqid 7'
}
wait_for is_back
paths 'flush ruleset: others are blocked' none "$UNCOVERED"
paths 'flush ruleset: passes' gate "$COVERED"
xfrm . policy flush
wait_for is_state LOCKED
check 'the policy goes: LOCKED' "$(field state)" LOCKED
paths 'the policy goes: blocked' none "$COVERED"

# --- the end ---

succeeds 'disable' lg disable
check 'it leaves no rule behind' "$(nft list ruleset)" ''
paths 'after: all of it gets out' far "$COVERED"
gate_down
ip address del 10.66.0.2/32 dev lo
ip address del fd66::2/128 dev lo
