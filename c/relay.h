/*
 * What all workers share: relay.c.
 */
#ifndef MCR_RELAY_H
#define MCR_RELAY_H

#include <stddef.h>
#include <stdint.h>

#include "worker.h"

struct mcr_relay {
	struct mcr_table *table;
	uint32_t worker_count;
	int32_t stopping;
	uint8_t *counters;
	size_t counters_bytes; /* of all workers */
	uint32_t *rule_numbers; /* by slot: of the rule that has it, counted from the first that began */
	uint32_t rule_number_last;
	struct mcr_worker workers[];
};

#endif
