/*
 * c/member.c on lo: what joins, what is refused and as what. The kernel's own
 * list of memberships is asked, not the return values alone.
 */
#define _GNU_SOURCE
#include "relay.h"

#include "check.h"

static const uint8_t any[16];
static int fd;

/* Is the group in /proc/net/igmp? It is written there as the machine holds it. */
static bool is_listed(const char *group)
{
	FILE *file = fopen("/proc/thread-self/net/igmp", "r");
	struct in_addr address;
	char line[256], text[16];
	bool found = false;

	need(file != NULL && inet_pton(AF_INET, group, &address) == 1, "/proc/net/igmp");
	snprintf(text, sizeof(text), "%08X", address.s_addr);
	while (!found && fgets(line, sizeof(line), file))
		found = strstr(line, text) != NULL;
	fclose(file);
	return found;
}

enum change {
	JOIN,
	LEAVE
};

static int32_t change(enum change what, const char *group, const char *source)
{
	uint8_t mapped_group[16], mapped_source[16] = { 0 };

	map_address(mapped_group, group);
	if (source)
		map_address(mapped_source, source);
	return what == JOIN ? mcr_member_join(fd, LOOPBACK_IFINDEX, mapped_group, mapped_source) :
			      mcr_member_leave(fd, LOOPBACK_IFINDEX, mapped_group, mapped_source);
}

/* One socket's life, step by step. */
static const struct {
	const char *name;
	enum change what;
	const char *group, *source;
	int32_t result;
	bool listed; /* afterwards */
} steps[] = {
	{ "join", JOIN, "239.1.1.1", NULL, 0, true },
	{ "join twice", JOIN, "239.1.1.1", NULL, -EADDRINUSE, true },
	{ "leave", LEAVE, "239.1.1.1", NULL, 0, false },
	{ "leave twice", LEAVE, "239.1.1.1", NULL, -EADDRNOTAVAIL, false },
	{ "join again", JOIN, "239.1.1.1", NULL, 0, true },
	{ "join one source", JOIN, "239.1.1.2", "10.0.0.1", 0, true },
	{ "join a second source", JOIN, "239.1.1.2", "10.0.0.2", 0, true },
	{ "join a source twice", JOIN, "239.1.1.2", "10.0.0.2", -EADDRNOTAVAIL, true },
	{ "leave the first source", LEAVE, "239.1.1.2", "10.0.0.1", 0, true },
	{ "leave the last source", LEAVE, "239.1.1.2", "10.0.0.2", 0, false },
	{ "join what is no group", JOIN, "10.0.0.1", NULL, -EINVAL, false },
};

static void test_steps(void)
{
	for (size_t i = 0; i < COUNT(steps); i++) {
		begin("%s", steps[i].name);
		EXPECT(change(steps[i].what, steps[i].group, steps[i].source), steps[i].result);
		EXPECT(is_listed(steps[i].group), steps[i].listed);
	}
	begin("closing the socket leaves what it had joined");
	mcr_close(fd);
	EXPECT(is_listed("239.1.1.1"), false);
}

static void test_refusals(void)
{
	uint8_t group[16], ipv6[16] = { 0xff, 0x05, [15] = 1 };

	map_address(group, "239.1.1.1");
	fd = mcr_member_open();
	need(fd >= 0, "a member socket");
	begin("no such interface");
	EXPECT(mcr_member_join(fd, 1 << 30, group, any), -ENODEV);
	begin("IPv6 group");
	EXPECT(mcr_member_join(fd, LOOPBACK_IFINDEX, ipv6, any), -EAFNOSUPPORT);
	EXPECT(mcr_member_leave(fd, LOOPBACK_IFINDEX, ipv6, any), -EAFNOSUPPORT);
	begin("IPv6 source");
	EXPECT(mcr_member_join(fd, LOOPBACK_IFINDEX, group, ipv6), -EAFNOSUPPORT);
	mcr_close(fd);
	begin("closed socket");
	EXPECT(mcr_member_join(fd, LOOPBACK_IFINDEX, group, any), -EBADF);
}

/* A number in /proc/sys. */
static int limit(const char *path)
{
	FILE *file = fopen(path, "r");
	int value = 0;

	need(file != NULL && fscanf(file, "%d", &value) == 1, path);
	fclose(file);
	return value;
}

static void test_limits(void)
{
	const int groups = limit("/proc/sys/net/ipv4/igmp_max_memberships");
	const int sources = limit("/proc/sys/net/ipv4/igmp_max_msf");
	char text[32];

	begin("%d groups on one socket, and one more", groups);
	fd = mcr_member_open();
	for (int i = 0; i <= groups; i++) {
		snprintf(text, sizeof(text), "239.2.%d.%d", i / 256, i % 256);
		EXPECT(change(JOIN, text, NULL), i < groups ? 0 : -ENOBUFS);
	}
	begin("after one leave there is room for one");
	EXPECT(change(LEAVE, "239.2.0.0", NULL), 0);
	EXPECT(change(JOIN, text, NULL), 0);
	begin("a full socket does not keep the next one from joining");
	int full = fd;
	fd = mcr_member_open();
	EXPECT(change(JOIN, "239.2.0.0", NULL), 0);
	mcr_close(full);

	begin("%d sources of one group, and one more", sources);
	for (int i = 0; i <= sources; i++) {
		snprintf(text, sizeof(text), "10.0.%d.%d", i / 256, i % 256 + 1);
		EXPECT(change(JOIN, "239.3.0.1", text), i < sources ? 0 : -ENOBUFS);
	}
	mcr_close(fd);
}

int main(void)
{
	own_network();
	fd = mcr_member_open();
	need(fd >= 0, "a member socket");
	test_steps();
	test_refusals();
	test_limits();
	return finish();
}
