/*
 * Exclusive ingress: what a ring has captured, the interface then drops, so
 * that the host's IP stack does no work for it. Taps of all protocols run
 * before the kernel's ingress hooks (net/core/dev.c, __netif_receive_skb_core),
 * so the ring has its copy by then.
 *
 * By a tcx link (Linux 6.6), or by a table of nftables (exclusive_nft.c). Both
 * hang on a descriptor of this process: when it ends, however it ends, the
 * interface drops nothing any more.
 *
 * The program is assembled here, so no compiler is needed where mcr runs. New
 * entries are a new map and a new program that take the place of the old ones
 * in one step: no packet is judged by half a change.
 */
#define _GNU_SOURCE
#include "exclusive.h"

#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct mcr_exclusive {
	uint32_t ifindex;
	uint32_t method;
	int fd; /* the link, or the netlink socket */
};

/* Linux 6.6, linux/bpf.h */
#define TCX_INGRESS 46 /* BPF_TCX_INGRESS */
#define TCX_NEXT (-1) /* what comes behind decides */
#define TCX_DROP 2

static int bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
	int result = (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));

	return result < 0 ? -errno : result;
}

/* -- entries as keys --------------------------------------------------------- */

static void set_free(struct mcr_exclusive_keys *set)
{
	free(set->keys);
	free(set->drops);
}

static int ipv4_of(uint32_t *ipv4, const uint8_t address[16], bool any_allowed)
{
	static const uint8_t any[16];

	*ipv4 = 0;
	if (any_allowed && memcmp(address, any, sizeof(any)) == 0)
		return 0;
	if (!mcr_is_mapped_ipv4(address))
		return -EAFNOSUPPORT;
	memcpy(ipv4, address + 12, sizeof(*ipv4));
	return *ipv4 ? 0 : -EINVAL; /* 0 means any in a key */
}

static int key_of(struct mcr_exclusive_key *key, const struct mcr_exclusive_entry *entry)
{
	int error = ipv4_of(&key->address, entry->address, false);

	if (!error)
		error = ipv4_of(&key->source, entry->source, true);
	if (entry->kind > MCR_EXCLUSIVE_FRAGMENT ||
	    (entry->port == 0) == (entry->kind == MCR_EXCLUSIVE_PORT))
		return -EINVAL;
	key->port = htons(entry->port);
	key->kind = entry->kind;
	return error;
}

/* To be freed also after an error. */
static int set_build(struct mcr_exclusive_keys *set, const struct mcr_exclusive_entry *entries,
		     uint32_t count)
{
	*set = (struct mcr_exclusive_keys){ .count = count };
	set->keys = calloc(count + 1, sizeof(*set->keys));
	set->drops = calloc(count + 1, sizeof(*set->drops));
	if (!set->keys || !set->drops)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		struct mcr_exclusive_key *key = &set->keys[i];
		int error = key_of(key, &entries[i]);

		if (error)
			return error;
		set->drops[i] = entries[i].drops;
		set->lookups |= 1u << MCR_EXCLUSIVE_LOOKUP(key->kind, key->source);
	}
	return 0;
}

/* -- the program --------------------------------------------------------------- */

#define CODE_MAX 128
#define EXITS_MAX 32

struct code {
	struct bpf_insn instructions[CODE_MAX];
	uint32_t length;
	uint32_t nexts[EXITS_MAX]; /* jumps to TCX_NEXT */
	uint32_t next_count;
	uint32_t founds[EXITS_MAX]; /* jumps to the verdict of the entry found */
	uint32_t found_count;
};

static void put(struct code *code, uint8_t opcode, uint8_t to, uint8_t from, int16_t offset,
		int32_t value)
{
	code->instructions[code->length++] = (struct bpf_insn){
		.code = opcode, .dst_reg = to, .src_reg = from, .off = offset, .imm = value
	};
}

static void land(struct code *code, const uint32_t *jumps, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		code->instructions[jumps[i]].off = (int16_t)(code->length - jumps[i] - 1);
}

static void put_next_if(struct code *code, uint8_t test, uint8_t with, int32_t value)
{
	code->nexts[code->next_count++] = code->length;
	put(code, BPF_JMP | BPF_K | test, with, 0, 0, value);
}

/* Registers: 6 the packet, 7 scratch; 0 to 5 are gone after a call. */
enum {
	R0,
	R1,
	R2,
	R3,
	R4,
	R5,
	PACKET,
	SCRATCH,
	R8,
	R9,
	FRAME
};
/* The stack, downwards from FRAME. */
#define IP_AT (-32) /* 20 bytes of header */
#define UDP_AT (-8) /* both ports */
#define KEY_AT (-48)
#define KEY(field) (KEY_AT + (int)offsetof(struct mcr_exclusive_key, field))

/* Copies from the network header on, whatever lies before it; a runt goes on. */
static void put_load(struct code *code, int32_t to, int32_t bytes)
{
	put(code, BPF_ALU64 | BPF_MOV | BPF_X, R1, PACKET, 0, 0);
	put(code, BPF_ALU64 | BPF_MOV | BPF_X, R3, FRAME, 0, 0);
	put(code, BPF_ALU64 | BPF_ADD | BPF_K, R3, 0, 0, to);
	put(code, BPF_ALU64 | BPF_MOV | BPF_K, R4, 0, 0, bytes);
	put(code, BPF_ALU64 | BPF_MOV | BPF_K, R5, 0, 0, BPF_HDR_START_NET);
	put(code, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_skb_load_bytes_relative);
	put_next_if(code, BPF_JNE, R0, 0);
}

static void put_copy(struct code *code, uint8_t size, int to, int from)
{
	put(code, BPF_LDX | BPF_MEM | size, SCRATCH, FRAME, (int16_t)from, 0);
	put(code, BPF_STX | BPF_MEM | size, FRAME, SCRATCH, (int16_t)to, 0);
}

static void put_lookup(struct code *code, int map)
{
	put(code, BPF_LD | BPF_DW | BPF_IMM, R1, BPF_PSEUDO_MAP_FD, 0, map);
	put(code, 0, 0, 0, 0, 0);
	put(code, BPF_ALU64 | BPF_MOV | BPF_X, R2, FRAME, 0, 0);
	put(code, BPF_ALU64 | BPF_ADD | BPF_K, R2, 0, 0, KEY_AT);
	put(code, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
	code->founds[code->found_count++] = code->length;
	put(code, BPF_JMP | BPF_JNE | BPF_K, R0, 0, 0, 0);
}

/* With the packet's source, then with any; only what some entry needs. */
static void put_lookups(struct code *code, int map, uint32_t lookups, uint16_t kind)
{
	/* Port and kind are one word: of a fragment or any port, port is 0. */
	if (kind != MCR_EXCLUSIVE_PORT)
		put(code, BPF_ST | BPF_MEM | BPF_H, FRAME, 0, (int16_t)KEY(port), 0);
	put(code, BPF_ST | BPF_MEM | BPF_H, FRAME, 0, (int16_t)KEY(kind), kind);
	if (lookups & 1u << MCR_EXCLUSIVE_LOOKUP(kind, 1)) {
		put_copy(code, BPF_W, KEY(source), IP_AT + 12);
		put_lookup(code, map);
	}
	if (lookups & 1u << MCR_EXCLUSIVE_LOOKUP(kind, 0)) {
		put(code, BPF_ST | BPF_MEM | BPF_W, FRAME, 0, (int16_t)KEY(source), 0);
		put_lookup(code, map);
	}
}

static void put_packet_load(struct code *code, uint8_t to, size_t field)
{
	put(code, BPF_LDX | BPF_MEM | BPF_W, to, PACKET, (int16_t)field, 0);
}

/* IPv4 UDP without a VLAN tag, that came from outside: else TCX_NEXT. RFC 791, RFC 768 */
static void put_judgement(struct code *code, int map, uint32_t lookups)
{
	uint32_t untagged, whole;

	put(code, BPF_ALU64 | BPF_MOV | BPF_X, PACKET, R1, 0, 0);
	put_packet_load(code, SCRATCH, offsetof(struct __sk_buff, protocol));
	put_next_if(code, BPF_JNE, SCRATCH, htons(ETH_P_IP));
	/* What this host sends to its own members comes by here, too, and no ring captures it. */
	put_packet_load(code, SCRATCH, offsetof(struct __sk_buff, pkt_type));
	put_next_if(code, BPF_JEQ, SCRATCH, PACKET_LOOPBACK);
	put_packet_load(code, SCRATCH, offsetof(struct __sk_buff, vlan_present));
	untagged = code->length;
	put(code, BPF_JMP | BPF_JEQ | BPF_K, SCRATCH, 0, 0, 0);
	put_packet_load(code, SCRATCH, offsetof(struct __sk_buff, vlan_tci));
	put_next_if(code, BPF_JSET, SCRATCH, 0xfff); /* id 0 is a priority without a VLAN */
	land(code, &untagged, 1);

	put(code, BPF_ALU64 | BPF_MOV | BPF_K, R2, 0, 0, 0);
	put_load(code, IP_AT, 20);
	put(code, BPF_LDX | BPF_MEM | BPF_B, SCRATCH, FRAME, IP_AT + 9, 0);
	put_next_if(code, BPF_JNE, SCRATCH, IPPROTO_UDP);
	put_copy(code, BPF_W, KEY(address), IP_AT + 16);

	/* More fragments, or not the first. */
	put(code, BPF_LDX | BPF_MEM | BPF_H, SCRATCH, FRAME, IP_AT + 6, 0);
	put(code, BPF_ALU64 | BPF_AND | BPF_K, SCRATCH, 0, 0, htons(0x3fff));
	whole = code->length;
	put(code, BPF_JMP | BPF_JEQ | BPF_K, SCRATCH, 0, 0, 0);
	put_lookups(code, map, lookups, MCR_EXCLUSIVE_FRAGMENT);
	put_next_if(code, BPF_JA, 0, 0);
	land(code, &whole, 1);

	put(code, BPF_LDX | BPF_MEM | BPF_B, R2, FRAME, IP_AT, 0);
	put(code, BPF_ALU64 | BPF_AND | BPF_K, R2, 0, 0, 15);
	put_next_if(code, BPF_JLT, R2, 5);
	put(code, BPF_ALU64 | BPF_LSH | BPF_K, R2, 0, 0, 2);
	put_load(code, UDP_AT, 4);
	put_copy(code, BPF_H, KEY(port), UDP_AT + 2);
	put_lookups(code, map, lookups, MCR_EXCLUSIVE_PORT);
	put_lookups(code, map, lookups, MCR_EXCLUSIVE_ANY_PORT);
}

static void put_exits(struct code *code)
{
	land(code, code->nexts, code->next_count);
	put(code, BPF_ALU64 | BPF_MOV | BPF_K, R0, 0, 0, TCX_NEXT);
	put(code, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	if (code->found_count == 0)
		return; /* the kernel takes no code that nothing reaches */
	land(code, code->founds, code->found_count);
	put(code, BPF_LDX | BPF_MEM | BPF_W, SCRATCH, R0, 0, 0);
	put(code, BPF_ALU64 | BPF_MOV | BPF_K, R0, 0, 0, TCX_DROP);
	put(code, BPF_JMP | BPF_JNE | BPF_K, SCRATCH, 0, 1, 0);
	put(code, BPF_ALU64 | BPF_MOV | BPF_K, R0, 0, 0, TCX_NEXT);
	put(code, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int program_load(const struct code *code)
{
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_SCHED_CLS,
				.insn_cnt = code->length,
				.insns = (uintptr_t)code->instructions,
				.license = (uintptr_t) "Dual MIT/GPL",
				.prog_name = "mcr_exclusive" };

	return bpf(BPF_PROG_LOAD, &load);
}

static int map_open(const struct mcr_exclusive_keys *set)
{
	union bpf_attr create = { .map_type = BPF_MAP_TYPE_HASH,
				  .key_size = sizeof(*set->keys),
				  .value_size = sizeof(*set->drops),
				  .max_entries = set->count,
				  .map_name = "mcr_exclusive" };
	union bpf_attr update = { 0 };
	int map = bpf(BPF_MAP_CREATE, &create);
	int error;

	if (map < 0)
		return map;
	update.batch.map_fd = (uint32_t)map;
	update.batch.keys = (uintptr_t)set->keys;
	update.batch.values = (uintptr_t)set->drops;
	update.batch.count = set->count;
	error = bpf(BPF_MAP_UPDATE_BATCH, &update);
	if (error) {
		close(map);
		return error;
	}
	return map;
}

int mcr_exclusive_program(const struct mcr_exclusive_keys *set)
{
	struct code code = { 0 };
	int map = -1;
	int program;

	if (set->count > 0) {
		map = map_open(set);
		if (map < 0)
			return map;
		put_judgement(&code, map, set->lookups);
	}
	put_exits(&code);
	program = program_load(&code);
	if (map >= 0)
		close(map); /* the program holds it */
	return program;
}

/* -- the link --------------------------------------------------------------- */

static int link_open(uint32_t ifindex)
{
	const struct mcr_exclusive_keys none = { 0 };
	union bpf_attr create = { 0 };
	int program = mcr_exclusive_program(&none);
	int link;

	if (program < 0)
		return program;
	create.link_create.prog_fd = (uint32_t)program;
	create.link_create.target_fd = ifindex; /* shares its place with target_ifindex */
	create.link_create.attach_type = TCX_INGRESS;
	link = bpf(BPF_LINK_CREATE, &create);
	close(program); /* the link holds it */
	return link;
}

static int link_set(int link, const struct mcr_exclusive_keys *set)
{
	union bpf_attr update = { 0 };
	int program = mcr_exclusive_program(set);
	int error;

	if (program < 0)
		return program;
	update.link_update.link_fd = (uint32_t)link;
	update.link_update.new_prog_fd = (uint32_t)program;
	error = bpf(BPF_LINK_UPDATE, &update);
	close(program);
	return error;
}

/* -- either way --------------------------------------------------------------- */

int32_t mcr_exclusive_probe(uint32_t method)
{
	int fd;

	switch (method) {
	case MCR_EXCLUSIVE_TCX:
		/* A kernel that knows tcx looks for the interface; another one is at a loss before. */
		fd = link_open(INT32_MAX);
		if (fd == -ENODEV)
			return 0;
		break;
	case MCR_EXCLUSIVE_NFT:
		fd = mcr_exclusive_nft_open();
		break;
	default:
		return -EINVAL;
	}
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

struct mcr_exclusive *mcr_exclusive_open(uint32_t ifindex, uint32_t method, int32_t *error)
{
	struct mcr_exclusive *exclusive = NULL;
	int fd;

	*error = -EINVAL;
	if (method > MCR_EXCLUSIVE_NFT)
		return NULL;
	fd = method == MCR_EXCLUSIVE_TCX ? link_open(ifindex) : mcr_exclusive_nft_open();
	*error = fd;
	if (fd < 0)
		return NULL;
	exclusive = calloc(1, sizeof(*exclusive));
	if (!exclusive) {
		close(fd);
		*error = -ENOMEM;
		return NULL;
	}
	*exclusive = (struct mcr_exclusive){ .ifindex = ifindex, .method = method, .fd = fd };
	*error = 0;
	return exclusive;
}

int32_t mcr_exclusive_set(struct mcr_exclusive *exclusive,
			  const struct mcr_exclusive_entry *entries, uint32_t entry_count)
{
	struct mcr_exclusive_keys set;
	int error = set_build(&set, entries, entry_count);

	if (!error)
		error = exclusive->method == MCR_EXCLUSIVE_TCX ?
				link_set(exclusive->fd, &set) :
				mcr_exclusive_nft_set(exclusive->fd, exclusive->ifindex, &set);
	set_free(&set);
	return error;
}

void mcr_exclusive_close(struct mcr_exclusive *exclusive)
{
	if (!exclusive)
		return;
	close(exclusive->fd);
	free(exclusive);
}
