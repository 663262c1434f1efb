#!/bin/sh
# The watcher: owner of the table where the kernel can, else it undoes.
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh

POLICY="--tunnel tun0 --tunnel wg0"
for address in $APPROVED; do
	POLICY="$POLICY --resolver $address"
done

if kernel_is 6 9; then
	OWNER=socket
else
	OWNER=none
	lack 'tables with OWNER and PERSIST: an ordinary one, and the watcher undoes what others change'
fi

raise() {
	# shellcheck disable=SC2086 # a list of options
	lg enable $POLICY
	wait_for is_watched
}

# of_watcher NAME: a field of the object "watcher"
of_watcher() {
	lg status --json | sed -n '/^ *"watcher":/,/^ *"tunnels":/p' |
		sed -n "s/^ *\"$1\":\"\{0,1\}\([^\",]*\).*/\1/p" | head -n 1
}

is_watched() {
	[ -n "$(of_watcher pid)" ]
}

is_watched_by_another() {
	is_watched && [ "$(of_watcher pid)" != "$1" ]
}

# The process id of the watcher's parent.
keeper() {
	awk '$1 == "PPid:" { print $2 }' "/proc/$(of_watcher pid)/status"
}

is_ended() {
	[ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"
}

is_as() {
	[ "$(listing 2>/dev/null)" = "$1" ]
}

# --- raised with a watcher ---

paths 'before: all of it gets out' far "$PUBLIC"
succeeds 'enable' raise
check "owner: $OWNER" "$(field owner)" $OWNER
check 'status: LOCKED' "$(field state)" LOCKED
paths 'blocked' none "$PUBLIC"
paths 'approved resolvers are let out' far "$APPROVED"

check 'watch.pid names the keeper' "$(cat /run/leakguard/watch.pid)" "$(keeper)"

# What the watcher may: the filter is in place, and nothing runs into it.
pid=$(of_watcher pid)
check 'it has CAP_NET_ADMIN and CAP_SYS_NICE alone' \
	"$(awk '$1 == "CapEff:" { print $2 }' "/proc/$pid/status")" 0000000000801000
check 'its system calls are filtered' \
	"$(awk '$1 == "Seccomp:" { print $2 }' "/proc/$pid/status")" 2

# --- what others do ---

# foreign NAME STATUS WORDS...: nft(8) is told these. Owned, the table does not
# change at all; else it is put back.
undone=0
foreign() {
	local name=$1 status=$2 found before whole
	shift 2
	before=$(handles) whole=$(listing)
	nft "$@" 2>/tmp/nft.err
	found=$?
	if [ "$OWNER" = socket ]; then
		check "$name: exit status" $found "$status"
		check "$name: nothing has changed" "$(handles)" "$before"
		return
	fi
	check "$name: exit status" $found 0
	undone=$((undone + 1))
	wait_for is_undone "$whole"
	check "$name: the rules are back" "$(listing)" "$whole"
	check_least "$name: counted" "$(of_watcher undone)" $undone
}

is_undone() {
	is_as "$1" && [ "$(of_watcher undone)" -ge "$undone" ]
}

foreign 'flush ruleset' 0 flush ruleset
foreign 'delete table' 1 delete table inet leakguard
foreign 'flush chain' 1 flush chain inet leakguard verdict
foreign 'insert rule' 1 insert rule inet leakguard postrouting accept
foreign 'add element' 1 add element inet leakguard resolver4 '{ 203.0.113.8 }'
if [ "$OWNER" = socket ]; then
	check 'nothing was to be undone' "$(of_watcher undone)" 0
else
	check 'who it was' "$(of_watcher name)" nft
fi
check 'status: LOCKED after all that' "$(field state)" LOCKED
paths 'still blocked' none "$PUBLIC"
paths 'approved resolvers are still let out' far "$APPROVED"

# --- the same under load ---

# flooded NAME COMMAND...: while the load goes on
flooded() {
	local name=$1
	shift
	flood_start
	"$@"
	flood_stop
	check_least "$name: a load" "$refused" 1000
	of="$out got out of $((sent + refused)) packets"
}

flushes() {
	local i whole
	whole=$(listing)
	i=0
	while [ $i -lt 50 ]; do
		nft flush ruleset 9>&-
		undone=$((undone + 1))
		i=$((i + 1))
		[ "$OWNER" = socket ] || wait_for is_as "$whole"
	done
}

lg disable
flood_start
usleep 300000
flood_stop
check_least 'before: the load arrives' "$out" 100
raise
undone=0
flooded '50 times flush ruleset' flushes
if [ "$OWNER" = socket ]; then
	check "50 times flush ruleset: $of" "$out" 0
else
	check_least "50 times flush ruleset: $of, all undone" "$(of_watcher undone)" 50
	flooded 'afterwards' usleep 300000
	check "afterwards: $of" "$out" 0
fi

# --- dying ---

rules=$(handles)
pid=$(of_watcher pid)
kill -9 "$pid"
wait_for is_watched_by_another "$pid"
check 'the keeper starts another watcher' \
	"$([ "$(of_watcher pid)" != "$pid" ] && of_watcher held)" true
check 'owner as before' "$(field owner)" $OWNER
check 'not a rule was made anew' "$(handles)" "$rules"

keeper=$(keeper)
kill -9 "$keeper"
wait_for is_ended "$keeper"
pid=$(of_watcher pid)
[ -z "$pid" ] || kill -9 "$pid"
wait_for is_ended "$pid"
if [ "$OWNER" = socket ]; then
	check 'both are killed: an orphan' "$(field owner)" orphan
fi
check 'both are killed: nobody watches' "$(lg status --json | grep -c '"watcher":null')" 1
check 'both are killed: the rules stand' "$(handles)" "$rules"
paths 'both are killed: still blocked' none "$PUBLIC"
succeeds 'reload' lg reload
wait_for is_watched
check 'reload leaves others behind' "$(of_watcher held)" true
check 'they own it as before' "$(field owner)" $OWNER
check 'they have made nothing anew' "$(handles)" "$rules"
undone=0
foreign 'flush ruleset, adopted' 0 flush ruleset

# From an ordinary table to an owned one, under load.
lg disable
# shellcheck disable=SC2086 # a list of options
lg enable --no-watch $POLICY
check 'without a watcher: an ordinary table' "$(field owner)" none
flooded 'a watcher takes it over' raise
check "a watcher takes it over: $of" "$out" 0
check "owner then: $OWNER" "$(field owner)" $OWNER

# --- what it follows ---

sticky() {
	# shellcheck disable=SC2086 # two addresses
	set -- $INSIDE
	lg enable --tunnel tun0 --tunnel wg0 --resolver "$1" --resolver "$2"
}
pins() {
	lg status --json | grep -c '"pinned":true'
}
tried() {
	lg status --json | sed -n '/"routes_tried":/,/]/p' | grep -c '"link":"wan0"'
}
equals() {
	[ "$($1)" = "$2" ]
}

sticky
paths 'a resolver that was never inside is let out' far "$INSIDE"
tun_up
wait_for equals pins 2
check 'a route leads into the tunnel: pinned' "$(pins)" 2
paths 'through the tunnel' tun0 "$INSIDE"
lead_out() {
	ip route replace 10.64.0.1 via 192.0.2.1 dev wan0
	ip -6 route replace fd64::1 via 2001:db8:2::1 dev wan0
}
lead_out
paths 'a route leads it out again: closed' none "$INSIDE"
wait_for equals tried 2
check 'status names the routes that tried' "$(tried)" 2
tun_down
paths 'the tunnel is gone: closed' none "$INSIDE"
check 'status: LOCKED without a tunnel' "$(field state)" LOCKED
lg disable
paths 'the guard is gone: let out' far "$INSIDE"
ip route del 10.64.0.1 2>/dev/null
ip -6 route del fd64::1 2>/dev/null

# --- WireGuard, its carrier on port 53 ---

start far probe serve 10.64.0.1 853 >/tmp/serve4
start far probe serve fd64::1 853 >/tmp/serve6
lg enable --tunnel wg0 --tunnel-kind strict --endpoint 192.0.2.1:53/udp \
	--resolver '10.64.0.1 via tunnel' --resolver 'fd64::1 via tunnel'
wait_for is_watched
check 'no tunnel yet: silence' "$(probe ask 10.64.0.1 853)" silence
before=$(grep -c '^udp 192.0.2.1 53 ' /see/far)
wg_up 53
asked() {
	[ "$(probe ask 10.64.0.1 853)" = answer ]
}
wait_for asked
check 'answered through the tunnel, IPv4' "$(probe ask 10.64.0.1 853)" answer
check 'answered through the tunnel, IPv6' "$(probe ask fd64::1 853)" answer
check_least 'by its carrier on port 53' \
	"$(grep -c '^udp 192.0.2.1 53 ' /see/far)" $((before + 1))
check 'status: GUARDED' "$(field state)" GUARDED
paths 'through the tunnel by all protocols' wg0 "$INSIDE"
paths 'not past it' none "$PUBLIC"
volley host 53 '192.0.2.1 2001:db8:2::1'
check 'a query to the endpoint itself passes by UDP alone' "$came" \
	'udp4=far tcp4=none udp6=none tcp6=none'
wg_down
paths 'the tunnel is gone: closed' none "$INSIDE"
lg disable
check 'the guard is gone: answered outside' "$(probe ask 10.64.0.1 853)" answer

# --- links that come and go ---

raise
i=0
while [ $i -lt 30 ]; do
	ip link add "spare$i" type dummy
	ip link set "spare$i" up
	ip link set "spare$i" down
	ip link set "spare$i" name "other$i"
	ip link del "other$i"
	i=$((i + 1))
done
check '30 links come and go: LOCKED' "$(field state)" LOCKED
check '30 links come and go: nothing refused' "$(of_watcher refused)" 0
paths '30 links come and go: still blocked' none "$PUBLIC"

# --- a pause ends by itself ---

succeeds 'pause' lg pause 8s
paths 'a pause opens' far "$PUBLIC" 53 host
keeper=$(keeper) pid=$(of_watcher pid)
kill -9 "$keeper" "$pid"
check 'all are killed within it' "$([ "$(field pause_left_ms)" -gt 0 ] && echo open)" open
# By the clock; the kernel counts from its commit, which comes a little later.
is_over() {
	[ "$(field pause_left_ms)" = 0 ] && ! nft list set inet leakguard pause | grep -q expires
}
wait_for is_over
paths 'the kernel has ended it' none "$PUBLIC"
lg reload
wait_for is_watched

# --- the end ---

keeper=$(keeper) pid=$(of_watcher pid)
succeeds 'disable' lg disable
wait_for is_ended "$pid"
wait_for is_ended "$keeper"
check 'both end with it' "$(ls -d "/proc/$pid" "/proc/$keeper" 2>/dev/null)" ''
check 'it leaves no rule behind' "$(nft list ruleset)" ''
check 'status: OFF' "$(field state)" OFF
paths 'after: all of it gets out' far "$PUBLIC"
check 'the log: nothing was not permitted' \
	"$(grep leakguard /tmp/syslog | grep -i 'not permitted\|denied\|bad system call')" ''
check_least 'the log: it is there' "$(grep -c leakguard /tmp/syslog)" 1
