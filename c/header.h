/*
 * The headers of the frames that mcr makes: prepared once for each place that a
 * flow goes to, completed for each message. Static inline, no system calls.
 *
 *   0                10         24       44    52
 *   | virtio_net_hdr | Ethernet | IPv4   | UDP | payload ... |
 *     to the kernel    on the wire
 *
 * A message is one datagram, or a run: the kernel, or the device, cuts its
 * payload at gso_size and gives each piece headers of its own (virtio_net.h,
 * GSO_UDP_L4), whose Identifications count up. The UDP checksum is left to them
 * too: its field holds the sum of the pseudo header (NEEDS_CSUM). As a UDP
 * socket does on Linux, datagrams are marked "do not fragment".
 */
#ifndef MCR_HEADER_H
#define MCR_HEADER_H

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "frame.h"
#include "offload.h"

struct mcr_header {
	struct virtio_net_hdr offload;
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
};
_Static_assert(offsetof(struct mcr_header, ethernet) == 10, "as drawn");
_Static_assert(offsetof(struct mcr_header, ip) == 24, "as drawn");
_Static_assert(sizeof(struct mcr_header) == 52, "as drawn");

/* Ethernet, IPv4 and UDP: what lies before the payload on the wire. */
#define MCR_HEADER_BYTES (sizeof(struct mcr_header) - sizeof(struct virtio_net_hdr))
#define MCR_DATAGRAM_HEADER_BYTES (sizeof(struct iphdr) + sizeof(struct udphdr))

/* All but lengths and checksums, with the sums of what is there. */
struct mcr_template {
	struct mcr_header header;
	uint16_t ip_sum; /* folded, as are all: RFC 1071 */
	uint16_t pseudo_sum;
	uint32_t reserved[2];
};
_Static_assert(sizeof(struct mcr_template) == 64, "one cache line");

/* What a template is made of; addresses and ports in network order. */
struct mcr_endpoints {
	uint8_t mac[ETH_ALEN]; /* of the interface */
	uint32_t source;
	uint32_t group;
	uint16_t source_port;
	uint16_t port;
	uint8_t ttl;
	uint8_t tos;
};

/* The Ethernet address of a group, RFC 1112 section 6.4. */
static inline void mcr_group_mac(uint8_t mac[ETH_ALEN], uint32_t group)
{
	const uint32_t host = ntohl(group);
	const uint8_t bytes[ETH_ALEN] = {
		0x01, 0x00, 0x5e, (uint8_t)(host >> 16 & 0x7f), (uint8_t)(host >> 8), (uint8_t)host
	};

	memcpy(mac, bytes, sizeof(bytes));
}

static inline uint32_t mcr_address_sum(uint32_t address)
{
	return (address & 0xffff) + (address >> 16);
}

/* TTL and protocol share a word of the header. */
static inline uint32_t mcr_ttl_sum(uint8_t ttl)
{
	return htons((uint16_t)(ttl << 8));
}

static inline void mcr_template_prepare(struct mcr_template *template,
					const struct mcr_endpoints *endpoints)
{
	const size_t network_at = offsetof(struct mcr_header, udp) - sizeof(struct iphdr) -
				  offsetof(struct mcr_header, ethernet);

	*template = (struct mcr_template){
		.header = { .offload = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					 .hdr_len = MCR_HEADER_BYTES,
					 .csum_start = network_at + sizeof(struct iphdr),
					 .csum_offset = offsetof(struct udphdr, check) },
			    .ethernet = { .h_proto = htons(ETH_P_IP) },
			    .ip = { .version = 4,
				    .ihl = sizeof(struct iphdr) / 4,
				    .tos = endpoints->tos,
				    .frag_off = htons(IP_DF),
				    .ttl = endpoints->ttl,
				    .protocol = IPPROTO_UDP,
				    .saddr = endpoints->source,
				    .daddr = endpoints->group },
			    .udp = { .source = endpoints->source_port, .dest = endpoints->port } }
	};
	memcpy(template->header.ethernet.h_source, endpoints->mac, ETH_ALEN);
	mcr_group_mac(template->header.ethernet.h_dest, endpoints->group);
	template->ip_sum = mcr_fold(
		mcr_sum((const uint8_t *)&template->header.ip, sizeof(template->header.ip), 0));
	template->pseudo_sum = mcr_fold((uint64_t)mcr_address_sum(endpoints->source) +
					mcr_address_sum(endpoints->group) + htons(IPPROTO_UDP));
}

/* What a header takes from the packet that it relays; all 0: nothing. */
struct mcr_kept {
	uint32_t source;
	uint16_t source_port;
	uint8_t ttl;
	uint8_t tos;
};

/* What differs from message to message; in network order where it is on the wire. */
struct mcr_message {
	uint32_t payload_bytes;
	uint16_t segment_bytes; /* the payload is cut here; 0: one datagram */
	uint16_t identification;
	uint16_t port; /* 0 where the template has it */
};

/* What is kept stands for a field that is 0 in the template. */
static inline void mcr_header_fill(struct mcr_header *header, const struct mcr_template *template,
				   struct mcr_kept kept, struct mcr_message message)
{
	const uint32_t bytes = message.payload_bytes;
	const uint16_t ip_bytes = htons((uint16_t)(bytes + MCR_DATAGRAM_HEADER_BYTES));
	const uint16_t udp_bytes = htons((uint16_t)(bytes + sizeof(struct udphdr)));
	const uint32_t source_sum = mcr_address_sum(kept.source);

	*header = template->header;
	header->offload.gso_type = message.segment_bytes ? VIRTIO_NET_HDR_GSO_UDP_L4 : 0;
	header->offload.gso_size = message.segment_bytes;
	header->ip.tos |= kept.tos;
	header->ip.tot_len = ip_bytes;
	header->ip.id = message.identification;
	header->ip.ttl |= kept.ttl;
	header->ip.saddr |= kept.source;
	header->ip.check = (uint16_t)~mcr_fold((uint64_t) template->ip_sum + ip_bytes +
					       message.identification + source_sum +
					       mcr_ttl_sum(kept.ttl) + htons(kept.tos));
	header->udp.source |= kept.source_port;
	header->udp.dest |= message.port;
	header->udp.len = udp_bytes;
	header->udp.check = mcr_fold((uint64_t) template->pseudo_sum + udp_bytes + source_sum);
}

#endif
