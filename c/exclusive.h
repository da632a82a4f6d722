/*
 * What exclusive.c and exclusive_nft.c share: the entries in the form that a
 * kernel looks up, and the lookups of one datagram in their order.
 */
#ifndef MCR_EXCLUSIVE_H
#define MCR_EXCLUSIVE_H

#include <stdint.h>

#include "mcr.h"

struct mcr_exclusive_key {
	uint32_t address; /* IPv4, network order */
	uint32_t source; /* 0: any */
	uint16_t port; /* network order; 0 unless kind is MCR_EXCLUSIVE_PORT */
	uint16_t kind; /* enum mcr_exclusive_kind */
};
_Static_assert(sizeof(struct mcr_exclusive_key) == 12, "looked up byte for byte");

struct mcr_exclusive_keys {
	uint32_t count;
	uint32_t lookups; /* bit l: some entry is found by lookup l */
	struct mcr_exclusive_key *keys;
	uint32_t *drops; /* by key */
};

/*
 * A datagram is looked up with its port, then without, each time with its
 * source, then without: the order of table.c. A fragment has lookups of its
 * own. The first that finds an entry decides.
 */
#define MCR_EXCLUSIVE_LOOKUPS 6
#define MCR_EXCLUSIVE_LOOKUP(kind, source) ((uint32_t)(kind)*2 + ((source) == 0))

/* The program for these entries, as a descriptor, or -errno. */
int mcr_exclusive_program(const struct mcr_exclusive_keys *set);

/* A netlink socket that owns a table without entries, or -errno. */
int mcr_exclusive_nft_open(void);
/* One transaction: before it the old entries hold, after it these. */
int mcr_exclusive_nft_set(int fd, uint32_t ifindex, const struct mcr_exclusive_keys *set);

#endif
