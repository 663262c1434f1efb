# shellcheck shell=sh
# What leakguard's hooks share.  A hook sources it and says what its VPN told it:
#
#	set -u
#	. "${0%/*}/hook.sh"		a hook that is symlinked: . "$(dirname "$(readlink -f "$0")")/hook.sh"
#	hook_name openvpn
#	hook_link "$dev" || exit 1
#	hook_resolver 10.8.0.1
#	hook_endpoint 203.0.113.7 53 udp
#	hook_up				or hook_down
#
# Values come from a VPN's server and may hold anything.  They are data: never
# evaluated, never a pattern or a format, and kept only once they have passed a
# check.  So that no hook expands one by accident, file name patterns are off
# (set -f), bytes are bytes (LC_ALL), and PATH and IFS are what they should be.

set -f
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
IFS=' 	
'
export PATH LC_ALL

case ${LEAKGUARD-} in
/*) ;;
*) LEAKGUARD=/usr/sbin/leakguard ;;
esac

hook_who=hook hook_tunnel='' hook_options=''
hook_resolvers=0 hook_endpoints=0

# hook_name NAME: who speaks, in messages.
hook_name() {
	hook_who=$1
}

# hook_say TEXT [VALUE]: one line for whoever looks; VALUE is untrusted.
hook_say() {
	hook_line="$hook_who: $1"
	[ $# -lt 2 ] ||
		hook_line="$hook_line: \"$(printf '%.64s' "$2" | tr -c ' -~' '?')\""
	printf 'leakguard: %s\n' "$hook_line" >&2
	[ -t 2 ] || logger -t leakguard -p daemon.warning -- "$hook_line" 2>/dev/null || :
}

# hook_link VALUE: the tunnel, a link's name or ipsec:N or ipsec:any.  1: it is none.
hook_link() {
	if hook_is_link "$1" || hook_is_ipsec "$1"; then
		hook_tunnel=$1
		return 0
	fi
	hook_say 'expected the name of a link' "$1"
	return 1
}

# hook_resolver VALUE [PORT]: one more resolver; left out, with a line, where it is no address.
hook_resolver() {
	hook_resolvers=$((hook_resolvers + 1))
	hook_room "$hook_resolvers" 64 resolvers || return 0
	# The zone is cut: what a hook brings is tied to its tunnel anyway.
	hook_value=${1%%\%*}
	if hook_is_address "$hook_value" && hook_is_zone "$1" && hook_is_port "${2:-53}"; then
		[ -z "${2-}" ] || hook_value="$(hook_bracket "$hook_value")@$2"
		hook_asks --resolver "$hook_value via tunnel" &&
			hook_options="$hook_options --resolver $hook_value" && return 0
	fi
	hook_say 'no resolver, left out' "$1${2:+ port $2}"
}

# hook_endpoint ADDR PORT PROTO [MARK]: the carrier; left out, with a line, where it looks wrong.
hook_endpoint() {
	hook_endpoints=$((hook_endpoints + 1))
	hook_room "$hook_endpoints" 16 endpoints || return 0
	if hook_is_address "$1" && hook_is_port "$2" && hook_is_proto "$3" &&
		hook_is_mark "${4:-1}"; then
		hook_value="$(hook_bracket "$1"):$2/$3${4:+,mark=$4}"
		hook_asks --endpoint "$hook_value" &&
			hook_options="$hook_options --endpoint $hook_value" && return 0
	fi
	hook_say 'no endpoint, left out' "$1 port $2 $3"
}

# hook_wireguard: the carriers of the tunnel, and their mark, where wg(8) knows it.
hook_wireguard() {
	hook_mark=$(wg show "$hook_tunnel" fwmark 2>/dev/null) || return 0
	[ "$hook_mark" != off ] || hook_mark=''
	while read -r _ hook_peer; do
		case $hook_peer in
		*:*)
			hook_host=${hook_peer%:*}
			hook_host=${hook_host#\[}
			hook_endpoint "${hook_host%\]}" "${hook_peer##*:}" udp "$hook_mark"
			;;
		esac
	done <<-EOF
		$(wg show "$hook_tunnel" endpoints 2>/dev/null)
	EOF
}

# hook_up, hook_down: tell leakguard.  Its status.
hook_up() {
	# shellcheck disable=SC2086 # checked: no white space inside, and set -f
	hook_tell up $hook_options
}

hook_down() {
	hook_tell down
}

hook_tell() {
	[ -n "$hook_tunnel" ] || return 1
	hook_verb=$1
	shift
	"$LEAKGUARD" "$hook_verb" --tunnel "$hook_tunnel" "$@"
	hook_status=$?
	[ "$hook_status" -eq 0 ] ||
		hook_say "$LEAKGUARD $hook_verb --tunnel $hook_tunnel failed, exit $hook_status"
	return "$hook_status"
}

# The checks.  What leakguard itself would refuse in a link's name, and quotes.
hook_is_link() {
	case $1 in
	'' | ????????????????* | . | .. | -*) return 1 ;;
	*[/:\"\'\`\\*%@,\;#{}\[\]]* | *[[:space:][:cntrl:]]*) return 1 ;;
	esac
}

hook_is_ipsec() {
	case $1 in
	ipsec:any) ;;
	ipsec: | ipsec:0* | ipsec:*[!0-9]* | ipsec:??????????*) return 1 ;;
	ipsec:*) ;;
	*) return 1 ;;
	esac
}

# By its looks only: whether it is one, leakguard is asked.
hook_is_address() {
	[ "${#1}" -le 45 ] || return 1
	case $1 in
	*[!0-9a-fA-F:.]*) return 1 ;;
	*[:.]*) ;;
	*) return 1 ;;
	esac
}

# Only link-local addresses have one.
hook_is_zone() {
	case $1 in
	[fF][eE][89abAB]?:*%*) hook_is_link "${1#*%}" ;;
	*%*) return 1 ;;
	esac
}

hook_is_port() {
	case $1 in
	'' | 0* | *[!0-9]* | ??????*) return 1 ;;
	esac
	[ "$1" -le 65535 ]
}

hook_is_proto() {
	[ "$1" = udp ] || [ "$1" = tcp ]
}

hook_is_mark() {
	case $1 in
	0x | 0x*[!0-9a-f]* | ???????????*) return 1 ;;
	0x*) ;;
	*[!0-9]*) return 1 ;;
	esac
}

# hook_room N MAX WHAT: false, and said once, from the one after MAX on.
hook_room() {
	[ "$1" -ne $(($2 + 1)) ] || hook_say "more than $2 $3, the rest is left out"
	[ "$1" -le "$2" ]
}

hook_bracket() {
	case $1 in
	*:*) printf '[%s]' "$1" ;;
	*) printf '%s' "$1" ;;
	esac
}

# The program's own parser has the last word, so that one odd value costs that
# value and not the whole call.  `rules` needs no root and changes nothing.
hook_asks() {
	"$LEAKGUARD" -c /dev/null rules "$@" >/dev/null 2>&1
}
