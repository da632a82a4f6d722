// Clients that mean harm, all at once, on the control socket given: 1,000 that connect and say nothing, one that follows
// the events and never reads, one that makes events without end, one that sends 100 MB; and beside them 100 that mean
// well, each adding a rule and removing it again. A program of its own, so that the test that starts it keeps time.
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

await Promise.all([makeNoise(), flood(), ...Array.from({ length: 100 }, (_, i) => addAndRemove(i + 1))]);
console.log("100 rules added and removed");
process.exit(0);

/** Each change of a log level is an event; enough of them are more than the deaf one may lag behind. */
async function makeNoise(): Promise<void> {
  const noise = request("POST", "/v1/log-levels", { level: "info", facility: "Stats" });
  for (let round = 0; round < 6_000; round += 50)
    await Promise.all(Array.from({ length: 50 }, () => ask(noise)));
}

async function flood(): Promise<void> {
  const client = await connect();
  client.resume();
  client.write(headText("POST", "/v1/reload", "content-length: 100000000\r\n"));
  const mb = Buffer.alloc(1e6);
  for (let sentMb = 0; sentMb < 100 && !client.destroyed; sentMb += 1)
    if (!client.write(mb))
      await new Promise<void>((go) => client.once("drain", go).once("close", () => go()));
  console.log("100 MB sent or refused");
}

async function addAndRemove(octet: number): Promise<void> {
  const name = `passing-${octet}`;
  const rule = {
    name,
    ingress: { interface: "veth1", group: `239.2.1.${octet}`, port: 5001 },
    egress: [{ interface: "veth2", group: `239.12.1.${octet}` }],
  };
  for (const edit of [
    request("POST", "/v1/rules", { rules: [rule] }),
    request("DELETE", "/v1/rules", { names: [name] }),
  ]) {
    const answer = await ask(edit);
    if (!answer.startsWith("HTTP/1.1 200 ")) throw new Error(`${name}: ${answer}`);
  }
}

function request(method: string, target: string, body: unknown): string {
  const text = JSON.stringify(body);
  return headText(method, target, `content-length: ${text.length}\r\n`) + text;
}

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

/** The whole answer, its head included. */
async function ask(bytes: string): Promise<string> {
  const socket = await connect();
  let answer = "";
  socket.on("data", (part) => {
    answer += part;
  });
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.write(bytes);
  await closed;
  return answer;
}
