/*
 * Metrics in the text format of Prometheus, made piece by piece. How many series there are is
 * bounded by the configuration; none of them shows a key or a value.
 */
#pragma once

#include "daemon/buffer.h"
#include "daemon/server.h"

struct metrics; /* one answer */

/* Borrows the server. 0, -ENOMEM. */
int metrics_new(const struct server *server, struct metrics **ret_metrics);
struct metrics *metrics_free(struct metrics *metrics);

/* Appends the next piece, which may be empty. 1: there are more; 0: that was all; -ENOMEM. */
int metrics_step(struct metrics *metrics, struct buffer *text);
