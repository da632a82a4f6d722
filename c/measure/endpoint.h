/* Addresses of streams as sockets take them. Static inline, no system calls. */
#ifndef MCR_ENDPOINT_H
#define MCR_ENDPOINT_H

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "address.h"
#include "measure.h"

/* 0, or -EAFNOSUPPORT for an address that is not IPv4. */
static inline int mcr_stream_address(struct sockaddr_in *address,
				     const struct mcr_stream_spec *spec)
{
	if (!mcr_is_mapped_ipv4(spec->address))
		return -EAFNOSUPPORT;
	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(spec->port) };
	memcpy(&address->sin_addr, spec->address + 12, 4);
	return 0;
}

#endif
