#!/bin/sh
# The chain on two trunks. The same addresses of groups may live in every VLAN, so each is a network of its own:
#
#   gen-ns                                relay-ns                               sink-ns
#   veth0    10.0.0.1 ──── 10.0.0.2 veth1          veth2 10.0.1.1 ──── 10.0.1.2 veth3      untagged
#   veth0.5  10.5.0.1 ──── 10.5.0.2 veth1.5                                                VLAN 5
#   veth0.7  10.7.0.1 ──── 10.7.0.2 veth1.7      veth2.7 10.7.1.1 ──── 10.7.1.2 veth3.7    VLAN 7
#
# Where the kernel has no VLAN interfaces, test/traffic/vlan.c (make test builds it) is one in user space.
# Use: topo/vlan.sh COMMAND… (default: a shell). It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"
program=$(dirname "$0")/../dist/test/vlan

vlan() { # NAMESPACE INTERFACE ID ADDRESS/PREFIX
	if ! ip -n "$1" link add "$2.$3" link "$2" type vlan id "$3" 2>/dev/null; then
		[ -x "$program" ] || die 77 "this kernel has no VLAN interfaces: modprobe 8021q, or make dist/test/vlan"
		background "$1" "$program" "$2" "$3" "$2.$3"
		wait_until "$2.$3 exists" ip -n "$1" link show "$2.$3" >/dev/null 2>&1
	fi
	address "$1" "$2.$3" "$4"
	ip -n "$1" link set "$2.$3" up txqueuelen 10000
}

namespaces gen-ns relay-ns sink-ns
veth gen-ns veth0 relay-ns veth1
veth relay-ns veth2 sink-ns veth3
address gen-ns veth0 10.0.0.1/24
address relay-ns veth1 10.0.0.2/24
address relay-ns veth2 10.0.1.1/24
address sink-ns veth3 10.0.1.2/24
for id in 5 7; do
	vlan gen-ns veth0 "$id" "10.$id.0.1/24"
	vlan relay-ns veth1 "$id" "10.$id.0.2/24"
done
vlan relay-ns veth2 7 10.7.1.1/24
vlan sink-ns veth3 7 10.7.1.2/24

wait_up gen-ns relay-ns sink-ns
exec "${@:-${SHELL:-sh}}"
