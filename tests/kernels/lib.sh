#!/bin/sh
# What the suites are made of: the lab, rows, probes. Sourced.
# shellcheck shell=dash disable=SC2034 # what the suites read
#
#     lan (namespace)         the machine              far (namespace)
#     lan0 192.168.5.2 ---- lan1      wan0 ---- cust0 192.0.2.1
#                            tun0, wg0          wg0
#
# All of 203.0.113.0/24 and 2001:db8:113::/48 is thrown away in far, behind the capture.

: "${SUITE:=lab}"
PUBLIC='203.0.113.8 2001:db8:113::8'
APPROVED='203.0.113.53 2001:db8:113::53'
TARGET='203.0.113.66 2001:db8:113::66' # floods
INSIDE='10.64.0.1 fd64::1'             # a tunnel's; outside it is far's as well
WAIT_S=20

# --- rows ---

# check NAME FOUND EXPECTED
check() {
	if [ "$2" = "$3" ]; then
		echo "ok $SUITE: $1"
	else
		echo "FAIL $SUITE: $1: found '$(one_line "$2")', expected '$(one_line "$3")'"
	fi
}

# succeeds NAME COMMAND...
succeeds() {
	local name=$1 status=0
	shift
	"$@" || status=$?
	check "$name" "status $status" 'status 0'
}

# check_least NAME FOUND LEAST
check_least() {
	if [ "$2" -ge "$3" ] 2>/dev/null; then
		echo "ok $SUITE: $1"
	else
		echo "FAIL $SUITE: $1: found '$(one_line "$2")', expected $3 or more"
	fi
}

# What the kernel lacks, and what took its place.
lack() {
	echo "lack $SUITE: $*"
}

one_line() {
	printf '%s' "$1" | tr '\n' ' ' | cut -c 1-300
}

# wait_for COMMAND...: until it succeeds; 1 after WAIT_S
wait_for() {
	local end
	end=$(($(date +%s) + WAIT_S))
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		usleep 30000
	done
}

# kernel_is 6 9: it is that one or later
kernel_is() {
	uname -r | awk -F. -v major="$1" -v minor="$2" \
		'{ exit !($1 > major || $1 == major && $2 + 0 >= minor) }'
}

# --- the lab ---

inside() {
	local where=$1
	shift
	nsenter --net="/run/netns/$where" "$@"
}

# start NAMESPACE COMMAND...: in the background. $! is the command itself, and no
# shell that waits for it, as "inside ... &" would be.
start() {
	local where=$1
	shift
	nsenter --net="/run/netns/$where" "$@" 8>&- 9>&- &
}

lab_up() {
	local module
	for module in nf_tables veth tun wireguard; do
		modprobe "$module" || echo "FAIL lab: no module $module"
	done
	[ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200
	ip link set lo up
	echo 1 >/proc/sys/net/ipv4/ip_forward
	echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
	ip netns add far
	ip netns add lan
	ip link add wan0 type veth peer name cust0 netns far
	ip link add lan1 type veth peer name lan0 netns lan
	inside far ip link set lo up
	inside lan ip link set lo up
	place . wan0 192.0.2.2/24 2001:db8:2::2/64
	place far cust0 192.0.2.1/24 2001:db8:2::1/64
	place . lan1 192.168.5.1/24 fd05::1/64
	place lan lan0 192.168.5.2/24 fd05::2/64
	default_route
	inside lan ip route add default via 192.168.5.1
	inside lan ip -6 route add default via fd05::1
	inside far ip route add default via 192.0.2.2
	inside far ip -6 route add default via 2001:db8:2::2
	inside far ip route add blackhole 203.0.113.0/24
	inside far ip -6 route add blackhole 2001:db8:113::/48
	inside far ip address add 10.64.0.1/32 dev lo
	inside far ip address add fd64::1/128 dev lo
	hook_all || echo 'FAIL lab: no chains in far'
	see far cust0
	count_start
	# The first packets of new links can be lost.
	if ! warm_up; then
		echo 'FAIL lab: nothing passes'
		return 1
	fi
}

# A chain that does nothing at each hook of far. The kernel patches its own code
# when a hook gets its first chain anywhere, and when it loses the last one; qemu
# 7.2 can go on with what was there in between, a breakpoint, for ever, on a CPU
# that was just about to send.
hook_all() {
	local family hook
	{
		for family in inet bridge; do
			echo "add table $family keep"
			for hook in prerouting input forward output postrouting; do
				echo "add chain $family keep $hook { type filter hook $hook priority 0; }"
			done
		done
		echo 'add table netdev keep'
		for hook in ingress egress; do
			echo "add chain netdev keep $hook { type filter hook $hook device lo priority 0; }"
		done
	} | inside far nft -f -
}

# place NAMESPACE LINK ADDRESS ADDRESS: "." is the machine's own
place() {
	local run=
	[ "$1" = . ] || run="inside $1"
	$run ip link set "$2" up
	$run ip address replace "$3" dev "$2"
	$run ip address replace "$4" dev "$2" nodad
}

default_route() {
	ip route replace default via 192.0.2.1 dev wan0
	ip -6 route replace default via 2001:db8:2::1 dev wan0
}

warm_up() {
	wait_for answers_to host && wait_for answers_to lan
}

answers_to() {
	volley "$1" 443 "$PUBLIC" 1
	[ "$came" = far ]
}

# What a suite may have left.
reset() {
	lg disable >/dev/null
	nft flush ruleset
	forget
	tun_down
	wg_down
	default_route
}

lg() {
	leakguard --run-dir /run/leakguard -c /etc/leakguard.conf "$@" 8>&- 9>&-
}

# field NAME: its first value in status --json
field() {
	lg status --json | sed -n "s/^ *\"$1\":\"\{0,1\}\([^\",]*\).*/\1/p" | head -n 1
}

# Nor whose it is, nor what it has counted by itself (set blocked).
without_counts() {
	sed '/^\tset blocked {/,/^\t}/d' |
		sed 's/packets [0-9]* bytes [0-9]*/packets N/; s/ progname .*//; /^\tflags/d; /^$/d'
}

listing() {
	nft list table inet leakguard >/tmp/listing && without_counts </tmp/listing
}

# With the number that everything was made with.
handles() {
	nft -a list table inet leakguard | without_counts
}

# --- captures: /see/NAME has a line for each packet that came out there ---

# see NAMESPACE LINK [NAME]
see() {
	: >"/see/${3:-$1}"
	start "$1" probe see "$2" >>"/see/${3:-$1}"
	wait_for grep -qs ready "/see/${3:-$1}"
}

# What was seen so far: much of it makes looking slow.
forget() {
	for seen in /see/*; do
		: >"$seen"
	done
}

# volley ORIGIN PORT "IP4 IP6" [SECONDS]: UDP and TCP by both families. What
# follows them to port 9 tells when there is no more to wait for. $came is
# where all four came out ("far", "tun0", "wg0", "none"), or where each did.
volley() {
	local run='' label target=$3 end
	[ "$1" = host ] || run="inside $1"
	labels 1
	end=$(($(date +%s) + ${4:-WAIT_S}))
	# shellcheck disable=SC2086 # two addresses
	$run probe send "$label" "$2" $target
	came=pending
	while [ "$came" = pending ] && [ "$(date +%s)" -le "$end" ]; do
		came=$(outcome "$label" "$2")
		[ "$came" != pending ] || usleep 20000
	done
}

# labels N: $label is the first of that many that nobody has had
labels() {
	label=$(cat /tmp/label 2>/dev/null || echo 20000)
	echo $((label + $1)) >/tmp/label
}

outcome() {
	awk -v label="$1" -v port="$2" '
		$4 == label {
			family = index($2, ":") ? 6 : 4
			where = FILENAME
			sub(".*/", "", where)
			if ($3 == 9)
				marks[family] = 1
			if ($3 == port)
				came[$1 family] = where
		}
		END {
			if (!marks[4] || !marks[6]) {
				print "pending"
				exit
			}
			n = split("udp4 tcp4 udp6 tcp6", names, " ")
			same = 1
			for (i = 1; i <= n; i++) {
				one = came[names[i]] ? came[names[i]] : "none"
				if (i == 1)
					first = one
				same = same && one == first
				all = all (i > 1 ? " " : "") names[i] "=" one
			}
			print same ? first : all
		}' /see/*
}

# paths NAME EXPECTED "IP4 IP6" [PORTS] [ORIGINS]
paths() {
	local origin port found=
	for origin in ${5:-host lan}; do
		for port in ${4:-53 853}; do
			volley "$origin" "$port" "$3"
			[ "$came" = "$2" ] || found="$found $origin:$port: $came;"
		done
	done
	check "$1" "${found:-$2}" "$2"
}

# --- frames made by hand: frame.c has their shapes ---

# sends NAME EXPECTED WAY NAMESPACE:LINK PORT "IP4 IP6" [SHAPE]...: which of all
# shapes, or of these, come out somewhere. Forgotten is what was seen before: a
# fragment that the kernel has made bears any number.
sends() {
	local name=$1 expected=$2 way=$3 where=${4%:*} link=${4#*:} port=$5 target=$6
	local run='' label
	shift 6
	[ "$where" = . ] || run="inside $where"
	labels 64
	forget
	# shellcheck disable=SC2086 # two addresses
	$run frame "$way" "$link" "$label" "$port" $target "$@" >/tmp/frames
	wait_for has_marks "$label" || echo "FAIL $SUITE: $name: no end is seen"
	check "$name" "$(shapes_seen)" "$expected"
}

has_marks() {
	awk -v label="$1" '$3 == 9 && $4 == label { marks[index($2, ":") > 0] = 1 }
		END { exit !(marks[0] && marks[1]) }' /see/*
}

# "all" and "none" are what they say.
shapes_seen() {
	awk 'FILENAME == "/tmp/frames" { shapes[++n] = $2; lines[n] = $3 " " $1; next }
		$3 != 9 { came[$1 " " $4] = 1 }
		END {
			for (i = 1; i <= n; i++)
				if (came[lines[i]])
					seen = seen (m++ ? " " : "") shapes[i]
			print m == n ? "all" : m ? seen : "none"
		}' /tmp/frames /see/*
}

# large NAME "FIRST LATER" ORIGIN PORT "IP4 IP6": of datagrams that the kernel
# cuts, one by each family, how many fragments of each sort come out
large() {
	local name=$1 expected=$2 origin=$3 port=$4 run='' address label first later before=0
	[ "$origin" = host ] || run="inside $origin"
	for address in $5; do
		before=$((before + $(later_ones "$address")))
	done
	labels 1
	for address in $5; do
		$run probe large "$label" "$port" "$address"
	done
	volley "$origin" 443 "$5"
	later=0
	for address in $5; do
		later=$((later + $(later_ones "$address")))
	done
	first=$(cat /see/* | grep -c "^udp .* $port $label\$")
	check "$name" "$first $((later - before))" "$expected"
}

later_ones() {
	cat /see/* | grep -c "^fragment $1 "
}

# reach NAMESPACE LINK NUMBER: all of 203.0.113.0/24 is sent there, to nobody's
# MAC address
reach() {
	local run=''
	[ "$1" = . ] || run="inside $1"
	place "$1" "$2" "198.51.$3.2/24" "2001:db8:$3::2/64"
	$run ip neighbour replace "198.51.$3.1" lladdr 02:00:00:00:00:09 dev "$2" nud permanent
	$run ip neighbour replace "2001:db8:$3::1" lladdr 02:00:00:00:00:09 dev "$2" nud permanent
	$run ip route replace 203.0.113.0/24 via "198.51.$3.1" dev "$2"
	$run ip -6 route replace 2001:db8:113::/48 via "2001:db8:$3::1" dev "$2"
}

# Back to the default route.
unreach() {
	ip route del 203.0.113.0/24 2>/dev/null
	ip -6 route del 2001:db8:113::/48 2>/dev/null
}

# --- tunnels ---

# A tun device; what leaves through it is in /see/tun0.
tun_up() {
	probe tun tun0 >/see/tun0 8>&- 9>&- &
	echo $! >/tmp/tun.pid
	wait_for grep -qs ready /see/tun0
	place . tun0 10.65.0.2/24 fd65::2/64
	lead tun0
}

# lead LINK: the routes to INSIDE
lead() {
	ip route replace 10.64.0.1 dev "$1"
	ip -6 route replace fd64::1 dev "$1"
}

tun_down() {
	[ -e /tmp/tun.pid ] || return 0
	kill -9 "$(cat /tmp/tun.pid)"
	rm /tmp/tun.pid
	wait_for is_gone tun0
}

is_gone() {
	[ ! -e "/sys/class/net/$1" ]
}

# wg_up PORT: the kernel's own, to far; its packets go to 192.0.2.1:PORT
wg_up() {
	local here there
	here=$(wg genkey) there=$(wg genkey)
	inside far ip link add wg0 type wireguard
	echo "$there" >/tmp/key
	inside far wg set wg0 private-key /tmp/key listen-port "$1" \
		peer "$(echo "$here" | wg pubkey)" \
		allowed-ips 10.66.0.2/32,fd66::2/128,192.168.5.0/24,fd05::/64
	place far wg0 10.66.0.1/24 fd66::1/64
	see far wg0 wg0
	ip link add wg0 type wireguard
	echo "$here" >/tmp/key
	wg set wg0 private-key /tmp/key peer "$(echo "$there" | wg pubkey)" \
		endpoint "192.0.2.1:$1" allowed-ips 0.0.0.0/0,::/0
	place . wg0 10.66.0.2/24 fd66::2/64
	lead wg0
}

wg_down() {
	ip link del wg0 2>/dev/null
	inside far ip link del wg0 2>/dev/null
	return 0
}

# --- floods ---

# One counter for all: what arrives for TARGET. Asked through descriptor 8.
count_start() {
	mkfifo /tmp/count.in
	# shellcheck disable=SC2086 # two addresses
	inside far count cust0 $TARGET </tmp/count.in >/tmp/count.out &
	exec 8>/tmp/count.in
	wait_for grep -qs ready /tmp/count.out
}

# $counted: packets since the start
count_read() {
	local before
	before=$(wc -l </tmp/count.out)
	echo >/tmp/count.in
	wait_for has_more /tmp/count.out "$before"
	counted=$(tail -n 1 /tmp/count.out | awk '{ print $1 + $2 }')
}

has_more() {
	[ "$(wc -l <"$1")" -gt "$2" ]
}

# Full speed by both families until flood_stop, which sets $sent and $refused.
flood_start() {
	rm -f /tmp/flood.in
	mkfifo /tmp/flood.in
	# shellcheck disable=SC2086 # two addresses
	flood $TARGET </tmp/flood.in >/tmp/flood.out 8>&- &
	flood_pid=$!
	exec 9>/tmp/flood.in
	wait_for grep -qs ready /tmp/flood.out
	count_read
	counted_before=$counted
}

# $out: how many arrived meanwhile
flood_stop() {
	exec 9>&-
	wait "$flood_pid"
	sent=$(awk '$2 == "sent" { n += $3 } END { print n }' /tmp/flood.out)
	refused=$(awk '$2 == "sent" { n += $5 } END { print n }' /tmp/flood.out)
	count_read
	out=$((counted - counted_before))
}
