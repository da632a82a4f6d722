// Seeded frames of every kind a network, a guest or a vandal may send to the relay's ingress interface. Knows the rules
// only to aim at them and past them; what becomes of a frame is the model's business.

import type { Random } from "../config/random.ts";
import { type Frame, noOffload } from "../support/records.ts";
import {
  addressNumber,
  type Datagram,
  ethernetBytes,
  etherType,
  frameOf,
  groupMac,
  gso,
  ipv4Bytes,
  type Piece,
  packetOf,
  partialOffload,
  payloadBytesMax,
  protocol,
  type Tag,
  udpOf,
  write16,
  writeHeaderChecksum,
} from "./packet.ts";
import { type RelayRule, rules, strangeGroup, wantedSources } from "./rules.ts";

export interface LabelledFrame extends Frame {
  readonly kind: Kind;
}

export interface GeneratorOptions {
  /** Of the relay's ingress interface. */
  readonly mac: Uint8Array;
  readonly isTap: boolean;
  /** One has all fragments; of several nobody outside knows which has what. */
  readonly workers: number;
}

/** How often each comes, among the others. */
const weights = {
  plain: 120,
  tiny: 15,
  burst: 10,
  superFrame: 24,
  badSuperFrame: 8,
  options: 15,
  padded: 10,
  badUdpChecksum: 12,
  badHeaderChecksum: 12,
  priorityTag: 12,
  tag: 10,
  serviceTag: 6,
  twoTags: 4,
  badTagged: 6,
  badElsewhere: 6,
  lyingTotal: 8,
  shortTotal: 6,
  lyingUdp: 10,
  lyingHeader: 8,
  version: 4,
  runt: 8,
  ttl: 16,
  noSourcePort: 8,
  noPort: 6,
  otherHost: 10,
  relayMac: 10,
  broadcast: 6,
  otherProtocol: 6,
  strangeGroup: 8,
  strangePort: 10,
  strangeSource: 8,
  fragments: 14,
  largeFragments: 1,
  shuffled: 6,
  doubled: 5,
  impostor: 5,
  badReassembled: 3,
  malformedFragment: 4,
  // These leave something held, which is late after 2 s.
  overlapping: 4,
  contradicting: 3,
  missing: 5,
  lone: 5,
  late: 3,
  flood: 1,
  crowd: 1,
  // Only a tap lets it through whole.
  oldOffload: 4,
} as const;
export type Kind = keyof typeof weights;
export const kinds = Object.keys(weights).filter((key): key is Kind => key in weights);
/** After a round with one of these the relay has to be given 2 s. */
export const incompleteKinds: readonly Kind[] = [
  "overlapping",
  "contradicting",
  "missing",
  "lone",
  "late",
  "flood",
  "crowd",
];
export const fragmentKinds: readonly Kind[] = [
  "fragments",
  "largeFragments",
  "shuffled",
  "doubled",
  "impostor",
  "badReassembled",
  "malformedFragment",
  ...incompleteKinds,
];

const foreignMac = Uint8Array.of(0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee);
const senderMac = Uint8Array.of(0x02, 0, 0, 0, 0, 1);
const filler = 1 << 17;

export class Generator {
  readonly #random: Random;
  readonly #options: GeneratorOptions;
  /** Each as often as it weighs. */
  readonly #complete: readonly Kind[];
  readonly #all: readonly Kind[];
  readonly #bytes: Uint8Array;
  /** The rules that get datagrams beyond the MTU. */
  readonly #large: readonly [RelayRule, ...RelayRule[]];
  /** Fragments of open datagrams: each list goes out in its order, other frames between. */
  readonly #open: LabelledFrame[][] = [];
  #payloads = 0;
  #identification = 0;

  constructor(random: Random, options: GeneratorOptions) {
    this.#random = random;
    this.#options = options;
    const [first, ...more] = rules.filter(({ takesLarge }) => takesLarge);
    if (first === undefined) throw new Error("no rule takes datagrams beyond the MTU");
    this.#large = [first, ...more];
    this.#bytes = Uint8Array.from({ length: filler }, () => random.below(256));
    const weighed = kinds.filter(
      (kind) => (options.isTap || kind !== "oldOffload") && (options.workers === 1 || kind !== "crowd"),
    );
    const weigh = (list: readonly Kind[]) =>
      list.flatMap((kind) => new Array<Kind>(weights[kind]).fill(kind));
    this.#all = weigh(weighed);
    this.#complete = weigh(weighed.filter((kind) => !incompleteKinds.includes(kind)));
  }

  /** At least so many frames; every datagram that was begun is ended as its kind wants it. */
  round(count: number, { leavesHeld }: { readonly leavesHeld: boolean }): readonly LabelledFrame[] {
    const frames: LabelledFrame[] = [];
    const among = leavesHeld ? this.#all : this.#complete;
    while (frames.length < count || this.#open.length > 0) {
      const isEnding = frames.length >= count;
      if (this.#open.length > 0 && (isEnding || this.#random.below(3) > 0)) frames.push(...this.#continue());
      else frames.push(...this.#begin(among));
    }
    return frames;
  }

  #continue(): readonly LabelledFrame[] {
    const index = this.#random.below(this.#open.length);
    const list = this.#open[index] ?? [];
    const taken = list.splice(0, 1 + this.#random.below(4));
    if (list.length === 0) this.#open.splice(index, 1);
    return taken;
  }

  #begin(among: readonly Kind[]): readonly LabelledFrame[] {
    const kind = among[this.#random.below(among.length)] ?? "plain";
    const made = this.#make(kind).map((frame) => ({ ...frame, kind }));
    if (!fragmentKinds.includes(kind)) return made;
    this.#open.push([...made]);
    return [];
  }

  #make(kind: Kind): readonly Frame[] {
    const random = this.#random;
    switch (kind) {
      case "plain":
        return [this.#whole(this.#datagram())];
      case "tiny":
        return [this.#whole(this.#datagram({ payload: this.#payload(random.below(9)) }))];
      case "burst":
        return this.#burst();
      case "superFrame":
        return [this.#superFrame()];
      case "badSuperFrame":
        return [this.#bad(this.#superFrame({}), ethernetBytes)];
      case "badTagged":
        return [this.#bad(this.#orSuper({ tags: [this.#tag(etherType.vlan)] }), ethernetBytes + 4)];
      case "badElsewhere":
        return [this.#bad(this.#orSuper({ destination: foreignMac }), ethernetBytes)];
      case "options":
        return [this.#whole(this.#datagram({ options: this.#optionBytes() }))];
      case "padded":
        return [this.#whole(this.#datagram(), { padding: 1 + random.below(46) })];
      case "badUdpChecksum":
        return [this.#whole(this.#datagram({ checksum: "bad" }))];
      case "badHeaderChecksum":
        return [
          this.#spoiled((packet) => {
            packet[10] = (packet[10] ?? 0) ^ (1 + random.below(255));
          }),
        ];
      case "priorityTag":
        return [this.#orSuper({ tags: [{ type: etherType.vlan, control: random.below(8) << 13 }] })];
      case "tag":
        return [this.#orSuper({ tags: [this.#tag(etherType.vlan)] })];
      case "serviceTag":
        return [this.#orSuper({ tags: [this.#tag(etherType.serviceVlan, random.below(2) === 0)] })];
      case "twoTags":
        return [
          this.#whole(this.#datagram(), {
            tags: [
              this.#tag(random.pick([etherType.vlan, etherType.serviceVlan]), random.below(2) === 0),
              this.#tag(etherType.vlan),
            ],
          }),
        ];
      case "lyingTotal":
        return [
          this.#spoiled((packet) =>
            write16(packet, 2, Math.min(packet.length + 1 + random.below(999), 0xffff)),
          ),
        ];
      case "shortTotal":
        return [this.#spoiled((packet) => write16(packet, 2, random.below(packet.length)))];
      case "lyingUdp":
        return [
          this.#spoiled((packet) => {
            const length = packet.length - ipv4Bytes;
            // Shorter is allowed, down to the header; a zero checksum lets the length alone decide.
            write16(
              packet,
              ipv4Bytes + 4,
              random.below(2) === 0 ? random.below(length) : length + 1 + random.below(99),
            );
            write16(packet, ipv4Bytes + 6, 0);
          }),
        ];
      case "lyingHeader":
        return [
          this.#spoiled((packet) => {
            packet[0] = 0x40 | random.pick([0, 1, 2, 3, 4, 7, 15]);
          }, 1 + random.below(40)),
        ];
      case "version":
        return [
          this.#spoiled((packet) => {
            packet[0] = (random.pick([0, 3, 5, 6, 15]) << 4) | 5;
          }),
        ];
      case "runt": {
        const { bytes, offload } = this.#whole(this.#datagram({ checksum: "full" }));
        return [{ bytes: bytes.slice(0, ethernetBytes + random.below(60)), offload }];
      }
      case "ttl":
        return [this.#whole(this.#datagram({ ttl: random.below(3) }))];
      case "noSourcePort":
        return [this.#whole(this.#datagram({ sourcePort: 0 }))];
      case "noPort":
        return [this.#whole(this.#datagram({ port: 0 }))];
      case "otherHost":
        return [this.#orSuper({ destination: foreignMac })];
      case "relayMac":
        return [this.#orSuper({ destination: this.#options.mac })];
      case "broadcast":
        return [this.#orSuper({ destination: new Uint8Array(6).fill(0xff) })];
      case "otherProtocol":
        return [
          this.#whole(this.#datagram({ checksum: "full" }), {
            protocol: random.pick([protocol.tcp, 1, 2, 50, 136]),
          }),
        ];
      case "strangeGroup":
        return [this.#orSuper({}, { destination: strangeGroup })];
      case "strangePort":
        return [this.#orSuper({}, { port: 9_000 + random.below(9) })];
      case "strangeSource":
        return [
          this.#whole(
            this.#datagram({
              destination: addressNumber("239.1.3.1"),
              port: 5001,
              source: addressNumber("10.0.0.13"),
            }),
          ),
        ];
      case "fragments":
        return this.#fragments(this.#fragmented());
      case "largeFragments":
        return this.#fragments(
          this.#fragmented(random.below(4) === 0 ? payloadBytesMax : 20_000 + random.below(45_000)),
        );
      case "shuffled":
        return this.#shuffle(this.#fragments(this.#fragmented()));
      case "doubled": {
        // The copy comes while the datagram is not whole: before its last fragment.
        const list = [...this.#shuffle(this.#fragments(this.#fragmented()))];
        const from = random.below(list.length - 1);
        const copy = list[from];
        if (copy) list.splice(from + 1 + random.below(list.length - 1 - from), 0, copy);
        return list;
      }
      case "impostor":
        return this.#withImpostors();
      case "badReassembled":
        return this.#fragments({ ...this.#fragmented(), checksum: "bad" });
      case "malformedFragment":
        return [this.#malformedFragment()];
      case "overlapping": {
        const datagram = this.#fragmented();
        const pieces = cut(udpOf(datagram), 256);
        const [first] = pieces;
        if (!first) return [];
        // Half of it is there already, half is new.
        const overlap: Piece = { offset: 128, hasMore: true, bytes: udpOf(datagram).subarray(128, 384) };
        return [first, overlap, ...pieces.slice(1)].map((piece) => this.#piece(datagram, piece));
      }
      case "contradicting": {
        const datagram = this.#fragmented();
        const pieces = cut(udpOf(datagram), 256);
        const last = pieces.at(-1);
        if (!last) return [];
        const beyond: Piece = { offset: last.offset + 512, hasMore: false, bytes: new Uint8Array(16) };
        return [...pieces.slice(0, 2), last, beyond].map((piece) => this.#piece(datagram, piece));
      }
      case "missing": {
        const list = [...this.#fragments(this.#fragmented())];
        list.splice(random.below(list.length), 1);
        return list;
      }
      case "lone": {
        const list = this.#fragments(this.#fragmented());
        return list.slice(-1 - random.below(2)).slice(0, 1);
      }
      case "late": {
        // Whole, and then its last fragment once more: that begins a new one.
        const list = this.#fragments(this.#fragmented());
        return [...list, ...list.slice(-1)];
      }
      case "flood":
        return this.#flood();
      case "crowd":
        return this.#crowd();
      case "oldOffload":
        return [this.#oldOffload()];
      default:
        return unknownKind(kind);
    }
  }

  /** Of a stream that some rule takes, unless told otherwise. */
  #datagram(more: Partial<Datagram> = {}): Datagram {
    const random = this.#random;
    const rule = random.pick(rules);
    const stream = random.pick(rule.streams);
    const source = rule.sources.length > 0 ? random.pick(wantedSources) : this.#source();
    return {
      source,
      destination: stream.group,
      sourcePort: 1_024 + random.below(8),
      port: stream.port ?? random.pick([1, 4_000, 7_001, 65_535]),
      ttl: 1 + random.below(255),
      tos: random.below(256),
      // Below the hop mark's numbers.
      identification: random.below(0x8000),
      dontFragment: random.below(2) === 0,
      payload:
        more.payload ??
        this.#payload(random.below(8) === 0 ? 1_472 - ipv4OptionBytes(more) : 8 + random.below(1_400)),
      checksum: random.pick(["full", "full", "zero", "partial"]),
      ...more,
    };
  }

  #source(): number {
    return addressNumber("10.0.0.20") + this.#random.below(4);
  }

  /** Each is the only one of its kind, where it has room for a number. */
  #payload(length: number): Uint8Array {
    const from = this.#random.below(filler - length);
    const bytes = this.#bytes.slice(from, from + length);
    if (length >= 8) {
      write16(bytes, 0, 0xd1ff);
      write16(bytes, 2, this.#payloads >>> 16);
      write16(bytes, 4, this.#payloads & 0xffff);
      this.#payloads += 1;
    }
    return bytes;
  }

  #whole(
    datagram: Datagram,
    { destination, tags = [], padding = 0, protocol: number }: FrameOptions = {},
  ): Frame {
    const body = udpOf(datagram);
    const packet = packetOf(datagram, { offset: 0, hasMore: false, bytes: body }, number);
    const headers = ethernetBytes + 4 * tags.length + packet.length - body.length;
    const offload = datagram.checksum === "partial" ? partialOffload(headers, gso.none, 0) : noOffload;
    return frameOf(destination ?? groupMac(datagram.destination), senderMac, tags, packet, offload, padding);
  }

  #superFrame(
    { destination, tags = [] }: FrameOptions = {},
    more: Partial<Datagram> = {},
    type: number = gso.udp,
  ): Frame {
    const random = this.#random;
    const segmentBytes = random.pick([1, 8, 100, 188, 1_000, 1_316, 1_472, 1_472]);
    const segments = Math.min(
      2 + random.below(random.below(4) === 0 ? 63 : 12),
      Math.floor(65_000 / segmentBytes),
    );
    const shortBy = random.below(2) === 0 ? 0 : random.below(segmentBytes);
    const payload = this.#payload(segmentBytes * segments - shortBy);
    // Each segment is told from the others.
    for (let i = 0; segmentBytes >= 8 && i < segments; i += 1)
      if (segmentBytes * i + 8 <= payload.length) payload.set(this.#payload(8), segmentBytes * i);
    const datagram = this.#datagram({
      checksum: "partial",
      ...(random.below(6) === 0 && segmentBytes < 1_400 ? { options: this.#optionBytes() } : {}),
      ...more,
      payload,
    });
    const body = udpOf(datagram);
    const packet = packetOf(datagram, { offset: 0, hasMore: false, bytes: body });
    const headers = ethernetBytes + 4 * tags.length + packet.length - body.length;
    const offload = partialOffload(headers, type, segmentBytes);
    return frameOf(destination ?? groupMac(datagram.destination), senderMac, tags, packet, offload);
  }

  /** A single datagram or a super-frame. */
  #orSuper(frame: FrameOptions, more: Partial<Datagram> = {}): Frame {
    if (this.#random.below(3) === 0) return this.#superFrame(frame, more);
    return this.#whole(this.#datagram(more), frame);
  }

  /** One flow, or two in turns; sizes equal but for the last, and now and then one between. */
  #burst(): readonly Frame[] {
    const random = this.#random;
    const { payload: _, ...flow } = this.#datagram();
    const length = 8 + random.below(1_400);
    const flows = 1 + random.below(2);
    return Array.from({ length: 2 + random.below(40) }, (_, i) =>
      this.#whole({
        ...flow,
        sourcePort: flow.sourcePort + (i % flows),
        payload: this.#payload(random.below(10) === 0 ? 8 + random.below(length) : length),
      }),
    );
  }

  /** A packet changed before its header checksum is written, where that is still possible. */
  #spoiled(spoil: (packet: Uint8Array) => void, padding = 0): Frame {
    const datagram = this.#datagram({ checksum: "full" });
    const packet = packetOf(datagram, { offset: 0, hasMore: false, bytes: udpOf(datagram) });
    const sum = packet.slice(10, 12);
    spoil(packet);
    const isSumSpoiled = packet[10] !== sum[0];
    if (!isSumSpoiled && ((packet[0] ?? 0) & 15) >= 5 && ((packet[0] ?? 0) & 15) * 4 <= packet.length)
      writeHeaderChecksum(packet);
    return frameOf(groupMac(datagram.destination), senderMac, [], packet, noOffload, padding);
  }

  /** A wrong version, header length, total length, header checksum or UDP length; `at`: where IPv4 begins. */
  #bad({ bytes, offload }: Frame, at: number): Frame {
    const packet = bytes.subarray(at);
    const headerBytes = ((packet[0] ?? 0) & 15) * 4;
    const field = this.#random.below(5);
    if (field === 0) packet[0] = 0x60 | (headerBytes / 4);
    else if (field === 1) packet[0] = 0x44;
    else if (field === 2) write16(packet, 2, Math.min(packet.length + 1 + this.#random.below(99), 0xffff));
    else if (field === 3) packet[10] = (packet[10] ?? 0) ^ 1;
    else
      write16(
        packet,
        headerBytes + 4,
        Math.min(packet.length - headerBytes + 1 + this.#random.below(99), 0xffff),
      );
    if (field === 0 || field === 2) writeHeaderChecksum(packet);
    return { bytes, offload };
  }

  #tag(type: number, isPriority = false): Tag {
    return {
      type,
      control: (this.#random.below(8) << 13) | (isPriority ? 0 : 1 + this.#random.below(4_094)),
    };
  }

  /** No operation, end of list, or a router alert. */
  #optionBytes(): Uint8Array {
    const words = 1 + this.#random.below(10);
    const bytes = new Uint8Array(4 * words).fill(1);
    if (this.#random.below(2) === 0) bytes.set([148, 4, 0, 0]);
    bytes[bytes.length - 1] = 0;
    return bytes;
  }

  /** To be sent in pieces: a source and an Identification of its own. */
  #fragmented(large?: number): Datagram {
    const random = this.#random;
    this.#identification = (this.#identification + 1) & 0xffff;
    const isLarge = large !== undefined || random.below(2) === 0;
    const rule = isLarge ? random.pick(this.#large) : random.pick(rules);
    const length = isLarge ? (large ?? 1_600 + random.below(6_000)) : 600 + random.below(873);
    return this.#datagram({
      payload: this.#payload(length),
      source:
        rule.sources.length > 0
          ? this.#random.pick(wantedSources)
          : addressNumber("10.7.0.0") + this.#random.below(0xffff),
      destination: rule.streams[0].group,
      port: rule.streams[0].port ?? 4_000,
      identification: this.#identification,
      dontFragment: false,
      checksum: this.#random.pick(["full", "full", "full", "zero"]),
    });
  }

  #fragments(datagram: Datagram): readonly Frame[] {
    const { length } = datagram.payload;
    const pieceBytes =
      length > 10_000 ? 1_480 : this.#random.pick(length > 1_480 ? [64, 256, 1_480] : [64, 256, 552]);
    return cut(udpOf(datagram), pieceBytes).map((piece) => this.#piece(datagram, piece));
  }

  #piece(datagram: Datagram, piece: Piece, { tags = [], protocol: number }: FrameOptions = {}): Frame {
    return frameOf(groupMac(datagram.destination), senderMac, tags, packetOf(datagram, piece, number));
  }

  /** Fragments with the same Identification that belong elsewhere: another VLAN, source, group, protocol. */
  #withImpostors(): readonly Frame[] {
    const datagram = this.#fragmented();
    const other = {
      ...datagram,
      source: datagram.source ^ 0x10000,
      payload: this.#payload(datagram.payload.length),
    };
    const pieces = cut(udpOf(datagram), 552);
    const otherPieces = cut(udpOf(other), 552);
    const elsewhere = {
      ...datagram,
      destination: this.#random.pick(this.#large).streams[0].group,
      payload: this.#payload(datagram.payload.length),
    };
    const elsewherePieces = cut(udpOf(elsewhere), 552);
    return pieces.flatMap((piece, i) => {
      const otherPiece = otherPieces[i];
      const elsewherePiece = elsewherePieces[i];
      return [
        this.#piece({ ...datagram, payload: this.#payload(8) }, piece, {
          tags: [{ type: etherType.vlan, control: 99 }],
        }),
        this.#piece(
          datagram,
          { ...piece, bytes: this.#payload(piece.bytes.length) },
          { protocol: protocol.tcp },
        ),
        ...(otherPiece ? [this.#piece(other, otherPiece)] : []),
        ...(elsewherePiece ? [this.#piece(elsewhere, elsewherePiece)] : []),
        this.#piece(datagram, piece),
      ];
    });
  }

  #malformedFragment(): Frame {
    const datagram = this.#fragmented();
    const bytes = this.#payload(64);
    return this.#piece(
      datagram,
      this.#random.pick<Piece>([
        { offset: 64, hasMore: true, bytes: new Uint8Array(0) },
        { offset: 64, hasMore: false, bytes: new Uint8Array(0) },
        { offset: 0, hasMore: true, bytes: bytes.subarray(0, 33) },
        { offset: 65_528, hasMore: false, bytes },
        { offset: 65_528, hasMore: true, bytes },
      ]),
    );
  }

  /** More open datagrams of one source than are kept; the oldest give way. */
  #flood(): readonly Frame[] {
    // From nobody else to nowhere else, so that one worker has them all.
    const source = addressNumber("10.8.0.0") + this.#random.below(0xffff);
    const datagram = { ...this.#fragmented(), source, destination: rules[0].streams[0].group };
    return Array.from({ length: 70 + this.#random.below(60) }, (_, i) =>
      this.#piece(
        { ...datagram, identification: (datagram.identification + 0x8000 + i) & 0xffff },
        { offset: 0, hasMore: true, bytes: this.#payload(48) },
      ),
    );
  }

  /** More open datagrams than a worker keeps, of as many sources. */
  #crowd(): readonly Frame[] {
    const datagram = this.#fragmented();
    const first = addressNumber("10.9.0.0") + this.#random.below(0xf000);
    return Array.from({ length: 1_000 + this.#random.below(300) }, (_, i) =>
      this.#piece({ ...datagram, source: first + i }, { offset: 0, hasMore: true, bytes: this.#payload(48) }),
    );
  }

  /** What a guest with the old segmentation offload sends: the host is to make fragments of it. */
  #oldOffload(): Frame {
    return this.#superFrame({}, {}, gso.oldUdp);
  }

  #shuffle(frames: readonly Frame[]): readonly Frame[] {
    const shuffled = [...frames];
    for (let i = shuffled.length - 1; i > 0; i -= 1) {
      const j = this.#random.below(i + 1);
      const [one, other] = [shuffled[i], shuffled[j]];
      if (one && other) [shuffled[i], shuffled[j]] = [other, one];
    }
    return shuffled;
  }
}

interface FrameOptions {
  readonly destination?: Uint8Array;
  readonly tags?: readonly Tag[];
  readonly padding?: number;
  readonly protocol?: number;
}

/** Pieces of so many bytes at most, each a multiple of 8 but the last. */
function cut(bytes: Uint8Array, pieceBytes: number): readonly Piece[] {
  return Array.from({ length: Math.ceil(bytes.length / pieceBytes) }, (_, i) => {
    const end = Math.min((i + 1) * pieceBytes, bytes.length);
    return {
      offset: i * pieceBytes,
      hasMore: end < bytes.length,
      bytes: bytes.subarray(i * pieceBytes, end),
    };
  });
}

function ipv4OptionBytes({ options }: Partial<Datagram>): number {
  return options?.length ?? 0;
}

function unknownKind(kind: never): never {
  throw new Error(`no frames of kind ${kind}`);
}
