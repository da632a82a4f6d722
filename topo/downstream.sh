#!/bin/sh
# Two sinks behind one switch, on one group. The bridge snoops IGMP and is the querier, so each sink gets the group
# because it has joined, and the relay sends it once:
#
#   gen-ns               relay-ns                       bridge-ns        ┌─ sink-1 ──── veth3 10.0.1.2  sink-1-ns
#   veth0 10.0.0.1 ──── 10.0.0.2 veth1  veth2 10.0.1.1 ──── relay  br-b ─┤
#                                                                        └─ sink-2 ──── veth3 10.0.1.3  sink-2-ns
#
# Use: topo/downstream.sh COMMAND… (default: a shell); inside, `bridge -n bridge-ns mdb show`. It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns relay-ns bridge-ns sink-1-ns sink-2-ns
veth gen-ns veth0 relay-ns veth1
veth relay-ns veth2 bridge-ns relay
veth sink-1-ns veth3 bridge-ns sink-1
veth sink-2-ns veth3 bridge-ns sink-2
snooping_bridge bridge-ns br-b relay sink-1 sink-2

address gen-ns veth0 10.0.0.1/24
address relay-ns veth1 10.0.0.2/24
address relay-ns veth2 10.0.1.1/24
address sink-1-ns veth3 10.0.1.2/24
address sink-2-ns veth3 10.0.1.3/24

wait_up gen-ns relay-ns bridge-ns sink-1-ns sink-2-ns
exec "${@:-${SHELL:-sh}}"
