#!/bin/sh
# Two relays with a tunnel of some KIND between them: vxlan, gre or ipip by the kernel; wireguard by the kernel or by
# wireguard-go; tun, whose packets two socat processes carry over a Unix socket.
#
#   gen-ns                 relay-1-ns                               relay-2-ns                 sink-ns
#   veth0 10.0.0.1 ──── 10.0.0.2 veth1                                     veth2 10.0.2.1 ──── 10.0.2.2 veth3
#                             tunnel1 10.100.0.1 ═════ 10.100.0.2 tunnel2
#                               veth2 10.0.1.1 ───────── 10.0.1.2 veth1
#
# Use: topo/tunnel.sh KIND COMMAND… (default: a shell). It ends with COMMAND. Exit 77: this host has no such tunnel.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"
kind=${1:?which kind of tunnel?}
shift

# Each makes the near end, tunnel$1 in relay-$1-ns; $2 is the far end's number.
tunnel_vxlan() {
	kernel_tunnel "$1" type vxlan id 42 local "10.0.1.$1" remote "10.0.1.$2" dstport 4789
}

tunnel_gre() {
	kernel_tunnel "$1" type gre local "10.0.1.$1" remote "10.0.1.$2" ttl 64
}

tunnel_ipip() {
	kernel_tunnel "$1" type ipip local "10.0.1.$1" remote "10.0.1.$2" ttl 64
}

kernel_tunnel() { # NUMBER type …
	number=$1
	shift
	ip -n "relay-$number-ns" link add "tunnel$number" "$@" 2>/dev/null || die 77 "this kernel has no $2 tunnels"
}

# A sequenced-packet socket (type 5) keeps packets apart and holds the writer back, so it loses none.
tunnel_tun() {
	command -v socat >/dev/null || die 77 "socat is missing: apt-get install socat"
	end=UNIX-LISTEN
	[ "$1" = 1 ] || end=UNIX-CONNECT
	background "relay-$1-ns" socat "TUN,tun-name=tunnel$1,iff-no-pi" "$end:/run/tunnel.sock,socktype=5"
	wait_until "tunnel$1 exists" ip -n "relay-$1-ns" link show "tunnel$1" >/dev/null 2>&1
	wait_until "socat listens" test -S /run/tunnel.sock
}

tunnel_wireguard() {
	command -v wg >/dev/null || die 77 "wg is missing: apt-get install wireguard-tools wireguard-go"
	umask 077
	for number in 1 2; do
		[ -e "/run/private$number" ] || wg genkey >"/run/private$number"
	done
	if ! ip -n "relay-$1-ns" link add "tunnel$1" type wireguard 2>/dev/null; then
		command -v wireguard-go >/dev/null || die 77 "this kernel has no WireGuard: apt-get install wireguard-go"
		background "relay-$1-ns" wireguard-go --foreground "tunnel$1"
	fi
	wait_until "tunnel$1 exists" ip netns exec "relay-$1-ns" wg show "tunnel$1" >/dev/null 2>&1
	ip netns exec "relay-$1-ns" wg set "tunnel$1" private-key "/run/private$1" listen-port 51820 \
		peer "$(wg pubkey <"/run/private$2")" endpoint "10.0.1.$2:51820" allowed-ips 0.0.0.0/0 persistent-keepalive 1
}

shaken() { # a packet before the first handshake may wait, and only 128 of them do
	ip netns exec relay-1-ns wg show tunnel1 latest-handshakes | grep -q '[1-9][0-9]*$'
}

namespaces gen-ns relay-1-ns relay-2-ns sink-ns
veth gen-ns veth0 relay-1-ns veth1
veth relay-1-ns veth2 relay-2-ns veth1
veth relay-2-ns veth2 sink-ns veth3
address gen-ns veth0 10.0.0.1/24
address relay-1-ns veth1 10.0.0.2/24
address relay-1-ns veth2 10.0.1.1/24
address relay-2-ns veth1 10.0.1.2/24
address relay-2-ns veth2 10.0.2.1/24
address sink-ns veth3 10.0.2.2/24
wait_up gen-ns relay-1-ns relay-2-ns sink-ns

for near in 1 2; do
	"tunnel_$kind" "$near" $((3 - near))
	address "relay-$near-ns" "tunnel$near" "10.100.0.$near/24"
	ip -n "relay-$near-ns" link set "tunnel$near" up multicast on txqueuelen 10000
done
[ "$kind" != wireguard ] || wait_until "the two WireGuard ends know each other" shaken
exec "${@:-${SHELL:-sh}}"
