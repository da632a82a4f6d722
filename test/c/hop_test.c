/*
 * c/hop.h: loops of relays end, and no sender is taken for one. Relays are functions here: a frame
 * goes from one to the next as the wire would carry it.
 */
#define _GNU_SOURCE
#include "hop.h"

#include "check.h"

#define RELAYS_MAX 6
/* Of a packet that goes round in two relays of the balanced profile. */
#define ROUND_NS 2000000ull

static struct mcr_hops hops[RELAYS_MAX];
static uint64_t now_ns;

static void relays_reset(void)
{
	now_ns = 1700000000000000000ull;
	for (uint32_t i = 0; i < RELAYS_MAX; i++) {
		struct mcr_hop_table *table = hops[i].table;

		if (!table)
			table = malloc(sizeof(*table));
		need(table != NULL, "memory");
		memset(table->tags, 0, sizeof(table->tags));
		hops[i] = (struct mcr_hops){ .table = table, .seed = 0x1234567 * (i + 1) };
	}
}

static struct mcr_hop_frame frame_from(uint32_t link_source, uint16_t identification)
{
	return (struct mcr_hop_frame){ .key = { .link_source = link_source,
						.source = 10 + link_source,
						.destination = 239,
						.source_port = 4000,
						.port = 5001 },
				       .identification = identification,
				       .segments = 1,
				       .is_atomic = true };
}

static bool take(uint32_t relay, const struct mcr_hop_frame *frame, uint8_t *number)
{
	bool is_looped;

	*number = mcr_hops_take(&hops[relay], frame, now_ns, &is_looped);
	return !is_looped;
}

/* A frame on its way to a relay. 100: of the sender. */
struct sent {
	uint32_t from;
	uint16_t identification;
};
#define SENDER 100
#define QUEUE_MAX 65536
static struct sent queues[2][RELAYS_MAX][QUEUE_MAX];
static uint32_t queued[2][RELAYS_MAX];

struct loop_result {
	uint32_t rounds; /* until nothing was on its way any more */
	uint32_t copies_most; /* on the first link in one round, once the rows are known */
	uint32_t relayed; /* packets of the sender that the first relay has sent on */
};

/* What lies between the relays. */
struct wire {
	uint32_t pieces; /* super-frames of so many are cut on the way; 1: none */
	uint32_t loss_percent;
};

/*
 * Relay i takes what is sent on link i and sends it on link i + 1, the last one on link 0. A sender
 * on link 0 sends per_round packets in each of the first rounds.
 */
static struct loop_result loop_run(uint32_t relay_count, uint32_t rounds, uint32_t per_round,
				   uint32_t rounds_max, struct wire wire)
{
	struct loop_result result = { 0 };
	uint16_t identification = 0;
	uint64_t state = relay_count;
	uint32_t at = 0;

	memset(queued, 0, sizeof(queued));
	for (uint32_t round = 0; round < rounds_max; round++, at ^= 1) {
		uint32_t on_way = 0;

		now_ns += ROUND_NS;
		for (uint32_t i = 0; round < rounds && i < per_round; i++)
			queues[at][0][queued[at][0]++] =
				(struct sent){ .from = SENDER, .identification = identification++ };
		for (uint32_t relay = 0; relay < relay_count; relay++) {
			const uint32_t next = (relay + 1) % relay_count;
			uint32_t piece = 0, run_number = 0;

			for (uint32_t i = 0; i < queued[at][relay]; i++) {
				const struct sent *sent = &queues[at][relay][i];
				struct mcr_hop_frame frame =
					frame_from(sent->from, sent->identification);
				uint8_t number;

				on_way++;
				if (!take(relay, &frame, &number))
					continue;
				need(queued[at ^ 1][next] < QUEUE_MAX / 2, "a loop that is "
									   "bounded");
				result.relayed += sent->from == SENDER;
				/* A run holds one number only: is_alike() of link.c. */
				piece = number == run_number && piece + 1 < wire.pieces ?
						piece + 1 :
						0;
				run_number = number;
				if (random32(&state) % 100 < wire.loss_percent)
					continue;
				queues[at ^ 1][next][queued[at ^ 1][next]++] = (struct sent){
					.from = relay,
					.identification = (uint16_t)(mcr_hop_mark(number) + piece)
				};
			}
			queued[at][relay] = 0;
		}
		if (round > 1000 && queued[at ^ 1][0] > result.copies_most)
			result.copies_most = queued[at ^ 1][0];
		if (round >= rounds && on_way == 0)
			return result;
		result.rounds = round + 1;
	}
	return result;
}

static void test_loops(void)
{
	const struct wire whole = { .pieces = 1 };

	for (uint32_t relays = 1; relays <= 5; relays++) {
		struct loop_result result;

		begin("one packet in a loop of %u relays", relays);
		relays_reset();
		result = loop_run(relays, 1, 1, 100000, whole);
		/* A round of the loop takes as many rounds here as it has relays. */
		EXPECT_TRUE(result.rounds > relays * MCR_HOP_ROW);
		EXPECT_TRUE(result.rounds <= relays * (MCR_HOP_ROW + 8));
		EXPECT(result.relayed, 1);

		begin("the next packet in a loop of %u relays that is known", relays);
		result = loop_run(relays, 1, 1, 100000, whole);
		EXPECT_TRUE(result.rounds <= 8);
		EXPECT(result.relayed, 1);

		for (uint32_t per_round = 1; per_round <= 8; per_round *= 2) {
			begin("%u packets a round into a loop of %u relays", per_round, relays);
			relays_reset();
			result = loop_run(relays, 5000, per_round, 100000, whole);
			EXPECT(result.relayed, 5000 * per_round);
			EXPECT_TRUE(result.rounds <= 5008);
			EXPECT_TRUE(result.copies_most <= MCR_HOP_MANY * per_round);
		}
	}
}

/* A loop fills links and rings until it is recognised, so frames are lost on the way. */
static void test_lossy_loops(void)
{
	static const struct wire wires[] = {
		{ 8, 0 }, { 1, 10 }, { 8, 10 }, { 64, 10 }, { 64, 30 }
	};

	for (uint32_t i = 0; i < COUNT(wires); i++)
		for (uint32_t relays = 1; relays <= 5; relays++) {
			struct loop_result result;

			begin("a loop of %u relays, runs of %u cut, %u %% lost", relays,
			      wires[i].pieces, wires[i].loss_percent);
			relays_reset();
			result = loop_run(relays, 5000, 20, 10000, wires[i]);
			EXPECT(result.relayed, 5000 * 20);
			EXPECT_TRUE(result.rounds <= 5008);
			EXPECT_TRUE(result.copies_most <= MCR_HOP_MANY * 20);
		}
}

static void test_calm(void)
{
	struct mcr_hop_frame frame = frame_from(1, mcr_hop_mark(1));
	uint8_t number;

	begin("a suspicion ends a minute after the last packet of many hops");
	relays_reset();
	for (uint32_t i = 0; i <= MCR_HOP_ROW; i++)
		EXPECT_TRUE(take(0, &frame, &number));
	EXPECT(number, 2);
	frame.identification = mcr_hop_mark(2);
	EXPECT_TRUE(take(0, &frame, &number));
	EXPECT(number, 3);
	frame.identification = mcr_hop_mark(7);
	EXPECT_TRUE(!take(0, &frame, &number));
	frame.identification = mcr_hop_mark(4);
	EXPECT_TRUE(!take(0, &frame, &number));
	frame.identification = mcr_hop_mark(3);
	EXPECT_TRUE(take(0, &frame, &number));
	now_ns += MCR_HOP_CALM_NS + 1;
	frame.identification = mcr_hop_mark(4);
	EXPECT_TRUE(take(0, &frame, &number));
	EXPECT(number, 5);

	begin("it ends with the row: by a frame that mcr has not sent");
	frame.identification = mcr_hop_mark(7);
	EXPECT_TRUE(take(0, &frame, &number));
	frame.identification = mcr_hop_mark(2);
	EXPECT_TRUE(take(0, &frame, &number));
	frame.identification = mcr_hop_mark(7);
	EXPECT_TRUE(!take(0, &frame, &number));
	frame.is_atomic = false;
	EXPECT_TRUE(take(0, &frame, &number));
	EXPECT(hops[0].row_count, 0);
	frame.is_atomic = true;
	EXPECT_TRUE(take(0, &frame, &number));
	EXPECT(number, 1);
}

/* -- senders --------------------------------------------------------------------- */

enum order {
	ORDER_COUNTING,
	ORDER_SWAPPED,
	ORDER_RANDOM
};

struct sender {
	enum order order;
	uint32_t start;
	uint32_t step;
	uint32_t segments; /* of its super-frames; 1: single frames */
};

static uint16_t swapped(uint16_t value)
{
	return (uint16_t)(value << 8 | value >> 8);
}

static uint16_t identification_of(const struct sender *sender, uint32_t frame, uint64_t *state)
{
	const uint16_t counted =
		(uint16_t)(sender->start + frame * sender->step * sender->segments);

	if (sender->order == ORDER_RANDOM)
		return (uint16_t)random32(state);
	return sender->order == ORDER_SWAPPED ? swapped(counted) : counted;
}

/* What a relay sends reaches the next one whole, or cut where super-frames do not pass. */
static void pass_on(uint8_t number, uint32_t segments, bool is_cut, uint32_t *dropped)
{
	const uint32_t pieces = is_cut ? segments : 1;
	struct mcr_hop_frame frame = frame_from(1, 0);
	uint8_t unused;

	frame.segments = is_cut ? 1 : segments;
	for (uint32_t i = 0; i < pieces; i++) {
		frame.identification = (uint16_t)(mcr_hop_mark(number) + i);
		*dropped += !take(1, &frame, &unused);
	}
}

/* Packets of these senders that the first relay has dropped, or the second behind it. */
static uint32_t senders_run(const struct sender *senders, uint32_t sender_count, uint32_t frames)
{
	uint64_t state = 42 + senders[0].start;
	uint32_t dropped = 0;

	for (uint32_t i = 0; i < frames; i++) {
		const bool is_cut = i / 700 % 2;

		now_ns += 100000;
		for (uint32_t j = 0; j < sender_count; j++) {
			struct mcr_hop_frame frame =
				frame_from(10 + j, identification_of(&senders[j], i, &state));
			uint8_t number;

			frame.segments = senders[j].segments;
			if (take(0, &frame, &number))
				pass_on(number, frame.segments, is_cut, &dropped);
			else
				dropped++;
		}
	}
	return dropped;
}

static void senders_expect(struct sender first, struct sender second)
{
	const struct sender pair[2] = { first, second };

	relays_reset();
	EXPECT(senders_run(pair, 1, 1500), 0);
	relays_reset();
	EXPECT(senders_run(pair, 2, 1500), 0);
}

static void test_senders(void)
{
	static const uint32_t segments[] = { 1, 2, 10, 64 };

	begin("every constant Identification");
	relays_reset();
	for (uint32_t id = 0; id < 65536; id++) {
		const struct sender sender = { .start = id, .segments = 1 };
		const struct sender runs = { .start = id, .segments = 20 };
		const uint32_t frames = mcr_hop_number((uint16_t)id) ? 1500 : 100;

		/* The second relay goes on from one unmarked sender to the next, as if they were one. */
		if (mcr_hop_number((uint16_t)id))
			relays_reset();
		if (!expect_equal(__FILE__, __LINE__, "dropped", senders_run(&sender, 1, frames),
				  0))
			return;
		if (mcr_hop_number((uint16_t)id)) {
			relays_reset();
			EXPECT(senders_run(&runs, 1, frames), 0);
			/* One and its backup: the same Identification. */
			senders_expect(sender, sender);
		}
	}

	begin("counting by one, from every start that comes to a mark");
	for (uint32_t start = MCR_HOP_SIGNATURE - 1024; start < MCR_HOP_SIGNATURE + 512; start++) {
		const struct sender sender = { .start = start, .step = 1, .segments = 1 };

		hops[0].row_count = 0;
		memset(hops[0].table->tags, 0, sizeof(hops[0].table->tags));
		if (!expect_equal(__FILE__, __LINE__, "dropped", senders_run(&sender, 1, 1500), 0))
			return;
	}
	for (uint32_t s = 0; s < COUNT(segments); s++)
		for (uint32_t step = 1; step <= 64; step++) {
			begin("counting by %u, %u segments a frame", step, segments[s]);
			for (uint32_t start = 0; start < 65536; start += 16001) {
				const struct sender sender = { .start = start,
							       .step = step,
							       .segments = segments[s] };
				const struct sender swaps = { .order = ORDER_SWAPPED,
							      .start = start,
							      .step = step,
							      .segments = segments[s] };

				senders_expect(sender, sender);
				senders_expect(swaps, sender);
			}
		}
	for (uint32_t s = 0; s < COUNT(segments); s++) {
		const struct sender sender = { .order = ORDER_RANDOM, .segments = segments[s] };
		const struct sender constant = { .start = mcr_hop_mark(7), .segments = 1 };
		const struct sender counting = { .step = 1, .segments = segments[s] };

		begin("random, %u segments a frame", segments[s]);
		for (uint32_t i = 0; i < 200; i++)
			senders_expect(sender, sender);
		begin("a constant mark beside others, %u segments a frame", segments[s]);
		senders_expect(constant, counting);
		senders_expect(constant, sender);
	}

	begin("where low bits are chance, no row is ever known, even if all packets are marked");
	relays_reset();
	for (uint32_t i = 0; i < 100000; i++) {
		static uint64_t state;
		struct mcr_hop_frame frame =
			frame_from(1, (uint16_t)(mcr_hop_mark(1) + random32(&state) % 448));
		uint8_t number;

		EXPECT_TRUE(take(0, &frame, &number));
		EXPECT(number, 1);
	}

	begin("counting down is no row either");
	for (uint32_t id = 3 * 65536; id > 0; id--) {
		struct mcr_hop_frame frame = frame_from(1, (uint16_t)id);
		uint8_t number;

		EXPECT_TRUE(take(0, &frame, &number));
		EXPECT(number, 1);
	}

	begin("a counting sender goes through the marks without ever being a known row");
	relays_reset();
	for (uint32_t id = 0; id < 3 * 65536; id++) {
		struct mcr_hop_frame frame = frame_from(1, (uint16_t)id);
		uint8_t number;

		EXPECT_TRUE(take(0, &frame, &number));
		EXPECT(number, 1);
	}
}

/*
 * Linux gives a super-frame of UDP_SEGMENT one number of a connected socket's count, and the pieces
 * that the sender's device cuts it into count on from there: so each super-frame begins one higher
 * than the one before, and all of its pieces are marked while it goes through the marks.
 */
static void test_cut_senders(void)
{
	begin("super-frames that are counted by one and arrive in pieces");
	for (uint32_t pieces = 2; pieces <= 128; pieces++) {
		uint32_t dropped = 0, changed = 0;

		relays_reset();
		for (uint32_t message = MCR_HOP_SIGNATURE - 256; message < MCR_HOP_SIGNATURE + 768;
		     message++)
			for (uint32_t i = 0; i < pieces; i++) {
				struct mcr_hop_frame frame = frame_from(1, (uint16_t)(message + i));
				uint8_t number;

				dropped += !take(0, &frame, &number);
				changed += number != 1;
			}
		if (!expect_equal(__FILE__, __LINE__, "dropped", dropped, 0) ||
		    !expect_equal(__FILE__, __LINE__, "known", changed, 0)) {
			begin("(%u pieces)", pieces);
			return;
		}
	}
}

static void test_marks(void)
{
	begin("a number that mcr never writes is no mark");
	EXPECT(mcr_hop_number(0xb400), 0);
	EXPECT(mcr_hop_number(0xb43f), 0);
	EXPECT(mcr_hop_number(0xb440), 1);
	EXPECT(mcr_hop_number(0xb5ff), 7);
	EXPECT(mcr_hop_number(0xb3ff), 0);
	EXPECT(mcr_hop_number(0xb600), 0);
	for (uint8_t number = 1; number <= MCR_HOP_MAX; number++)
		EXPECT(mcr_hop_number(mcr_hop_mark(number)), number);
}

/* -- the table --------------------------------------------------------------------- */

static void test_table(void)
{
	const uint32_t flows = 3 * MCR_HOP_SETS * MCR_HOP_WAYS;
	struct mcr_hop_frame frame = frame_from(1, mcr_hop_mark(1));
	uint32_t known = 0;
	uint8_t number;

	begin("known rows keep their place among more flows than there is room for");
	relays_reset();
	for (uint32_t i = 0; i <= MCR_HOP_ROW; i++)
		take(0, &frame, &number);
	for (uint32_t i = 0; i < flows; i++) {
		struct mcr_hop_frame other = frame;

		other.key.destination += i + 1;
		EXPECT_TRUE(take(0, &other, &number));
		EXPECT(number, 1);
	}
	EXPECT_TRUE(hops[0].row_count <= MCR_HOP_SETS * MCR_HOP_WAYS);
	EXPECT_TRUE(take(0, &frame, &number));
	EXPECT(number, 2);

	begin("a thousand flows are all known");
	relays_reset();
	for (uint32_t i = 0; i <= MCR_HOP_ROW; i++)
		for (uint32_t flow = 0; flow < 1000; flow++) {
			frame.key.destination = flow;
			EXPECT_TRUE(take(0, &frame, &number));
			known += number == 2;
		}
	EXPECT(known, 1000);

	begin("flows that differ in one part of their key are different flows");
	relays_reset();
	frame = frame_from(1, mcr_hop_mark(1));
	for (uint32_t i = 0; i < 6; i++) {
		struct mcr_hop_frame other = frame;

		other.key.link_source ^= i == 0;
		other.key.source ^= i == 1;
		other.key.destination ^= i == 2;
		other.key.interface ^= i == 3;
		other.key.source_port ^= i == 4;
		other.key.port ^= i == 5;
		take(0, &other, &number);
		EXPECT(hops[0].row_count, i + 1);
	}
}

int main(void)
{
	test_loops();
	test_lossy_loops();
	test_calm();
	test_senders();
	test_cut_senders();
	test_marks();
	test_table();
	for (uint32_t i = 0; i < RELAYS_MAX; i++)
		free(hops[i].table);
	return finish();
}
