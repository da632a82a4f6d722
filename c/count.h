/*
 * Counters, and what else every part of the relay says in one way.
 */
#ifndef MCR_COUNT_H
#define MCR_COUNT_H

#include <stdint.h>

#define MCR_CACHE_LINE 64
/* Of an index: there is none. */
#define MCR_NONE UINT32_MAX

/* A counter has one writer; the relaxed store keeps readers from half a value. */
#define MCR_COUNT(field, n) __atomic_store_n(&(field), (field) + (uint64_t)(n), __ATOMIC_RELAXED)

#endif
