#!/bin/sh
# COUNT relays in a row, each the next one's generator; 3 of them here. Every relay captures on veth1 and sends on
# veth2; all networks are /24:
#
#   gen-ns                  relay-1-ns              relay-2-ns              relay-3-ns              sink-ns
#   veth0 10.0.0.1 ── 10.0.0.2 veth1   veth2 ── veth1   veth2 ── veth1   veth2 10.0.3.1 ── 10.0.3.2 veth3
#                               10.0.1.1    10.0.1.2 10.0.2.1    10.0.2.2
#
# Use: topo/hops.sh COUNT COMMAND… (default: a shell); inside, `ip netns exec relay-2-ns …`. It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"
count=${1:?how many relays?}
shift

namespaces gen-ns $(seq -f 'relay-%g-ns' "$count") sink-ns
near=gen-ns interface=veth0
for hop in $(seq "$count"); do
	veth "$near" "$interface" "relay-$hop-ns" veth1
	address "$near" "$interface" "10.0.$((hop - 1)).1/24"
	address "relay-$hop-ns" veth1 "10.0.$((hop - 1)).2/24"
	near=relay-$hop-ns interface=veth2
done
veth "$near" veth2 sink-ns veth3
address "$near" veth2 "10.0.$count.1/24"
address sink-ns veth3 "10.0.$count.2/24"

wait_up gen-ns $(seq -f 'relay-%g-ns' "$count") sink-ns
exec "${@:-${SHELL:-sh}}"
