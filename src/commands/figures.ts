// Numbers as people read them: how long ago, how much a second, how many.

/** The two largest units: 12s, 3m, 2h 5m, 3d 4h. A clock that was set back makes it 0s. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days > 0) return `${days}d ${hours % 24}h`;
  if (hours > 0) return `${hours}h ${minutes % 60}m`;
  return minutes > 0 ? `${minutes}m` : `${seconds}s`;
}

/** Whole up to 99,999, then three digits and k, M or G: never wider than six. */
export function formatRate(perSecond: number): string {
  if (perSecond < 9.995) return String(Math.round(perSecond * 100) / 100);
  if (perSecond < 99_999.5) return String(Math.round(perSecond));
  for (const [unit, size] of units)
    if (perSecond < size * 999.5) return `${Number((perSecond / size).toPrecision(3))}${unit}`;
  return `${Math.round(perSecond / 1e12)}T`;
}

const units = [
  ["k", 1e3],
  ["M", 1e6],
  ["G", 1e9],
] as const;

/** `4.21 Mbit/s` */
export function formatBitRate(bitsPerSecond: number): string {
  const [value, prefix] = scaled(bitsPerSecond);
  return `${value} ${prefix}bit/s`;
}

/** `4.21M`, in columns: never wider than six, and three digits whatever the size, so that they compare at a glance. */
export function formatBits(bitsPerSecond: number): string {
  return scaled(bitsPerSecond).join("");
}

function scaled(bitsPerSecond: number): readonly [value: string, prefix: string] {
  const prefixes = ["", "k", "M", "G", "T"];
  let value = bitsPerSecond;
  let prefix = 0;
  for (; value >= 999.5 && prefix < prefixes.length - 1; prefix += 1) value /= 1000;
  return [prefix === 0 ? String(Math.round(value)) : value.toPrecision(3), prefixes[prefix] ?? ""];
}

/** As `mcr show flows` has it: above 4095 it is a tag of another kind. */
export function formatVlan(vlan: number, word: "vlan" | "VLAN"): string {
  return vlan > 4095 ? `tag ${vlan - 4096} (not 802.1Q)` : `${word} ${vlan}`;
}
