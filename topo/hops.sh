#!/bin/sh
# Three relays in a row, each on links of its own:
#
#   gen-ns                  relay-1-ns              relay-2-ns              relay-3-ns              sink-ns
#   veth0 10.0.0.1 ── 10.0.0.2 veth1   veth2 ── veth1   veth2 ── veth1   veth2 10.0.3.1 ── 10.0.3.2 veth3
#                               10.0.1.1    10.0.1.2 10.0.2.1    10.0.2.2
#
# Every relay captures on veth1 and sends on veth2. Use: topo/hops.sh COMMAND… (default: a shell).
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns relay-1-ns relay-2-ns relay-3-ns sink-ns
veth gen-ns veth0 relay-1-ns veth1
veth relay-1-ns veth2 relay-2-ns veth1
veth relay-2-ns veth2 relay-3-ns veth1
veth relay-3-ns veth2 sink-ns veth3

ip -n gen-ns address add 10.0.0.1/24 dev veth0
for hop in 1 2 3; do
	ip -n "relay-$hop-ns" address add "10.0.$((hop - 1)).2/24" dev veth1
	ip -n "relay-$hop-ns" address add "10.0.$hop.1/24" dev veth2
done
ip -n sink-ns address add 10.0.3.2/24 dev veth3

wait_up gen-ns relay-1-ns relay-2-ns relay-3-ns sink-ns
exec "${@:-${SHELL:-sh}}"
