// One file, copied to a router: it relays from any directory, with nothing to write to and nothing in its environment.

import { expect, test } from "bun:test";
import { expectEveryPacket } from "../support/accounting.ts";
import { executable, RelayUnderTest, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { send, startReceiver } from "../support/traffic.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 2 };
const egress = { group: "239.10.1.1", port: 6001, streams: 2 };

/** $1 executable, $2 rules; the current directory holds what Bun would read if it could. */
const hostileHost = `
set -eu
mkdir /run/hostile
printf '%s' "$2" > /run/rules.toml
cp "$1" /run/mcr-copied
cd /run/hostile
printf 'preload = ["./evil.ts"]' > bunfig.toml
printf 'await Bun.write("/run/evil-ran", "")' > evil.ts
stat -L -c 'JOURNAL_STREAM=%d:%i' /proc/self/fd/2 > .env
mount -t tmpfs -o ro,noexec none /tmp
mount -t tmpfs -o ro,noexec none /var/tmp
exec env -i /run/mcr-copied run /run/rules.toml
`;

test("it relays with read-only noexec temporary directories, an empty environment and a hostile directory", async () => {
  await using topology = await openTopology("chain");
  const script = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    hostileHost,
    "sh",
    executable,
    streamRules(ingress, egress),
  ];
  const started = topology.spawn("relay-ns", script);
  await started.waitForOutput(/running [\d,]+ rules? of/, 15_000);
  const relay = new RelayUnderTest(topology, "/run/rules.toml", started);
  const countPerStream = 5_000;
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    expect: countPerStream * ingress.streams,
    deadlineSeconds: 30,
  });
  const sent = await send(topology, "gen-ns", {
    ...ingress,
    interfaceAddress: address.gen,
    ratePps: 20_000,
    countPerStream,
  });
  expectEveryPacket({ sent, received: await receiver.finished(), stats: await relay.stats() });
  // The .env was not read: no journal priorities; the preload did not run.
  expect(started.stderr).toMatch(/^\d{4}-\d\d-\d\dT/);
  expect((await topology.run("relay-ns", ["test", "-e", "/run/evil-ran"])).exitCode).toBe(1);
  expect((await relay.stop()).exitCode).toBe(0);
}, 60_000);
