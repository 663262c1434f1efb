#!/bin/sh
# The unit and golden tests, where byte order and alignment are other ones; for
# machines of other architectures. Everywhere else `make check` runs them.
#
# libnftnl and nft print numbers as they lie in memory, so golden/bytecode has
# those of one byte order. Here nft itself says what is expected: what it makes
# of the listing, which is the same everywhere.
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh disable=SC1091
. /tests/lib.sh

# The rules in nft's debugging output, written as bytecode.c does.
nft_rules() {
	awk '
	function flush() { if (head) printf "%s\n%s", head, body; head = body = "" }
	/^(inet|netdev|bridge) leakguard [A-Za-z0-9_]+ *$/ { flush(); head = $1 " " $3; next }
	head && /^  \[/ { sub(/ +$/, ""); body = body $0 "\n"; next }
	head && /userdata = \{ \\x00/ {
		sub(/.*userdata = \{ \\x00(\\x..|.)/, ""); sub(/\\x00 \}.*/, "")
		head = head " \"" $0 "\""; next
	}
	{ flush() }
	END { flush() }'
}

# As golden/run: what the kernel gives back and nft does not send.
as_nft_sends() {
	sed -E 's/(lookup .*) 0x0 \]/\1 ]/
		s/( addr_min reg 1) .*( proto_min reg 2) .* \]/\1\2 flags 0x2 ]/'
}

# Likewise: of a value that nft loads again for its next compare, the first load.
load_once() {
	awk '
	/^  \[ (payload|meta) load .* => reg 1 \]/ { load = $0; next }
	load != "" && /^  \[ bitwise reg 1 = / { load = load "\n" $0; next }
	{
		if (load != "" && load != held) print load
		if (load != "") held = load
		load = ""
		if ($0 !~ /^  \[ cmp /) held = ""
		print
	}'
}

same() {
	check "$1" "$(diff "$2" "$3" | head -n 6)" ''
}

[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd # for test_notify's shell

for unit in /units/test_*; do
	case $unit in
	# Models of packets and rules in plain numbers: minutes each here.
	*verdicts | *_fwdecode | *_fwdiff | *_ruleset) continue ;;
	esac
	said=$(timeout 300 "$unit" 2>&1)
	check "${unit##*/}" "status $? $(printf '%s\n' "$said" |
		grep -aE '^\[  (FAILED|ERROR) ' | head -n 4)" 'status 0 '
	echo "${unit##*/}: until $(cut -d' ' -f1 /proc/uptime) s"
done

for conf in /tests/policies/*.conf; do
	name=$(basename "$conf" .conf) listing=/tests/listing/$(basename "$conf" .conf).nft
	# No link, and no kernel asked: what a current one has.
	unshare -n setpriv --bounding-set=-all leakguard -c "$conf" rules >/tmp/listing 2>&1
	same "listing of $name" "$listing" /tmp/listing
	! grep -q '^		size 0$' "$listing" || continue # nft takes none (1.0.6)
	/units/bytecode "$conf" 2>&1 | as_nft_sends | load_once >/tmp/bytecode
	unshare -n nft --debug=netlink -f "$listing" 2>/tmp/said | nft_rules | load_once >/tmp/expected
	check_least "nft reads the listing of $name" "$(wc -l </tmp/expected)" 10
	same "bytecode of $name" /tmp/expected /tmp/bytecode
done
