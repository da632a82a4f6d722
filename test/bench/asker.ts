// Asks a running mcr one question after the other without pause, and prints how many it has answered so far: all that
// show, stats and Prometheus ask for, or the flows on the wire. A program of its own, so that it costs the bench no time.
//   asker.ts SOCKET METRICS-ADDRESS all|flows
export {};

const [, , socket = "", metrics = "", what] = process.argv;
const views = ["status", "rules", "stats", "interfaces", "memberships", "workers", "config", "log-levels"];
const questions: readonly (() => Promise<Response>)[] =
  what === "flows"
    ? [() => fetch("http://mcr/v1/flows", { unix: socket })]
    : [...views.map((view) => () => fetch(`http://mcr/v1/${view}`, { unix: socket })), () => fetch(metrics)];

for (let answers = 0; ; ) {
  for (const ask of questions) {
    const response = await ask();
    if (!response.ok) throw new Error(`${response.url}: ${response.status} ${await response.text()}`);
    await response.text();
    answers += 1;
  }
  console.log(answers);
}
