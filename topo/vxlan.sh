#!/bin/sh
# Two relays with a tunnel between them: multicast goes into VXLAN on one side and comes out on the other.
#
#   gen-ns veth0 10.0.0.1 ── 10.0.0.2 veth1 relay-1-ns veth2 10.0.1.1 ── 10.0.1.2 veth1 relay-2-ns veth2 10.0.2.1 ── 10.0.2.2 veth3 sink-ns
#                                        tunnel0 172.16.0.1 ═══ VXLAN 42 ═══ 172.16.0.2 tunnel0
#
# Use: topo/vxlan.sh COMMAND… (default: a shell).
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns relay-1-ns relay-2-ns sink-ns
veth gen-ns veth0 relay-1-ns veth1
veth relay-1-ns veth2 relay-2-ns veth1
veth relay-2-ns veth2 sink-ns veth3
ip -n gen-ns address add 10.0.0.1/24 dev veth0
ip -n sink-ns address add 10.0.2.2/24 dev veth3
for relay in 1 2; do
	ip -n "relay-$relay-ns" address add "10.0.$((relay - 1)).2/24" dev veth1
	ip -n "relay-$relay-ns" address add "10.0.$relay.1/24" dev veth2
done
ip -n relay-1-ns link add tunnel0 type vxlan id 42 local 10.0.1.1 remote 10.0.1.2 dstport 4789 dev veth2
ip -n relay-2-ns link add tunnel0 type vxlan id 42 local 10.0.1.2 remote 10.0.1.1 dstport 4789 dev veth1
for relay in 1 2; do
	ip -n "relay-$relay-ns" address add "172.16.0.$relay/24" dev tunnel0
	ip -n "relay-$relay-ns" link set tunnel0 up
done

wait_up gen-ns relay-1-ns relay-2-ns sink-ns
exec "${@:-${SHELL:-sh}}"
