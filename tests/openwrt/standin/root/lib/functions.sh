# shellcheck shell=dash disable=SC2034
# Stand-in for OpenWrt's /lib/functions.sh: only what the package calls, written
# from its documentation. See tests/openwrt/README.md.

_set() { eval "CONFIG_$1_$2=\$3"; }

config_load() {
	[ -z "$IPKG_INSTROOT" ] || return 0
	local data status variable
	for variable in $_STANDIN_SET; do
		unset "$variable"
	done
	_STANDIN_SET='' CONFIG_SECTIONS='' CONFIG_SECTION='' CONFIG_NUM_SECTIONS=0
	# As the real one: what cannot be parsed is passed over.
	data=$(/sbin/uci -S -n export "$1" 2>/dev/null)
	status=$?
	[ $status -ne 0 ] || [ -z "$data" ] || eval "$data"
	[ -z "$CONFIG_SECTION" ] || config_cb
	return $status
}

reset_cb() {
	config_cb() { return 0; }
	option_cb() { return 0; }
	list_cb() { return 0; }
}
reset_cb

package() { return 0; }

config() {
	CONFIG_NUM_SECTIONS=$((CONFIG_NUM_SECTIONS + 1))
	CONFIG_SECTION=${2:-cfg$CONFIG_NUM_SECTIONS}
	CONFIG_SECTIONS="$CONFIG_SECTIONS $CONFIG_SECTION"
	_keep TYPE "$1"
	config_cb "$1" "$CONFIG_SECTION"
}

_keep() {
	_set "$CONFIG_SECTION" "$1" "$2"
	_STANDIN_SET="$_STANDIN_SET CONFIG_${CONFIG_SECTION}_$1"
}

option() {
	_keep "$1" "$2"
	option_cb "$1" "$2"
}

list() {
	local length all
	config_get length "$CONFIG_SECTION" "$1_LENGTH" 0
	config_get all "$CONFIG_SECTION" "$1"
	length=$((length + 1))
	_keep "$1_ITEM$length" "$2"
	_keep "$1_LENGTH" "$length"
	_keep "$1" "$all${all:+ }$2"
	list_cb "$1" "$2"
}

config_get() {
	case $2${3:-$1} in
	*[!A-Za-z0-9_]*) return 0 ;;
	esac
	if [ -n "$3" ]; then
		eval "$1=\${CONFIG_$2_$3:-\${4}}"
	else
		eval "printf '%s\n' \"\${CONFIG_$1_$2}\""
	fi
}

config_get_bool() {
	local value
	config_get value "$2" "$3" "$4"
	case $value in
	1 | on | true | yes | enabled) value=1 ;;
	0 | off | false | no | disabled) value=0 ;;
	*) value=$4 ;;
	esac
	eval "$1=\$value"
}

config_foreach() {
	local _function=$1 _type=$2 _section _of
	[ $# -lt 2 ] || shift
	shift
	for _section in $CONFIG_SECTIONS; do
		config_get _of "$_section" TYPE
		if [ -z "$_type" ] || [ "$_of" = "$_type" ]; then
			"$_function" "$_section" "$@"
		fi
	done
}

# logd's two ends: -t TAG -p LEVEL -- TEXT, and -e PATTERN. Functions, for ash
# takes busybox's own applets of these names before it looks along PATH.
logger() {
	mkdir -p /tmp/log
	printf '%s\n' "$6" | sed "s/^/$4 $2: /" >>/tmp/log/messages
}
logread() { grep -e "$2" /tmp/log/messages; }
