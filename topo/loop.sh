#!/bin/sh
# Two relays back to back on two links, so that what one sends the other may send back:
#
#   gen-ns veth0 10.0.0.1 ─┐                                 ┌─ 10.0.1.3 veth3 sink-ns
#                       br-a ── veth1 relay-1-ns veth2 ── br-b
#                       br-a ── veth1 relay-2-ns veth2 ── br-b
#
# The bridges, in switch-ns, flood. Relays: 10.0.0.11 and .12 on veth1, 10.0.1.11 and .12 on veth2.
# Use: topo/loop.sh COMMAND… (default: a shell).
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns relay-1-ns relay-2-ns sink-ns switch-ns
veth gen-ns veth0 switch-ns a0
veth relay-1-ns veth1 switch-ns a1
veth relay-2-ns veth1 switch-ns a2
veth sink-ns veth3 switch-ns b0
veth relay-1-ns veth2 switch-ns b1
veth relay-2-ns veth2 switch-ns b2
for side in a b; do
	ip -n switch-ns link add "br-$side" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
	for port in 0 1 2; do ip -n switch-ns link set "$side$port" master "br-$side"; done
	ip -n switch-ns link set "br-$side" up
done
address gen-ns veth0 10.0.0.1/24
address sink-ns veth3 10.0.1.3/24
for relay in 1 2; do
	address "relay-$relay-ns" veth1 "10.0.0.1$relay/24"
	address "relay-$relay-ns" veth2 "10.0.1.1$relay/24"
done

wait_up gen-ns relay-1-ns relay-2-ns sink-ns switch-ns
exec "${@:-${SHELL:-sh}}"
