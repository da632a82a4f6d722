#!/bin/sh
# Two relays side by side between the same two switches: what one carries from left to right, the other can carry
# back, so a rule that takes too much goes round for ever. The bridges snoop IGMP and are queriers:
#
#                       bridge-a-ns        relay-1-ns        bridge-b-ns
#   gen-ns                   ┌ relay-1 ─── veth1  veth2 ─── relay-1 ┐                    sink-ns
#   veth0 10.0.0.1 ─── gen  br-a                                   br-b  sink ─── 10.0.1.2 veth5
#                            └ relay-2 ─── veth3  veth4 ─── relay-2 ┘
#                                          relay-2-ns
#
# relay-1-ns has 10.0.0.11 and 10.0.1.11, relay-2-ns has 10.0.0.12 and 10.0.1.12, all /24.
# Use: topo/loop.sh COMMAND… (default: a shell); inside, `ip netns exec relay-1-ns …`. It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns bridge-a-ns relay-1-ns relay-2-ns bridge-b-ns sink-ns
veth gen-ns veth0 bridge-a-ns gen
veth relay-1-ns veth1 bridge-a-ns relay-1
veth relay-2-ns veth3 bridge-a-ns relay-2
veth relay-1-ns veth2 bridge-b-ns relay-1
veth relay-2-ns veth4 bridge-b-ns relay-2
veth sink-ns veth5 bridge-b-ns sink
snooping_bridge bridge-a-ns br-a gen relay-1 relay-2
snooping_bridge bridge-b-ns br-b relay-1 relay-2 sink

address gen-ns veth0 10.0.0.1/24
address relay-1-ns veth1 10.0.0.11/24
address relay-1-ns veth2 10.0.1.11/24
address relay-2-ns veth3 10.0.0.12/24
address relay-2-ns veth4 10.0.1.12/24
address sink-ns veth5 10.0.1.2/24

wait_up gen-ns bridge-a-ns relay-1-ns relay-2-ns bridge-b-ns sink-ns
exec "${@:-${SHELL:-sh}}"
