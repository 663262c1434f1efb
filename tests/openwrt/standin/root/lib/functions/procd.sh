# shellcheck shell=dash
# Stand-in for procd's shell functions: a service is written down, and router.py
# runs what is written there. See tests/openwrt/README.md.

_procd_dir=/tmp/procd

# As the real one: one call of an init script after the other.
_procd_lock() {
	local tries=0
	[ -z "$_procd_locked" ] || return 0
	mkdir -p /var/lock
	until mkdir "/var/lock/procd_$1.lock" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || exit 9
		usleep 50000
	done
	_procd_locked=$1
	# shellcheck disable=SC2064 # now
	trap "rmdir '/var/lock/procd_$1.lock'" EXIT
}

procd_open_service() {
	_procd_lock "$1"
	mkdir -p "$_procd_dir"
	_procd_file=$_procd_dir/$1
	: >"$_procd_file.new"
}

procd_close_service() {
	service_triggers
	mv "$_procd_file.new" "$_procd_file"
}

procd_kill() {
	_procd_lock "$1"
	rm -f "$_procd_dir/$1"
}

_procd_write() {
	local word
	printf '%s' "$1" >>"$_procd_file.new"
	shift
	for word; do
		printf '\t%s' "$word" >>"$_procd_file.new"
	done
	printf '\n' >>"$_procd_file.new"
}

# Without a name it is called instance1, 2, ...
procd_open_instance() {
	_procd_count=$((${_procd_count:-0} + 1))
	_procd_write instance "${1:-instance$_procd_count}"
}
procd_close_instance() { _procd_write close; }
procd_set_param() { _procd_write "$@"; }
procd_add_reload_trigger() { _procd_write reload "$@"; }
procd_add_interface_trigger() { _procd_write trigger "$@"; }

uci_validate_section() {
	local _result _error _package=$1 _type=$2 _name=$3
	shift 3
	_result=$(/sbin/validate_data "$_package" "$_type" "$_name" "$@" 2>/dev/null)
	_error=$?
	eval "$_result"
	[ $_error = 0 ] || /sbin/validate_data "$_package" "$_type" "$_name" "$@" >/dev/null
	return $_error
}
