#!/bin/sh
# A configuration from what runs: the kernel's own WireGuard, tunnels that encrypt nothing, IPsec.
# shellcheck shell=dash
# shellcheck source=tests/kernels/lib.sh
. /tests/lib.sh

# The lines that count, and the commented ones that would.
lines() {
	lg suggest 2>/dev/null | grep -E '^#?[a-z-]+ = ' | tr '\n' ';' | sed 's/;/; /g; s/ $//'
}

says() {
	check "$1" "$(lines)" "$2"
}

printf 'nameserver 10.64.0.1\nnameserver 192.0.2.1\n' >/etc/resolv.conf
outside='#resolver = 192.0.2.1 via wan0; frames = auto; #log-group = 53;'
says 'no tunnel' "#tunnel = wg0; #resolver = 10.64.0.1 via wan0; $outside"

wg_up 53
strict='tunnel-kind = strict; resolver = 10.64.0.1 via tunnel;'
ends='endpoint = 192.0.2.1:53/udp'
says 'WireGuard' "tunnel = wg0; $strict #resolver = 192.0.2.1 via wan0; $ends; frames = auto; #log-group = 53;"
wg set wg0 fwmark 0x51
says 'its mark' \
	"tunnel = wg0; $strict #resolver = 192.0.2.1 via wan0; $ends,mark=0x51; frames = auto; #log-group = 53;"
check 'the rest of its keys is not told' "$(lg suggest | grep -c "$(wg show wg0 private-key)")" 0
check 'its kind' "$(lg suggest | grep -c 'wg0: a tunnel by its kind, wireguard, and up')" 1

lg suggest >/etc/leakguard.conf 2>/dev/null
succeeds 'enable with what it says' lg enable --no-watch
check 'status: GUARDED' "$(field state)" GUARDED
paths 'through the tunnel' wg0 "$INSIDE"
paths 'not past it' none "$PUBLIC"
rm -f /etc/leakguard.conf
succeeds 'enable --tunnel auto' lg enable --no-watch --tunnel auto
check 'status: GUARDED once more' "$(field state)" GUARDED
lg disable >/dev/null

# Many peers: the kernel answers in parts, and the mark is in the first alone.
i=0
while [ $i -lt 150 ]; do
	i=$((i + 1))
	echo "[Peer]"
	echo "PublicKey = $(wg genkey | wg pubkey)"
	echo "Endpoint = 192.0.2.$i:853"
	echo "AllowedIPs = 10.99.$i.0/24, 10.98.$i.0/24, 10.97.$i.0/24"
done >/tmp/peers
wg addconf wg0 /tmp/peers
check 'many peers: no more than 64, each with the mark' \
	"$(lg suggest 2>/dev/null | grep -c '^endpoint = .*/udp,mark=0x51$')" 64
wg_down

# Tunnels that encrypt nothing.
for kind in gre sit ipip; do
	if modprobe "$kind" 2>/dev/null &&
		ip link add odd0 type "$kind" local 192.0.2.2 remote 192.0.2.1; then
		ip link set odd0 up
		ip route add 0.0.0.0/1 dev odd0
		says "$kind" "#tunnel = odd0; #tunnel = wg0; #resolver = 10.64.0.1 via odd0; $outside"
		check "$kind: not for --tunnel auto" \
			"$(lg enable --tunnel auto 2>&1 | grep -c "odd0 ($kind) is not taken")" 1
		ip link del odd0
	else
		lack "$kind" 'no such kind of link here'
	fi
done

# Policies without a device.
if modprobe xfrm_user 2>/dev/null; then
	ip xfrm policy add src 0.0.0.0/0 dst 10.64.0.0/16 dir out tmpl \
		src 192.0.2.2 dst 192.0.2.1 proto esp reqid 7 mode tunnel
	says 'IPsec' "tunnel = ipsec:7; $strict $outside"
	ip xfrm policy flush
else
	lack 'IPsec' 'no xfrm_user here'
fi
