/*
 * The identity that c/mcr.h promises of an interface's counters, for tests and fuzzers.
 */
#ifndef ACCOUNTS_H
#define ACCOUNTS_H

#include "mcr.h"

/* Every packet that came, by what became of it: equals packets at a batch boundary. */
static inline uint64_t accounted(const struct mcr_interface_counters *c)
{
	return c->matched + c->no_match + c->tagged + c->other_host + c->looped + c->malformed +
	       c->truncated + c->bad_checksum + c->fragment_late + c->fragment_overlap +
	       c->fragment_full + c->fragment_malformed;
}

#endif
