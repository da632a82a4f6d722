#!/bin/sh
# One generator, one relay, three sinks on links of their own:
#
#                                                    ┌─ 10.0.1.1 veth2 ──── veth3 10.0.1.2   sink-1-ns
#   gen-ns  veth0 10.0.0.1 ──── 10.0.0.2 veth1  relay-ns ─ 10.0.2.1 veth4 ──── veth5 10.0.2.2   sink-2-ns
#                                                    └─ 10.0.3.1 veth6 ──── veth7 10.0.3.2   sink-3-ns
#
# Use: topo/tree.sh COMMAND… (default: a shell); inside, `ip netns exec sink-2-ns …`. It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns relay-ns sink-1-ns sink-2-ns sink-3-ns
veth gen-ns veth0 relay-ns veth1
address gen-ns veth0 10.0.0.1/24
address relay-ns veth1 10.0.0.2/24
for leaf in 1 2 3; do
	veth relay-ns "veth$((2 * leaf))" "sink-$leaf-ns" "veth$((2 * leaf + 1))"
	address relay-ns "veth$((2 * leaf))" "10.0.$leaf.1/24"
	address "sink-$leaf-ns" "veth$((2 * leaf + 1))" "10.0.$leaf.2/24"
done

wait_up gen-ns relay-ns sink-1-ns sink-2-ns sink-3-ns
exec "${@:-${SHELL:-sh}}"
