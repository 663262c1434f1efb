# shellcheck shell=dash
# Stand-in for OpenWrt's /lib/functions/network.sh: netifd's word is in
# /tmp/netifd/NETWORK, lines of "up 1", "device tun0" or "dns ADDRESS ...".

network_flush_cache() { :; }

_netifd() {
	local _value
	# As the real one does with a network's name.
	eval "_asked_$2=1"
	[ -r "/tmp/netifd/$2" ] || return 1
	_value=$(sed -n "s/^$3 //p" "/tmp/netifd/$2")
	eval "$1=\$_value"
	[ -n "$_value" ]
}

network_get_dnsserver() { _netifd "$1" "$2" dns; }
network_get_device() { _netifd "$1" "$2" device; }
network_is_up() {
	local _up
	_netifd _up "$1" up && [ "$_up" = 1 ]
}
