// Clients that mean harm, all at once, on the control socket given: 1,000 that connect and say nothing, one that follows
// the events and never reads, one that makes events without end, one that sends 100 MB. A program of its own, so that
// the test that starts it keeps time.
import { createConnection, type Socket } from "node:net";

const [, , path = ""] = process.argv;
const silentCount = 1_000;
const headText = (method: string, target: string, headers = "") =>
  `${method} ${target} HTTP/1.1\r\nhost: mcr\r\n${headers}\r\n`;

const deaf = await connect();
deaf.pause();
deaf.write(headText("GET", "/v1/events"));

const silent: Socket[] = [];
for (let count = 0; count < silentCount; count += 1) silent.push(await connect());
console.log(`silent ${silentCount}`);

// Each change of a log level is an event; enough of them are more than the deaf one may lag behind.
const body = '{"level":"info","facility":"Stats"}';
const noise = headText("POST", "/v1/log-levels", `content-length: ${body.length}\r\n`) + body;
for (let round = 0; round < 6_000; round += 50)
  await Promise.all(Array.from({ length: 50 }, () => ask(noise)));

let sentMb = 0;
const flood = await connect();
flood.resume();
flood.write(headText("POST", "/v1/reload", "content-length: 100000000\r\n"));
const mb = Buffer.alloc(1e6);
while (sentMb < 100 && !flood.destroyed) {
  sentMb += 1;
  if (!flood.write(mb)) await new Promise<void>((go) => flood.once("drain", go).once("close", () => go()));
}
console.log("100 MB sent or refused");
process.exit(0);

/** Again where the queue of connections is full. */
async function connect(): Promise<Socket> {
  for (;;) {
    const socket = createConnection(path);
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    socket.on("error", () => {});
    if (isOpen) return socket;
    await Bun.sleep(1);
  }
}

async function ask(bytes: string): Promise<void> {
  const socket = await connect();
  socket.resume();
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.write(bytes);
  await closed;
}
