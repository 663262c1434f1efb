#!/bin/sh
# The rules by themselves, without a watcher.
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh

POLICY="--tunnel tun0"
for address in $APPROVED; do
	POLICY="$POLICY --resolver $address@53 --resolver $address@853"
done

# raise OPTIONS...: with POLICY
raise() {
	# shellcheck disable=SC2086 # a list of options
	lg enable --no-watch $POLICY "$@"
}

# --- what goes where ---

paths 'before: all of it gets out' far "$PUBLIC"
succeeds 'enable' raise
check 'status: LOCKED' "$(field state) $(field guarded)" 'LOCKED true'
check 'status: fragments are put together' "$(field fragments)" defrag
check 'status: the kernel lacks nothing for IPv6' \
	"$(lg status --json | grep -c ipv6-lacks)" 0
paths 'blocked' none "$PUBLIC"
paths 'approved resolvers are let out' far "$APPROVED"
paths 'other ports pass' far "$PUBLIC" '443 54'
check 'blocked packets are counted' \
	"$(listing | grep -c 'counter name "S7" drop')" 1

# The listing, and what `rules` prints, loaded elsewhere by nft.
ip netns add spare
# shellcheck disable=SC2086 # a list of options
inside spare leakguard --run-dir /run/leakguard rules $POLICY | inside spare nft -f -
check 'the kernel lists what rules prints' \
	"$(inside spare nft list table inet leakguard | without_counts)" \
	"$(listing || echo 'a listing')"
ip netns del spare

tun_up
check 'status: GUARDED with a tunnel' "$(field state)" GUARDED
paths 'through the tunnel' tun0 "$INSIDE"
paths 'past the tunnel' none "$PUBLIC"
tun_down
check 'status: LOCKED without it' "$(field state)" LOCKED
paths 'the tunnel is killed' none "$INSIDE"
tun_up
paths 'the tunnel is made anew' tun0 "$INSIDE"
tun_down

# --- other policies ---

succeeds 'enable with an endpoint' raise --endpoint 203.0.113.9:53/udp
volley host 53 '203.0.113.9 2001:db8:113::9'
check 'the carrier alone: address, protocol, port' "$came" \
	'udp4=far tcp4=none udp6=none tcp6=none'

start far probe serve 203.0.113.8 53 >/tmp/serve 2>&1
succeeds 'enable, rejecting' raise --action reject
check 'a local query is refused at once, IPv4' "$(probe ask 203.0.113.8 53)" refused
check 'a local query is refused at once, IPv6' "$(probe ask 2001:db8:113::8 53)" refused
check 'a forwarded query is refused at once' \
	"$(inside lan probe ask 203.0.113.8 53)" refused
paths 'nothing of it gets out' none "$PUBLIC"
raise
check 'and dropped without a word otherwise' "$(probe ask 203.0.113.8 53)" silence

succeeds 'enable, logging' raise --log-group 5
paths 'nothing of what is logged gets out' none "$PUBLIC"

# --- kinds of links ---

wg_up 51820
succeeds 'enable, a tunnel must be one' lg enable --no-watch --tunnel wg0 --tunnel-kind strict
paths 'through WireGuard, by its kind' wg0 "$INSIDE"
wg_down
ip link add spare0 type veth peer name cust1 netns far
ip link set spare0 name wg0
place . wg0 10.66.0.2/24 fd66::2/64
place far cust1 10.66.0.1/24 fd66::1/64
see far cust1 veth
ip route replace 10.64.0.1 via 10.66.0.1
ip -6 route replace fd64::1 via fd66::1
paths 'a veth of that name is no tunnel' none "$INSIDE"
succeeds 'enable, the name is enough' lg enable --no-watch --tunnel wg0
paths 'a veth of that name is let through' veth "$INSIDE"
check 'status warns of it' "$(lg status --json | grep -c '"tunnel-kind"')" 1
wg_down

# --- a pause ends by itself ---

raise
succeeds 'pause' lg pause 5s
paths 'a pause opens' far "$PUBLIC" 53 host
is_over() {
	! listing | grep -q expires
}
wait_for is_over
paths 'the kernel has ended it' none "$PUBLIC"

# --- fragments ---

# pieces NAME LATER FIRST PORT: of a datagram in three from each origin; how
# many later fragments and how many first ones come out, IPv4 and IPv6 alike.
pieces() {
	local name=$1 origin run target later first found='' expected="$2 later, $3 first"
	for target in $PUBLIC; do
		for origin in host lan; do
			run=
			[ $origin = host ] || run="inside lan"
			label=$((label + 1))
			later=$(later_ones "$target")
			$run probe big $label "$4" "$target"
			# What follows tells when there is no more to wait for.
			volley $origin 443 "$PUBLIC"
			later=$(($(later_ones "$target") - later))
			first=$(count_lines "udp $target $4 $label")
			[ "$later later, $first first" = "$expected" ] ||
				found="$found $origin $target: $later later, $first first;"
		done
	done
	check "$name" "${found:-$expected}" "$expected"
}
label=10000

count_lines() {
	grep -cxF "$1" /see/far
}

# lone NAME EXPECTED: fragments without a first one, from each origin
lone() {
	local name=$1 before found
	before=$(grep -c '^fragment' /see/far)
	# shellcheck disable=SC2086 # two addresses
	flood -f -n 1 $PUBLIC >/dev/null
	# shellcheck disable=SC2086
	inside lan flood -f -n 1 $PUBLIC >/dev/null
	volley host 443 "$PUBLIC"
	volley lan 443 "$PUBLIC"
	found=$(($(grep -c '^fragment' /see/far) - before))
	check "$name" $found "$2"
}

# fragments WAY [WHEN]: no query slips by; and what becomes of honest ones
fragments() {
	local name="${2:-asked for}: $1"
	check "$name" "$(field fragments)" "$1"
	pieces "$name: no piece of a query" 0 0 53
	lone "$name: no fragment without a port" 0
	if [ "$1" = drop ]; then
		pieces "$name: only the first piece of others" 0 1 9
	else
		pieces "$name: all pieces of others" 2 1 9
	fi
}

lg disable
pieces 'before: all pieces of a query get out' 2 1 53
lone 'before: fragments without a port get out' 64
for way in defrag conntrack drop; do
	raise --fragments $way
	fragments $way
done
lg disable
pieces 'after: all pieces of a query get out' 2 1 53

# take MODULE: the kernel lacks it from now on
take() {
	modprobe -r "$1" 2>/dev/null || rmmod "$1"
	find /lib/modules -name "$1.ko" -exec mv {} "/tmp/$1.ko" \;
}

give() {
	mv "/tmp/$1.ko" "$(dirname "$(find /lib/modules -name nf_tables.ko)")/$1.ko"
}

take nft_tproxy
succeeds 'without nft_tproxy: enable' raise
fragments conntrack 'without nft_tproxy'
raise --fragments defrag
check 'a way that was asked for is not replaced' $? 1
lg disable
take nft_ct
succeeds 'without nft_tproxy and nft_ct: enable' raise
fragments drop 'without nft_tproxy and nft_ct'
lg disable
give nft_ct
give nft_tproxy
raise
check 'with both again: defrag' "$(field fragments)" defrag

# --- the end ---

succeeds 'disable' lg disable
check 'it leaves no rule behind' "$(nft list ruleset)" ''
check 'status: OFF' "$(field state)" OFF
paths 'after: all of it gets out' far "$PUBLIC"
