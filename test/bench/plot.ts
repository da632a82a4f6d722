// Loss and CPU against the rate as one SVG: two panels, a line for each system. Plain text, no script, no font of its own.

import type { SystemName } from "./systems.ts";

export interface Point {
  readonly kpps: number;
  readonly value: number;
}
export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly lines: ReadonlyMap<SystemName, readonly Point[]>;
}

const width = 380;
const height = 260;
const margin = { left: 52, right: 16, top: 34, bottom: 40 };
const colors: Readonly<Record<SystemName, string>> = {
  mcr: "#0b6e4f",
  socat: "#c1440e",
  smcroute: "#3b5b92",
  none: "#777777",
};

export function plot(panels: readonly Panel[]): string {
  const body = panels
    .map((panel, i) => `<g transform="translate(${i * width} 0)">${drawPanel(panel)}</g>`)
    .join("\n");
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width * panels.length} ${height}" font-family="sans-serif" font-size="11">
<title>${panels.map(({ title, unit }) => `${title} (${unit})`).join("; ")}, against packets a second</title>
<rect width="100%" height="100%" fill="white"/>
${body}
</svg>
`;
}

function drawPanel({ title, unit, lines }: Panel): string {
  const points = [...lines.values()].flat();
  const kppsMax = Math.max(...points.map(({ kpps }) => kpps), 1);
  const valueMax = niceMax(Math.max(...points.map(({ value }) => value)));
  const x = (kpps: number) => margin.left + (kpps / kppsMax) * (width - margin.left - margin.right);
  const y = (value: number) =>
    height - margin.bottom - (value / valueMax) * (height - margin.top - margin.bottom);
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  const grid = ticks.map((share) => {
    const at = y(share * valueMax);
    return `<line x1="${margin.left}" x2="${width - margin.right}" y1="${at}" y2="${at}" stroke="#dddddd"/><text x="${margin.left - 6}" y="${at + 4}" text-anchor="end">${Number((share * valueMax).toPrecision(3))}</text>`;
  });
  const rates = ticks.map(
    (share) =>
      `<text x="${x(share * kppsMax)}" y="${height - margin.bottom + 16}" text-anchor="middle">${share * kppsMax}</text>`,
  );
  const curves = [...lines].map(([system, line], i) => {
    const path = line.map(({ kpps, value }) => `${x(kpps).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const legend = `<text x="${margin.left + 8 + i * 70}" y="${margin.top - 4}" fill="${colors[system]}">${system}</text>`;
    return `<polyline points="${path}" fill="none" stroke="${colors[system]}" stroke-width="2"/>${legend}`;
  });
  return [
    `<text x="${margin.left}" y="14" font-weight="bold">${title} (${unit})</text>`,
    ...grid,
    ...rates,
    `<text x="${(margin.left + width - margin.right) / 2}" y="${height - 8}" text-anchor="middle">kpps in</text>`,
    ...curves,
  ].join("\n");
}

/** The next of 1, 2, 5 × 10ⁿ. */
function niceMax(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}
