// Video as ffmpeg sends it to a multicast group: somebody else's idea of RTP, MPEG-TS and announcements. A test picture,
// in real time. How many packets that makes only ffmpeg knows: count on both sides of what is tested.

import type { Process } from "./process.ts";
import type { Topology } from "./topology.ts";

/** Of ffmpeg's own: a format and where it goes, with the options before them. */
export type FfmpegOutput = readonly string[];

export interface FfmpegTarget {
  readonly group: string;
  readonly port: number;
  /** Of the interface that it sends from. */
  readonly from: string;
}

/** RFC 2250, payload type 32, and RTCP on the next port. */
export function rtpVideo({ group, port, from }: FfmpegTarget): FfmpegOutput {
  return ["-f", "rtp", `rtp://${group}:${port}?localaddr=${from}&ttl=1&pkt_size=1316`];
}

/** MPEG-TS inside RTP, payload type 33. */
export function rtpTs({ group, port, from }: FfmpegTarget): FfmpegOutput {
  return ["-f", "rtp_mpegts", `rtp://${group}:${port}?localaddr=${from}&ttl=1&pkt_size=1328`];
}

/** Seven transport packets in a datagram. */
export function ts({ group, port, from }: FfmpegTarget): FfmpegOutput {
  return ["-f", "mpegts", `udp://${group}:${port}?localaddr=${from}&ttl=1&pkt_size=1316`];
}

/** RTP, announced by SAP under this name. It sends where the route of the group leads. */
export function announced({ group, port }: Omit<FfmpegTarget, "from">, title: string): FfmpegOutput {
  return ["-metadata", `title=${title}`, "-f", "sap", `sap://${group}:${port}?ttl=1`];
}

export function startFfmpeg(
  topology: Topology,
  namespace: string,
  seconds: number,
  ...outputs: readonly FfmpegOutput[]
): Process {
  return topology.spawn(namespace, [
    ...["ffmpeg", "-nostdin", "-loglevel", "error", "-re"],
    ...["-f", "lavfi", "-i", "testsrc=size=320x180:rate=25"],
    ...outputs.flatMap((output) => [
      ...["-map", "0:v", "-c:v", "mpeg2video", "-b:v", "1M", "-t", String(seconds)],
      ...output,
    ]),
  ]);
}
