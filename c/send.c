/*
 * Sends a batch: each flow to each of its egresses, as frames where the egress
 * has a link, else by its socket.
 */
#include "send.h"

static void flow_send(const struct mcr_table *table, struct mcr_worker *worker,
		      struct mcr_scratch *scratch, uint32_t flow)
{
	const struct mcr_flow *spec = &table->flows[flow];
	bool by_socket = false;

	for (uint32_t i = 0; i < spec->action_count; i++) {
		const struct mcr_action *action = &table->actions[spec->action_first + i];

		if (action->template == MCR_NONE)
			by_socket = true;
		else
			mcr_flow_queue(table, worker, &scratch->lists[flow], action);
	}
	if (by_socket)
		mcr_flow_send_by_sockets(table, worker, scratch, flow);
}

void mcr_batch_send(const struct mcr_table *table, struct mcr_worker *worker,
		    struct mcr_scratch *scratch)
{
	for (uint32_t i = 0; i < scratch->touched_count; i++) {
		flow_send(table, worker, scratch, scratch->touched[i]);
		scratch->lists[scratch->touched[i]].first = MCR_NONE;
	}
	mcr_links_flush(worker);
	mcr_reassembly_release(worker->reassembly);
	if (__builtin_expect(worker->sample_count > 0, 0))
		mcr_samples_count(worker);
	scratch->touched_count = 0;
	worker->packet_count = 0;
	worker->sample_count = 0;
}
