#!/bin/sh
# The chain with a switch on either side of the relay. Both bridges snoop IGMP and are queriers: a port behind which
# nobody has joined gets nothing, so a stream crosses only if the joins are real. bystander-ns joins nothing:
#
#   gen-ns             bridge-a-ns           relay-ns           bridge-b-ns             sink-ns
#   veth0 10.0.0.1 ─── gen  br-a relay ─── 10.0.0.2 veth1
#                          bystander         veth2 10.0.1.1 ─── relay  br-b sink ─── 10.0.1.2 veth3
#                              │                                   bystander
#                      10.0.0.3 veth4                                  │
#                         bystander-ns ─────── veth5 10.0.1.3 ─────────┘
#
# Addresses are those of chain.sh, all /24. Ports are named after who is behind them.
# Use: topo/bridges.sh COMMAND… (default: a shell); inside, `bridge -n bridge-a-ns mdb show`. It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns bridge-a-ns relay-ns bridge-b-ns sink-ns bystander-ns
veth gen-ns veth0 bridge-a-ns gen
veth relay-ns veth1 bridge-a-ns relay
veth bystander-ns veth4 bridge-a-ns bystander
veth relay-ns veth2 bridge-b-ns relay
veth sink-ns veth3 bridge-b-ns sink
veth bystander-ns veth5 bridge-b-ns bystander
snooping_bridge bridge-a-ns br-a gen relay bystander
snooping_bridge bridge-b-ns br-b relay sink bystander

address gen-ns veth0 10.0.0.1/24
address relay-ns veth1 10.0.0.2/24
address relay-ns veth2 10.0.1.1/24
address sink-ns veth3 10.0.1.2/24
address bystander-ns veth4 10.0.0.3/24
address bystander-ns veth5 10.0.1.3/24

wait_up gen-ns bridge-a-ns relay-ns bridge-b-ns sink-ns bystander-ns
exec "${@:-${SHELL:-sh}}"
