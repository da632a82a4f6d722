/*
 * Socket options that several files set. setsockopt(2), socket(7).
 */
#ifndef MCR_OPTION_H
#define MCR_OPTION_H

#include <errno.h>
#include <linux/filter.h>
#include <sys/socket.h>

/* For headers of the C library older than the kernel. */
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62 /* Linux 5.0 */
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* Linux 4.18 */
#endif

/* 0 or -errno. */
static inline int mcr_set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* 0 or -errno. */
static inline int mcr_set_filter(int fd, const struct sock_fprog *program)
{
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, sizeof(*program)) < 0 ?
		       -errno :
		       0;
}

/* For sockets that only join or only send: nothing is ever queued on them. */
static inline int mcr_receive_nothing(int fd)
{
	struct sock_filter reject = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog program = { .len = 1, .filter = &reject };

	return mcr_set_filter(fd, &program);
}

#endif
