/*
 * MPEG transport streams, ISO/IEC 13818-1 section 2.4.3: packets of 188 bytes,
 * a continuity counter of 4 bits for each PID. Losses are counted in transport
 * packets, and only modulo 16: at least so many.
 *
 *   | 0x47 | TEI .. PID (13 bits) | .. adaptation (2 bits), counter (4 bits) | ...
 */
#include "transport.h"

#include "payload.h"

#define PACKET_BYTES 188
#define SYNC 0x47
#define PID_NULL 0x1fff

struct packet {
	uint16_t pid;
	uint8_t counter;
	bool has_error; /* a demodulator marked it */
	bool has_payload;
	bool is_discontinuous; /* announced: the counter may jump */
};

static struct packet read_packet(const uint8_t *bytes)
{
	uint8_t adaptation = bytes[3] >> 4 & 3;

	return (struct packet){
		.pid = (uint16_t)((bytes[1] & 0x1f) << 8 | bytes[2]),
		.counter = bytes[3] & 0xf,
		.has_error = bytes[1] & 0x80,
		.has_payload = adaptation & 1,
		.is_discontinuous = (adaptation & 2) && bytes[4] > 0 && (bytes[5] & 0x80),
	};
}

/* Null packets and packets without payload do not count on. */
static bool is_counted(const struct packet *packet)
{
	return packet->has_payload && packet->pid != PID_NULL && !packet->has_error;
}

static uint8_t after(uint8_t counter, uint8_t steps)
{
	return (counter + steps) & 0xf;
}

bool mcr_transport_is(const uint8_t *bytes, size_t length)
{
	if (length == 0 || length % PACKET_BYTES != 0)
		return false;
	for (size_t at = 0; at < length; at += PACKET_BYTES)
		if (bytes[at] != SYNC)
			return false;
	return true;
}

/* Judged by its first packet of a known PID; the others follow from it. */
static bool continues(const struct mcr_transport *transport, const uint8_t *bytes, size_t length)
{
	for (size_t at = 0; at < length; at += PACKET_BYTES) {
		struct packet packet = read_packet(bytes + at);
		const struct mcr_pid *pid = &transport->pids[packet.pid];

		if (is_counted(&packet) && pid->is_known)
			return packet.is_discontinuous || packet.counter == after(pid->last, 1);
	}
	return true;
}

static bool is_recent(const struct mcr_transport *transport, uint64_t hash)
{
	for (uint32_t i = 0; i < MCR_RECENT_HASHES; i++)
		if (transport->recent[i] == hash)
			return true;
	return false;
}

static void open_hole(struct mcr_pid *pid, struct mcr_stream_counters *counters, uint8_t counter)
{
	uint8_t missing = (counter - pid->last - 1) & 0xf;

	/* A hole before this one stays lost: nobody could tell the two apart. */
	pid->hole_first = after(pid->last, 1);
	pid->hole_length = missing;
	counters->lost += missing;
	pid->last = counter;
}

/* True when the packet was one that came late. */
static bool count_packet(struct mcr_transport *transport, struct mcr_stream_counters *counters,
			 const struct packet *packet)
{
	struct mcr_pid *pid = &transport->pids[packet->pid];

	if (!pid->is_known || packet->is_discontinuous || packet->counter == after(pid->last, 1)) {
		pid->is_known = 1;
		pid->last = packet->counter;
	} else if (pid->hole_length > 0 && packet->counter == pid->hole_first) {
		pid->hole_first = after(pid->hole_first, 1);
		pid->hole_length--;
		counters->lost--;
		return true;
	} else if (packet->counter == pid->last && !pid->is_repeated) {
		pid->is_repeated = 1;
		return false;
	} else {
		open_hole(pid, counters, packet->counter);
	}
	pid->is_repeated = 0;
	return false;
}

void mcr_transport_count(struct mcr_transport *transport, struct mcr_stream_counters *counters,
			 const uint8_t *bytes, size_t length)
{
	uint64_t hash;
	bool is_late = false, has_error = false;

	if (!mcr_transport_is(bytes, length)) {
		counters->corrupt++;
		return;
	}
	hash = mcr_hash(bytes, length);
	/* Only what does not go on: stuffing repeats itself without being a copy. */
	if (!continues(transport, bytes, length) && is_recent(transport, hash)) {
		counters->duplicated++;
		return;
	}
	transport->recent[transport->recent_next++ % MCR_RECENT_HASHES] = hash;
	for (size_t at = 0; at < length; at += PACKET_BYTES) {
		struct packet packet = read_packet(bytes + at);

		if (packet.has_error)
			has_error = true;
		else if (is_counted(&packet) && count_packet(transport, counters, &packet))
			is_late = true;
	}
	counters->corrupt += has_error;
	counters->reordered += is_late;
}
