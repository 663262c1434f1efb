#!/bin/sh
# What passes the IP stack by: packet sockets, guests, devices over devices.
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh

#     guest (namespace) g0 ---- gp0 =br0= bp0 ---- bf0 (far)
#     mac (namespace) mv0 over mp0 ---- mf0 (far)
#     wan0.5 and wan0.5.7 over wan0
#     bond0 over bs0 ---- bsf0 (far)

POLICY="--tunnel tun0 --tunnel wg0"
for address in $APPROVED; do
	POLICY="$POLICY --resolver $address"
done

# Shapes of frames, see frame.c: behind IPv6's extension headers; later fragments and what has no port at all;
# odd ones, which a tag inside or a session makes; and what is never dropped.
HEADERS='hop6 dest6 route6'
PIECES='later4 later6 tiny6'
TAGGED='vlan4 vlan6 vlan-options4 vlan-hop6 ad4'
TAGGED_PIECES='vlan-later4 vlan-later6'
# A limit where the host has VLANs on VLANs, as on wan0 here: its own look the same.
STACKED='qinq4'
TWICE_ELSE='qinq6 qinq-old4 pppoe4 pppoe6 vlan-pppoe4 vlan-pppoe6'
TWICE="$STACKED $TWICE_ELSE"
TWICE_PIECES='qinq-later4 pppoe-later4'
AH='ah4 ah6'
OUT_OF_REACH='three4'
HONEST='icmp4 icmp6 vlan-icmp4 qinq-icmp6 pppoe-icmp4 lcp padi odd'
PASS="$AH $OUT_OF_REACH $HONEST"

# but SHAPES...: all others
but() {
	rest=
	for shape in $ALL; do
		case " $* " in
		*" $shape "*) ;;
		*) rest="$rest $shape" ;;
		esac
	done
	echo "${rest# }"
}

# shellcheck disable=SC2120 # by way of `succeeds`
raise() {
	# shellcheck disable=SC2086 # a list of options
	lg enable $POLICY "$@"
	wait_for is_covered wan0
}

# covered LINK: what status says of its frames
covered() {
	lg status | awk -v link="$1" '$1 == "link" && $2 == link { sub(/.* frames /, ""); print }'
}

is_covered() {
	[ "$(covered "$1")" = covered ]
}

# --- the links ---

# pair LINK LINK: the second in far, where what arrives is seen under its name
pair() {
	ip link add "$1" type veth peer name "$2" netns far
	ip link set "$1" up
	inside far ip link set "$2" up
	see far "$2" "$1"
}

bridge_up() {
	ip netns add guest
	ip link add br0 type bridge forward_delay 0
	ip link set br0 up
	pair bp0 bf0
	ip link add gp0 type veth peer name g0 netns guest
	ip link set gp0 up
	ip link set bp0 master br0
	ip link set gp0 master br0
	reach guest g0 20
}

# mac_up KIND MODE: a child in a namespace
mac_up() {
	pair mp0 mf0
	# Of an ipvlan it is the parent that routes.
	reach . mp0 31
	ip netns add mac
	ip link add link mp0 name mv0 type "$1" mode "$2"
	ip link set mv0 netns mac
	reach mac mv0 30
}

mac_down() {
	ip netns del mac
	wait_for is_gone mv0
	ip link del mp0
}

vlan_up() {
	ip link add link wan0 name wan0.5 type vlan id 5
	ip link add link wan0.5 name wan0.5.7 type vlan id 7
	ip link set wan0.5 up
	ip link set wan0.5.7 up
}

bond_up() {
	pair bs0 bsf0
	ip link add bond0 type bond mode active-backup
	ip link set bs0 down
	ip link set bs0 master bond0
	ip link set bond0 up
}

bridge_nf() {
	echo "$1" >/proc/sys/net/bridge/bridge-nf-call-iptables
	echo "$1" >/proc/sys/net/bridge/bridge-nf-call-ip6tables
}

modprobe br_netfilter
bridge_up
vlan_up
bond_up

lack 'PPPoE devices: sessions are frames made by hand'

# --- before: all of it gets out ---

for way in raw dgram bypass ring lie mute; do
	sends "before: all frames get out, $way" all $way .:wan0 53 "$PUBLIC"
done
ALL=$(awk '{ print $2 }' /tmp/frames)
for nf in 0 1; do
	bridge_nf $nf
	sends "before: all frames of a bridged guest, bridge-nf $nf" all raw guest:g0 53 "$PUBLIC"
	paths "before: a bridged guest, bridge-nf $nf" bp0 "$PUBLIC" 53 guest
done
reach . wan0.5 5
paths 'before: by a VLAN device' far "$PUBLIC"
large 'before: by a VLAN device, fragments' '2 4' host 53 "$PUBLIC"
reach . wan0.5.7 7
paths 'before: by VLAN over VLAN' far "$PUBLIC"
reach . bond0 40
paths 'before: by a bond' bs0 "$PUBLIC"
unreach
# children WHEN SEEN FRAGMENTS SHAPES: of all sorts, and what of them gets out
children() {
	local sort
	for sort in 'macvlan bridge' 'macvlan private' 'macvlan passthru' \
		'ipvlan l2' 'ipvlan l3' 'ipvlan l3s'; do
		# shellcheck disable=SC2086 # KIND MODE
		mac_up $sort
		[ "$1" = before ] || wait_for is_covered mp0
		paths "$1: by $sort" "$2" "$PUBLIC" 53 mac
		paths "$1: by $sort, approved" mp0 "$APPROVED" 53 mac
		large "$1: by $sort, fragments" "$3" mac 53 "$PUBLIC"
		large "$1: by $sort, fragments of other ports" '2 4' mac 443 "$PUBLIC"
		case $sort in
		# These take IP alone, and hand it to the parent's stack.
		*l3*) ;;
		*) sends "$1: by $sort, frames" "$4" raw mac:mv0 53 "$PUBLIC" ;;
		esac
		mac_down
	done
}
children before mp0 '2 4' all

# --- guarded ---

# Of the versions that Debian has had, those where the kernel itself says where the
# link header of a frame without a queue begins (odd_add_chains(), can be read).
resets_header() {
	uname -v | sed -n 's/.*Debian \([0-9]*\)\.\([0-9]*\)\.\([0-9]*\)-.*/\1 \2 \3/p' |
		awk '{ exit $1 == 6 && ($2 == 1 && $3 < 187 || $2 == 12 && $3 < 105) }'
}
UNREADABLE='vlan-options4 vlan-hop6 vlan-later6 qinq-old4 pppoe4 pppoe6 pppoe-later4'
UNREADABLE="$UNREADABLE vlan-pppoe4 vlan-pppoe6"

succeeds 'enable' raise
for link in wan0 lan1 br0 bp0 gp0 wan0.5 wan0.5.7 bond0 bs0; do
	check "status: covered, $link" "$(covered $link)" covered
done
for way in raw dgram ring mute; do
	sends "queries in frames, $way" "$STACKED $PASS" $way .:wan0 53 "$PUBLIC"
done
if resets_header; then
	sends 'queries in frames, bypass' "$STACKED $PASS" bypass .:wan0 53 "$PUBLIC"
else
	lack 'a link header in frames without a queue: of tagged ones and PPPoE some get out'
	sends 'queries in frames, bypass, unreadable' "$UNREADABLE $AH $HONEST" \
		bypass .:wan0 53 "$PUBLIC"
fi
sends 'queries in frames, lie' "$PASS" lie .:wan0 53 "$PUBLIC"
for way in raw dgram; do
	sends "other ports, $way" "$(but "$HEADERS" "$PIECES" vlan-options4 vlan-hop6 \
		"$TAGGED_PIECES" "$TWICE_PIECES")" $way .:wan0 443 "$PUBLIC"
	sends "approved, $way" "$(but "$TAGGED" "$TAGGED_PIECES" "$TWICE_ELSE" "$TWICE_PIECES")" \
		$way .:wan0 53 "$APPROVED"
done
sends 'other ports, lie' "$(but options4 "$HEADERS" first6 "$PIECES" \
	vlan-options4 vlan-hop6 "$TAGGED_PIECES" "$TWICE_PIECES")" lie .:wan0 443 "$PUBLIC"
check_least 'status: blocked frames are counted' "$(lg status --json |
	sed -n '/"S11"/,/}/s/.*"packets":\([0-9]*\).*/\1/p')" 1

# --- guests ---

for nf in 0 1; do
	bridge_nf $nf
	when="a bridged guest, bridge-nf $nf"
	# These wait in vain for the rest of their datagram.
	[ $nf = 1 ] && held='first4 later4 later6' || held=''
	paths "$when" none "$PUBLIC" '53 853' guest
	paths "$when: approved" bp0 "$APPROVED" 53 guest
	paths "$when: other ports" bp0 "$PUBLIC" 443 guest
	large "$when: fragments" '0 0' guest 53 "$PUBLIC"
	large "$when: approved, fragments" '2 4' guest 53 "$APPROVED"
	sends "$when: frames" "$PASS" raw guest:g0 53 "$PUBLIC"
	sends "$when: frames, other ports" \
		"$(but "$held" "$HEADERS" vlan-hop6 "$PIECES" "$TAGGED_PIECES" "$TWICE_PIECES")" \
		raw guest:g0 443 "$PUBLIC"
	sends "$when: frames, approved" "$(but "$held" "$TWICE" "$TWICE_PIECES")" \
		raw guest:g0 53 "$APPROVED"
	sends "$when: frames to everybody" "$PASS" shout guest:g0 53 "$PUBLIC"
done
ip link set bond0 master br0
sends 'a guest bridged to a bond: frames' "$PASS" raw guest:g0 53 "$PUBLIC"
sends 'a guest bridged to a bond: frames to everybody' "$PASS" \
	shout guest:g0 53 "$PUBLIC"
ip link set bond0 nomaster
children guarded none '0 0' "$PASS"

# --- devices over devices: what they send honestly passes below them ---

# honest WHEN LINK NUMBER SEEN
honest() {
	reach . "$2" "$3"
	paths "$1" none "$PUBLIC"
	paths "$1: approved" "$4" "$APPROVED"
	paths "$1: other ports" "$4" "$PUBLIC" 443
	large "$1: fragments of a query" '0 0' host 53 "$PUBLIC"
	large "$1: other fragments" '2 4' host 443 "$PUBLIC"
	large "$1: other fragments, forwarded" '2 4' lan 443 "$PUBLIC"
	sends "$1: frames" "$PASS" raw ".:$2" 53 "$PUBLIC"
	unreach
}
honest 'a VLAN device' wan0.5 5 far
honest 'VLAN over VLAN' wan0.5.7 7 far
honest 'a bond' bond0 40 bs0
honest 'a bridge' br0 21 bp0
# A limit, and not with strict: its port cannot tell them from the bond's own.
sends 'limit: frames on a port of a bond' "$(but udp4 udp6 tcp4 tcp6 options4 \
	"$HEADERS" first4 first6 tiny6)" raw .:bs0 53 "$PUBLIC"

# --- links that come and go ---

# moves NAME LINK: it is covered soon, and nothing gets out there
moves() {
	wait_for is_covered "$2"
	sends "$1" 'odd' raw ".:$2" 53 "$PUBLIC" udp4 tcp6 odd
}

pair new0 newf0
moves 'a link appears' new0
ip link set new0 down
ip link set new0 name new1
ip link set new1 up
moves 'a link is renamed' new1
ip netns add away
ip link set new1 netns away
wait_for is_gone new1
sends 'a link is away: wan0 still' 'odd' raw .:wan0 53 "$PUBLIC" udp4 tcp6 odd
inside away ip link set new1 netns 1
ip link set new1 up
moves 'a link comes back' new1
ip netns del away
ip link set new1 master br0
moves 'a link gets a master' new1
ip link set new1 nomaster
moves 'a link loses its master' new1
ip link del new1
pair new1 newf1
moves 'a link is made anew' new1
sends 'wan0 all the time' 'odd' raw .:wan0 53 "$PUBLIC" udp4 tcp6 odd

# --- a device that comes and goes while rules are made ---

churn() {
	while [ -e /tmp/churn ]; do
		ip link add churn0 type dummy
		ip link set churn0 up
		ip link del churn0
	done
}
touch /tmp/churn
churn 8>&- &
failed=0 i=0
while [ $i -lt 15 ]; do
	lg disable
	# shellcheck disable=SC2086 # a list of options
	lg enable --no-watch $POLICY || failed=$((failed + 1))
	i=$((i + 1))
done
check 'enable 15 times while a device comes and goes: failures' $failed 0
sends 'afterwards: still dropped' 'odd' raw .:wan0 53 "$PUBLIC" udp4 tcp6 odd
raise
rm /tmp/churn
wait $!
check 'the watcher through it: covered' "$(covered wan0)" covered
sends 'the watcher through it: still dropped' 'odd' raw .:wan0 53 "$PUBLIC" udp4 tcp6 odd

# --- frames all the time, while links and rules change ---

# streamed NAME COMMAND...: meanwhile; what of the stream gets out is in $out
streamed() {
	local name=$1
	shift
	labels 64
	# shellcheck disable=SC2086 # two addresses
	frame -s 5 raw wan0 "$label" 53 $TARGET udp4 udp6 >/tmp/frames 2>/tmp/rounds 8>&- &
	"$@"
	wait $!
	wait_for has_marks "$label"
	check_least "$name: a stream of frames" "$(cut -d' ' -f1 /tmp/rounds)" 1000
	out=$(awk -v first="$label" '$3 == 53 && $4 >= first && $4 < first + 64' /see/far | wc -l)
}

changes() {
	i=0
	while [ $i -lt 8 ]; do
		ip link add "many$i" type dummy
		ip link set "many$i" up
		i=$((i + 1))
	done
	wait_for is_covered many7
	lg enable --tunnel tun7 # another policy
	raise
	while [ $i -gt 0 ]; do
		i=$((i - 1))
		ip link del "many$i"
	done
}

flushes() {
	i=0
	while [ $i -lt 5 ]; do
		nft flush ruleset
		wait_for is_covered wan0
		i=$((i + 1))
	done
}

lg disable
streamed before usleep 1000
check_least 'before: the stream gets out' "$out" 1000
forget
raise
streamed 'links and rules change' changes
check 'links and rules change: out' "$out" 0
streamed '5 times flush ruleset' flushes
if kernel_is 6 9; then
	check '5 times flush ruleset: out' "$out" 0
else
	lack "tables with an owner: $out frames got out before all was back"
fi
wait_for is_covered wan0
sends 'after the flushes: dropped' 'odd' raw .:wan0 53 "$PUBLIC" udp4 tcp6 odd
sends 'after the flushes: a bridged guest' 'odd' raw guest:g0 53 "$PUBLIC" udp4 tcp6 odd

# --- WireGuard with a load ---

wg_up 51820
paths 'through WireGuard' wg0 "$INSIDE"
load() {
	while [ -e /tmp/load ]; do
		# shellcheck disable=SC2086 # two addresses
		flood -n 5 $INSIDE
		usleep 20000
	done
}
touch /tmp/load
load >/dev/null 8>&- &
loaded() {
	[ "$(grep -c '^udp' /see/wg0)" -ge 2000 ]
}
succeeds 'WireGuard under load' wait_for loaded
# Some may be lost on the way.
passes() {
	volley host 53 "$INSIDE" && [ "$came" = wg0 ]
}
succeeds 'through WireGuard under load' wait_for passes
paths 'past WireGuard under load' none "$PUBLIC"
sends 'past WireGuard under load: frames' "$STACKED $PASS" raw .:wan0 53 "$PUBLIC"
rm /tmp/load
wait $!
wg_down
forget

# --- other ways ---

# shellcheck disable=SC2086 # a list of options
lg rules $POLICY >/tmp/rules
lg disable
# shellcheck disable=SC2086
lg enable --no-watch $POLICY
whole=$(nft list ruleset | without_counts)
lg disable
nft -f /tmp/rules
check 'the kernel lists what rules prints' "$(nft list ruleset | without_counts)" "$whole"
nft flush ruleset


succeeds 'frames = strict' raise --frames strict
sends 'strict: queries in frames' "$OUT_OF_REACH $HONEST" raw .:wan0 53 "$PUBLIC"
sends 'strict: other ports' "$(but "$HEADERS" "$PIECES" vlan-options4 vlan-hop6 \
	"$TAGGED_PIECES" "$TWICE_PIECES" "$AH")" raw .:wan0 443 "$PUBLIC"
paths 'strict: approved' far "$APPROVED"
paths 'strict: other ports of the stack' far "$PUBLIC" 443
large 'strict: later fragments of anybody' '2 0' host 443 "$PUBLIC"
mac_up macvlan bridge
wait_for is_covered mp0
large 'strict: later fragments of a macvlan child' '0 0' mac 53 "$PUBLIC"
mac_down
succeeds 'frames = require' raise --frames require
sends 'require: queries in frames' "$STACKED $PASS" raw .:wan0 53 "$PUBLIC"
# shellcheck disable=SC2086 # a list of options
succeeds 'frames = off' lg enable $POLICY --frames off
check 'off: no tables for frames' "$(nft list tables | grep -c 'netdev\|bridge')" 0
sends 'off: all frames get out' all raw .:wan0 53 "$PUBLIC"
paths 'off: IP is guarded' none "$PUBLIC"

# --- the end ---

succeeds 'disable' lg disable
check 'it leaves no rule behind' "$(nft list ruleset)" ''
sends 'after: all frames get out' all raw .:wan0 53 "$PUBLIC"
for link in br0 gp0 bp0 wan0.5 bond0 bs0 new1; do
	ip link del $link
done
ip netns del guest
