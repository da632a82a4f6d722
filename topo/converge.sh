#!/bin/sh
# Three generators, each on an interface of its own of one relay, one sink:
#
#   gen-1-ns  10.0.0.1 veth0 ──── veth1 10.0.0.2 ─┐
#   gen-2-ns  10.0.1.1 veth2 ──── veth3 10.0.1.2 ─ relay-ns  veth6 10.0.3.1 ──── 10.0.3.2 veth7  sink-ns
#   gen-3-ns  10.0.2.1 veth4 ──── veth5 10.0.2.2 ─┘
#
# Use: topo/converge.sh COMMAND… (default: a shell); inside, `ip netns exec gen-2-ns …`. It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-1-ns gen-2-ns gen-3-ns relay-ns sink-ns
for link in 0 1 2; do
	veth "gen-$((link + 1))-ns" "veth$((2 * link))" relay-ns "veth$((2 * link + 1))"
	address "gen-$((link + 1))-ns" "veth$((2 * link))" "10.0.$link.1/24"
	address relay-ns "veth$((2 * link + 1))" "10.0.$link.2/24"
done
veth relay-ns veth6 sink-ns veth7
address relay-ns veth6 10.0.3.1/24
address sink-ns veth7 10.0.3.2/24

wait_up gen-1-ns gen-2-ns gen-3-ns relay-ns sink-ns
exec "${@:-${SHELL:-sh}}"
