/*
 * c/system.c: what is told to a service manager arrives whole, at a path and
 * at an abstract name, and what cannot be told is refused at once.
 */
#define _GNU_SOURCE
#include "mcr.h"

#include "check.h"

#include <stddef.h>
#include <sys/un.h>

#define MESSAGE "READY=1\nSTATUS=1 rule\n"

static int32_t notify(const char *name)
{
	return mcr_notify(name, MESSAGE, sizeof(MESSAGE) - 1);
}

/* As a service manager listens; '@' stands for the NUL of an abstract name. */
static int listen_at(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	socklen_t bytes = offsetof(struct sockaddr_un, sun_path) + strlen(name);

	memcpy(address.sun_path, name, strlen(name));
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	need(fd >= 0 && bind(fd, (struct sockaddr *)&address, bytes) == 0, name);
	return fd;
}

static void test_arrival(const char *name)
{
	char got[64] = { 0 };
	int fd = listen_at(name);
	int32_t result = 0;

	begin("%s: arrives", name);
	EXPECT(notify(name), 0);
	EXPECT(receive(fd, got, sizeof(got), 1000), sizeof(MESSAGE) - 1);
	EXPECT_TRUE(strcmp(got, MESSAGE) == 0);

	/* The queue holds net.unix.max_dgram_qlen datagrams, 10 or 512. */
	begin("%s: a reader that does not read", name);
	for (int i = 0; i < 100000 && result == 0; i++)
		result = notify(name);
	EXPECT(result, -EAGAIN);
	close(fd);

	begin("%s: nobody listens any more", name);
	EXPECT(notify(name), -ECONNREFUSED);
}

static void test_refusals(void)
{
	char long_name[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	const char *wrong[] = { "", "/", "@", "relative/path", "vsock:2:1234", long_name };

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[0] = '/';
	long_name[sizeof(long_name) - 1] = '\0';
	for (size_t i = 0; i < COUNT(wrong); i++) {
		begin("no socket's name: %.20s", wrong[i]);
		EXPECT(notify(wrong[i]), -EINVAL);
	}
	begin("a path that is not there");
	EXPECT(notify("/nonexistent/mcr.sock"), -ENOENT);
}

static void test_clock(void)
{
	int64_t before = mcr_monotonic_us();

	begin("the clock is never set back");
	EXPECT_TRUE(before > 0 && mcr_monotonic_us() >= before);
}

int main(void)
{
	char path[64], name[64];

	snprintf(path, sizeof(path), "/tmp/mcr-test-notify-%d", (int)getpid());
	snprintf(name, sizeof(name), "@mcr-test-notify-%d", (int)getpid());
	test_arrival(path);
	unlink(path);
	test_arrival(name);
	test_refusals();
	test_clock();
	return finish();
}
