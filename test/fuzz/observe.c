/*
 * Fuzzes the observer with the bytes of a ring block: the kernel writes the
 * headers, strangers the packets, so nothing in it is trusted.
 */
#include "../../c/relay.h"

#include <string.h>

#define BLOCK_BYTES 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static _Alignas(16) uint8_t block[BLOCK_BYTES];
	struct mcr_observer *observer = mcr_observer_alloc(8);

	if (!observer)
		return 0;
	memset(block, 0, sizeof(block));
	memcpy(block, data, bytes < sizeof(block) ? bytes : sizeof(block));
	/* As often as frames fit, whatever the count says. */
	((struct tpacket_block_desc *)(void *)block)->hdr.bh1.num_pkts &= 0xff;
	mcr_observer_block(observer, (const void *)block, sizeof(block));
	mcr_observer_close(observer);
	return 0;
}
