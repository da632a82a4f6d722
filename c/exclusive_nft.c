/*
 * Exclusive ingress where the kernel has no tcx, or this process no CAP_BPF: a
 * table of nftables, family netdev, hook ingress, that its netlink socket owns
 * (NFT_TABLE_F_OWNER, Linux 5.12): nobody else can change it, and it goes when
 * the socket is closed. Spoken over netlink as it is (linux/netfilter/
 * nf_tables.h), so nothing has to be installed.
 *
 *   table netdev mcr-PORTID {
 *     map ports     { type ipv4_addr . ipv4_addr . inet_service : verdict }
 *     map groups    { type ipv4_addr . ipv4_addr : verdict }      any port
 *     map fragments { type ipv4_addr . ipv4_addr : verdict }
 *     chain ingress { type filter hook ingress device … priority 0;
 *       a rule for each lookup that some entry needs, most exact first:
 *       ether type ip, UDP, whole or fragment, destination . source or 0 vmap @…
 *     }
 *   }
 *
 * The link header's type, not the metadata's, because it reads 802.1Q for all
 * tagged frames, and is not there for what this host sends to its own members.
 */
#define _GNU_SOURCE
#include "exclusive.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* linux/netfilter/nf_tables.h of Linux 5.12; older headers lack it. */
#define TABLE_OWNED 2u /* NFT_TABLE_F_OWNER */

/* Types of nft(8), so that `nft list ruleset` can read the maps; 6 bits each in a concatenation. */
#define TYPE_IPV4_ADDRESS 7u
#define TYPE_INET_SERVICE 13u

#define MESSAGE_ELEMENTS 1000u /* 44 bytes each: an attribute holds less than 64 KiB */
#define ELEMENT_BYTES 44u
#define FIXED_BYTES 16384u /* all but the elements */

struct batch {
	uint8_t *bytes;
	uint32_t length;
	uint32_t length_max;
	uint32_t sequence;
	uint32_t message; /* where the open one begins */
	char table[32];
};

/* -- netlink ----------------------------------------------------------------- */

/* The batch was allocated large enough; an attribute is padded to 4 bytes with zeros. */
static uint32_t put_attribute(struct batch *batch, uint16_t type, const void *data, uint16_t bytes)
{
	struct nlattr attribute = { .nla_len = (uint16_t)(NLA_HDRLEN + bytes), .nla_type = type };
	uint32_t at = batch->length;

	memcpy(batch->bytes + at, &attribute, sizeof(attribute));
	if (bytes)
		memcpy(batch->bytes + at + NLA_HDRLEN, data, bytes);
	batch->length += NLA_HDRLEN + NLA_ALIGN((uint32_t)bytes);
	return at;
}

static void put_string(struct batch *batch, uint16_t type, const char *text)
{
	put_attribute(batch, type, text, (uint16_t)(strlen(text) + 1));
}

static void put_u32(struct batch *batch, uint16_t type, uint32_t value)
{
	value = htonl(value);
	put_attribute(batch, type, &value, sizeof(value));
}

static uint32_t begin_nest(struct batch *batch, uint16_t type)
{
	return put_attribute(batch, type | NLA_F_NESTED, NULL, 0);
}

static void end_nest(struct batch *batch, uint32_t at)
{
	uint16_t bytes = (uint16_t)(batch->length - at);

	memcpy(batch->bytes + at, &bytes, sizeof(bytes));
}

static void put_value(struct batch *batch, uint16_t type, const void *data, uint16_t bytes)
{
	uint32_t nest = begin_nest(batch, type);

	put_attribute(batch, NFTA_DATA_VALUE, data, bytes);
	end_nest(batch, nest);
}

static void begin_message(struct batch *batch, uint16_t type, uint16_t flags, uint8_t family,
			  uint16_t resource)
{
	const struct nlmsghdr header = { .nlmsg_type = type,
					 .nlmsg_flags = NLM_F_REQUEST | flags,
					 .nlmsg_seq = ++batch->sequence };
	const struct nfgenmsg general = { .nfgen_family = family, .res_id = htons(resource) };

	batch->message = batch->length;
	memcpy(batch->bytes + batch->length, &header, sizeof(header));
	memcpy(batch->bytes + batch->length + NLMSG_HDRLEN, &general, sizeof(general));
	batch->length += NLMSG_SPACE(sizeof(general));
}

static void end_message(struct batch *batch)
{
	uint32_t bytes = batch->length - batch->message;

	memcpy(batch->bytes + batch->message, &bytes, sizeof(bytes));
}

/* What is asked of nftables; all of it names our table first. */
static void begin_request(struct batch *batch, uint16_t type, uint16_t flags)
{
	begin_message(batch, NFNL_SUBSYS_NFTABLES << 8 | type, flags, NFPROTO_NETDEV, 0);
	put_string(batch, NFTA_TABLE_NAME, batch->table);
}

static int batch_open(struct batch *batch, int fd, uint32_t entry_count)
{
	struct sockaddr_nl self;
	socklen_t bytes = sizeof(self);

	*batch = (struct batch){ .length_max = FIXED_BYTES + entry_count * (ELEMENT_BYTES + 1) };
	if (getsockname(fd, (struct sockaddr *)&self, &bytes) < 0)
		return -errno;
	batch->bytes = calloc(1, batch->length_max);
	if (!batch->bytes)
		return -ENOMEM;
	/* The kernel gives every socket of a namespace another port id. */
	snprintf(batch->table, sizeof(batch->table), "mcr-%u", self.nl_pid);
	begin_message(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	end_message(batch);
	return 0;
}

/* The first error of the transaction; all answers are there when it has been sent. */
static int answer_read(int fd)
{
	uint8_t bytes[4096] __attribute__((aligned(NLMSG_ALIGNTO)));
	int result = -EIO; /* until an answer says otherwise */

	for (;;) {
		ssize_t length = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		const struct nlmsghdr *header = (const void *)bytes;
		int error;

		if (length < 0)
			return errno == EAGAIN ? result : -errno;
		if ((size_t)length < NLMSG_SPACE(sizeof(error)) ||
		    header->nlmsg_type != NLMSG_ERROR)
			continue;
		memcpy(&error, NLMSG_DATA(header), sizeof(error));
		if (error && (result == 0 || result == -EIO))
			result = error;
		else if (!error && result == -EIO)
			result = 0;
	}
}

static int batch_commit(struct batch *batch, int fd)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int buffer_bytes = (int)batch->length_max * 2;
	struct nlmsghdr last;
	ssize_t sent;

	memcpy(&last, batch->bytes + batch->message, sizeof(last));
	last.nlmsg_flags |= NLM_F_ACK;
	memcpy(batch->bytes + batch->message, &last, sizeof(last));
	begin_message(batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	end_message(batch);
	/* One message holds it all; without CAP_NET_ADMIN the transaction fails anyway. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer_bytes, sizeof(buffer_bytes));
	sent = sendto(fd, batch->bytes, batch->length, 0, (const struct sockaddr *)&kernel,
		      sizeof(kernel));
	return sent < 0 ? -errno : answer_read(fd);
}

/* -- table, maps, chain ---------------------------------------------------------- */

static void put_table(struct batch *batch)
{
	begin_request(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
	put_u32(batch, NFTA_TABLE_FLAGS, TABLE_OWNED);
	end_message(batch);
}

struct map {
	const char *name;
	uint32_t type;
	uint16_t key_bytes;
};

static const struct map maps[] = {
	[MCR_EXCLUSIVE_PORT] = { "ports",
				 TYPE_IPV4_ADDRESS << 12 | TYPE_IPV4_ADDRESS << 6 |
					 TYPE_INET_SERVICE,
				 12 },
	[MCR_EXCLUSIVE_ANY_PORT] = { "groups", TYPE_IPV4_ADDRESS << 6 | TYPE_IPV4_ADDRESS, 8 },
	[MCR_EXCLUSIVE_FRAGMENT] = { "fragments", TYPE_IPV4_ADDRESS << 6 | TYPE_IPV4_ADDRESS, 8 },
};
#define MAPS (sizeof(maps) / sizeof(maps[0]))

static void put_map(struct batch *batch, uint32_t kind)
{
	begin_request(batch, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL);
	put_string(batch, NFTA_SET_NAME, maps[kind].name);
	put_u32(batch, NFTA_SET_FLAGS, NFT_SET_MAP);
	put_u32(batch, NFTA_SET_KEY_TYPE, maps[kind].type);
	put_u32(batch, NFTA_SET_KEY_LEN, maps[kind].key_bytes);
	put_u32(batch, NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
	put_u32(batch, NFTA_SET_ID, kind + 1);
	end_message(batch);
}

static void put_element(struct batch *batch, const struct mcr_exclusive_key *key, bool drops)
{
	uint32_t element = begin_nest(batch, NFTA_LIST_ELEM);
	uint32_t data, verdict;

	/* In a key of 12 bytes port is the third word, padded; kind is 0 there. */
	put_value(batch, NFTA_SET_ELEM_KEY, key, maps[key->kind].key_bytes);
	data = begin_nest(batch, NFTA_SET_ELEM_DATA);
	verdict = begin_nest(batch, NFTA_DATA_VERDICT);
	put_u32(batch, NFTA_VERDICT_CODE, drops ? NF_DROP : NF_ACCEPT);
	end_nest(batch, verdict);
	end_nest(batch, data);
	end_nest(batch, element);
}

static void put_elements(struct batch *batch, const struct mcr_exclusive_keys *set, uint32_t kind)
{
	uint32_t i = 0;

	for (;;) {
		uint32_t list, put = 0;

		while (i < set->count && set->keys[i].kind != kind)
			i++;
		if (i == set->count)
			return;
		begin_request(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL);
		put_string(batch, NFTA_SET_ELEM_LIST_SET, maps[kind].name);
		put_u32(batch, NFTA_SET_ELEM_LIST_SET_ID, kind + 1);
		list = begin_nest(batch, NFTA_SET_ELEM_LIST_ELEMENTS);
		for (; i < set->count && put < MESSAGE_ELEMENTS; i++)
			if (set->keys[i].kind == kind) {
				put_element(batch, &set->keys[i], set->drops[i]);
				put++;
			}
		end_nest(batch, list);
		end_message(batch);
	}
}

static void put_chain(struct batch *batch, const char *interface)
{
	uint32_t hook;

	begin_request(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL);
	put_string(batch, NFTA_CHAIN_NAME, "ingress");
	hook = begin_nest(batch, NFTA_CHAIN_HOOK);
	put_u32(batch, NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS);
	put_u32(batch, NFTA_HOOK_PRIORITY, 0);
	put_string(batch, NFTA_HOOK_DEV, interface);
	end_nest(batch, hook);
	put_string(batch, NFTA_CHAIN_TYPE, "filter");
	put_u32(batch, NFTA_CHAIN_POLICY, NF_ACCEPT);
	end_message(batch);
}

/* -- rules --------------------------------------------------------------------- */

static void put_payload(struct batch *batch, uint32_t to, uint32_t base, uint32_t offset,
			uint32_t bytes)
{
	uint32_t element = begin_nest(batch, NFTA_LIST_ELEM);
	uint32_t data;

	put_string(batch, NFTA_EXPR_NAME, "payload");
	data = begin_nest(batch, NFTA_EXPR_DATA);
	put_u32(batch, NFTA_PAYLOAD_DREG, to);
	put_u32(batch, NFTA_PAYLOAD_BASE, base);
	put_u32(batch, NFTA_PAYLOAD_OFFSET, offset);
	put_u32(batch, NFTA_PAYLOAD_LEN, bytes);
	end_nest(batch, data);
	end_nest(batch, element);
}

static void put_compare(struct batch *batch, uint32_t operation, const void *value, uint16_t bytes)
{
	uint32_t element = begin_nest(batch, NFTA_LIST_ELEM);
	uint32_t data;

	put_string(batch, NFTA_EXPR_NAME, "cmp");
	data = begin_nest(batch, NFTA_EXPR_DATA);
	put_u32(batch, NFTA_CMP_SREG, NFT_REG32_00);
	put_u32(batch, NFTA_CMP_OP, operation);
	put_value(batch, NFTA_CMP_DATA, value, bytes);
	end_nest(batch, data);
	end_nest(batch, element);
}

static void put_mask(struct batch *batch, uint16_t mask)
{
	const uint16_t none = 0;
	uint32_t element = begin_nest(batch, NFTA_LIST_ELEM);
	uint32_t data;

	put_string(batch, NFTA_EXPR_NAME, "bitwise");
	data = begin_nest(batch, NFTA_EXPR_DATA);
	put_u32(batch, NFTA_BITWISE_SREG, NFT_REG32_00);
	put_u32(batch, NFTA_BITWISE_DREG, NFT_REG32_00);
	put_u32(batch, NFTA_BITWISE_LEN, sizeof(mask));
	put_value(batch, NFTA_BITWISE_MASK, &mask, sizeof(mask));
	put_value(batch, NFTA_BITWISE_XOR, &none, sizeof(none));
	end_nest(batch, data);
	end_nest(batch, element);
}

static void put_zero(struct batch *batch, uint32_t to)
{
	const uint32_t zero = 0;
	uint32_t element = begin_nest(batch, NFTA_LIST_ELEM);
	uint32_t data;

	put_string(batch, NFTA_EXPR_NAME, "immediate");
	data = begin_nest(batch, NFTA_EXPR_DATA);
	put_u32(batch, NFTA_IMMEDIATE_DREG, to);
	put_value(batch, NFTA_IMMEDIATE_DATA, &zero, sizeof(zero));
	end_nest(batch, data);
	end_nest(batch, element);
}

static void put_verdict_lookup(struct batch *batch, uint32_t kind)
{
	uint32_t element = begin_nest(batch, NFTA_LIST_ELEM);
	uint32_t data;

	put_string(batch, NFTA_EXPR_NAME, "lookup");
	data = begin_nest(batch, NFTA_EXPR_DATA);
	put_string(batch, NFTA_LOOKUP_SET, maps[kind].name);
	put_u32(batch, NFTA_LOOKUP_SET_ID, kind + 1);
	put_u32(batch, NFTA_LOOKUP_SREG, NFT_REG32_00);
	put_u32(batch, NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
	end_nest(batch, data);
	end_nest(batch, element);
}

/* One lookup; a packet that it does not concern, or does not find, goes to the next. */
static void put_rule(struct batch *batch, uint32_t kind, bool with_source)
{
	const uint16_t ethertype = htons(ETH_P_IP);
	const uint16_t fragment_mask = htons(0x3fff); /* more fragments, or not the first */
	const uint8_t transport = IPPROTO_UDP;
	const uint16_t whole = 0;
	uint32_t expressions;

	begin_request(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	put_string(batch, NFTA_RULE_CHAIN, "ingress");
	expressions = begin_nest(batch, NFTA_RULE_EXPRESSIONS);
	put_payload(batch, NFT_REG32_00, NFT_PAYLOAD_LL_HEADER, 12, 2);
	put_compare(batch, NFT_CMP_EQ, &ethertype, sizeof(ethertype));
	put_payload(batch, NFT_REG32_00, NFT_PAYLOAD_NETWORK_HEADER, 9, 1);
	put_compare(batch, NFT_CMP_EQ, &transport, sizeof(transport));
	put_payload(batch, NFT_REG32_00, NFT_PAYLOAD_NETWORK_HEADER, 6, 2);
	put_mask(batch, fragment_mask);
	put_compare(batch, kind == MCR_EXCLUSIVE_FRAGMENT ? NFT_CMP_NEQ : NFT_CMP_EQ, &whole,
		    sizeof(whole));
	put_payload(batch, NFT_REG32_00, NFT_PAYLOAD_NETWORK_HEADER, 16, 4);
	if (with_source)
		put_payload(batch, NFT_REG32_01, NFT_PAYLOAD_NETWORK_HEADER, 12, 4);
	else
		put_zero(batch, NFT_REG32_01);
	if (kind == MCR_EXCLUSIVE_PORT)
		put_payload(batch, NFT_REG32_02, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
	put_verdict_lookup(batch, kind);
	end_nest(batch, expressions);
	end_message(batch);
}

/* -- what exclusive.c calls --------------------------------------------------------- */

static int table_create(int fd)
{
	struct batch batch;
	int error = batch_open(&batch, fd, 0);

	if (!error) {
		put_table(&batch);
		error = batch_commit(&batch, fd);
	}
	free(batch.bytes);
	return error;
}

int mcr_exclusive_nft_open(void)
{
	struct sockaddr_nl self = { .nl_family = AF_NETLINK };
	const int on = 1;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&self, sizeof(self)) < 0 ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)) < 0)
		error = -errno;
	if (!error)
		error = table_create(fd);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

/* Name of an interface whose frames have an Ethernet header. */
static int ethernet_name(int fd, uint32_t ifindex, char name[IFNAMSIZ])
{
	struct ifreq request = { .ifr_ifindex = (int)ifindex };

	if (ioctl(fd, SIOCGIFNAME, &request) < 0)
		return -errno;
	memcpy(name, request.ifr_name, IFNAMSIZ);
	if (ioctl(fd, SIOCGIFHWADDR, &request) < 0)
		return -errno;
	return request.ifr_hwaddr.sa_family == ARPHRD_ETHER ? 0 : -EOPNOTSUPP;
}

int mcr_exclusive_nft_set(int fd, uint32_t ifindex, const struct mcr_exclusive_keys *set)
{
	static const uint8_t kinds[MCR_EXCLUSIVE_LOOKUPS] = {
		MCR_EXCLUSIVE_PORT,	MCR_EXCLUSIVE_PORT,	MCR_EXCLUSIVE_ANY_PORT,
		MCR_EXCLUSIVE_ANY_PORT, MCR_EXCLUSIVE_FRAGMENT, MCR_EXCLUSIVE_FRAGMENT,
	};
	char name[IFNAMSIZ];
	struct batch batch;
	int error = batch_open(&batch, fd, set->count);

	if (!error && set->count > 0)
		error = ethernet_name(fd, ifindex, name);
	if (!error) {
		/* Whole and anew: what goes and what comes is one transaction. */
		begin_request(&batch, NFT_MSG_DELTABLE, 0);
		end_message(&batch);
		put_table(&batch);
		if (set->count > 0) {
			for (uint32_t kind = 0; kind < MAPS; kind++)
				put_map(&batch, kind);
			put_chain(&batch, name);
			for (uint32_t lookup = 0; lookup < MCR_EXCLUSIVE_LOOKUPS; lookup++)
				if (set->lookups & 1u << lookup)
					put_rule(&batch, kinds[lookup], lookup % 2 == 0);
			for (uint32_t kind = 0; kind < MAPS; kind++)
				put_elements(&batch, set, kind);
		}
		error = batch_commit(&batch, fd);
	}
	free(batch.bytes);
	return error;
}
