#!/bin/sh
# Three generators on three interfaces of one relay, one sink:
#
#   gen-1-ns veth0 10.0.1.1 ── 10.0.1.2 veth1 ─┐
#   gen-2-ns veth0 10.0.2.1 ── 10.0.2.2 veth3 ─ relay-ns veth2 10.0.9.1 ── 10.0.9.2 veth3 sink-ns
#   gen-3-ns veth0 10.0.3.1 ── 10.0.3.2 veth5 ─┘
#
# Use: topo/converge.sh COMMAND… (default: a shell).
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-1-ns gen-2-ns gen-3-ns relay-ns sink-ns
for branch in 1 2 3; do
	veth "gen-$branch-ns" veth0 relay-ns "veth$((branch * 2 - 1))"
	address "gen-$branch-ns" veth0 "10.0.$branch.1/24"
	ip -n relay-ns address add "10.0.$branch.2/24" dev "veth$((branch * 2 - 1))"
done
veth relay-ns veth2 sink-ns veth3
address relay-ns veth2 10.0.9.1/24
address sink-ns veth3 10.0.9.2/24

wait_up gen-1-ns gen-2-ns gen-3-ns relay-ns sink-ns
exec "${@:-${SHELL:-sh}}"
