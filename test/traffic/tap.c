/*
 * tap: counts the test datagrams that arrive at an interface, by an AF_PACKET
 * ring, without joining anything. What the ring has seen, the interface then
 * drops (a tcx program, gone with this process), so that receiving costs the
 * sender's context one copy and nothing else: no stack, no socket, no wake-up
 * per packet. For benchmarks, where the receiver's cost is not the question;
 * receive.c is what tests count with.
 *
 * Prints JSON lines: ready, progress (each 200 ms), result on SIGTERM.
 */
#define _GNU_SOURCE
#include "common.h"
#include "options.h"
#include "payload.h"
#include "seen.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define BLOCK_BYTES (1u << 20)
#define BLOCKS 64u
#define RETIRE_MS 4
#define PROGRESS_NS 200000000ull
#define SLOTS (1u << 18) /* a power of two, four times STREAMS_MAX */
#define TCX_INGRESS 46 /* BPF_TCX_INGRESS, Linux 6.6 */
#define GSO_UDP_L4 5 /* VIRTIO_NET_HDR_GSO_UDP_L4 */

struct stream {
	uint32_t address, port; /* address 0: a free slot */
	uint64_t received;
	uint32_t highest;
	struct seen seen;
};

struct tap {
	int fd;
	uint8_t *ring;
	struct stream *streams;
	uint32_t stream_count;
	uint64_t received, duplicated, reordered, foreign;
};

/* -- the interface ------------------------------------------------------------- */

static int bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
	return (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

/* Drops every IPv4 packet behind the ring. Where the kernel has no tcx its stack drops them itself: dearer. */
static bool drop_behind(unsigned int interface)
{
	const struct bpf_insn program[] = {
		/* r2 = skb->protocol; r0 = TCX_NEXT; if (r2 == IPv4) r0 = TCX_DROP */
		{ BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(struct __sk_buff, protocol), 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, -1 },
		{ BPF_JMP | BPF_JNE | BPF_K, 2, 0, 1, htons(ETH_P_IP) },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 2 },
		{ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 },
	};
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_SCHED_CLS,
				.insn_cnt = sizeof(program) / sizeof(program[0]),
				.insns = (uintptr_t)program,
				.license = (uintptr_t) "GPL" };
	union bpf_attr link = { 0 };
	int fd = bpf(BPF_PROG_LOAD, &load);

	if (fd < 0)
		return false;
	link.link_create.prog_fd = (uint32_t)fd;
	link.link_create.target_fd = interface; /* shares its place with target_ifindex */
	link.link_create.attach_type = TCX_INGRESS;
	return bpf(BPF_LINK_CREATE, &link) >= 0; /* both stay open as long as this process */
}

static void open_ring(struct tap *tap, unsigned int interface)
{
	const struct sockaddr_ll address = { .sll_family = AF_PACKET,
					     .sll_protocol = htons(ETH_P_ALL),
					     .sll_ifindex = (int)interface };
	const struct tpacket_req3 request = { .tp_block_size = BLOCK_BYTES,
					      .tp_block_nr = BLOCKS,
					      .tp_frame_size = 2048,
					      .tp_frame_nr = BLOCK_BYTES / 2048 * BLOCKS,
					      .tp_retire_blk_tov = RETIRE_MS };
	int version = TPACKET_V3, on = 1;

	tap->fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (tap->fd < 0 ||
	    setsockopt(tap->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
	    setsockopt(tap->fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	    setsockopt(tap->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) < 0)
		die(EXIT_FAILED, "packet socket: %s", strerror(errno));
	tap->ring = mmap(NULL, (size_t)BLOCK_BYTES * BLOCKS, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_POPULATE, tap->fd, 0);
	if (tap->ring == MAP_FAILED ||
	    bind(tap->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		die(EXIT_FAILED, "packet ring: %s", strerror(errno));
}

static uint64_t ring_drops(const struct tap *tap)
{
	struct tpacket_stats_v3 statistics = { 0 };
	socklen_t bytes = sizeof(statistics);

	if (getsockopt(tap->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &bytes) < 0)
		die(EXIT_FAILED, "PACKET_STATISTICS: %s", strerror(errno));
	return statistics.tp_drops;
}

/* -- counting -------------------------------------------------------------------- */

static struct stream *find_stream(struct tap *tap, uint32_t address, uint32_t port)
{
	uint32_t slot = (address * 0x9e3779b1u ^ port * 0x85ebca6bu) % SLOTS;

	while (tap->streams[slot].address &&
	       (tap->streams[slot].address != address || tap->streams[slot].port != port))
		slot = (slot + 1) % SLOTS;
	if (!tap->streams[slot].address) {
		if (tap->stream_count++ == STREAMS_MAX)
			die(EXIT_FAILED, "more than %d streams", STREAMS_MAX);
		tap->streams[slot].address = address;
		tap->streams[slot].port = port;
	}
	return &tap->streams[slot];
}

static void count_datagram(struct tap *tap, struct stream *stream, const uint8_t *bytes,
			   size_t size)
{
	struct payload payload;

	if (size < PAYLOAD_SIZE_MIN) {
		tap->foreign++;
		return;
	}
	memcpy(&payload, bytes, sizeof(payload));
	if (payload.magic != PAYLOAD_MAGIC || payload.size != size) {
		tap->foreign++;
		return;
	}
	if (was_seen(&stream->seen, payload.sequence)) {
		tap->duplicated++;
		return;
	}
	if (stream->received && payload.sequence < stream->highest)
		tap->reordered++;
	else
		stream->highest = payload.sequence;
	stream->received++;
	tap->received++;
}

/* A super-frame is counted as the datagrams it is made of. */
static void count_frame(struct tap *tap, const struct tpacket3_hdr *header)
{
	const uint8_t *frame = (const uint8_t *)header;
	const uint8_t *ip = frame + header->tp_net;
	size_t captured = header->tp_snaplen - (size_t)(header->tp_net - header->tp_mac);
	size_t ip_bytes, udp_bytes, segment_bytes;
	struct virtio_net_hdr offload;
	uint32_t address;

	if (captured < 28 || ip[0] >> 4 != 4 || ip[9] != IPPROTO_UDP)
		return;
	ip_bytes = (ip[0] & 15u) * 4u;
	if (captured < ip_bytes + 8)
		return;
	udp_bytes = (size_t)ip[ip_bytes + 4] << 8 | ip[ip_bytes + 5];
	if (udp_bytes < 8 || captured < ip_bytes + udp_bytes)
		return;
	memcpy(&offload, frame + header->tp_mac - sizeof(offload), sizeof(offload));
	memcpy(&address, ip + 16, sizeof(address));
	segment_bytes = offload.gso_type == GSO_UDP_L4 && offload.gso_size ? offload.gso_size :
									     udp_bytes;
	for (size_t at = 8; at < udp_bytes; at += segment_bytes) {
		size_t left = udp_bytes - at;

		count_datagram(tap,
			       find_stream(tap, address,
					   (uint32_t)ip[ip_bytes + 2] << 8 | ip[ip_bytes + 3]),
			       ip + ip_bytes + at, left < segment_bytes ? left : segment_bytes);
	}
}

static void run(struct tap *tap)
{
	uint64_t reported = now_ns();
	uint32_t next = 0;

	while (!stop_signals) {
		struct tpacket_block_desc *block = (void *)(tap->ring + (size_t)next * BLOCK_BYTES);
		struct pollfd ready = { .fd = tap->fd, .events = POLLIN };

		if (__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) &
		    TP_STATUS_USER) {
			const uint8_t *at =
				(const uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;

			for (uint32_t i = 0; i < block->hdr.bh1.num_pkts; i++) {
				const struct tpacket3_hdr *header = (const void *)at;

				count_frame(tap, header);
				at += header->tp_next_offset;
			}
			__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL,
					 __ATOMIC_RELEASE);
			next = (next + 1) % BLOCKS;
		} else {
			poll(&ready, 1, 20);
		}
		if (now_ns() >= reported + PROGRESS_NS) {
			reported = now_ns();
			printf("{\"event\":\"progress\",\"received\":%llu}\n",
			       (unsigned long long)tap->received);
		}
	}
}

int main(int argc, char **argv)
{
	struct in_addr interface_address = { 0 };
	const struct option_row rows[] = {
		{ "interface-address", "ADDRESS", "counts on the interface that has it",
		  parse_address, &interface_address, 0, 0 },
		{ 0 },
	};
	struct tap tap = { .streams = allocate(SLOTS, sizeof(struct stream)) };
	unsigned int interface;
	bool drops;

	program = "tap";
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	parse_options(rows, argc, argv);
	interface = (unsigned int)interface_index(interface_address);
	stop_on_signals();
	open_ring(&tap, interface);
	drops = drop_behind(interface);
	printf("{\"event\":\"ready\",\"drops_behind\":%s}\n", drops ? "true" : "false");
	run(&tap);
	printf("{\"event\":\"result\",");
	print_count("received", tap.received);
	print_count("duplicated", tap.duplicated);
	print_count("reordered", tap.reordered);
	print_count("foreign", tap.foreign);
	print_count("ring_drops", ring_drops(&tap));
	printf("\"streams\":%u}\n", tap.stream_count);
	return 0;
}
