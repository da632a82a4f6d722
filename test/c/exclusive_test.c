/*
 * Exclusive ingress, by a tcx link and by nftables alike: one table of frames,
 * written into a TAP device, so that they arrive as from a wire. A socket of
 * all protocols lies before the kernel's ingress hooks, as the rings do, and
 * must see every frame; a socket of one protocol lies behind them, as the IP
 * stack does, and must see exactly what is not dropped.
 */
#define _GNU_SOURCE
#include "exclusive.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <sys/syscall.h>

#include "check.h"

#define TCX_NEXT (-1)
#define TCX_DROP 2
#define FRAME_BYTES_MAX 256
#define DEADLINE_MS 5000

/* -- entries ------------------------------------------------------------------ */

static struct mcr_exclusive_entry entry(const char *group, const char *source, uint16_t port,
					uint8_t kind, uint8_t drops)
{
	struct mcr_exclusive_entry made = { .port = port, .kind = kind, .drops = drops };

	map_address(made.address, group);
	if (source)
		map_address(made.source, source);
	return made;
}

/*
 * 239.1.1.1:5001 from any source; 239.1.1.2:5002 from 10.0.0.1 only; every
 * port of 239.1.1.3, its fragments too; every port of 239.1.1.4 but 5004,
 * which another rule has, and 5005 from 10.0.0.9; every port of 239.1.1.5
 * from 10.0.0.1, its fragments too.
 */
static uint32_t fill_entries(struct mcr_exclusive_entry *entries)
{
	uint32_t count = 0;

	entries[count++] = entry("239.1.1.1", NULL, 5001, MCR_EXCLUSIVE_PORT, 1);
	entries[count++] = entry("239.1.1.2", "10.0.0.1", 5002, MCR_EXCLUSIVE_PORT, 1);
	entries[count++] = entry("239.1.1.3", NULL, 0, MCR_EXCLUSIVE_ANY_PORT, 1);
	entries[count++] = entry("239.1.1.3", NULL, 0, MCR_EXCLUSIVE_FRAGMENT, 1);
	entries[count++] = entry("239.1.1.4", NULL, 0, MCR_EXCLUSIVE_ANY_PORT, 1);
	entries[count++] = entry("239.1.1.4", NULL, 5004, MCR_EXCLUSIVE_PORT, 0);
	entries[count++] = entry("239.1.1.4", "10.0.0.9", 5005, MCR_EXCLUSIVE_PORT, 0);
	entries[count++] = entry("239.1.1.5", "10.0.0.1", 0, MCR_EXCLUSIVE_ANY_PORT, 1);
	entries[count++] = entry("239.1.1.5", "10.0.0.1", 0, MCR_EXCLUSIVE_FRAGMENT, 1);
	return count;
}
#define ENTRIES_MAX 16

/* -- frames -------------------------------------------------------------------- */

struct packet {
	const char *what;
	const char *group;
	uint16_t port;
	bool drops;
	const char *source; /* 10.0.0.1 */
	uint16_t fragment; /* flags and offset, host order */
	uint8_t protocol; /* IPPROTO_UDP */
	uint8_t options; /* words of IP options */
	uint8_t bytes; /* of the frame behind Ethernet, cut here; 0: whole */
	uint16_t ethertype; /* ETH_P_IP */
	bool tagged;
	uint16_t tag; /* of 802.1Q: priority and VLAN */
	uint8_t first; /* byte of the IP header, where it lies */
	bool nft_passes; /* priority without VLAN: nftables sees the tag only */
};

static const struct packet packets[] = {
	{ "its port", "239.1.1.1", 5001, true, .source = "10.0.0.1" },
	{ "its port from elsewhere", "239.1.1.1", 5001, true, .source = "192.0.2.1" },
	{ "another port of the group", "239.1.1.1", 5002, false, .source = NULL },
	{ "port 0", "239.1.1.1", 0, false, .source = NULL },
	{ "another group", "239.1.1.9", 5001, false, .source = NULL },
	{ "IP options", "239.1.1.1", 5001, true, .options = 1 },
	{ "40 bytes of IP options", "239.1.1.1", 5001, true, .options = 10 },
	{ "IP options, another port", "239.1.1.1", 5002, false, .options = 10 },
	{ "TCP to the same port", "239.1.1.1", 5001, false, .protocol = IPPROTO_TCP },
	{ "IGMP to the group", "239.1.1.1", 5001, false, .protocol = IPPROTO_IGMP },
	{ "don't fragment", "239.1.1.1", 5001, true, .fragment = 0x4000 },
	{ "first fragment: whole or not at all", "239.1.1.1", 5001, false, .fragment = 0x2000 },
	{ "later fragment", "239.1.1.1", 5001, false, .fragment = 185 },
	{ "no room for the ports", "239.1.1.1", 5001, false, .bytes = 22 },
	{ "no room for the IP header", "239.1.1.1", 5001, false, .bytes = 19 },
	{ "nothing behind Ethernet", "239.1.1.1", 5001, false, .bytes = 1 },
	{ "header length of 4 words", "239.1.1.1", 5001, false, .first = 0x44 },
	{ "another EtherType", "239.1.1.1", 5001, false, .ethertype = 0x88b5 },
	{ "VLAN 77", "239.1.1.1", 5001, false, .tagged = true, .tag = 77 },
	{ "VLAN 77 with priority", "239.1.1.1", 5001, false, .tagged = true, .tag = 3 << 13 | 77 },
	{ "priority without VLAN", "239.1.1.1", 5001, true, .tagged = true, .tag = 3 << 13,
	  .nft_passes = true },
	{ "the source named", "239.1.1.2", 5002, true, .source = NULL },
	{ "another source", "239.1.1.2", 5002, false, .source = "10.0.0.2" },
	{ "any port", "239.1.1.3", 9, true, .source = NULL },
	{ "any port, port 0", "239.1.1.3", 0, true, .source = NULL },
	{ "any port, first fragment", "239.1.1.3", 9, true, .fragment = 0x2000 },
	{ "any port, later fragment", "239.1.1.3", 9, true, .fragment = 185 },
	{ "any port, last fragment, other protocol", "239.1.1.3", 9, false, .fragment = 185,
	  .protocol = IPPROTO_ICMP },
	{ "any port but one", "239.1.1.4", 5003, true, .source = NULL },
	{ "the one", "239.1.1.4", 5004, false, .source = NULL },
	{ "a port from one source", "239.1.1.4", 5005, false, .source = "10.0.0.9" },
	{ "that port from others", "239.1.1.4", 5005, true, .source = NULL },
	{ "fragment: may be of the one port", "239.1.1.4", 9, false, .fragment = 185 },
	{ "any port of the source named", "239.1.1.5", 9, true, .source = NULL },
	{ "any port of another source", "239.1.1.5", 9, false, .source = "10.0.0.2" },
	{ "fragment of the source named", "239.1.1.5", 9, true, .fragment = 185 },
	{ "fragment of another source", "239.1.1.5", 9, false, .source = "10.0.0.2",
	  .fragment = 185 },
};

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Ethernet, tag, IPv4, UDP, 8 bytes of payload; *network is where IPv4 begins. */
static size_t build(uint8_t frame[FRAME_BYTES_MAX], const struct packet *packet, size_t *network)
{
	uint8_t header_words = (uint8_t)(5 + packet->options);
	size_t ip_bytes = header_words * 4u + 16u;
	uint8_t *ip;
	uint32_t sum = 0;

	memset(frame, 0, FRAME_BYTES_MAX);
	memcpy(frame, "\x01\x00\x5e\x01\x01\x01\x02\x00\x00\x00\x00\x01", 12);
	*network = ETH_HLEN;
	if (packet->tagged) {
		put16(frame + 12, ETH_P_8021Q);
		put16(frame + 14, packet->tag);
		*network += 4;
	}
	put16(frame + *network - 2, packet->ethertype ? packet->ethertype : ETH_P_IP);
	ip = frame + *network;
	ip[0] = packet->first ? packet->first : (uint8_t)(0x40 | header_words);
	put16(ip + 2, (uint32_t)ip_bytes);
	put16(ip + 6, packet->fragment);
	ip[8] = 4;
	ip[9] = packet->protocol ? packet->protocol : IPPROTO_UDP;
	need(inet_pton(AF_INET, packet->source ? packet->source : "10.0.0.1", ip + 12) == 1, "a "
											     "sourc"
											     "e");
	need(inet_pton(AF_INET, packet->group, ip + 16) == 1, "a group");
	memset(ip + 20, 1, packet->options * 4u); /* no operation, RFC 791 */
	put16(ip + header_words * 4, 4000);
	put16(ip + header_words * 4 + 2, packet->port);
	put16(ip + header_words * 4 + 4, 16);
	for (uint32_t i = 0; i < header_words * 2u; i++)
		sum += (uint32_t)ip[i * 2] << 8 | ip[i * 2 + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + 10, ~sum);
	return *network + (packet->bytes ? packet->bytes : ip_bytes);
}

/* -- the program by itself ------------------------------------------------------ */

static int set_of(struct mcr_exclusive_keys *set, const struct mcr_exclusive_entry *entries,
		  uint32_t count)
{
	set->count = count;
	set->lookups = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct mcr_exclusive_key *key = &set->keys[i];

		*key = (struct mcr_exclusive_key){ .port = htons(entries[i].port),
						   .kind = entries[i].kind };
		memcpy(&key->address, entries[i].address + 12, 4);
		memcpy(&key->source, entries[i].source + 12, 4);
		set->drops[i] = entries[i].drops;
		set->lookups |= 1u << MCR_EXCLUSIVE_LOOKUP(key->kind, key->source);
	}
	return mcr_exclusive_program(set);
}

static int verdict(int program, const uint8_t *frame, size_t bytes)
{
	union bpf_attr test = { 0 };

	test.test.prog_fd = (uint32_t)program;
	test.test.data_in = (uintptr_t)frame;
	test.test.data_size_in = (uint32_t)bytes;
	if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &test, sizeof(test)) < 0)
		return -1000 - errno;
	return (int)test.test.retval;
}

static void test_program(void)
{
	struct mcr_exclusive_entry entries[ENTRIES_MAX];
	struct mcr_exclusive_key keys[ENTRIES_MAX];
	uint32_t drops[ENTRIES_MAX];
	struct mcr_exclusive_keys set = { .keys = keys, .drops = drops };
	uint32_t count = fill_entries(entries);
	uint8_t frame[FRAME_BYTES_MAX];
	size_t network;
	int program;

	begin("the kernel takes the program");
	program = set_of(&set, entries, count);
	if (program == -EPERM || program == -ENOSYS) {
		skip(strerror(-program), "no BPF program is tested");
		return;
	}
	EXPECT_TRUE(program >= 0);
	for (size_t i = 0; i < COUNT(packets); i++) {
		const struct packet *packet = &packets[i];
		size_t bytes = build(frame, packet, &network);

		/* Run so, a frame has no metadata for its tag, and its IP header is whole. */
		if (packet->tagged || (packet->bytes && packet->bytes < 20))
			continue;
		begin("program: %s", packet->what);
		EXPECT(verdict(program, frame, bytes), packet->drops ? TCX_DROP : TCX_NEXT);
	}
	close(program);

	/* Whichever lookups are needed, the kernel must take what is put together for them. */
	for (uint32_t chosen = 0; chosen < 1u << count; chosen++) {
		struct mcr_exclusive_entry some[ENTRIES_MAX];
		uint32_t some_count = 0;

		for (uint32_t i = 0; i < count; i++)
			if (chosen & 1u << i)
				some[some_count++] = entries[i];
		begin("program for entries 0x%x", chosen);
		program = set_of(&set, some, some_count);
		if (EXPECT_TRUE(program >= 0))
			close(program);
		if (program < 0)
			break;
	}
}

/* -- on an interface -------------------------------------------------------------- */

struct interface {
	int tap;
	uint32_t ifindex;
	int before; /* all protocols: where the rings are */
	int behind; /* IPv4 and the other EtherType: where the stack is */
	int behind_other;
};

static int packet_socket(uint32_t ifindex, uint16_t protocol)
{
	const struct sockaddr_ll address = { .sll_family = AF_PACKET,
					     .sll_protocol = htons(protocol),
					     .sll_ifindex = (int)ifindex };
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	need(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0, "a "
											   "packet "
											   "socke"
											   "t");
	return fd;
}

static bool interface_open(struct interface *interface, const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(request.ifr_name, name);
	interface->tap = open("/dev/net/tun", O_RDWR);
	if (interface->tap < 0 || ioctl(interface->tap, TUNSETIFF, &request) < 0) {
		skip(strerror(errno), "no TAP device: exclusive ingress is not tested on an "
				      "interface");
		close(fd);
		return false;
	}
	request.ifr_flags = IFF_UP;
	need(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "the TAP device up");
	close(fd);
	interface->ifindex = if_nametoindex(name);
	interface->before = packet_socket(interface->ifindex, ETH_P_ALL);
	interface->behind = packet_socket(interface->ifindex, ETH_P_IP);
	interface->behind_other = packet_socket(interface->ifindex, 0x88b5);
	return true;
}

static void interface_close(struct interface *interface)
{
	close(interface->tap);
	close(interface->before);
	close(interface->behind);
	close(interface->behind_other);
}

/* What the kernel itself sends there is not ours: our payload says so. */
static uint32_t count_ours(int fd, uint32_t mark)
{
	uint8_t bytes[FRAME_BYTES_MAX];
	uint32_t count = 0;
	ssize_t length;

	while ((length = recv(fd, bytes, sizeof(bytes), 0)) >= 0)
		if (length >= 6 && (uint32_t)(bytes[4] << 8 | bytes[5]) == mark)
			count++;
	return count;
}

/* The IP identification marks a frame; one byte of a frame has no room for it. */
static void expect_frames(struct interface *interface, bool is_nft, bool is_exclusive)
{
	uint8_t frame[FRAME_BYTES_MAX];
	size_t network;

	for (size_t i = 0; i < COUNT(packets); i++) {
		const struct packet *packet = &packets[i];
		size_t bytes = build(frame, packet, &network);
		bool drops = is_exclusive && packet->drops && !(is_nft && packet->nft_passes);
		uint32_t sum, mark = (uint32_t)(i + 1);

		if (packet->bytes == 1)
			continue;
		begin("%s, %s: %s", is_nft ? "nft" : "tcx", is_exclusive ? "on" : "off",
		      packet->what);
		put16(frame + network + 4, mark);
		sum = (uint32_t)frame[network + 10] << 8 | frame[network + 11];
		sum = (~sum & 0xffff) + mark;
		put16(frame + network + 10, ~((sum & 0xffff) + (sum >> 16)));
		/* A write has been received when it returns: the device runs its softirq itself. */
		need(write(interface->tap, frame, bytes) == (ssize_t)bytes, "a frame");
		EXPECT(count_ours(interface->before, mark), 1);
		EXPECT(count_ours(packet->ethertype ? interface->behind_other : interface->behind,
				  mark),
		       drops ? 0 : 1);
	}
}

static struct mcr_exclusive *open_or_skip(uint32_t ifindex, uint32_t method)
{
	int32_t error = 0;
	struct mcr_exclusive *exclusive = mcr_exclusive_open(ifindex, method, &error);

	EXPECT(mcr_exclusive_probe(method), error);
	if (exclusive)
		EXPECT(error, 0);
	else
		skip(strerror(-error), method == MCR_EXCLUSIVE_NFT ? "exclusive ingress by "
								     "nftables is not tested" :
								     "exclusive ingress by tcx is "
								     "not tested");
	return exclusive;
}

static void test_interface(uint32_t method)
{
	struct mcr_exclusive_entry entries[ENTRIES_MAX];
	uint32_t count = fill_entries(entries);
	bool is_nft = method == MCR_EXCLUSIVE_NFT;
	struct mcr_exclusive *exclusive, *another;
	struct interface interface;
	int32_t error;

	begin("an interface for %s", is_nft ? "nft" : "tcx");
	if (!interface_open(&interface, "mcr-tap0"))
		return;
	exclusive = open_or_skip(interface.ifindex, method);
	if (exclusive) {
		expect_frames(&interface, is_nft, false);
		EXPECT(mcr_exclusive_set(exclusive, entries, count), 0);
		expect_frames(&interface, is_nft, true);

		begin("a second one beside it");
		another = mcr_exclusive_open(interface.ifindex, method, &error);
		EXPECT_TRUE(another != NULL);
		EXPECT(mcr_exclusive_set(another, entries, 1), 0);
		expect_frames(&interface, is_nft, true);
		mcr_exclusive_close(another);
		expect_frames(&interface, is_nft, true);

		begin("what is refused leaves the entries as they were");
		entries[0].port = 0;
		EXPECT(mcr_exclusive_set(exclusive, entries, count), -EINVAL);
		memset(entries[0].address, 1, 16);
		entries[0].port = 5001;
		EXPECT(mcr_exclusive_set(exclusive, entries, count), -EAFNOSUPPORT);
		expect_frames(&interface, is_nft, true);

		EXPECT(mcr_exclusive_set(exclusive, NULL, 0), 0);
		expect_frames(&interface, is_nft, false);
		fill_entries(entries);
		EXPECT(mcr_exclusive_set(exclusive, entries, count), 0);
		expect_frames(&interface, is_nft, true);
		mcr_exclusive_close(exclusive);
		expect_frames(&interface, is_nft, false);
	}
	interface_close(&interface);

	begin("no interface");
	if (exclusive && !is_nft) {
		EXPECT_TRUE(mcr_exclusive_open(INT32_MAX, method, &error) == NULL);
		EXPECT(error, -ENODEV);
	} else if (exclusive) {
		exclusive = mcr_exclusive_open(INT32_MAX, method, &error);
		EXPECT(mcr_exclusive_set(exclusive, entries, count), -ENODEV);
		mcr_exclusive_close(exclusive);
	}
}

/* As many as a rule file may name, so that one transaction and one map hold them. */
static void test_many(uint32_t method)
{
	const uint32_t count = 65536;
	struct mcr_exclusive_entry *entries = calloc(count, sizeof(*entries));
	struct mcr_exclusive *exclusive;
	struct interface interface;

	begin("%u entries", count);
	for (uint32_t i = 0; i < count; i++) {
		entries[i] = entry("239.0.0.0", NULL, 5001, MCR_EXCLUSIVE_PORT, 1);
		put16(entries[i].address + 14, i);
	}
	fill_entries(entries); /* 239.1.0.0/16: none of the same */
	if (interface_open(&interface, "mcr-tap1")) {
		exclusive = open_or_skip(interface.ifindex, method);
		if (exclusive) {
			EXPECT(mcr_exclusive_set(exclusive, entries, count), 0);
			expect_frames(&interface, method == MCR_EXCLUSIVE_NFT, true);
			EXPECT(mcr_exclusive_set(exclusive, entries, count / 2), 0);
			expect_frames(&interface, method == MCR_EXCLUSIVE_NFT, true);
		}
		mcr_exclusive_close(exclusive);
		interface_close(&interface);
	}
	free(entries);
}

int main(void)
{
	test_program();
	if (own_network()) {
		for (uint32_t method = MCR_EXCLUSIVE_TCX; method <= MCR_EXCLUSIVE_NFT; method++) {
			test_interface(method);
			test_many(method);
		}
	}
	begin("no such method");
	EXPECT(mcr_exclusive_probe(2), -EINVAL);
	return finish();
}
