// Counter slots: who gets which number.

import { describe, expect, test } from "bun:test";
import { SlotPool } from "../../src/stats/slots.ts";
import { cpuMsOf } from "../support/cpu-time.ts";

describe("counter slots", () => {
  test("are handed out from 0 on, each once", () => {
    const pool = new SlotPool(4);
    expect([pool.take(), pool.take(), pool.take(), pool.take()]).toEqual([0, 1, 2, 3]);
    expect(pool.taken).toBe(4);
  });

  test("the lowest free one is taken first, whatever the order they came back in", () => {
    const pool = new SlotPool(8);
    for (let i = 0; i < 6; i += 1) pool.take();
    for (const slot of [1, 4, 2]) pool.release(slot);
    expect(pool.taken).toBe(3);
    expect([pool.take(), pool.take(), pool.take(), pool.take()]).toEqual([1, 2, 4, 6]);
  });

  test("one released between two takes is the next when it is the lowest", () => {
    const pool = new SlotPool(8);
    for (let i = 0; i < 6; i += 1) pool.take();
    for (const slot of [5, 3]) pool.release(slot);
    expect(pool.take()).toBe(3);
    pool.release(0);
    expect([pool.take(), pool.take()]).toEqual([0, 5]);
  });

  test("more than there are is a defect, not a slot", () => {
    const pool = new SlotPool(2);
    pool.take();
    pool.take();
    expect(() => pool.take()).toThrow("no more than 2 counter slots are asked for");
  });

  test("a released slot makes room in a full pool", () => {
    const pool = new SlotPool(2);
    pool.take();
    pool.take();
    pool.release(0);
    expect(pool.take()).toBe(0);
  });

  test("100,000 slots come and go at a cost that grows with them, not with their square", () => {
    const pool = new SlotPool(100_000);
    const cpuMs = cpuMsOf(() => {
      for (let round = 0; round < 3; round += 1) {
        const slots = Array.from({ length: 100_000 }, () => pool.take());
        for (const slot of slots.reverse()) pool.release(slot);
      }
    });
    expect(pool.taken).toBe(0);
    expect(cpuMs).toBeLessThan(2000);
  });
});
