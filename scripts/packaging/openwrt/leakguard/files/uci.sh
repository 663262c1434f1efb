# shellcheck shell=dash
# shellcheck disable=SC1091,SC2034,SC2119,SC2120,SC2154,SC2317 # files of OpenWrt, and what they call
# What leakguard's scripts on OpenWrt share: UCI -> the program's configuration.
# To be sourced behind /lib/functions.sh.
#
# An option is renamed, `-` for `_`, and that is all: what it means, and whether
# there is such a one, the program alone says. Values may hold anything. They
# are data: never evaluated, never a pattern, never a second line of the file.

LG_PROGRAM=/usr/sbin/leakguard
LG_RUN=/var/run/leakguard
# /etc/leakguard.conf is a link to it: one configuration, whoever asks for it.
LG_CONF=/var/etc/leakguard.conf
LG_TOLD=/var/run/leakguard.networks
# Of /usr/lib/leakguard/attempts: `before` and `now`, a line each; `missed`; `pid`.
LG_ATTEMPTS=/var/run/leakguard.attempts

lg_nl='
'
lg_text='' lg_bad='' lg_enabled=0 lg_attempts=0

# lg_say LEVEL TEXT: one line for whoever looks.
lg_say() {
	printf 'leakguard: %s\n' "$2" >&2
	[ -t 2 ] || logger -t leakguard -p "daemon.$1" -- "$2" 2>/dev/null || :
}

# lg_printable TEXT: for a message; what is untrusted in it is data.
lg_printable() {
	printf '%.64s' "$1" | tr -c ' -~' '?'
}

# lg_refuse TEXT VALUE: this configuration is not taken.
lg_refuse() {
	lg_bad=1
	lg_say err "/etc/config/leakguard: $1: \"$(lg_printable "$2")\""
}

# lg_line KEY VALUE: one more line, if it will be read as one.
lg_line() {
	case $1 in
	'' | *[!a-z0-9-]*)
		lg_refuse 'no key of leakguard.conf' "$1"
		return
		;;
	esac
	case $2 in
	'') ;;
	*[[:cntrl:]]*) lg_refuse "$1, a line break or control byte" "$2" ;;
	[\#\;]* | *[[:space:]][\#\;]*) lg_refuse "$1, would be read as a comment" "$2" ;;
	*) lg_text="$lg_text$1 = $2$lg_nl" ;;
	esac
}

# lg_option NAME VALUE: an option of the section that is being read.
lg_option() {
	case $lg_type in
	leakguard)
		case $1 in
		enabled | attempts) ;;
		*) lg_line "$(printf '%s' "$1" | tr _ -)" "$2" ;;
		esac
		;;
	network)
		case $1 in
		name | redirect | tunnel) ;;
		*) lg_refuse 'config network, expected name, redirect, tunnel' "$1" ;;
		esac
		;;
	esac
}

lg_section() {
	lg_type=${1-}
	case $lg_type in
	leakguard)
		[ "${2-}" = main ] ||
			lg_refuse "config leakguard, expected 'main'" "${2-}"
		;;
	'' | network) ;;
	*) lg_refuse 'expected config leakguard or network' "$lg_type" ;;
	esac
}

# Only whether it is of the right shape; in a subshell, since what is found
# valid becomes a variable.
lg_validate_main() {
	uci_validate_section leakguard leakguard main \
		'enabled:bool:0' \
		'attempts:bool:0' \
		'tunnel:list(string)' \
		'resolver:list(string)' \
		'endpoint:list(string)' \
		'ports:string' \
		'mode:string' \
		'action:string' \
		'fragments:string' \
		'frames:string' \
		'inside:list(string)' \
		'tunnel_kind:list(string)' \
		'lan:list(string)' \
		'lan_redirect:list(string)' \
		'lan_exempt:list(string)' \
		'flow_offload:string' \
		'pause_max:string' \
		'ownership:string' \
		'watch_quiet:uinteger' \
		'watch_late:uinteger' \
		'log_group:uinteger' \
		'log_rate:uinteger'
}

lg_validate_network() {
	uci_validate_section leakguard network "$1" \
		'name:uciname' \
		'redirect:bool:0' \
		'tunnel:bool:0'
}

# A network's, and so harmless: OpenWrt's own functions evaluate it.
lg_is_name() {
	case $1 in
	'' | *[!A-Za-z0-9_]*) return 1 ;;
	esac
}

# lg_link NETWORK [DEPTH]: prints the link that a network of /etc/config/network
# has, or will have: nobody can be asked before netifd runs. 1: it cannot be told.
lg_link() {
	lg_is_name "$1" && [ "${2:-0}" -lt 4 ] || return 1
	lg_proto=$(uci -q get "network.$1.proto") || return 1
	lg_device=$(uci -q get "network.$1.device") ||
		lg_device=$(uci -q get "network.$1.ifname")
	# Before 21.02 the bridge was a type of the network.
	[ "$(uci -q get "network.$1.type")" != bridge ] || lg_device="br-$1"
	case $lg_proto in
	wireguard | amneziawg | xfrm | vti | vtiv6) lg_device=$1 ;;
	ppp | pppoe | pppoa | pptp | l2tp | sstp | 3g | 6in4 | 6to4 | 6rd | map) lg_device="$lg_proto-$1" ;;
	openconnect | vpnc | openfortivpn) lg_device="vpn-$1" ;;
	dslite) lg_device="ds-$1" ;;
	gre) lg_device="gre4-$1" ;;
	grev6) lg_device="gre6-$1" ;;
	ipip) lg_device="ipip-$1" ;;
	esac
	case $lg_device in
	@*) lg_link "${lg_device#@}" $((${2:-0} + 1)) ;;
	'') lg_link_up "$1" ;;
	*) printf '%s\n' "$lg_device" ;;
	esac
}

# Where the configuration does not name one (a modem, Wi-Fi without a bridge),
# what netifd says, once it can say so; a trigger reads all again then.
lg_link_up() {
	[ -r /lib/functions/network.sh ] || return 1
	. /lib/functions/network.sh
	network_flush_cache
	network_get_device lg_device "$1" && [ -n "$lg_device" ] &&
		printf '%s\n' "$lg_device"
}

# lg_network SECTION: the lines of one 'config network'.
lg_network() {
	config_get lg_name "$1" name
	config_get_bool lg_redirect "$1" redirect 0
	config_get_bool lg_tunnel "$1" tunnel 0
	(lg_validate_network "$1") >/dev/null 2>&1 || {
		lg_refuse 'config network, expected a name, and 0 or 1' "$lg_name"
		return
	}
	[ "$lg_redirect" = 1 ] && lg_has_line lan-redirect || lg_redirect=0
	[ "$lg_redirect$lg_tunnel" != 00 ] || return 0
	# What is missing keeps closed, and is no reason to refuse the rest.
	if ! lg_links=$(lg_link "$lg_name"); then
		lg_say warning "network $(lg_printable "$lg_name"): no link is known yet"
		return
	fi
	[ "$lg_redirect" = 0 ] || lg_line lan "$lg_links"
	[ "$lg_tunnel" = 0 ] || lg_line tunnel "$lg_links"
}

# lg_has_line KEY: whether there is one already.
lg_has_line() {
	case $lg_nl$lg_text in
	*"$lg_nl$1 = "*) ;;
	*) return 1 ;;
	esac
}

# Whether the program can say what was blocked: leakguard-mini cannot.
lg_has_monitor() {
	"$LG_PROGRAM" monitor -h >/dev/null 2>&1
}

# A list of attempts is wanted: they are logged, to somebody's group or to ours.
lg_read_attempts() {
	config_get_bool lg_attempts main attempts 0
	[ "$lg_attempts" = 0 ] || lg_has_line log-group || ! lg_has_monitor ||
		lg_line log-group 53
}

# lg_translate: /etc/config/leakguard -> lg_text, lg_enabled and lg_attempts. 1: it
# is not usable.
lg_translate() {
	lg_text='' lg_bad=''
	config_cb() { lg_section "$@"; }
	option_cb() { lg_option "$@"; }
	list_cb() { lg_option "$@"; }
	config_load leakguard
	reset_cb
	# Without -S, which config_load has, uci says what it cannot parse.
	if [ -e /etc/config/leakguard ] && ! uci -q export leakguard >/dev/null; then
		lg_refuse 'uci cannot read it' "$(uci export leakguard 2>&1 >/dev/null)"
	elif ! (lg_validate_main) >/dev/null 2>&1; then
		lg_refuse 'of the wrong kind' "$( (lg_validate_main) 2>&1 >/dev/null |
			sed -n 's/.*leakguard\.main\.\(.*\) with false.*/\1/p' | head -n 1)"
	fi
	lg_read_enabled
	lg_read_attempts
	config_foreach lg_network network
	[ -z "$lg_bad" ]
}

# Off is off only where it is said: a file that is lost or damaged has not said so.
lg_read_enabled() {
	config_get lg_value main enabled
	case $lg_value in
	0 | off | false | no | disabled) lg_enabled=0 ;;
	'')
		lg_enabled=0
		! lg_was_enabled || lg_refuse 'no more there' 'option enabled'
		[ -z "$lg_bad" ] || lg_enabled=1
		;;
	*) lg_enabled=1 ;;
	esac
}

# lg_write: what was translated, beside LG_CONF. The first line is for `apply`.
lg_write() {
	mkdir -p "${LG_CONF%/*}" &&
		(umask 077 && printf '# enabled %s; made from /etc/config/leakguard\n%s' \
			"$lg_enabled" "$lg_text" >"$LG_CONF.new") && return 0
	rm -f "$LG_CONF.new"
	lg_say err "cannot write $LG_CONF.new"
	return 1
}

# lg_was_enabled: what the configuration that is in use was made with.
lg_was_enabled() {
	lg_first=''
	[ ! -r "$LG_CONF" ] || read -r lg_first <"$LG_CONF"
	[ "${lg_first%%;*}" = '# enabled 1' ]
}

# lg_is_tunnel NETWORK: whether a 'config network' calls it one.
lg_is_tunnel() {
	lg_found=''
	config_load leakguard
	config_foreach lg_find_tunnel network "$1"
	[ -n "$lg_found" ]
}

lg_find_tunnel() {
	config_get lg_name "$1" name
	config_get_bool lg_tunnel "$1" tunnel 0
	[ "$lg_name" != "$2" ] || [ "$lg_tunnel" != 1 ] || lg_found=1
}

# Whether there are rules to tell of a tunnel: nothing here raises the guard.
lg_is_up() {
	[ -e "$LG_RUN/state" ] && [ ! -e "$LG_RUN/off" ]
}

# lg_tell up|down NETWORK [LINK]: what netifd knows of a VPN and nobody else does.
# At ifdown it does not name the link any more, which is kept for that.
lg_tell() (
	lg_is_name "$2" && lg_is_tunnel "$2" && lg_is_up || exit 0
	lg_dns='' lg_device=${3-}
	if [ "$1" = up ]; then
		. /lib/functions/network.sh
		network_flush_cache
		network_get_dnsserver lg_dns "$2"
		[ -n "$lg_device" ] || network_get_device lg_device "$2"
	elif [ -r "$LG_TOLD/$2" ]; then
		read -r lg_device <"$LG_TOLD/$2"
	fi
	[ -n "$lg_device" ] || lg_device=$(lg_link "$2") || exit 0
	. /usr/lib/leakguard/hook.sh
	hook_name "network $2"
	hook_link "$lg_device" || exit 1
	if [ "$1" = up ]; then
		for lg_server in $lg_dns; do
			hook_resolver "$lg_server"
		done
		! command -v wg >/dev/null || hook_wireguard
		mkdir -p "$LG_TOLD" && printf '%s\n' "$lg_device" >"$LG_TOLD/$2"
		hook_up >/dev/null
	else
		rm -f "$LG_TOLD/$2"
		hook_down >/dev/null
	fi
)
