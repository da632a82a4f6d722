/*
 * The ABI between mcr's TypeScript and its C shim: every struct with its
 * asserted size, every exported function, grouped by the file that holds it.
 * After a change here, `make abi` writes the other side, src/native/abi.ts.
 * What `mcr send` and `mcr receive` need besides is measure/measure.h.
 *
 * A packet's way. One ring per (worker, ingress interface), filled by the
 * kernel, emptied by one worker; the main thread opens and closes it. By frame
 * it is the queue of a socket instead of blocks (ring.h).
 *
 *   NIC -> fanout (by flow) -> ring of worker w:
 *       | block 0: frame frame frame ... | block 1: ... | block n-1 |
 *         ^ TP_STATUS_USER: ours          ^ TP_STATUS_KERNEL: being filled
 *   worker w: ready blocks of all its rings -> parse (fragments are put together
 *                  first: reassembly.h) -> match -> one list per flow
 *             -> for each flow, for each egress, same-size runs as one message:
 *                  frame path:  header + payload -> queue of the interface
 *                  socket path: sendmmsg
 *             -> for each interface: sendmmsg of its queue -> blocks released
 *
 * Counters. One area per worker, written by that worker only, read by anyone.
 * Every field is a u64 that only grows (but last_*, which are last values).
 * A rule, egress or interface keeps its slot number for as long as it lives.
 *
 *   worker w: | mcr_worker_counters | interface 0.. | rule 0.. | egress 0.. |
 *             | added latency of rule 0.. | added latency of all rules |
 *
 * Accounting, per worker, exact at every batch boundary:
 *   interface.packets = matched + no_match + tagged + other_host + looped
 *                       + malformed + truncated + bad_checksum + fragment_late
 *                       + fragment_overlap + fragment_full + fragment_malformed
 *   sum of rule.packets = sum of interface.matched
 *   rule.packets = sent + full + error + unavailable + expired, for each of its
 *                  egresses
 * A packet is counted on its way in before it is counted on its way out, so who
 * reads in the middle of a batch, egresses first, finds no more sent than came
 * (on processors that keep the order of stores and loads, as x86 does).
 * Frames that found the ring full are counted by the kernel: mcr_ring_drops().
 * Before a ring is closed it is read to its end: mcr_ring_unread().
 *
 * Tables. The rules are one immutable table, published by one atomic pointer.
 * Workers take it up at a batch boundary and say so by its epoch; the main
 * thread frees an old table, closes rings and sockets, and reuses slots only
 * when every worker has passed (mcr_relay_epoch_seen).
 *
 * Conventions: 0 or -errno is returned, or a handle with the error stored in
 * *error; nothing is printed; no mutable globals (the library is mapped once
 * for all workers). Addresses are 16 bytes in network order, IPv4 mapped
 * (RFC 4291 section 2.5.5.2); ports, lengths and indices are in host order.
 */
#ifndef MCR_H
#define MCR_H

#include <stdint.h>

#define MCR_ABI 3
#define MCR_EXPORT __attribute__((visibility("default")))

#define MCR_WORKERS_MAX 64
#define MCR_INTERFACES_MAX 256
/* Twice what a rule file may hold: a reload has the old and the new at once. */
#define MCR_RULES_MAX 131072
#define MCR_EGRESSES_MAX 262144
#define MCR_FANOUT_NEW UINT32_MAX

/* -- counters ------------------------------------------------------------- */

struct mcr_worker_counters {
	uint64_t wakeups; /* poll(2) returned with something to do */
	uint64_t blocks; /* ring blocks emptied; by frame: frames taken */
	uint64_t sends; /* calls of sendmmsg(2) and its kin */
	uint64_t runs; /* super-frames: several datagrams in one message */
	uint64_t run_packets; /* datagrams that left in runs */
	uint64_t gather_ns; /* spent on reading blocks; of batches that held any */
	uint64_t send_ns; /* spent on sending them; the rest of the time is sleep */
	uint64_t reserved;
};
_Static_assert(sizeof(struct mcr_worker_counters) == 64, "ABI");

struct mcr_interface_counters {
	uint64_t packets; /* datagrams; a super-frame counts as what it holds */
	uint64_t bytes; /* UDP payload of matched datagrams */
	uint64_t matched;
	uint64_t no_match; /* no rule wants this (group, port, source) */
	uint64_t tagged; /* 802.1Q tag of another VLAN, or an 802.1ad tag */
	uint64_t malformed; /* lengths that lie, not IPv4 UDP */
	uint64_t truncated; /* captured in part only */
	uint64_t bad_checksum;
	uint64_t fragment_late; /* frames: the rest of their datagram did not come within 2 s */
	uint64_t fragment_overlap; /* frames: bytes that had come already */
	uint64_t fragment_full; /* frames: gave way to newer ones, reassembly.h has the limits */
	uint64_t fragment_malformed; /* frames: lengths or offsets that cannot be */
	uint64_t other_host; /* sent to the MAC address of another host */
	uint64_t looped; /* came back: sent by an egress that the rule feeds, or by many relays */
	uint64_t undescribed; /* of the ring drops: an offload type that the kernel cannot describe */
	uint64_t reserved;
};
_Static_assert(sizeof(struct mcr_interface_counters) == 128, "ABI");

/*
 * RTP as it arrived, by the sequence numbers of each stream: one SSRC from one
 * source to one (group, port). It is known after 8 packets with numbers in a
 * row, which are not counted themselves. 3,000 numbers or more ahead, or 64 or
 * more behind, and going on from there, its sender began anew: nothing of the
 * jump is missing, and the stream has to be known again. What the ring dropped
 * or a worker refused is missing too. Counted only where each flow is one
 * worker's: not by several with MCR_FANOUT_CPU or MCR_FANOUT_QM.
 */
struct mcr_rule_counters {
	uint64_t packets;
	uint64_t bytes; /* UDP payload */
	uint64_t last_ns; /* kernel receive time of the last packet, CLOCK_REALTIME */
	uint64_t sampled_ns; /* the same of the last one whose latency was sampled */
	uint64_t rtp_packets; /* of its RTP streams, once they are known as such */
	uint64_t rtp_missing; /* numbers that never came, or 64 others later than due */
	uint64_t rtp_reordered; /* came behind a higher number, and are not missing */
	uint64_t rtp_duplicate; /* had come already */
	uint64_t looped; /* not among its packets: they came back, and were dropped */
	uint64_t reserved[7];
};
_Static_assert(sizeof(struct mcr_rule_counters) == 128, "ABI");

/*
 * Sent is what the kernel has taken: the call that handed it over succeeded. A
 * device that drops it afterwards, a queue that cuts a super-frame and has no
 * room for all of it, a tunnel without a far end, a host that no neighbour
 * answers for: none of them tells the sender. They count it per interface. A
 * queue that refuses at once is told, and is counted as full; a super-frame by
 * all its datagrams.
 */
struct mcr_egress_counters {
	uint64_t sent_packets; /* handed to the kernel */
	uint64_t sent_bytes; /* UDP payload */
	uint64_t full_packets; /* dropped: socket buffer or device queue full */
	uint64_t error_packets; /* dropped: the kernel refused, see last_errno */
	uint64_t unavailable_packets; /* dropped: interface missing or failed */
	uint64_t last_errno;
	uint64_t frame_packets; /* of those sent: as frames of our own, not by the socket */
	uint64_t expired_packets; /* dropped: their TTL had run out */
	uint64_t returned_packets; /* came back to a rule that feeds this egress: looped there */
	uint64_t reserved[7];
};
_Static_assert(sizeof(struct mcr_egress_counters) == 128, "ABI");

/*
 * Added latency: from the kernel's receive timestamp of a packet until the
 * send calls with its copies have returned, CLOCK_REALTIME. Sampled: every
 * 1024th packet of a rule, and where they come slower than 1024 a second, one
 * a second. In units of 512 ns: bucket b < 8 holds b, above that every power
 * of two has 4 buckets: b = 4 * e + m holds m << e up to ((m + 1) << e) - 1,
 * m from 4 to 7. The last one, from 8.6 s on, has no end. A sample below 0 or
 * above 60 s tells of a clock that was set, not of a packet: it is not counted.
 */
#define MCR_ADDED_LATENCY_BUCKETS 93
struct mcr_added_latency_counters {
	uint64_t samples;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint64_t buckets[MCR_ADDED_LATENCY_BUCKETS];
};
_Static_assert(sizeof(struct mcr_added_latency_counters) == 768, "ABI");

/* -- relay.c: what all workers share -------------------------------------- */

struct mcr_relay;
struct mcr_ring;
struct mcr_link;
struct mcr_table;
struct mcr_exclusive;

MCR_EXPORT int32_t mcr_abi(void);

/*
 * State for worker_count workers (1..MCR_WORKERS_MAX). NULL and *error =
 * -EINVAL, -ENOMEM or -EMFILE.
 */
MCR_EXPORT struct mcr_relay *mcr_relay_open(uint32_t worker_count, int32_t *error);

/* Start of worker's counter area; mcr_counters_bytes() long, zeroed. */
MCR_EXPORT void *mcr_counters(const struct mcr_relay *relay, uint32_t worker);
MCR_EXPORT int64_t mcr_counters_bytes(void);

/* Slots given to something new start at zero, a rule's added latency as well, and
 * it knows no RTP stream; no worker may use them now. */
MCR_EXPORT int32_t mcr_rule_counters_reset(struct mcr_relay *relay, uint32_t slot);
MCR_EXPORT int32_t mcr_egress_counters_reset(struct mcr_relay *relay, uint32_t slot);

/* Hands the table to all workers at their next batch boundary; wakes them. */
MCR_EXPORT void mcr_relay_publish(struct mcr_relay *relay, struct mcr_table *table);
/* Epoch of the oldest table that a worker may still use; 0 before the first. */
MCR_EXPORT int32_t mcr_relay_epoch_seen(const struct mcr_relay *relay);

/* Workers empty their rings once more, then mcr_worker_run returns 1. */
MCR_EXPORT void mcr_relay_stop(struct mcr_relay *relay);

/* The CPUs this process may run on, sched_getaffinity(2); returns how many. */
MCR_EXPORT int32_t mcr_cpus(uint32_t *cpus, uint32_t cpus_max);

/* -- forward.c: the hot loop ---------------------------------------------- */

/* Ties the calling thread to cpu and names it for top -H. */
MCR_EXPORT int32_t mcr_worker_pin(uint32_t worker, uint32_t cpu);

/*
 * Forwards for about budget_ms, asleep while there is nothing to do.
 * Returns 0 when the budget is used up (or a signal came: call again),
 * 1 after mcr_relay_stop, -errno when it cannot go on.
 */
MCR_EXPORT int32_t mcr_worker_run(struct mcr_relay *relay, uint32_t worker, int32_t budget_ms);

/* -- ring.c, filter.c: AF_PACKET capture, packet(7) ------------------------- */

/*
 * Which worker gets a frame; all but CPU and QM keep each flow on one worker.
 * Fragments go by their addresses, so that those of a datagram meet.
 */
enum mcr_fanout {
	MCR_FANOUT_FLOW, /* by a hash of (destination, port) */
	MCR_FANOUT_HASH, /* by the kernel's flow hash: PACKET_FANOUT_HASH */
	MCR_FANOUT_CPU, /* by the CPU that received it */
	MCR_FANOUT_QM, /* by the NIC's receive queue */
	MCR_FANOUT_SINGLE, /* there is one worker: the cheapest way of the kernel's */
	MCR_FANOUT_COUNT,
};

struct mcr_ring_options {
	uint32_t ifindex;
	uint32_t fanout_id; /* MCR_FANOUT_NEW: a new group, id chosen by the kernel */
	uint32_t block_bytes; /* power of two, at least a page; 0: by frame, and then: */
	uint32_t receive_bytes; /* what the kernel may queue: socket(7), SO_RCVBUF */
	uint32_t sleep_us; /* sleep so long before looking again; 0: be woken */
	uint32_t block_count; /* by block, as retire_ms */
	uint32_t retire_ms; /* a block is handed over after this at the latest */
	uint32_t fanout; /* enum mcr_fanout, the same for all rings of a group */
};
_Static_assert(sizeof(struct mcr_ring_options) == 32, "ABI");

struct mcr_address_range {
	uint32_t first; /* IPv4, host order, inclusive */
	uint32_t last;
};
_Static_assert(sizeof(struct mcr_address_range) == 8, "ABI");

/* 0 when this process may open packet sockets, else -EPERM (or other). */
MCR_EXPORT int32_t mcr_ring_permitted(void);

/*
 * Rings that admit nothing yet, each a member of a fanout group: the one
 * named, or with MCR_FANOUT_NEW that of the ring before it, where that has the
 * same interface, else a new one. The memory of all of them is allocated at
 * once, on threads that end with the call. For each a handle, or NULL and its
 * error: -EPERM without CAP_NET_RAW, -ENODEV or -ENXIO without interface,
 * -ENETDOWN, -ENOMEM when the kernel has no pages for the ring.
 */
MCR_EXPORT void mcr_rings_open(const struct mcr_ring_options *options, uint32_t count,
			       struct mcr_ring **rings, int32_t *errors);
MCR_EXPORT int32_t mcr_ring_fanout_id(const struct mcr_ring *ring);
/*
 * Bytes that the kernel may queue by frame: less than asked for without
 * CAP_NET_ADMIN where net.core.rmem_max is less. 0 by block, or -errno.
 */
MCR_EXPORT int32_t mcr_ring_receive_bytes(const struct mcr_ring *ring);

/*
 * Admits IPv4 UDP to these destinations (sorted, disjoint; 0 ranges: nothing),
 * in one step: no packet is judged by half a filter.
 */
MCR_EXPORT int32_t mcr_ring_filter(struct mcr_ring *ring, const struct mcr_address_range *ranges,
				   uint32_t range_count);

/*
 * Frames that the kernel dropped, since the last call: the ring was full, or
 * the frame of an offload type that it cannot describe (undescribed above). It
 * counts a super-frame as one.
 */
MCR_EXPORT int64_t mcr_ring_drops(struct mcr_ring *ring);
/* Blocks, or frames by frame, that a worker has ever taken, or learnt that they cannot be described. */
MCR_EXPORT int64_t mcr_ring_taken(const struct mcr_ring *ring);
/*
 * Frames that lie in the ring: the kernel has put them there, in the block that
 * it fills now as well, and no worker has given them back as sent; by frame 1
 * stands for any number. A ring that admits nothing any more comes to 0, also
 * when its interface is gone: the kernel hands the last block over when its
 * time is up (retire_ms).
 */
MCR_EXPORT int64_t mcr_ring_unread(const struct mcr_ring *ring);
/* Of a ring that no worker reads any more: the frames that are left, which are lost. */
MCR_EXPORT int64_t mcr_ring_discard(struct mcr_ring *ring);
/*
 * 0: its interface has been taken from this namespace, and the kernel has unbound the ring for good.
 * One that comes back may have the same index.
 */
MCR_EXPORT int32_t mcr_ring_is_bound(const struct mcr_ring *ring);
MCR_EXPORT void mcr_ring_close(struct mcr_ring *ring);

/* -- exclusive.c, exclusive_nft.c: what a ring captured goes no further ------- */

enum mcr_exclusive_method {
	MCR_EXCLUSIVE_TCX, /* a BPF link: Linux 6.6, CAP_BPF and CAP_NET_ADMIN */
	MCR_EXCLUSIVE_NFT, /* an owned table of nftables: Linux 5.12, CAP_NET_ADMIN */
};

enum mcr_exclusive_kind {
	MCR_EXCLUSIVE_PORT, /* whole datagrams to this port */
	MCR_EXCLUSIVE_ANY_PORT, /* whole datagrams to any port that has no entry */
	MCR_EXCLUSIVE_FRAGMENT, /* fragments: only the first would tell a port */
};

struct mcr_exclusive_entry {
	uint8_t address[16]; /* IPv4 mapped, destination */
	uint8_t source[16]; /* all zero: any source */
	uint16_t port; /* 0 unless kind is MCR_EXCLUSIVE_PORT */
	uint8_t kind;
	uint8_t drops; /* 0: passes, although a wider entry drops */
	uint32_t reserved;
};
_Static_assert(sizeof(struct mcr_exclusive_entry) == 40, "ABI");

/*
 * 0 where this process may use the method on this kernel. -EPERM without the
 * capabilities, -EINVAL, -ENOSYS or -EOPNOTSUPP where the kernel lacks it.
 */
MCR_EXPORT int32_t mcr_exclusive_probe(uint32_t method);

/*
 * Drops nothing yet. NULL and *error as mcr_exclusive_probe, -ENODEV without
 * interface, -ENOMEM.
 */
MCR_EXPORT struct mcr_exclusive *mcr_exclusive_open(uint32_t ifindex, uint32_t method,
						    int32_t *error);

/*
 * Drops, behind every ring, untagged UDP that these entries name, and nothing
 * else; in one step, and after an error what was dropped before. The most
 * exact entry decides: port, then any port; source, then any source. No two
 * entries may have one key. -EINVAL or -EAFNOSUPPORT for an entry out of range,
 * -ENODEV or -ENOLINK when the interface is gone, -EOPNOTSUPP for nftables on
 * an interface without Ethernet headers, -ENOMEM.
 */
MCR_EXPORT int32_t mcr_exclusive_set(struct mcr_exclusive *exclusive,
				     const struct mcr_exclusive_entry *entries,
				     uint32_t entry_count);
/* Nothing is dropped any more; so does the end of the process. */
MCR_EXPORT void mcr_exclusive_close(struct mcr_exclusive *exclusive);

/* -- table.c: the immutable rule table ------------------------------------- */

struct mcr_ring_spec {
	struct mcr_ring *ring;
	uint32_t worker;
	uint32_t interface; /* slot of its counters, and what matches name */
};
_Static_assert(sizeof(struct mcr_ring_spec) == 16, "ABI");

struct mcr_match_spec {
	uint8_t address[16]; /* destination */
	uint8_t source[16]; /* all zero: any source */
	uint16_t port; /* 0: every port that no other match names */
	uint16_t vlan; /* 0: untagged */
	uint32_t interface;
	uint32_t flow;
	uint32_t reserved;
};
_Static_assert(sizeof(struct mcr_match_spec) == 48, "ABI");

struct mcr_flow_spec {
	uint32_t rule; /* slot of its counters */
	uint32_t action_first;
	uint32_t action_count;
	uint32_t reserved;
};
_Static_assert(sizeof(struct mcr_flow_spec) == 16, "ABI");

struct mcr_action_spec {
	uint8_t address[16];
	uint16_t port; /* 0: the port it arrived at */
	uint16_t reserved;
	uint32_t egress;
};
_Static_assert(sizeof(struct mcr_action_spec) == 24, "ABI");

/* Taken from the packet that is relayed; only where there is a link. */
#define MCR_KEEP_SOURCE 1
#define MCR_KEEP_SOURCE_PORT 2
#define MCR_KEEP_TTL 4
#define MCR_KEEP_TTL_LESS_ONE 8
#define MCR_KEEP_DSCP 16

struct mcr_egress_spec {
	struct mcr_link *link; /* the frame path to groups; NULL: the socket sends all */
	int32_t fd; /* of mcr_egress_open; -1: unavailable, drop and count */
	uint32_t slot; /* of its counters */
	uint32_t segment_bytes_max; /* payload that fits one frame: MTU - 28 */
	uint32_t source; /* of frames, as are the next: IPv4, network order */
	uint16_t source_port; /* host order */
	uint8_t ttl;
	uint8_t dscp;
	uint16_t keep; /* MCR_KEEP_*; these stand for what is above */
	uint16_t plain; /* 1: one datagram a message, as an ordinary socket sends it; no hop mark */
};
_Static_assert(sizeof(struct mcr_egress_spec) == 32, "ABI");

/*
 * What has this source was sent by this egress. The rule feeds the egress, itself or through
 * other rules, so a packet that it would take and that has this source has come back.
 */
struct mcr_origin_spec {
	uint32_t source; /* IPv4, network order */
	uint16_t source_port; /* host order */
	uint16_t reserved;
	uint32_t rule; /* slot of its counters */
	uint32_t egress; /* slot of its counters */
};
_Static_assert(sizeof(struct mcr_origin_spec) == 16, "ABI");

struct mcr_table_spec {
	const struct mcr_ring_spec *rings;
	const struct mcr_match_spec *matches;
	const struct mcr_flow_spec *flows;
	const struct mcr_action_spec *actions;
	const struct mcr_egress_spec *egresses;
	const struct mcr_origin_spec *origins;
	uint32_t ring_count;
	uint32_t match_count;
	uint32_t flow_count;
	uint32_t action_count;
	uint32_t egress_count;
	uint32_t origin_count;
	uint32_t epoch; /* grows by one from table to table, from 1 */
	uint32_t reserved;
};
_Static_assert(sizeof(struct mcr_table_spec) == 80, "ABI");

/*
 * Copies the spec into one table. Every index is checked. NULL and *error:
 * -EINVAL for an index or address out of range or a worker with more rings than
 * two for each interface, -EEXIST for two matches with one key, -ENOMEM.
 */
MCR_EXPORT struct mcr_table *mcr_table_build(const struct mcr_relay *relay,
					     const struct mcr_table_spec *spec, int32_t *error);
MCR_EXPORT void mcr_table_free(struct mcr_table *table);

/* -- egress.c: UDP sockets that send --------------------------------------- */

struct mcr_egress_options {
	uint32_t ifindex;
	uint32_t source; /* IPv4, network order; 0: the interface's own */
	uint16_t source_port; /* 0: one ephemeral port as long as it is open */
	uint8_t ttl;
	uint8_t dscp;
};
_Static_assert(sizeof(struct mcr_egress_options) == 12, "ABI");

/*
 * A non-blocking datagram socket tied to the interface, safe to share among
 * workers. Returns its descriptor or -errno: -ENODEV without interface,
 * -EADDRNOTAVAIL for a source that is not this host's.
 */
MCR_EXPORT int32_t mcr_egress_open(const struct mcr_egress_options *options);
/* The port it sends from, or -errno. */
MCR_EXPORT int32_t mcr_egress_port(int32_t fd);

/* -- link.c: packet sockets that send frames ------------------------------- */

struct mcr_link_options {
	uint64_t mac; /* of the interface: mcr_interface */
	uint32_t ifindex;
	uint32_t reserved;
};
_Static_assert(sizeof(struct mcr_link_options) == 16, "ABI");

/*
 * The way out of one Ethernet-like interface for frames of our own: for every
 * worker a packet(7) socket that takes super-frames, and a queue. NULL and
 * *error: -EPERM without CAP_NET_RAW, -ENODEV, -EMFILE, -ENOMEM.
 */
MCR_EXPORT struct mcr_link *mcr_link_open(const struct mcr_relay *relay,
					  const struct mcr_link_options *options, int32_t *error);
/*
 * 0, or the errno with which the device has refused a single frame, unless for
 * its size: since then what is queued here leaves by the egress's socket. A new
 * link tries again. ENXIO: the interface was taken from this namespace, and the
 * link with it, whether or not it is back.
 */
MCR_EXPORT int32_t mcr_link_refusal(const struct mcr_link *link);
/* Only when no worker has a table with this link any more. */
MCR_EXPORT void mcr_link_close(struct mcr_link *link);

/* -- member.c: group membership, RFC 3678 ----------------------------------- */

/* A socket that joins groups and receives nothing; a descriptor or -errno. */
MCR_EXPORT int32_t mcr_member_open(void);

/*
 * Join or leave (source, group) on ifindex, for as long as fd is open; source
 * all zero means any source. -ENOBUFS: this socket has reached
 * net.ipv4.igmp_max_memberships, igmp_max_msf or net.core.optmem_max; -ENODEV:
 * no such interface or no IPv4 on it; -EADDRINUSE: joined already.
 */
MCR_EXPORT int32_t mcr_member_join(int32_t fd, uint32_t ifindex, const uint8_t group[16],
				   const uint8_t source[16]);
MCR_EXPORT int32_t mcr_member_leave(int32_t fd, uint32_t ifindex, const uint8_t group[16],
				    const uint8_t source[16]);

/* -- raw_packet.h: packets as they came, for TypeScript to read --------------- */

#define MCR_RAW_OTHER UINT32_MAX

/* Followed by the packet itself from its network header on, in a slot of MCR_RAW_PACKET_BYTES. */
struct mcr_raw_packet {
	uint64_t time_ns; /* kernel receive time, CLOCK_REALTIME */
	uint32_t flow; /* of a scan: its position; MCR_RAW_OTHER: C knows none */
	uint32_t interface; /* of a scan: position in ifindexes */
	uint32_t payload_bytes; /* UDP of a flow, of a super-frame the first datagram's */
	uint16_t payload; /* and where it begins */
	uint16_t captured; /* so many bytes follow */
	uint16_t vlan; /* as that of mcr_scan_flow */
	uint8_t is_egress; /* this host sent it */
	uint8_t checksum_known; /* verified by the kernel, or left to a device by the sender's */
	uint8_t reserved[4];
};
_Static_assert(sizeof(struct mcr_raw_packet) == 32, "ABI");
#define MCR_RAW_PACKET_BYTES 1568
#define MCR_RAW_CAPTURED_MAX (MCR_RAW_PACKET_BYTES - 32)

/* -- query.c: who keeps the memberships of a network alive ------------------- */

#define MCR_QUERIES_MAX 16

/*
 * A ring that hears the IGMP queries which reach this host on the interface,
 * untagged. NULL and *error: -EPERM without CAP_NET_RAW, -ENODEV, -ENETDOWN,
 * -ENOMEM.
 */
MCR_EXPORT struct mcr_ring *mcr_query_ring_open(uint32_t ifindex, int32_t *error);
/*
 * How many came since the last call; no system call. Number n, counted from 0,
 * is in slot n % MCR_QUERIES_MAX of packets, unless a later one is.
 */
MCR_EXPORT int32_t mcr_query_ring_read(struct mcr_ring *ring, uint8_t *packets);

/* -- scan.c, flow_table.c: what flows on a link, for scan, init, show flows and explain -- */

#define MCR_SCAN_INTERFACES_MAX 64
#define MCR_SCAN_FLOWS_MAX 16384
#define MCR_SCAN_PACKETS_MAX 1024 /* kept for TypeScript until mcr_scan_release */

struct mcr_scan_options {
	const uint32_t *ifindexes;
	uint64_t seed; /* random: keeps senders from choosing what collides in the table */
	uint32_t interface_count; /* 1..MCR_SCAN_INTERFACES_MAX */
	uint32_t flows_max; /* 1..MCR_SCAN_FLOWS_MAX */
	/* 1: counts the IPv4 that arrives here anyway. Nothing that this host sends, no groups
	   that the interface does not pass by itself, and of each packet the beginning only. */
	uint32_t ingress_only;
	uint16_t samples; /* the first packets of each flow that are kept */
	uint16_t whole_port; /* packets to this port are all kept; 0: none */
};
_Static_assert(sizeof(struct mcr_scan_options) == 32, "ABI");

struct mcr_scan_state {
	uint64_t frames;
	uint64_t flow_count;
	uint64_t packet_count; /* kept now */
	uint64_t flows_refused; /* packets of flows that found no room */
	uint64_t packets_refused; /* that were to be kept whoever they are of, and found no room */
	uint64_t malformed;
	uint64_t ring_drops; /* frames not heard: the ring was full */
};
_Static_assert(sizeof(struct mcr_scan_state) == 56, "ABI");

/* UDP of one (interface, VLAN, source, group, port), of one direction. */
struct mcr_scan_flow {
	uint8_t group[16];
	uint8_t source[16];
	uint32_t interface; /* position in ifindexes */
	uint16_t vlan; /* 0: untagged; an 802.1Q id, or 0x1000 and that of another tag */
	uint16_t port;
	uint64_t is_egress; /* this host sends it */
	uint64_t packets;
	uint64_t bytes; /* UDP payload */
	uint64_t first_ns; /* CLOCK_REALTIME */
	uint64_t last_ns;
	uint32_t bytes_min; /* of one datagram's payload */
	uint32_t bytes_max;
};
_Static_assert(sizeof(struct mcr_scan_flow) == 88, "ABI");

/*
 * More packets of a flow to keep: those with this word (network order) in the
 * payload at offset, or any number of steps behind it.
 */
struct mcr_scan_wish {
	uint32_t flow;
	uint32_t packets; /* so many; 0: no more */
	uint32_t offset;
	uint32_t step; /* 4 or more */
	uint32_t word;
	uint32_t mask; /* 0: any packet */
};
_Static_assert(sizeof(struct mcr_scan_wish) == 24, "ABI");

struct mcr_scan;

/*
 * Listens from now on, to both directions unless ingress_only; joins nothing. No
 * more than 64 MiB of rings however many interfaces. NULL and *error, and
 * *failed_interface where one is to blame: -EPERM without CAP_NET_RAW, -ENODEV
 * or -ENXIO without interface, -ENETDOWN, -ENOMEM, -EINVAL.
 */
MCR_EXPORT struct mcr_scan *mcr_scan_open(const struct mcr_scan_options *options,
					  uint32_t *failed_interface, int32_t *error);
/* Listens for about budget_ms; 0: takes what has come. 0 or -errno. */
MCR_EXPORT int32_t mcr_scan_run(struct mcr_scan *scan, int32_t budget_ms);
/* What was heard so far: the state, and arrays of as many as it counts. */
MCR_EXPORT void *mcr_scan_state(const struct mcr_scan *scan);
MCR_EXPORT void *mcr_scan_flows(const struct mcr_scan *scan);
/* Slots: the first packets of flows, those that were wished for, and all that C cannot read (IGMP, ICMPv6, IPv6
   behind more headers). */
MCR_EXPORT void *mcr_scan_packets(const struct mcr_scan *scan);
/* The packets were read: there is room again. */
MCR_EXPORT void mcr_scan_release(struct mcr_scan *scan);
/* Each stands for the earlier ones of its flow. 0 or -EINVAL: nothing was changed. */
MCR_EXPORT int32_t mcr_scan_wish(struct mcr_scan *scan, const struct mcr_scan_wish *wishes,
				 uint32_t wish_count);
MCR_EXPORT void mcr_scan_close(struct mcr_scan *scan);

/* -- system.c: what Bun does not offer -------------------------------------- */

struct mcr_interface {
	uint32_t ifindex;
	uint32_t flags; /* IFF_UP, IFF_RUNNING, IFF_MULTICAST ...: netdevice(7) */
	uint32_t mtu;
	uint32_t address; /* first IPv4, network order; 0: none */
	uint64_t mac; /* six bytes as a frame has them, the first one lowest */
	uint32_t type; /* ARPHRD_ETHER ...: linux/if_arp.h */
	uint32_t reserved;
};
_Static_assert(sizeof(struct mcr_interface) == 32, "ABI");

/* The interface as it is now in this namespace; -ENODEV when there is none. */
MCR_EXPORT int32_t mcr_interface_read(const char *name, struct mcr_interface *interface);
MCR_EXPORT void mcr_close(int32_t fd);

struct mcr_peer {
	uint32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint32_t in_group; /* 1: the group asked about is one of its own */
};
_Static_assert(sizeof(struct mcr_peer) == 16, "ABI");

/* Who has connected to a Unix socket: unix(7), SO_PEERCRED and SO_PEERGROUPS. */
MCR_EXPORT int32_t mcr_peer_read(int32_t fd, uint32_t group, struct mcr_peer *peer);

/*
 * One datagram to the Unix socket at path ("@name" is an abstract one), as
 * sd_notify(3) sends it; never blocks. Returns 0 or -errno; -EAGAIN means the
 * reader is behind, -EINVAL that path is no address of a socket.
 */
MCR_EXPORT int32_t mcr_notify(const char *path, const char *message, uint32_t message_bytes);

/* CLOCK_MONOTONIC in microseconds. */
MCR_EXPORT int64_t mcr_monotonic_us(void);

/* -- netlink.c: what the kernel tells of links, queues, routes and neighbours ---- */

/*
 * One request to NETLINK_ROUTE, netlink(7), and every message of the answer,
 * one behind the other as the kernel sent them; nothing in them is understood
 * here. The request is a dump, or asks for an acknowledgement (NLM_F_ACK): it is
 * by these that the answer ends. Takes 1 s at the most, apart from locks that the
 * kernel waits for. Returns the bytes of the answer or -errno: what the kernel
 * refused the request with, -EMSGSIZE when there is not enough room, -EINTR when
 * what is listed changed meanwhile and the list may have holes, -ETIMEDOUT,
 * -EBADMSG.
 */
MCR_EXPORT int32_t mcr_netlink(const uint8_t *request, uint32_t request_bytes, uint8_t *answer,
			       uint32_t answer_bytes_max);

#endif
