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

ip -n gen-ns address add 10.0.0.1/24 dev veth0
ip -n relay-ns address add 10.0.0.2/24 dev veth1
ip -n relay-ns address add 10.0.1.1/24 dev veth2
ip -n sink-ns address add 10.0.1.2/24 dev veth3

wait_up gen-ns relay-ns sink-ns
exec "${@:-${SHELL:-sh}}"
