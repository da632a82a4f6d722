#!/bin/sh
# One relay, three sinks behind links of their own:
#
#                                                  ┌─ veth2 10.0.1.1 ── 10.0.1.2 veth3 sink-1-ns
#   gen-ns veth0 10.0.0.1 ── 10.0.0.2 veth1 relay-ns ─ veth4 10.0.2.1 ── 10.0.2.2 veth3 sink-2-ns
#                                                  └─ veth6 10.0.3.1 ── 10.0.3.2 veth3 sink-3-ns
#
# Use: topo/tree.sh COMMAND… (default: a shell).
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns relay-ns sink-1-ns sink-2-ns sink-3-ns
veth gen-ns veth0 relay-ns veth1
address gen-ns veth0 10.0.0.1/24
address relay-ns veth1 10.0.0.2/24
for branch in 1 2 3; do
	veth relay-ns "veth$((branch * 2))" "sink-$branch-ns" veth3
	ip -n relay-ns address add "10.0.$branch.1/24" dev "veth$((branch * 2))"
	address "sink-$branch-ns" veth3 "10.0.$branch.2/24"
done

wait_up gen-ns relay-ns sink-1-ns sink-2-ns sink-3-ns
exec "${@:-${SHELL:-sh}}"
