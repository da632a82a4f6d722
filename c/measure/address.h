/* Addresses of streams as sockets take them. Static inline, no system calls. */
#ifndef MCR_ADDRESS_H
#define MCR_ADDRESS_H

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "measure.h"

/* 0, or -EAFNOSUPPORT for an address that is not IPv4. */
static inline int mcr_stream_address(struct sockaddr_in *address,
				     const struct mcr_stream_spec *spec)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (memcmp(spec->address, mapped, sizeof(mapped)) != 0)
		return -EAFNOSUPPORT;
	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(spec->port) };
	memcpy(&address->sin_addr, spec->address + 12, 4);
	return 0;
}

#endif
