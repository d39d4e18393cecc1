/*
 * What is new in a text of lines: those that were not in the one before, and what has gone, each
 * with the time. For people who read a log.
 */
#pragma once

#include "client/tools/output.h"

/* The first word of a line names what it is about. "": everything is new. */
void news_print(struct output *output, const char *before, const char *now);
