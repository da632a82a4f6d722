/*
 * Fuzzes the parser of c/frame.h. The frame lies in memory of exactly its
 * size, so that AddressSanitizer sees each byte read too many.
 *
 *   input: | flags | bytes of the wire beyond what was captured | frame ... |
 */
#include "fuzz.h"

enum {
	CHECKSUM_KNOWN = 1,
	MEND_CHECKSUM = 2,
	WIRE_IS_SHORTER = 4
};

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct mcr_datagram datagram;
	size_t captured, wire_bytes;
	uint8_t *frame;

	if (size < 2)
		return 0;
	captured = size - 2;
	wire_bytes = captured + input[1];
	if (input[0] & WIRE_IS_SHORTER)
		wire_bytes = captured > input[1] ? captured - input[1] : 0;
	frame = malloc(captured);
	require(frame != NULL);
	memcpy(frame, input + 2, captured);
	if (input[0] & MEND_CHECKSUM)
		mend_checksum(frame, captured);

	if (mcr_frame_parse(frame, captured, wire_bytes, input[0] & CHECKSUM_KNOWN, &datagram) ==
	    MCR_FRAME_OK) {
		require(datagram.payload >= frame + 28);
		require(datagram.payload + datagram.payload_bytes <= frame + captured);
		require(mcr_segment_count(datagram.payload_bytes, 1) >= 1);
	}
	free(frame);
	return 0;
}
