// What happens, told to whoever follows /v1/events. Telling costs nothing while nobody does; http.ts bounds how much a
// follower may lag behind.
import packageJson from "../../package.json" with { type: "json" };
import type { Event, News } from "./protocol.ts";

export class Events {
  readonly #listeners = new Set<(event: Event) => void>();

  constructor(readonly nowMs: () => number) {}

  get hasListeners(): boolean {
    return this.#listeners.size > 0;
  }

  tell(news: News): void {
    if (this.#listeners.size === 0) return;
    const event = this.#stamp(news);
    for (const listener of [...this.#listeners]) listener(event);
  }

  subscribe(listener: (event: Event) => void): () => void {
    listener(this.#stamp({ event: "connected", version: packageJson.version, pid: process.pid }));
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #stamp(news: News): Event {
    return { time: new Date(this.nowMs()).toISOString(), ...news };
  }
}
