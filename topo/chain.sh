#!/bin/sh
# The relay between a generator and a sink, on two bare links:
#
#   gen-ns                               relay-ns                               sink-ns
#   veth0 10.0.0.1/24 ──── 10.0.0.2/24 veth1   veth2 10.0.1.1/24 ──── 10.0.1.2/24 veth3
#                             ingress              egress
#
# Use: topo/chain.sh COMMAND… (default: a shell); inside, `ip netns exec relay-ns …`. It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"

namespaces gen-ns relay-ns sink-ns
veth gen-ns veth0 relay-ns veth1
veth relay-ns veth2 sink-ns veth3

address gen-ns veth0 10.0.0.1/24
address relay-ns veth1 10.0.0.2/24
address relay-ns veth2 10.0.1.1/24
address sink-ns veth3 10.0.1.2/24

wait_up gen-ns relay-ns sink-ns
exec "${@:-${SHELL:-sh}}"
